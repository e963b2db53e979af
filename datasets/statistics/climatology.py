"""What is normal for the time of year and of day: a smooth cycle for models, a windowed mean for scores."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Times = NDArray[np.datetime64]
Reader = Callable[[NDArray[np.int64]], Float]
DayReader = Callable[
    [int], tuple[NDArray[np.float64], NDArray[np.uint16]]
]  # sum and count of a day of the year

_DAY = np.timedelta64(1, "D")


def day_of_year(times: Times) -> NDArray[np.int64]:
    """Return the day of the year from 1, in a leap year's count: 1 March is day 61 in every year."""
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
    phase = year_phase(times)
    waves = [f(k * phase) for k in range(1, count + 1) for f in (np.cos, np.sin)]
    return np.stack([np.ones_like(phase), *waves], axis=1)


@dataclass(frozen=True)
class SeasonalCycle:
    """Least-squares harmonics of the year, fitted apart for each time of day.

        b(t) = c_0 + sum_k c_{2k-1} cos(k p(t)) + c_{2k} sin(k p(t)),   p the phase of the year

    Attributes:
        minutes: times of day in minutes since midnight, shape (clock,).
        coefficients: shape (clock, term, channel, H, W), in the channels' units; NaN under a mask.
    """

    minutes: NDArray[np.int64]
    coefficients: Float

    @staticmethod
    def harmonics(times: Times) -> int:
        """Return how many harmonics a period can bear: none below 300 days, 2 below five years, then 3."""
        days = (times[-1] - times[0]) / _DAY
        return 0 if days < 300 else 2 if days < 5 * 365 else 3

    @classmethod
    def fit(cls, times: Times, blocks: Iterator[tuple[slice, Float]]) -> "SeasonalCycle":
        """Fit to fields that come in blocks of time, in one pass and the memory of one block.

        Args:
            times: all times.
            blocks: (positions in ``times``, fields of shape (time, channel, H, W)).
        """
        design = CycleDesign(times)
        right: NDArray[np.float64] | None = None
        for where, fields in blocks:
            part = design.project(where, fields)
            right = part if right is None else np.add(right, part, out=right)
        if right is None:
            raise ValueError("no fields to fit a seasonal cycle to")
        return design.solve(right)

    def at(self, times: Times) -> Float:
        """Return the cycle at ``times``, shape (time, channel, H, W).

        A time of day that the fit never saw takes the nearest one.
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
    """Basis functions of time of a seasonal cycle, at the times of the fit.

    Args:
        times: all times.
        seasons: whether the sun rules the fields; where not, as in a flow in a box, the cycle is the mean.

    Attributes:
        minutes: times of day that are fitted apart.
        functions: shape (time, clock * term), zero outside the own time of day.
    """

    def __init__(self, times: Times, seasons: bool = True) -> None:
        clock = minute_of_day(times)
        minutes = np.unique(clock)
        if (
            not seasons or len(minutes) > 48 or times[-1] - times[0] < 2 * _DAY
        ):  # too many, or none that comes again
            minutes = np.array([0])
            clock = np.zeros_like(clock)
        self.minutes = minutes
        terms = _harmonics(times, SeasonalCycle.harmonics(times) if seasons else 0)
        self._shape = (len(minutes), terms.shape[1])
        here = np.searchsorted(minutes, clock)[:, None] == np.arange(len(minutes))
        self.functions = (here[:, :, None] * terms[:, None]).reshape(len(times), -1)

    def project(self, where: slice, fields: Float) -> NDArray[np.float64]:
        """Return the sums of fields times functions over a block of time, shape (clock * term, channel, H,
        W).
        """
        return project(self.functions[where], fields)

    def solve(self, right: NDArray[np.float64]) -> SeasonalCycle:
        """Return the cycle whose sums of fields times functions are ``right``."""
        clocks, terms = self._shape
        # A small ridge keeps a clock time seen only a few times from running away.
        ridge = 1e-6 * len(self.functions) * np.diag([0.0] + [1.0] * (terms - 1))
        coefficients = np.empty((clocks, terms, *right.shape[1:]), dtype=np.float32)
        for i in range(clocks):
            own = slice(i * terms, (i + 1) * terms)
            normal = self.functions[:, own].T @ self.functions[:, own]
            coefficients[i] = (np.linalg.pinv(normal + ridge) @ right[own].reshape(terms, -1)).reshape(
                coefficients[i].shape
            )
        return SeasonalCycle(self.minutes, coefficients)


def project(functions: NDArray[np.float64], fields: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ``functions^T fields``, with functions (time, k) of which groups are zero at the same times."""
    together: dict[bytes, list[int]] = {}
    for k, function in enumerate(functions.T):
        together.setdefault((function != 0).tobytes(), []).append(k)
    flat = fields.reshape(len(fields), -1)
    result = np.zeros((functions.shape[1], flat.shape[1]))
    for group in together.values():
        at = np.flatnonzero(functions[:, group[0]])
        result[group] = functions[at][:, group].T @ flat[at].astype(np.float64)
    return result.reshape(-1, *fields.shape[1:])


