"""Reference forecasts without a model: persistence, damped anomaly persistence and climatology."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...datasets.statistics.climatology import day_of_year
from ...datasets.store.fields import Fields

Float = NDArray[np.float32]
Array = NDArray[np.float64]

_CACHED_DAYS = 64


class Climatology:
    """Climatology of a store by day of the year and hour: the mean over a window of days around each day.

    Args:
        group: group ``climatology`` of a store, fields of shape (hour, day, [level], y, x).
        variables: variables in the order of the channels.
        cache_bytes: read the group into memory if it is no larger than this [B], else a day at a time.
    """

    def __init__(self, group: xr.Dataset, variables: list[str], cache_bytes: int = 2**29) -> None:
        group = group[variables]
        if group.nbytes <= cache_bytes:
            group = group.load(scheduler="threads")
        self.hours = group["hour"].values.astype(np.float64)
        arrays = (group[name].data for name in variables)
        self.arrays = [array if array.ndim == 5 else array[:, :, None] for array in arrays]
        self._days: dict[int, Float] = {}

    def at(self, times: NDArray[np.datetime64]) -> Float:
        """Return the climatology at ``times``, shape (time, channel, y, x).

        Where a time's hour is not in the climatology, the nearest one is taken.
        """
        hours = (times - times.astype("datetime64[D]")) / np.timedelta64(1, "h")
        distance = np.abs(hours[:, None] - self.hours)
        nearest = np.minimum(distance, 24 - distance).argmin(axis=1)
        days = day_of_year(times)
        return np.stack([self._day(int(day))[hour] for day, hour in zip(days, nearest, strict=True)])

    def _day(self, day: int) -> Float:
        """Return the fields of one day of the year, shape (hour, channel, y, x), from a small cache."""
        if day not in self._days:
            while len(self._days) >= _CACHED_DAYS:
                self._days.pop(next(iter(self._days)))
            parts = [np.asarray(a[:, min(day, a.shape[1]) - 1]) for a in self.arrays]
            self._days[day] = np.concatenate(parts, axis=1)
        return self._days[day]


def damping(
    fields: Fields, climatology: Climatology, period: slice, *, gaps: list[int], leads: list[int]
) -> Array:
    """Return the factors of damped persistence: the regression of anomalies on those h steps earlier.

        c(h) = sum a(t) a(t + h) / sum a(t)^2

    with sums over the grid and over all times t of the period for which t + h is in the period and no gap
    lies in between.

    Args:
        fields: truth.
        climatology: climatology from which the anomalies a are departures.
        period: positions in time of the training period.
        gaps: positions of the first time after each gap.
        leads: lead times h, in steps.

    Returns:
        Factors, shape (lead, channel); zero where the period is too short to estimate one.
    """
    start, stop, _ = period.indices(len(fields.times))
    segment = np.searchsorted(gaps, np.arange(start, stop), side="right")
    product = np.zeros((len(leads), fields.shape[1]))
    square = np.zeros_like(product)
    for block in fields.blocks(period):
        anomalies = _anomalies(fields, climatology, block)
        for i, lead in enumerate(leads):
            positions = np.arange(block.start, min(block.stop, stop - lead))
            positions = positions[segment[positions - start] == segment[positions + lead - start]]
            if not len(positions):
                continue
            earlier = anomalies[positions - block.start]
            if positions[-1] + lead < block.stop:
                later = anomalies[positions + lead - block.start]
            else:
                later = _anomalies(fields, climatology, positions + lead)
            product[i] += np.nansum(earlier * later, axis=(0, 2, 3), dtype=np.float64)
            valid = np.where(np.isfinite(later), earlier, 0)
            square[i] += np.nansum(valid**2, axis=(0, 2, 3), dtype=np.float64)
    return np.asarray(product / np.where(square > 0, square, np.inf))


def _anomalies(fields: Fields, climatology: Climatology, positions: slice | NDArray[np.int64]) -> Float:
    return fields.read(positions) - climatology.at(fields.times[positions])
