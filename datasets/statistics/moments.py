"""Statistics of a training period, per variable and level: what models are normalised with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...fno.grids import Grid, LatLon
from ..schema import Channel
from ..store.fields import Fields
from .climatology import CycleDesign, DaySums, SeasonalCycle, project

NAMES = ("mean", "std", "tendency_std", "anomaly_std", "anomaly_tendency_std", "minimum", "maximum")


@dataclass(frozen=True)
class Statistics:
    """Area-weighted statistics of each channel over a period, in its units.

    Attributes:
        values: shape (7, channel): mean, standard deviation, that of the change over one step, that of the
            departure from the seasonal cycle, that of the departure's change over one step, least and largest
            value.
        cycle: the seasonal cycle of the period.
        mask: points that have values, shape (channel, H, W).
        partly_missing: points of each channel with intermittently missing values.
        missing: share of the values of each channel that are missing.
        period: first and last time.
    """

    values: NDArray[np.float64]
    cycle: SeasonalCycle
    mask: NDArray[np.bool_]
    partly_missing: NDArray[np.int64]
    missing: NDArray[np.float64]
    period: tuple[str, str]

    def __getattr__(self, name: str) -> NDArray[np.float64]:
        if name in NAMES:
            return np.asarray(self.values[NAMES.index(name)])
        raise AttributeError(name)


def compute_statistics(
    fields: Fields,
    period: slice,
    grid: Grid,
    *,
    gaps: list[int],
    block_bytes: int = 2**25,
    days: DaySums | None = None,
) -> Statistics:
    """Compute statistics in one pass over the period.

    What departs from the seasonal cycle b = f(t) c is known once the cycle is, from sums over time at each
    point:

        sum (x - f c)^2 = sum x^2 - 2 c . sum f x + c . (sum f f^T) c

    and the same with changes over a step, of x and of f. Points that lack a value at any time count for
    neither.

    Args:
        fields: the data.
        period: positions in time.
        grid: where the fields lie; rows count by their area.
        gaps: positions that a gap comes before; no tendency crosses one.
        block_bytes: bytes read at once.
        days: accumulators of daily sums, updated with each block of fields.
    """
    start, stop, _ = period.indices(len(fields.times))
    times = fields.times[start:stop]
    design, weights = CycleDesign(times, seasons=isinstance(grid, LatLon)), grid.area_weights
    counts = np.zeros(fields.shape[1:], dtype=np.int64)
    least, largest = np.full(fields.shape[1], np.inf), np.full(fields.shape[1], -np.inf)
    sums, tendencies = _Moments(weights), _Moments(weights)
    states = _Departures(design.functions, np.ones(len(times), dtype=bool), fields.shape[1:])
    changes = _Departures(
        np.diff(design.functions, axis=0), _kept(0, len(times) - 1, start, gaps=gaps), fields.shape[1:]
    )
    last: NDArray[np.float32] | None = None
    for where in fields.blocks(period, block_bytes):
        block, at = fields.read(where), where.start - start
        if days is not None:
            days.add(range(at, at + len(block)), block)
        good = np.isfinite(block)
        counts += good.sum(axis=0)
        least = np.fmin(least, np.where(good, block, np.inf).min(axis=(0, 2, 3)))
        largest = np.fmax(largest, np.where(good, block, -np.inf).max(axis=(0, 2, 3)))
        sums.add(block)
        joined = block if last is None else np.concatenate([last, block])
        first = at if last is None else at - 1
        with np.errstate(invalid="ignore"):  # between two infinite values
            differences = np.diff(joined, axis=0)
        tendencies.add(differences[_kept(first, len(joined) - 1, start, gaps=gaps)])
        states.add(at, np.nan_to_num(block))
        changes.add(first, np.nan_to_num(differences))
        last = block[-1:]
    mask = counts == len(times)
    partly = ((counts > 0) & ~mask).sum(axis=(1, 2))
    cycle = design.solve(states.right)
    found = [d.std(cycle.coefficients, mask, weights) for d in (states, changes)]
    values = np.stack([sums.mean, sums.std, tendencies.std, *found, least, largest])
    # A channel that never changes would be divided by zero.
    floor = np.where(values[1] > 0, 1e-6 * values[1], 1.0)
    values[1:5] = np.maximum(np.nan_to_num(values[1:5]), floor)
    values[5:, counts.sum(axis=(1, 2)) == 0] = 0
    missing = 1 - counts.mean(axis=(1, 2)) / len(times)
    return Statistics(values, cycle, mask, partly, missing, (str(times[0]), str(times[-1])))


def _kept(first: int, count: int, start: int, *, gaps: list[int]) -> NDArray[np.bool_]:
    """Return which of ``count`` changes from position ``first`` of the period on do not cross a gap."""
    return np.asarray(~np.isin(np.arange(first, first + count) + 1 + start, gaps))


class _Departures:
    """Sums over time at each point, from which the mean square departure from any combination of functions
    follows.

    Args:
        functions: shape (time, k).
        counted: times that count, shape (time,).
        shape: (channel, H, W).
    """

    def __init__(
        self, functions: NDArray[np.float64], counted: NDArray[np.bool_], shape: tuple[int, ...]
    ) -> None:
        self.functions, self.counted = functions * counted[:, None], counted
        self.right, self.first, self.second = (
            np.zeros((functions.shape[1], *shape)),
            np.zeros(shape),
            np.zeros(shape),
        )

    def add(self, first: int, block: NDArray[np.float32]) -> None:
        """Add the fields at consecutive times from ``first`` on."""
        counted = self.counted[first : first + len(block)]
        functions, x = self.functions[first : first + len(block)][counted], block[counted].astype(np.float64)
        self.right += project(functions, x)
        self.first += x.sum(axis=0)
        self.second += np.square(x, out=x).sum(axis=0)

    def std(
        self, coefficients: NDArray[np.float32], mask: NDArray[np.bool_], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the area-weighted standard deviation of the departures in each channel, over the points of
        ``mask``.
        """
        c = coefficients.reshape(-1, *coefficients.shape[2:])
        total, count = self.functions.sum(axis=0), max(1, int(self.counted.sum()))
        normal = self.functions.T @ self.functions
        result = np.empty(mask.shape[0])
        for channel, points in enumerate(mask):
            own = c[:, channel].astype(np.float64)
            square = (
                self.second[channel]
                - 2 * (own * self.right[:, channel]).sum(axis=0)
                + (own * np.tensordot(normal, own, axes=1)).sum(axis=0)
            )
            mean = self.first[channel] - np.tensordot(total, own, axes=1)
            w = np.where(points, weights[:, None], 0.0)
            area = max(count * w.sum(), 1e-300)
            result[channel] = np.sqrt(
                max((w * square)[points].sum() / area - ((w * mean)[points].sum() / area) ** 2, 0)
            )
        return result


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
    return np.asarray(
        np.where(good, block, 0).sum(axis=(0, 2, 3), dtype=np.float64)
        / np.maximum(good.sum(axis=(0, 2, 3)), 1)
    )


def to_dataset(parts: Sequence[Statistics], channels: list[Channel]) -> xr.Dataset:
    """Return statistics as a data set: ``<variable>_<statistic>``, with dimension ``level`` where the
    variable has levels.

    Args:
        parts: statistics of some channels each, together of all.
        channels: all channels.
    """
    result: dict[str, xr.DataArray] = {}
    together = {name: np.concatenate([getattr(part, name) for part in parts]) for name in (*NAMES, "missing")}
    for name in dict.fromkeys(channel.variable for channel in channels):
        index = [i for i, channel in enumerate(channels) if channel.variable == name]
        levels = [channels[i].level for i in index]
        for statistic, all_values in together.items():
            values, attrs = (
                all_values[index],
                {"units": channels[index[0]].units if statistic != "missing" else "1"},
            )
            coords = None if levels == [None] else {"level": levels}
            result[f"{name}_{statistic}"] = (
                xr.DataArray(values[0], attrs=attrs)
                if coords is None
                else xr.DataArray(values, coords, ("level",), attrs=attrs)
            )
    return xr.Dataset(result, attrs={"period": list(parts[0].period), "weighting": "area"})
