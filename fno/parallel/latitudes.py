"""Models whose grid is divided into latitude bands, one for each process.

For grids whose activations exceed the memory of one device. Fields, forcings and static fields are bands;
each process has all parameters. After ``backward`` on every process, the gradient of a parameter is the sum
of those of the processes.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor, nn

from ..layers.activation import AliasFreeGELU
from ..layers.blocks import InstanceNorm
from ..layers.local import FiniteDifference
from ..layers.padding import Period
from ..layers.spectral import SpectralConv
from ..layers.spherical import SphericalConv
from ..models.base import GridModel
from ..models.ensemble import Ensemble
from ..models.fno import FNO, TFNO
from ..models.sfno import SFNO
from ..models.stepper import Stepper
from .bands import Bands
from .layers import (
    BandAliasFreeGELU,
    BandFiniteDifference,
    BandInstanceNorm,
    BandSpectralConv,
    BandSphericalConv,
    on_columns,
)

M = TypeVar("M", bound=nn.Module)

_LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    SphericalConv: BandSphericalConv,
    SpectralConv: BandSpectralConv,
    InstanceNorm: BandInstanceNorm,
    AliasFreeGELU: BandAliasFreeGELU,
    FiniteDifference: BandFiniteDifference,
}


class _BandModel(GridModel):
    """A model on latitude bands, whose input is checked as if it were that of the whole grid."""

    bands: Bands

    def check(self, x: Tensor) -> None:
        """Check an input; see ``GridModel.check``."""
        if x.ndim == 4:
            self.bands.check(x, 2)
            x = x[:, :, :1].expand(-1, -1, self.bands.rows, -1)
        super().check(x)


class BandSFNO(_BandModel, SFNO):
    """``SFNO`` on latitude bands.

    Attributes:
        bands: latitude bands of the fields.
    """


class BandFNO(_BandModel, FNO):
    """``FNO`` in two dimensions on latitude bands; the margins of the latitudes are divided too.

    Attributes:
        bands: latitude bands of the fields.
    """

    def _size(self, x: Tensor) -> tuple[int, ...]:
        return self.bands.rows, x.shape[3]

    def _positions(self, x: Tensor) -> Tensor:
        whole = x[:, :1, :1].expand(-1, -1, self.bands.rows, -1)
        return self.bands.take(super()._positions(whole), 2)

    def _extend(self, x: Tensor, periods: Sequence[Period | None]) -> Tensor:
        latitude, longitude = periods
        x = super()._extend(x, (None, longitude))
        if latitude is None:
            return x
        rows = latitude.points(self.bands.rows)
        extend = partial(latitude.extend, dim=1)
        return on_columns(x.movedim(1, -1), extend, self.bands, rows=rows).movedim(-1, 1)

    def _restrict(self, x: Tensor, periods: Sequence[Period | None], size: Sequence[int]) -> Tensor:
        latitude, longitude = periods
        if latitude is not None:
            bands = self.bands.of_rows(latitude.points(self.bands.rows))
            restrict = partial(latitude.restrict, dim=1, n=self.bands.rows)
            x = on_columns(x.movedim(1, -1), restrict, bands, rows=self.bands.rows).movedim(-1, 1)
        return super()._restrict(x, (None, longitude), size)


def divide_latitudes(model: M, group: dist.ProcessGroup, rows: int) -> M:
    """Let a model run on latitude bands, in place; its parameters and their names stay the same.

    Every process of the group must call it, and then every forward and backward pass, at the same time. A
    ``Stepper`` keeps only the band of its static fields and masks.

    Args:
        model: an ``FNO`` or ``TFNO`` in two dimensions with Fourier series and no stencil, an ``SFNO``
            without ``local``, or an ``Ensemble`` or ``Stepper`` of those.
        group: processes that share a grid, in the order of their bands, from the first row on.
        rows: number of rows of the grid.

    Returns:
        The model.

    Raises:
        ValueError: a model that cannot be divided, or more processes than rows.
    """
    bands = Bands(group, rows)
    if isinstance(model, Stepper):
        divide_latitudes(model.network, group, rows)
        model.static = bands.take(model.static, 1)
        model.mask = bands.take(model.mask, 1)
    elif isinstance(model, Ensemble):
        for network in model.networks:
            divide_latitudes(network, group, rows)
    elif type(model) is SFNO and model.reference is None:
        _convert(model, bands)
        _become(model, BandSFNO, bands)
    elif isinstance(model, FNO) and (model.series != "fourier" or model.local == "stencil"):
        raise ValueError(
            "convolutions in cosine series and stencils cannot be divided into latitude bands; use "
            "series='fourier' and local=True or False"
        )
    elif isinstance(model, FNO) and type(model) in (FNO, TFNO) and model.dimensions == 2:
        period, frame = model.periods[0], model.frames[0]
        _convert(model.blocks, bands.of_rows(period.points(rows) if period else rows))
        for part in (model.lifting, model.projection):
            _convert(part, bands.of_rows(frame.points(rows) if frame else rows))
        _become(model, BandFNO, bands)
    else:
        raise ValueError(
            f"{type(model).__name__} cannot be divided into latitude bands; use an FNO or TFNO of latitudes "
            "and longitudes, or an SFNO without local differences"
        )
    return model


def _convert(model: nn.Module, bands: Bands) -> None:
    for module in model.modules():
        if type(module) in _LAYERS:
            _become(module, _LAYERS[type(module)], bands)


def _become(module: Any, kind: type[nn.Module], bands: Bands) -> None:
    """Change the class of a module, which keeps its parameters, and set its bands."""
    module.__class__ = kind
    module.bands = bands
