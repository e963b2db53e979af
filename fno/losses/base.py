"""The interface of the data losses of forecasts, and the domain that they average over."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..grids import Grid


@dataclass(frozen=True)
class LossDomain:
    """What a loss averages over, and the units of its errors.

    Attributes:
        grid: grid of the fields.
        weights: area weight of each point, zero outside the mask of a channel, shape (channel, H, W).
        scale: factor of the errors of each channel, such as one over the standard deviation of its tendency,
            shape (channel,).
    """

    grid: Grid
    weights: Tensor
    scale: Tensor

    def mean(self, values: Tensor) -> Tensor:
        """Return the area-weighted mean of each channel, shape (channel,).

        Args:
            values: finite values, shape (batch, channel, H, W); those with zero weight have no effect.
        """
        total = (values * self.weights).sum(dim=(0, 2, 3))
        result: Tensor = total / (len(values) * self.weights.sum(dim=(1, 2)))
        return result

    def scaled(self, values: Tensor) -> Tensor:
        """Return values, shape (..., channel, H, W), times the scale of their channel."""
        return values * self.scale[:, None, None]


class DataLoss(ABC):
    """The error of forecasts of one lead time, for each channel.

    The keyword-only arguments of a subclass are its options. Errors after k steps are expected to be
    sqrt(k) times as large as after one; dividing a loss by ``k ** (degree / 2)`` makes lead times comparable.

    Args:
        domain: grid, weights and scales.

    Attributes:
        degree: the loss of errors twice as large is ``2 ** degree`` times as large.
        uses_scale: whether the scales of the domain have an effect.
        members: number of forecasts that the loss compares with the truth; more than one is an ensemble.
    """

    degree: ClassVar[float] = 2
    uses_scale: ClassVar[bool] = True
    ensemble: ClassVar[bool] = False

    def __init__(self, domain: LossDomain) -> None:
        self.domain = domain
        self.members = 1

    @abstractmethod
    def __call__(self, prediction: Tensor, target: Tensor, lead: float = 1) -> Tensor:
        """Return the loss of each channel, shape (channel,).

        Args:
            prediction: normalised anomalies, shape (batch, channel, H, W); of an ensemble, shape (member,
                batch, channel, H, W).
            target: true anomalies, shape (batch, channel, H, W), finite, also outside the mask.
            lead: lead time k of the forecast [steps].
        """

    @classmethod
    def options(cls) -> dict[str, Any]:
        """Return the names of the options and their default values."""
        constructor: Callable[..., Any] = cls.__init__
        parameters = signature(constructor).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is Parameter.KEYWORD_ONLY}


def floor(values: Tensor) -> Tensor:
    """Return positive values bounded from below by the smallest normal number of their type."""
    return values.clamp_min(torch.finfo(values.dtype).tiny)
