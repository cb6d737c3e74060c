"""Which sources a notebook depends on, and when their hash changes."""

import pytest

from paper_utils import provenance


def names(source):
    return {path.relative_to(provenance.PACKAGE).as_posix() for path in provenance.imported_sources(source)}


def test_imports_are_followed_through_the_package():
    found = names("from paper_utils.data import digits")
    assert {"__init__.py", "data/__init__.py", "data/digits.py", "data/samples.py"} <= found
    assert "reproduce.py" not in found


@pytest.mark.parametrize(
    "source",
    [
        "import paper_utils.metrics.statistics",
        "from paper_utils.metrics.statistics import exact",
        "from paper_utils.metrics import statistics as s",
        "def f():\n    from paper_utils.metrics import statistics",
        "%matplotlib inline\nimport paper_utils.metrics.statistics",
    ],
)
def test_every_way_to_import_is_seen(source):
    assert "metrics/statistics.py" in names(source)


def test_other_packages_do_not_count():
    assert names("import numpy\nfrom scipy import stats") == set()


def test_hash_follows_content_and_name(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "package")
    (tmp_path / "package").mkdir()
    first, second = tmp_path / "package" / "a.py", tmp_path / "package" / "b.py"
    first.write_text("x = 1")
    second.write_text("y = 1")
    before = provenance.source_hash([first, second])
    assert before == provenance.source_hash([second, first])
    first.write_text("x = 2")
    assert before != provenance.source_hash([first, second])
    first.write_text("x = 1")
    assert before == provenance.source_hash([first, second])


def test_key_hash_ignores_the_order_of_keys_and_refuses_objects():
    assert provenance.key_hash({"a": 1, "b": 2}) == provenance.key_hash({"b": 2, "a": 1})
    assert provenance.key_hash({"a": 1}) != provenance.key_hash({"a": 2})
    with pytest.raises(TypeError):
        provenance.key_hash({"a": object()})
