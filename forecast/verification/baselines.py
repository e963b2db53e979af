"""What any forecast must be compared with: persistence, damped anomaly persistence and climatology."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...datasets.statistics.climatology import day_of_year
from ...datasets.store.fields import Fields

Float = NDArray[np.float32]
Array = NDArray[np.float64]
Times = NDArray[np.datetime64]


class Climatology:
    """Mean over the days around each day of the year at the same hour, as a store holds it.

    Args:
        group: the store's ``climatology``.
        variables: variables in the order of the channels.
        cache_bytes: kept in memory if it is no larger than this, else read a day at a time.
    """

    def __init__(self, group: xr.Dataset, variables: list[str], cache_bytes: int = 2**29) -> None:
        group = group[variables]
        if group.nbytes <= cache_bytes:
            group = group.load(scheduler="threads")
        self.hours = group["hour"].values.astype(np.float64)
        parts = []
        for name in variables:
            values = group[name].data
            parts.append(values if values.ndim == 5 else values[:, :, None])
        self.arrays = parts
        self._days: dict[int, Float] = {}

    def at(self, times: Times) -> Float:
        """Return the climatology at ``times``, shape (time, channel, H, W); the nearest hour where it lacks
        one.
        """
        hours = (times - times.astype("datetime64[D]")) / np.timedelta64(1, "h")
        distance = np.abs(hours[:, None] - self.hours)
        hour = np.minimum(distance, 24 - distance).argmin(axis=1)
        return np.stack([self._day(int(d))[h] for d, h in zip(day_of_year(times), hour, strict=True)])

    def _day(self, day: int) -> Float:
        """Return the fields of one day, shape (hour, channel, H, W), from a small cache."""
        if day not in self._days:
            while len(self._days) >= 64:
                self._days.pop(next(iter(self._days)))
            block = np.concatenate([np.asarray(a[:, min(day, a.shape[1]) - 1]) for a in self.arrays], axis=1)
            self._days[day] = block
        return self._days[day]


def damping(
    fields: Fields, climatology: Climatology, period: slice, gaps: list[int], leads: list[int]
) -> Array:
    """Return the factor that anomalies persist by, for each lead and channel.

        c(h) = sum a(t) a(t + h) / sum a(t)^2

    with sums over the grid and all t of the period for which t + h lies in it and no gap in between.

    Args:
        fields: the truth.
        climatology: what anomalies are departures from.
        period: positions in time of the training period.
        gaps: positions that a gap comes before.
        leads: leads in steps.

    Returns:
        Factors, shape (lead, channel); zero where the period is too short to know.
    """
    start, stop, _ = period.indices(len(fields.times))
    segment = np.searchsorted(gaps, np.arange(start, stop), side="right")
    product, square = np.zeros((2, len(leads), fields.shape[1]))
    for where in fields.blocks(period):
        here = _anomalies(fields, climatology, where)
        for i, lead in enumerate(leads):
            positions = np.arange(where.start, min(where.stop, stop - lead))
            positions = positions[segment[positions - start] == segment[positions + lead - start]]
            if len(positions):
                now = here[positions - where.start]
                inside = positions[-1] + lead < where.stop
                later = (
                    here[positions + lead - where.start]
                    if inside
                    else _anomalies(fields, climatology, positions + lead)
                )
                product[i] += np.nansum(now * later, axis=(0, 2, 3), dtype=np.float64)
                square[i] += np.nansum(
                    np.where(np.isfinite(later), now, 0) ** 2, axis=(0, 2, 3), dtype=np.float64
                )
    return np.asarray(product / np.where(square > 0, square, np.inf))


def _anomalies(fields: Fields, climatology: Climatology, positions: slice | NDArray[np.int64]) -> Float:
    return fields.read(positions) - climatology.at(fields.times[positions])
