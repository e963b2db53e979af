"""The data losses by name."""

from .base import DataLoss
from .ensemble import AlmostFairCRPS
from .gradient import H1
from .pointwise import Huber, MeanAbsoluteError, MeanSquareError, Quantile, RelativeL2
from .spectral import Spectral

LOSSES: dict[str, type[DataLoss]] = {
    "mse": MeanSquareError,
    "mae": MeanAbsoluteError,
    "huber": Huber,
    "relative_l2": RelativeL2,
    "h1": H1,
    "spectral": Spectral,
    "quantile": Quantile,
    "afcrps": AlmostFairCRPS,
}
