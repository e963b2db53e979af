"""Models by the name a configuration uses."""

from torch import nn

from .afno import AFNO
from .fno import FNO, TFNO
from .sfno import SFNO

REGISTRY: dict[str, type[nn.Module]] = {"fno": FNO, "tfno": TFNO, "sfno": SFNO, "afno": AFNO}

__all__ = ["AFNO", "FNO", "REGISTRY", "SFNO", "TFNO"]
