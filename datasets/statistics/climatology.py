"""Climatology by time of year and time of day: a smooth cycle for models, a windowed mean for scores."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Times = NDArray[np.datetime64]
Reader = Callable[[NDArray[np.int64]], Float]
"""Function that returns the fields at positions in time, shape (time, channel, H, W)."""
DayReader = Callable[[int], tuple[NDArray[np.float64], NDArray[np.uint16]]]
"""Function that returns the sum and the count of the values on a day of the year."""

_DAY = np.timedelta64(1, "D")


def day_of_year(times: Times) -> NDArray[np.int64]:
    """Return the day of the year from 1, counted as in a leap year: 1 March is always day 61."""
    days = times.astype("datetime64[D]")
    january = days.astype("datetime64[Y]").astype("datetime64[D]")
    number = (days - january).astype(np.int64) + 1
    leap = (january.astype("datetime64[Y]") + 1).astype("datetime64[D]") - january == 366 * _DAY
    return np.asarray(np.where((number >= 60) & ~leap, number + 1, number))


def minute_of_day(times: Times) -> NDArray[np.int64]:
    """Return the minutes since midnight."""
    return np.asarray((times - times.astype("datetime64[D]")).astype("timedelta64[m]").astype(np.int64))


def year_phase(times: Times) -> NDArray[np.float64]:
    """Return the phase of the year in radians, zero on 1 January."""
    start = times.astype("datetime64[Y]")
    length = (start + 1).astype("datetime64[s]") - start.astype("datetime64[s]")
    return np.asarray(2 * np.pi * ((times - start.astype("datetime64[s]")) / length))


def _harmonics(times: Times, count: int) -> NDArray[np.float64]:
    """Return 1, cos(k p) and sin(k p) for k = 1 ... count, shape (time, 2 count + 1)."""
    phase = year_phase(times)
    waves = [f(k * phase) for k in range(1, count + 1) for f in (np.cos, np.sin)]
    return np.stack([np.ones_like(phase), *waves], axis=1)


@dataclass(frozen=True)
class SeasonalCycle:
    """Least-squares harmonics of the year, fitted separately for each time of day.

        b(t) = c_0 + sum_k c_{2k-1} cos(k p(t)) + c_{2k} sin(k p(t)),   p the phase of the year

    Attributes:
        minutes: times of day in minutes since midnight, shape (clock,).
        coefficients: shape (clock, term, channel, H, W), in the channels' units; NaN where a channel is
            masked.
    """

    minutes: NDArray[np.int64]
    coefficients: Float

    @staticmethod
    def harmonic_count(times: Times) -> int:
        """Return the number of harmonics to fit: 0 below 300 days, 2 below five years, otherwise 3."""
        days = (times[-1] - times[0]) / _DAY
        return 0 if days < 300 else 2 if days < 5 * 365 else 3

    @classmethod
    def fit(cls, times: Times, blocks: Iterator[tuple[slice, Float]]) -> "SeasonalCycle":
        """Fit to fields in one pass, with one block of times in memory at once.

        Args:
            times: all times.
            blocks: pairs of positions in ``times`` and fields of shape (time, channel, H, W).

        Raises:
            ValueError: there are no blocks.
        """
        design = CycleDesign(times)
        projection: NDArray[np.float64] | None = None
        for positions, fields in blocks:
            part = design.project(positions, fields)
            projection = part if projection is None else np.add(projection, part, out=projection)
        if projection is None:
            raise ValueError("no fields to fit a seasonal cycle to")
        return design.solve(projection)

    def at(self, times: Times) -> Float:
        """Return the cycle at ``times``, shape (time, channel, H, W).

        A time of day without a fit uses that of the nearest fitted one.
        """
        _, terms, *field = self.coefficients.shape
        design = _harmonics(times, (terms - 1) // 2).astype(np.float32)
        distance = np.abs(minute_of_day(times)[:, None] - self.minutes)
        clock = np.minimum(distance, 1440 - distance).argmin(axis=1)
        result = np.empty((len(times), *field), dtype=np.float32)
        for i in np.unique(clock):
            result[clock == i] = np.tensordot(design[clock == i], self.coefficients[i], axes=1)
        return result


class CycleDesign:
    """Design matrix of the least-squares fit of a seasonal cycle.

    Args:
        times: all times.
        seasons: whether the fields depend on the season; if not, as for a flow in a box, the cycle is the
            time mean.

    Attributes:
        minutes: times of day that are fitted separately, in minutes since midnight.
        functions: basis functions, shape (time, clock * term), zero at other times of day.
    """

    def __init__(self, times: Times, seasons: bool = True) -> None:
        clock = minute_of_day(times)
        minutes = np.unique(clock)
        # Too many times of day to fit each of them, or too few days.
        if not seasons or len(minutes) > 48 or times[-1] - times[0] < 2 * _DAY:
            minutes = np.array([0])
            clock = np.zeros_like(clock)
        self.minutes = minutes
        terms = _harmonics(times, SeasonalCycle.harmonic_count(times) if seasons else 0)
        self._shape = (len(minutes), terms.shape[1])
        at_clock = np.searchsorted(minutes, clock)[:, None] == np.arange(len(minutes))
        self.functions = (at_clock[:, :, None] * terms[:, None]).reshape(len(times), -1)

    def project(self, positions: slice, fields: Float) -> NDArray[np.float64]:
        """Return ``functions^T fields`` of a block of times, shape (clock * term, channel, H, W).

        Args:
            positions: positions of the times.
            fields: fields at these times, shape (time, channel, H, W).
        """
        return project(self.functions[positions], fields)

    def solve(self, projection: NDArray[np.float64]) -> SeasonalCycle:
        """Solve the normal equations for the cycle, given ``functions^T fields`` of all times."""
        clocks, terms = self._shape
        # A small ridge regularises times of day with few samples.
        ridge = 1e-6 * len(self.functions) * np.diag([0.0] + [1.0] * (terms - 1))
        coefficients = np.empty((clocks, terms, *projection.shape[1:]), dtype=np.float32)
        for i in range(clocks):
            columns = slice(i * terms, (i + 1) * terms)
            normal = self.functions[:, columns].T @ self.functions[:, columns]
            solution = np.linalg.pinv(normal + ridge) @ projection[columns].reshape(terms, -1)
            coefficients[i] = solution.reshape(coefficients[i].shape)
        return SeasonalCycle(self.minutes, coefficients)


def project(functions: NDArray[np.float64], fields: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ``functions^T fields``, shape (k, ...).

    Functions with the same nonzero times are multiplied together, and only at these times.

    Args:
        functions: functions of time, most of them mostly zero, shape (time, k).
        fields: fields, shape (time, ...).
    """
    groups: dict[bytes, list[int]] = {}
    for k, function in enumerate(functions.T):
        groups.setdefault((function != 0).tobytes(), []).append(k)
    flat = fields.reshape(len(fields), -1)
    result = np.zeros((functions.shape[1], flat.shape[1]))
    for group in groups.values():
        nonzero = np.flatnonzero(functions[:, group[0]])
        result[group] = functions[nonzero][:, group].T @ flat[nonzero].astype(np.float64)
    return result.reshape(-1, *fields.shape[1:])


