"""Variables of a store that are inputs of a model and not forecast, such as the sea-surface temperature."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .durations import format_time
from .errors import DataError, IncompleteDataError
from .schema import Channel
from .statistics.moments import Statistics
from .store.fields import Fields

Float = NDArray[np.float32]
Times = NDArray[np.datetime64]


@dataclass(frozen=True)
class ForcingScales:
    """Channels of stored forcings and their normalisation.

    Attributes:
        channels: the channels, in order.
        mean: mean of each channel over the training period, in its units, shape (channel,).
        std: its standard deviation, shape (channel,).
        mask: points where each channel has values, shape (channel, H, W).
    """

    channels: list[Channel]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    mask: NDArray[np.bool_]

    @classmethod
    def of(cls, channels: Sequence[Channel], statistics: Statistics) -> "ForcingScales":
        """Return the scales for statistics of a training period.

        Raises:
            DataError: a channel has intermittently missing values, no values, or always the same value.
        """
        covered = np.atleast_1d(statistics.mask.any(axis=(1, 2)))
        for i, channel in enumerate(channels):
            if statistics.partly_missing[i] or not covered[i]:
                raise DataError(
                    f"the forcing {channel} has missing values at {int(statistics.partly_missing[i])} points "
                    "at some times of the training period, or no values; fill them before ingesting"
                )
            if statistics.minimum[i] == statistics.maximum[i]:
                raise DataError(
                    f"the forcing {channel} is {statistics.minimum[i]:g} everywhere and always; leave it out"
                )
        return cls(list(channels), statistics.mean, statistics.std, statistics.mask)

    def normalise(self, values: Float) -> Float:
        """Return (x - mean) / std, zero outside the mask, shape (time, channel, H, W)."""
        mean, std = (part.astype(np.float32)[:, None, None] for part in (self.mean, self.std))
        return np.where(self.mask, (values - mean) / std, np.float32(0))


@dataclass(frozen=True)
class StoredForcings:
    """Stored forcings, read by position or by time.

    Attributes:
        fields: their fields, in the units of the scales.
        scales: their channels and normalisation.
        source: name of the data in errors.
    """

    fields: Fields
    scales: ForcingScales
    source: str

    def at(self, times: Times) -> Float:
        """Return the normalised fields at ``times``, shape (time, channel, H, W).

        Raises:
            IncompleteDataError: a time, or a value within the mask, is missing.
        """
        positions = self._positions(times)
        values = self.fields.read(positions)
        missing = ~np.isfinite(values) & self.scales.mask
        if missing.any():
            time, channel = np.argwhere(missing.any(axis=(2, 3)))[0]
            raise IncompleteDataError(
                f"{self.source}: the forcing {self.scales.channels[channel]} has missing values at "
                f"{format_time(times[time])}; fill them first"
            )
        return self.scales.normalise(values)

    def check(self, first: Times, steps: int, step: np.timedelta64) -> None:
        """Check that the data cover forecasts.

        Args:
            first: initial times, shape (time,).
            steps: number of steps of each forecast.
            step: time step.

        Raises:
            IncompleteDataError: a time is missing.
        """
        self._positions(np.unique(first[:, None] + np.arange(steps + 1) * step.astype("timedelta64[ns]")))

    def _positions(self, times: Times) -> NDArray[np.int64]:
        available = self.fields.times
        positions = np.searchsorted(available, times).clip(max=len(available) - 1)
        if (missing := available[positions] != times).any():
            names = ", ".join(str(channel) for channel in self.scales.channels)
            raise IncompleteDataError(
                f"{self.source} lacks {format_time(times[missing][0])}, at which the model needs the forcing "
                f"{names}: forcings are not forecast, so the data must contain them at every step of the "
                f"forecast; it has {format_time(available[0])} ... {format_time(available[-1])}"
            )
        return np.asarray(positions)
