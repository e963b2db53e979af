"""Neural operators on gridded fields: transforms, layers, models, losses and the training loop. Tensors only."""

from .grids import LatLon
from .layers.mixer import AFNO2D
from .layers.spectral import SpectralConv
from .models import AFNO, FNO

__all__ = ["AFNO", "AFNO2D", "FNO", "LatLon", "SpectralConv"]