class DaySums:
    """Sums of fields at each time of day of each day of the year, over all years; missing values are left
    out.

    Args:
        times: times of the period.
        shape: (channel, H, W).
        days: days of the year that are summed, from 1 to 366; all that ``times`` come on by default.

    Attributes:
        minutes: times of day in minutes since midnight, shape (clock,).
        total: shape (day, clock, channel, H, W), in double precision.
        count: values summed, of the same shape.
    """

    def __init__(self, times: Times, shape: tuple[int, ...], days: NDArray[np.int64] | None = None) -> None:
        self.day, clock = day_of_year(times), minute_of_day(times)
        self.minutes, self._clock = np.unique(clock, return_inverse=True)
        days = np.unique(self.day) if days is None else days
        self._row = {int(day): row for row, day in enumerate(days)}
        self.total = np.zeros((len(days), len(self.minutes), *shape))
        self.count = np.zeros(self.total.shape, dtype=np.uint16)

    def add(self, positions: Sequence[int] | NDArray[np.int64], fields: Float) -> None:
        """Add the fields at some positions in time, shape (time, channel, H, W)."""
        # One by one, in order of time: then the sums are the same to the last bit however the fields are cut
        # into blocks.
        for at, field in zip(positions, fields, strict=True):
            row, good = (self._row[int(self.day[at])], self._clock[at]), np.isfinite(field)
            self.total[row] += field if good.all() else np.where(good, field, 0)
            self.count[row] += good

    def of(self, day: int) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
        """Return sum and count of a day of the year, shape (clock, channel, H, W)."""
        if (row := self._row.get(day)) is None:
            return np.zeros(self.total.shape[1:]), np.zeros(self.total.shape[1:], np.uint16)
        return self.total[row], self.count[row]


def day_sums(times: Times, shape: tuple[int, ...], read: Reader, *, most: int = 64) -> DayReader:
    """Return what ``DaySums.of`` returns once all fields are added, by reading a day's fields when they are
    asked for.

    Args:
        times: times of the period.
        shape: (channel, H, W).
        read: returns the fields at given positions of ``times``, shape (time, channel, H, W).
        most: fields that are read at once.
    """
    day = day_of_year(times)
    minutes = len(np.unique(minute_of_day(times)))

    def of(number: int) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
        positions = np.flatnonzero(day == number)
        if not len(positions):
            return np.zeros((minutes, *shape)), np.zeros((minutes, *shape), np.uint16)
        sums = DaySums(times, shape, np.array([number]))
        for some in np.array_split(positions, -(-len(positions) // most)):
            sums.add(some, read(some))
        return sums.of(number)

    return of


def windowed_mean(of: DayReader, half_width: int = 15) -> Iterator[tuple[int, Float]]:
    """Yield the mean at each time of day over the days within ``half_width`` of each day of the year, all
    years.

    The sum slides from day to day, so each day is asked for twice and memory holds one. Where there are none
    but missing values, the mean is NaN.

    Args:
        of: returns sum and count of a day of the year, as ``DaySums.of`` or ``day_sums`` do.
        half_width: days on each side.

    Yields:
        (day of year from 1 to 366, means of shape (clock, channel, H, W)).
    """
    first, _ = of(1)
    total, count = np.zeros(first.shape), np.zeros(first.shape, dtype=np.int32)

    def add(day: int, sign: int) -> None:
        values, number = of((day - 1) % 366 + 1)
        np.add(total, sign * values, out=total)
        np.add(count, sign * number.astype(np.int32), out=count)

    for day in range(1 - half_width, 1 + half_width):
        add(day, 1)
    for day in range(1, 367):
        add(day + half_width, 1)
        yield day, (total / np.where(count, count, np.nan)).astype(np.float32)
        add(day - half_width, -1)
