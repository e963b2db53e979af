"""The data losses by name."""

from ..registry import Registry, subclass_of
from .base import DataLoss
from .ensemble import AlmostFairCRPS
from .gradient import H1
from .pointwise import Huber, MeanAbsoluteError, MeanSquareError, Quantile, RelativeL2
from .spectral import Spectral

_BUILTIN: dict[str, type[DataLoss]] = {
    "mse": MeanSquareError,
    "mae": MeanAbsoluteError,
    "huber": Huber,
    "relative_l2": RelativeL2,
    "h1": H1,
    "spectral": Spectral,
    "quantile": Quantile,
    "afcrps": AlmostFairCRPS,
}

LOSSES: Registry[type[DataLoss]] = Registry(
    _BUILTIN,
    group="fourcaster.losses",
    noun="loss",
    valid=subclass_of(DataLoss),
    expected="a subclass of DataLoss",
)
"""Data losses that configurations can name; other packages add theirs in this group of entry points."""
