"""Statistics of a training period, per variable and level: what models are normalised with."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .climatology import SeasonalCycle
from .fields import Fields
from .schema import Channel

NAMES = ("mean", "std", "tendency_std", "anomaly_std", "anomaly_tendency_std")


@dataclass(frozen=True)
class Statistics:
    """Area-weighted statistics of each channel over a period, in its units.

    Attributes:
        values: shape (5, channel): mean, standard deviation, that of the change over one step, that of the departure
            from the seasonal cycle, and that of the departure's change over one step.
        cycle: the seasonal cycle of the period.
        mask: points that have values, shape (channel, H, W).
        partly_missing: points of each channel whose values come and go.
        period: first and last time.
    """

    values: NDArray[np.float64]
    cycle: SeasonalCycle
    mask: NDArray[np.bool_]
    partly_missing: NDArray[np.int64]
    period: tuple[str, str]

    def __getattr__(self, name: str) -> NDArray[np.float64]:
        if name in NAMES:
            return np.asarray(self.values[NAMES.index(name)])
        raise AttributeError(name)


def compute_statistics(fields: Fields, period: slice, weights: NDArray[np.float64], gaps: list[int]) -> Statistics:
    """Compute statistics in two passes over the period, in the memory of one block.

    Args:
        fields: the data.
        period: positions in time.
        weights: area weight of each row, shape (H,).
        gaps: positions that a gap comes before; no tendency crosses one.
    """
    start, stop, _ = period.indices(len(fields.times))
    times = fields.times[start:stop]
    blocks = fields.blocks(period)
    counts = np.zeros(fields.shape[1:], dtype=np.int64)
    sums = _Moments(weights)
    tendencies, seen = _Moments(weights), _Differences(gaps)

    def first_pass() -> Iterator[tuple[slice, NDArray[np.float32]]]:
        nonlocal counts
        for where in blocks:
            block = fields.read(where)
            counts += np.isfinite(block).sum(axis=0)
            sums.add(block)
            tendencies.add(seen(where, block))
            yield slice(where.start - start, where.stop - start), np.nan_to_num(block)

    cycle = SeasonalCycle.fit(times, first_pass())
    mask = counts == len(times)
    partly = ((counts > 0) & ~mask).sum(axis=(1, 2))
    anomalies, changes, seen = _Moments(weights), _Moments(weights), _Differences(gaps)
    for where in blocks:
        block = fields.read(where) - cycle.at(fields.times[where])
        block[:, ~mask] = np.nan
        anomalies.add(block)
        changes.add(seen(where, block))
    values = np.stack([sums.mean, sums.std, tendencies.std, anomalies.std, changes.std])
    # A channel that never changes would be divided by zero.
    floor = np.where(values[1] > 0, 1e-6 * values[1], 1.0)
    values[1:] = np.maximum(np.nan_to_num(values[1:]), floor)
    return Statistics(values, cycle, mask, partly, (str(times[0]), str(times[-1])))


class _Moments:
    """Running area-weighted mean and standard deviation of each channel, missing values left out."""

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self.weights = weights[None, None, :, None]
        self.n: NDArray[np.float64] | float = 0.0
        self.first: NDArray[np.float64] | float = 0.0
        self.second: NDArray[np.float64] | float = 0.0
        self.shift: NDArray[np.float64] | None = None

    def add(self, block: NDArray[np.float32]) -> None:
        if not len(block):
            return
        if self.shift is None:  # near the mean, so that the squares do not cancel
            with np.errstate(invalid="ignore"):
                self.shift = np.nan_to_num(_nanmean(block))
        x = block.astype(np.float64) - self.shift[None, :, None, None]
        w = np.where(np.isfinite(x), self.weights, 0.0)
        x = np.nan_to_num(x)
        self.n += w.sum(axis=(0, 2, 3))
        self.first += (w * x).sum(axis=(0, 2, 3))
        self.second += (w * x * x).sum(axis=(0, 2, 3))

    @property
    def mean(self) -> NDArray[np.float64]:
        n = np.maximum(self.n, 1e-300)
        return np.asarray(self.first / n + (0 if self.shift is None else self.shift))

    @property
    def std(self) -> NDArray[np.float64]:
        n = np.maximum(self.n, 1e-300)
        return np.asarray(np.sqrt(np.maximum(self.second / n - (self.first / n) ** 2, 0)))


def _nanmean(block: NDArray[np.float32]) -> NDArray[np.float64]:
    good = np.isfinite(block)
    return np.asarray(np.where(good, block, 0).sum(axis=(0, 2, 3), dtype=np.float64) / np.maximum(good.sum(axis=(0, 2, 3)), 1))


class _Differences:
    """Changes from one time to the next within and between consecutive blocks, except across gaps."""

    def __init__(self, gaps: list[int]) -> None:
        self.gaps = gaps
        self.last: NDArray[np.float32] | None = None

    def __call__(self, where: slice, block: NDArray[np.float32]) -> NDArray[np.float32]:
        joined = block if self.last is None else np.concatenate([self.last, block])
        offset = where.start if self.last is None else where.start - 1
        keep = np.ones(len(joined) - 1, dtype=bool)
        for gap in self.gaps:
            if 0 <= gap - 1 - offset < len(keep):
                keep[gap - 1 - offset] = False
        self.last = block[-1:]
        return np.asarray(np.diff(joined, axis=0)[keep])


def to_dataset(statistics: Statistics, channels: list[Channel]) -> xr.Dataset:
    """Return statistics as a data set: ``<variable>_<statistic>``, with dimension ``level`` where the variable has levels."""
    result: dict[str, xr.DataArray] = {}
    for name in dict.fromkeys(channel.variable for channel in channels):
        index = [i for i, channel in enumerate(channels) if channel.variable == name]
        levels = [channels[i].level for i in index]
        attrs = {"units": channels[index[0]].units}
        for statistic in NAMES:
            values = getattr(statistics, statistic)[index]
            coords = None if levels == [None] else {"level": levels}
            result[f"{name}_{statistic}"] = (
                xr.DataArray(values[0], attrs=attrs) if coords is None else xr.DataArray(values, coords, ("level",), attrs=attrs)
            )
    return xr.Dataset(result, attrs={"period": list(statistics.period), "weighting": "area"})
