"""One adapter per kind of source, each returning the canonical data set."""
