"""Published weights of other packages as models of this one."""

from .load import FORMATS, build, construct, import_weights, read_weights

__all__ = ["FORMATS", "build", "construct", "import_weights", "read_weights"]
