"""Statistics of a training period per variable and level, which models use for normalisation."""

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
        values: the statistics of ``NAMES``, shape (7, channel): mean; standard deviation of the values, of
            the tendencies (changes over one step), of the departures from the seasonal cycle and of the
            tendencies of these departures; minimum and maximum.
        cycle: the seasonal cycle of the period.
        mask: points without missing values, shape (channel, H, W).
        partly_missing: number of points of each channel with intermittently missing values.
        missing: fraction of missing values of each channel.
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

    The variance of the departures from the seasonal cycle b = f(t) c follows from sums over time at each
    point, without a second pass once c is known:

        sum (x - f c)^2 = sum x^2 - 2 c . sum f x + c . (sum f f^T) c

    Their tendencies use the same identity with the differences of x and f over one step. Both exclude points
    with a missing value at any time.

    Args:
        fields: the data.
        period: positions in time.
        grid: grid of the fields, which are weighted by area.
        gaps: positions of the first times after gaps; no tendency crosses a gap.
        block_bytes: bytes to read at once.
        days: daily sums to update with each block of fields.
    """
    start, stop, _ = period.indices(len(fields.times))
    times = fields.times[start:stop]
    design = CycleDesign(times, seasons=isinstance(grid, LatLon))
    weights = grid.area_weights
    counts = np.zeros(fields.shape[1:], dtype=np.int64)
    minimum = np.full(fields.shape[1], np.inf)
    maximum = np.full(fields.shape[1], -np.inf)
    moments = _Moments(weights)
    tendencies = _Moments(weights)
    states = _Departures(design.functions, np.ones(len(times), dtype=bool), fields.shape[1:])
    changes = _Departures(
        np.diff(design.functions, axis=0),
        _within_gaps(0, len(times) - 1, start, gaps=gaps),
        fields.shape[1:],
    )
    last: NDArray[np.float32] | None = None
    for positions in fields.blocks(period, block_bytes):
        block = fields.read(positions)
        offset = positions.start - start
        if days is not None:
            days.add(range(offset, offset + len(block)), block)
        finite = np.isfinite(block)
        counts += finite.sum(axis=0)
        minimum = np.fmin(minimum, np.where(finite, block, np.inf).min(axis=(0, 2, 3)))
        maximum = np.fmax(maximum, np.where(finite, block, -np.inf).max(axis=(0, 2, 3)))
        moments.add(block)
        extended = block if last is None else np.concatenate([last, block])
        first = offset if last is None else offset - 1
        with np.errstate(invalid="ignore"):  # between two infinite values
            differences = np.diff(extended, axis=0)
        tendencies.add(differences[_within_gaps(first, len(extended) - 1, start, gaps=gaps)])
        states.add(offset, np.nan_to_num(block))
        changes.add(first, np.nan_to_num(differences))
        last = block[-1:]
    mask = counts == len(times)
    partly_missing = ((counts > 0) & ~mask).sum(axis=(1, 2))
    cycle = design.solve(states.projection)
    departures = [d.std(cycle.coefficients, mask, weights) for d in (states, changes)]
    values = np.stack([moments.mean, moments.std, tendencies.std, *departures, minimum, maximum])
    # Normalisation divides by these; a constant channel would have zeros.
    floor = np.where(values[1] > 0, 1e-6 * values[1], 1.0)
    values[1:5] = np.maximum(np.nan_to_num(values[1:5]), floor)
    values[5:, counts.sum(axis=(1, 2)) == 0] = 0
    missing = 1 - counts.mean(axis=(1, 2)) / len(times)
    return Statistics(values, cycle, mask, partly_missing, missing, (str(times[0]), str(times[-1])))


def _within_gaps(first: int, count: int, start: int, *, gaps: list[int]) -> NDArray[np.bool_]:
    """Return which of the ``count`` tendencies from position ``first`` of the period on cross no gap."""
    return np.asarray(~np.isin(np.arange(first, first + count) + 1 + start, gaps))


class _Departures:
    """Sums over time at each point that give the variance of departures from any combination of functions.

    Args:
        functions: basis functions, shape (time, k).
        included: times to include, shape (time,).
        shape: (channel, H, W).
    """

    def __init__(
        self, functions: NDArray[np.float64], included: NDArray[np.bool_], shape: tuple[int, ...]
    ) -> None:
        self.functions = functions * included[:, None]
        self.included = included
        self.projection = np.zeros((functions.shape[1], *shape))
        self.sums = np.zeros(shape)
        self.squares = np.zeros(shape)

    def add(self, first: int, block: NDArray[np.float32]) -> None:
        """Add the fields at consecutive times from ``first`` on."""
        included = self.included[first : first + len(block)]
        functions = self.functions[first : first + len(block)][included]
        x = block[included].astype(np.float64)
        self.projection += project(functions, x)
        self.sums += x.sum(axis=0)
        self.squares += np.square(x, out=x).sum(axis=0)

    def std(
        self, coefficients: NDArray[np.float32], mask: NDArray[np.bool_], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the area-weighted standard deviation of the departures per channel, within ``mask``."""
        combined = coefficients.reshape(-1, *coefficients.shape[2:])
        total = self.functions.sum(axis=0)
        count = max(1, int(self.included.sum()))
        normal = self.functions.T @ self.functions
        result = np.empty(mask.shape[0])
        for channel, points in enumerate(mask):
            c = combined[:, channel].astype(np.float64)
            square = (
                self.squares[channel]
                - 2 * (c * self.projection[:, channel]).sum(axis=0)
                + (c * np.tensordot(normal, c, axes=1)).sum(axis=0)
            )
            mean = self.sums[channel] - np.tensordot(total, c, axes=1)
            w = np.where(points, weights[:, None], 0.0)
            area = max(count * w.sum(), 1e-300)
            result[channel] = np.sqrt(
                max((w * square)[points].sum() / area - ((w * mean)[points].sum() / area) ** 2, 0)
            )
        return result


