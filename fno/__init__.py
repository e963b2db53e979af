"""Neural operators on gridded fields: transforms, layers, models, losses and training; tensors only.

Example:
    >>> import torch
    >>> from fourcaster.fno import FNO
    >>> model = FNO(n_modes=(12, 12), in_channels=3, out_channels=1, hidden_channels=16)
    >>> model(torch.zeros(2, 3, 32, 64)).shape
    torch.Size([2, 1, 32, 64])
"""

from .errors import (
    InputError,
    ModesError,
    NonFiniteError,
    RegistryError,
    ResolutionWarning,
    StoppedError,
    WeightsError,
)
from .grids import Box, Grid, LatLon
from .layers.mixer import AFNO2D
from .layers.spectral import SpectralConv
from .layers.spherical import SphericalConv
from .models import AFNO, FNO, REGISTRY, SFNO, TFNO, GridModel
from .pretrained import import_weights
from .transforms.sht import InverseRealSHT, RealSHT, SphereCalculus

__all__ = [
    "AFNO",
    "AFNO2D",
    "FNO",
    "REGISTRY",
    "SFNO",
    "TFNO",
    "Box",
    "Grid",
    "GridModel",
    "InputError",
    "InverseRealSHT",
    "LatLon",
    "ModesError",
    "NonFiniteError",
    "RealSHT",
    "RegistryError",
    "ResolutionWarning",
    "SpectralConv",
    "SphereCalculus",
    "SphericalConv",
    "StoppedError",
    "WeightsError",
    "import_weights",
]
