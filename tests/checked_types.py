"""The run-time type checker of the tests: shapes and types of every public signature, an int being good where a float is asked for."""

from beartype import BeartypeConf, beartype

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
