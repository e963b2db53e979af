"""Transformation of diagnosed variables that are not negative, such as precipitation."""

from dataclasses import dataclass

import numpy as np

from .errors import DataError
from .schema import Channel
from .stored_forcings import Float, ForcingScales


@dataclass(frozen=True)
class LogTransform:
    """The transformation y = log(1 + x / epsilon) of values x >= 0, that of FourCastNet for precipitation.

    Attributes:
        epsilon: value [units of x] below which the transformation is about linear.
    """

    epsilon: float = 1e-5

    def forward(self, x: Float) -> Float:
        """Return y; rounding errors below zero count as zero."""
        return np.log1p(np.maximum(x, 0) / np.float32(self.epsilon))

    def inverse(self, y: Float) -> Float:
        """Return x = epsilon (exp(y) - 1).

        >>> transform = LogTransform(1e-5)
        >>> round(float(transform.inverse(transform.forward(np.float32(0.002)))), 6)
        0.002
        """
        return np.float32(self.epsilon) * np.expm1(y)


@dataclass(frozen=True)
class TargetScales(ForcingScales):
    """Stored forcings of a forecast model, then the targets of a diagnosis, which are transformed.

    Attributes:
        targets: number of targets, the last channels.
        transform: transformation of the targets.
    """

    targets: int = 0
    transform: LogTransform = LogTransform()

    def normalise(self, values: Float) -> Float:
        """Return normalised forcings and transformed targets, zero outside the mask."""
        count = len(self.channels) - self.targets
        targets = self.transform.forward(values[:, count:])
        return np.where(self.mask, np.concatenate([super().normalise(values)[:, :count], targets], 1), 0)


def check_not_negative(channel: Channel, smallest: float, largest: float) -> None:
    """Check that a target is not negative, apart from rounding errors.

    Args:
        channel: channel of the target.
        smallest: its smallest value.
        largest: its largest value.

    Raises:
        DataError: it is.
    """
    if smallest < -1e-3 * max(largest, 0):
        raise DataError(
            f"{channel} has negative values, down to {smallest:g} {channel.units}; the logarithmic "
            "transformation is for variables that are not negative"
        )
