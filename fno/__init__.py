"""Neural operators on gridded fields: transforms, layers, models, losses and the training loop. Tensors only."""

from .errors import InputError, ModesError, NonFiniteError, ResolutionWarning, WeightsError
from .grids import LatLon
from .layers.mixer import AFNO2D
from .layers.spectral import SpectralConv
from .layers.spherical import SphericalConv
from .models import AFNO, FNO, SFNO, TFNO
from .transforms.sht import InverseRealSHT, RealSHT, SphereCalculus
from .weights.import_weights import import_weights

__all__ = [
    "AFNO",
    "AFNO2D",
    "FNO",
    "SFNO",
    "TFNO",
    "InputError",
    "InverseRealSHT",
    "LatLon",
    "ModesError",
    "NonFiniteError",
    "RealSHT",
    "ResolutionWarning",
    "SpectralConv",
    "SphereCalculus",
    "SphericalConv",
    "WeightsError",
    "import_weights",
]