class DaySums:
    """Sums over all years for each day of the year and time of day, ignoring missing values.

    Args:
        times: times of the period.
        shape: (channel, H, W).
        days: days of the year to sum, from 1 to 366; by default all that occur in ``times``.

    Attributes:
        minutes: times of day in minutes since midnight, shape (clock,).
        total: sums in double precision, shape (day, clock, channel, H, W).
        count: numbers of values summed, of the same shape.
    """

    def __init__(self, times: Times, shape: tuple[int, ...], days: NDArray[np.int64] | None = None) -> None:
        self.day = day_of_year(times)
        self.minutes, self._clock = np.unique(minute_of_day(times), return_inverse=True)
        days = np.unique(self.day) if days is None else days
        self._row = {int(day): row for row, day in enumerate(days)}
        self.total = np.zeros((len(days), len(self.minutes), *shape))
        self.count = np.zeros(self.total.shape, dtype=np.uint16)

    def add(self, positions: Sequence[int] | NDArray[np.int64], fields: Float) -> None:
        """Add fields.

        Args:
            positions: their positions in time.
            fields: fields, shape (time, channel, H, W).
        """
        # One field at a time in order of time, so that the sums do not depend on the block size, to the bit.
        for position, field in zip(positions, fields, strict=True):
            row = (self._row[int(self.day[position])], self._clock[position])
            finite = np.isfinite(field)
            self.total[row] += field if finite.all() else np.where(finite, field, 0)
            self.count[row] += finite

    def get(self, day: int) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
        """Return the sum and the count of a day of the year, each of shape (clock, channel, H, W)."""
        if (row := self._row.get(day)) is None:
            return np.zeros(self.total.shape[1:]), np.zeros(self.total.shape[1:], np.uint16)
        return self.total[row], self.count[row]


def day_sums(times: Times, shape: tuple[int, ...], read: Reader, *, max_fields: int = 64) -> DayReader:
    """Return a function equal to ``DaySums.get`` of all fields, which reads the fields of a day on demand.

    Args:
        times: times of the period.
        shape: (channel, H, W).
        read: returns the fields at positions of ``times``, shape (time, channel, H, W).
        max_fields: number of fields to read at once.
    """
    day = day_of_year(times)
    minutes = len(np.unique(minute_of_day(times)))

    def read_day(number: int) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
        positions = np.flatnonzero(day == number)
        if not len(positions):
            return np.zeros((minutes, *shape)), np.zeros((minutes, *shape), np.uint16)
        sums = DaySums(times, shape, np.array([number]))
        for part in np.array_split(positions, -(-len(positions) // max_fields)):
            sums.add(part, read(part))
        return sums.get(number)

    return read_day


def windowed_mean(read_day: DayReader, half_width: int = 15) -> Iterator[tuple[int, Float]]:
    """Yield the running mean over all years, at each time of day, centred on each day of the year.

    The window slides from day to day, so each day is read twice, and one is in memory at a time. The mean is
    NaN where all values are missing.

    Args:
        read_day: returns the sum and the count of a day of the year, as ``DaySums.get`` or the result of
            ``day_sums`` do.
        half_width: days on each side.

    Yields:
        (day of year from 1 to 366, means of shape (clock, channel, H, W)).
    """
    first, _ = read_day(1)
    total = np.zeros(first.shape)
    count = np.zeros(first.shape, dtype=np.int32)

    def add(day: int, sign: int) -> None:
        values, number = read_day((day - 1) % 366 + 1)
        np.add(total, sign * values, out=total)
        np.add(count, sign * number.astype(np.int32), out=count)

    for day in range(1 - half_width, 1 + half_width):
        add(day, 1)
    for day in range(1, 367):
        add(day + half_width, 1)
        yield day, (total / np.where(count, count, np.nan)).astype(np.float32)
        add(day - half_width, -1)
