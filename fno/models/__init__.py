"""Models of gridded fields, and their registry."""

from .afno import AFNO
from .base import Clipping, GridModel
from .fno import FNO, TFNO
from .precipitation import PrecipNet
from .registry import REGISTRY, ModelRegistry, build_model, count_layers
from .sfno import SFNO

__all__ = [
    "AFNO",
    "FNO",
    "REGISTRY",
    "SFNO",
    "TFNO",
    "Clipping",
    "GridModel",
    "ModelRegistry",
    "PrecipNet",
    "build_model",
    "count_layers",
]
