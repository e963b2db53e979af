"""Losses of the errors at each point: mean square, mean absolute, Huber, quantile and relative L2.

With the error e = p - t of channel c in units of its scale (``LossDomain``), and the area-weighted mean < >
over the points of the mask and the samples.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import SettingError
from .base import DataLoss, LossDomain, floor
from .data import area_weighted_mse


class MeanSquareError(DataLoss):
    """The mean square error ``<e^2>``."""

    def __call__(self, prediction: Tensor, target: Tensor, lead: float = 1) -> Tensor:
        """Return the loss of each channel; arguments as for ``DataLoss``."""
        return area_weighted_mse(prediction, target, self.domain.weights) * self.domain.scale.square()


class MeanAbsoluteError(DataLoss):
    """The mean absolute error ``<|e|>``, whose minimiser is the conditional median."""

    degree = 1

    def __call__(self, prediction: Tensor, target: Tensor, lead: float = 1) -> Tensor:
        """Return the loss of each channel; arguments as for ``DataLoss``."""
        return self.domain.mean((prediction - target).abs()) * self.domain.scale


class Huber(DataLoss):
    """Squares of small errors and absolute values of large ones (Huber 1964, doi:10.1214/aoms/1177703732).

        <e^2 / 2> where |e| <= d,    <d (|e| - d / 2)> elsewhere,    d = delta sqrt(k)

    after k steps.

    Args:
        domain: grid, weights and scales.
        delta: error at which the square ends, in units of the scale of the channel.

    Raises:
        SettingError: ``delta`` is not positive.
    """

    def __init__(self, domain: LossDomain, *, delta: float = 1.0) -> None:
        super().__init__(domain)
        if not 0 < delta < float("inf"):
            raise SettingError(f"delta must be a positive number, got {delta}")
        self.delta = delta

    def __call__(self, prediction: Tensor, target: Tensor, lead: float = 1) -> Tensor:
        """Return the loss of each channel; arguments as for ``DataLoss``."""
        error = self.domain.scaled(prediction - target)
        return self.domain.mean(
            functional.huber_loss(
                error, torch.zeros_like(error), reduction="none", delta=self.delta * lead**0.5
            )
        )


class Quantile(DataLoss):
    """The pinball loss (Koenker and Bassett 1978, doi:10.2307/1913643), minimal at a conditional quantile.

        <max(q d, (q - 1) d)>,    d = t - p

    The mean of this loss over several levels is the loss at their mean level, so one forecast has one level.

    Args:
        domain: grid, weights and scales.
        quantile: level q of the quantile; 0.5 is half the mean absolute error.

    Raises:
        SettingError: ``quantile`` does not lie between 0 and 1.
    """

    degree = 1

    def __init__(self, domain: LossDomain, *, quantile: float = 0.5) -> None:
        super().__init__(domain)
        if not 0 < quantile < 1:
            raise SettingError(f"quantile must lie between 0 and 1, got {quantile}")
        self.quantile = quantile

    def __call__(self, prediction: Tensor, target: Tensor, lead: float = 1) -> Tensor:
        """Return the loss of each channel; arguments as for ``DataLoss``."""
        below = target - prediction
        pinball = torch.maximum(self.quantile * below, (self.quantile - 1) * below)
        return self.domain.mean(pinball) * self.domain.scale


class RelativeL2(DataLoss):
    """The relative error of each sample, averaged over the samples (Li et al. 2021, arXiv:2010.08895).

        mean_b ( sum w (p - t)^2 / sum w t^2 )^(1/2)

    with the area weights w and the true anomaly t. It is the same in any units, so no scale has an effect.
    """

    degree = 1
    uses_scale = False

    def __call__(self, prediction: Tensor, target: Tensor, lead: float = 1) -> Tensor:
        """Return the loss of each channel; arguments as for ``DataLoss``."""
        root = self.domain.weights.sqrt()
        error = torch.linalg.vector_norm((prediction - target) * root, dim=(2, 3))
        size = torch.linalg.vector_norm(target * root, dim=(2, 3))
        result: Tensor = (error / floor(size)).mean(dim=0)
        return result