class _Moments:
    """Running area-weighted mean and standard deviation of each channel, ignoring missing values."""

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self.weights = weights[None, None, :, None]
        self.n: NDArray[np.float64] | float = 0.0
        self.first: NDArray[np.float64] | float = 0.0
        self.second: NDArray[np.float64] | float = 0.0
        self.shift: NDArray[np.float64] | None = None

    def add(self, block: NDArray[np.float32]) -> None:
        if not len(block):
            return
        if self.shift is None:  # close to the mean, so that the variance does not suffer from cancellation
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
    """Return the mean of the finite values of each channel; zero if there are none."""
    finite = np.isfinite(block)
    return np.asarray(
        np.where(finite, block, 0).sum(axis=(0, 2, 3), dtype=np.float64)
        / np.maximum(finite.sum(axis=(0, 2, 3)), 1)
    )


def to_dataset(parts: Sequence[Statistics], channels: list[Channel]) -> xr.Dataset:
    """Return statistics as variables ``<variable>_<statistic>``, on levels where the variable is.

    Args:
        parts: statistics of consecutive groups of channels.
        channels: all channels.
    """
    result: dict[str, xr.DataArray] = {}
    combined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in (*NAMES, "missing")}
    for name in dict.fromkeys(channel.variable for channel in channels):
        index = [i for i, channel in enumerate(channels) if channel.variable == name]
        levels = [channels[i].level for i in index]
        for statistic, all_values in combined.items():
            values = all_values[index]
            attrs = {"units": channels[index[0]].units if statistic != "missing" else "1"}
            if levels == [None]:
                array = xr.DataArray(values[0], attrs=attrs)
            else:
                array = xr.DataArray(values, {"level": levels}, ("level",), attrs=attrs)
            result[f"{name}_{statistic}"] = array
    return xr.Dataset(result, attrs={"period": list(parts[0].period), "weighting": "area"})
