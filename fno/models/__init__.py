"""Models by the name a configuration uses."""

from torch import nn

from .afno import AFNO
from .fno import FNO

REGISTRY: dict[str, type[nn.Module]] = {"fno": FNO, "afno": AFNO}

__all__ = ["AFNO", "FNO", "REGISTRY"]
