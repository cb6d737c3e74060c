"""One file per paper: read top to bottom, it is the paper."""
