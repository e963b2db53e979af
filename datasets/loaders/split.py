"""Which part of a series trains, which chooses, which tests."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..durations import format_time
from ..errors import DataError

Times = NDArray[np.datetime64]

_EARLIEST = np.datetime64("1678-01-01")  # of times in nanoseconds
_LATEST = np.datetime64("2262-01-01")


class EmptyPeriodError(DataError):
    """A period that contains none of the times."""


@dataclass(frozen=True)
class Split:
    """Three periods, one after the other, as positions in the series.

    Statistics and climatology are computed on ``fit``, all that comes before the test; ``train`` gives the
    gradients and ``validation`` chooses the weights.
    """

    train: slice
    validation: slice
    test: slice

    @property
    def fit(self) -> slice:
        """Training and validation period together, with the gap between them."""
        return slice(self.train.start, self.validation.stop)


def default_split(times: Times, validation_fraction: float = 0.1) -> Split:
    """Return the default split.

    The last whole calendar year is the test and the last tenth of what comes before it the validation period.
    A series of less than two years, or with less than half a year before that year, is cut at fractions: the
    last fifth is the test.

    Args:
        times: sorted times of the series.
        validation_fraction: share of what precedes the test.

    Raises:
        ValueError: the series is too short to split.
    """
    if len(times) < 10:
        raise DataError(
            f"a series of {len(times)} times is too short to split into training, validation and test; "
            "at least 10 are needed, or the period for statistics",
            option="train_period",
        )
    day, step = np.timedelta64(1, "D"), np.median(np.diff(times))
    start, stop = round(0.8 * len(times)), len(times)
    if times[-1] - times[0] + step >= 730 * day:
        for year in range(int(times[-1].astype("datetime64[Y]").astype(int)) + 1970, 0, -1):
            first, last = np.datetime64(f"{year}-01-01"), np.datetime64(f"{year + 1}-01-01")
            if first - times[0] < 180 * day:
                break
            if times[-1] + step >= last:
                start, stop = np.searchsorted(times, [first, last]).tolist()
                break
    return cut(start, stop, 0, validation_fraction=validation_fraction)


def cut(start: int, stop: int, first: int, *, validation_fraction: float, gap: int = 0) -> Split:
    """Return the split with the test at [start, stop) and the rest of [first, start) divided, ``gap`` times
    left out before each cut.

    Raises:
        ValueError: the gap leaves nothing to train on.
    """
    validation = start - round((start - first) * validation_fraction)
    end = max(validation, start - gap)
    train = validation - gap if validation < start else end
    if train <= first:
        raise ValueError(
            f"a gap of {gap} time steps leaves none of the {validation - first} for training; make it smaller"
        )
    return Split(slice(first, train), slice(validation, end), slice(start, stop))


def period(times: Times, text: str) -> slice:
    """Return the positions that ``START:STOP`` (or ``START/STOP``) names, both ends included, e.g.
    ``2013-01:2013-06``.

    Either end may be a year, a month, a day, or, with ``/``, a time of day as well.

    Raises:
        ValueError: not dates, or no time of the series lies in between.
    """
    first, _, last = text.partition("/" if "/" in text else ":")
    try:
        begin = np.datetime64(first)
        unit = np.datetime_data((last_time := np.datetime64(last or first)).dtype)[0]
        end = last_time + np.timedelta64(1, unit)  # type: ignore[call-overload]
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a period; write e.g. 2013, or 2013-01-01:2013-12-31") from error
    if not (_EARLIEST < begin < _LATEST and _EARLIEST < end < _LATEST):  # also where one is no time at all
        raise ValueError(
            f"{text!r} is not a period between {_EARLIEST} and {_LATEST}; write e.g. 2013, or "
            "2013-01-01:2013-12-31"
        )
    a, b = np.searchsorted(times, [begin.astype("datetime64[ns]"), end.astype("datetime64[ns]")]).tolist()
    if a == b:
        raise EmptyPeriodError(
            f"the period {text} contains no time of the series from {format_time(times[0])} to "
            f"{format_time(times[-1])}"
        )
    return slice(a, b)
