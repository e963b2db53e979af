"""The H1 loss: errors of the values and of their gradient, on the sphere or in a plane."""

import math

import torch
from torch import Tensor

from ..errors import SettingError
from ..grids import LatLon
from .base import DataLoss, LossDomain, floor
from .data import area_weighted_mse


class H1(DataLoss):
    """The squared Sobolev norm of the error, as Li et al. (2022, arXiv:2111.03794) use it.

        <e^2> + s^2 <|grad e|^2>,    |grad e|^2 = (de/dy)^2 + (1/cos(y) de/dx)^2

    where x and y are longitude and latitude [rad] on the sphere; on a Cartesian grid there is no cosine.
    Derivatives are differences of neighbouring points that both belong to the mask. Along a row near a pole,
    the neighbour is the point about as far away as the next row, so that the convergence of the meridians
    does not amplify errors.

    Args:
        domain: grid, weights and scales.
        gradient_length: length s that weighs the gradient [spacings of rows].

    Raises:
        SettingError: ``gradient_length`` is not positive.
    """

    def __init__(self, domain: LossDomain, *, gradient_length: float = 2.0) -> None:
        super().__init__(domain)
        if not 0 < gradient_length < float("inf"):
            raise SettingError(f"gradient_length must be a positive number, got {gradient_length}")
        grid = domain.grid
        weights = domain.weights
        rows, columns = grid.shape
        across = torch.full((rows,), grid.spacing[1], dtype=torch.float64)
        if isinstance(grid, LatLon):
            across = across * torch.cos(torch.deg2rad(torch.as_tensor(grid.latitude.copy()).double()))
        length = gradient_length * grid.spacing[0]
        stride = (grid.spacing[0] / across.clamp_min(1e-9)).round().clamp(1, max(1, columns // 4)).long()
        distance = stride * across
        east = torch.arange(columns) + stride[:, None]
        inside = (east < columns) | grid.periodic[1]
        inside &= (across > 1e-6 * grid.spacing[1])[:, None]  # a row on a pole is a single point
        self._east = (east % columns + columns * torch.arange(rows)[:, None]).flatten().to(weights.device)
        eastern = weights.flatten(1)[:, self._east].reshape(weights.shape)
        pairs = _pair_weights(weights, eastern) * inside.to(weights)
        self._zonal = _normalised(pairs) * _squares(length / distance, weights)
        row = torch.as_tensor(next(iter(grid.coordinates.values())).copy()).double()
        between = row.diff().abs()
        if grid.periodic[0]:
            between = torch.cat([between, between.new_full((1,), grid.spacing[0])])
        wrapped = self._wrapped(weights)
        pairs = _pair_weights(wrapped[:, 1:], wrapped[:, :-1])
        self._meridional = _normalised(pairs) * _squares(length / between, weights)

    def __call__(self, prediction: Tensor, target: Tensor, lead: float = 1) -> Tensor:
        """Return the loss of each channel; arguments as for ``DataLoss``."""
        error = prediction - target
        zonal = (error.flatten(2)[..., self._east].reshape(error.shape) - error).square() * self._zonal
        meridional = self._wrapped(error).diff(dim=-2).square() * self._meridional
        slope = (zonal.sum(dim=(0, 2, 3)) + meridional.sum(dim=(0, 2, 3))) / len(error)
        value = area_weighted_mse(prediction, target, self.domain.weights)
        return (value + slope) * self.domain.scale.square()

    def _wrapped(self, field: Tensor) -> Tensor:
        """Return a field with its first row repeated at the end, if the rows are periodic."""
        return torch.cat([field, field[..., :1, :]], dim=-2) if self.domain.grid.periodic[0] else field


def _pair_weights(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean weight of both points of pairs, zero where one lies outside the mask."""
    return torch.where((first > 0) & (second > 0), (first + second) / 2, 0.0)


def _normalised(pairs: Tensor) -> Tensor:
    """Return weights of pairs, shape (channel, H, W), whose sum in each channel is one, or zero."""
    return pairs / floor(pairs.sum(dim=(1, 2), keepdim=True))


def _squares(factors: Tensor, like: Tensor) -> Tensor:
    """Return finite squares of one factor per row, shape (row, 1)."""
    limit = math.sqrt(torch.finfo(torch.float32).max) / 10
    return factors.clamp_max(limit).square().to(like)[:, None]
