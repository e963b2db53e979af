"""Split of a time series into training, validation and test periods."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..durations import format_time
from ..errors import DataError

Times = NDArray[np.datetime64]

_EARLIEST = np.datetime64("1678-01-01")  # range of datetime64[ns]
_LATEST = np.datetime64("2262-01-01")


class EmptyPeriodError(DataError):
    """A period contains no time of the series."""


@dataclass(frozen=True)
class Split:
    """Consecutive training, validation and test periods, as positions in the series.

    Attributes:
        train: period that weights are trained on.
        validation: period that weights are selected on.
        test: period that forecasts are verified on.
        chosen: whether the validation period was chosen by itself, and need not follow the training period.
    """

    train: slice
    validation: slice
    test: slice
    chosen: bool = False

    @property
    def fit(self) -> slice:
        """Period for statistics and climatology.

        It is the training period with the validation period and the gap between them, or the training period
        alone if the validation period was chosen by itself.
        """
        return self.train if self.chosen else slice(self.train.start, self.validation.stop)


def default_split(times: Times, validation_fraction: float = 0.1) -> Split:
    """Return the default split.

    The test period is the last complete calendar year, or the last fifth of a series that is shorter than two
    years or has less than half a year before that year. The validation period is the last part of the
    remainder.

    Args:
        times: sorted times of the series.
        validation_fraction: fraction of the times before the test period to use for validation.

    Raises:
        ValueError: the series has fewer than 10 times.
    """
    if len(times) < 10:
        raise DataError(
            f"a series of {len(times)} times is too short to split into training, validation and test; "
            "at least 10 are needed, or the period for statistics",
            option="train_period",
        )
    day = np.timedelta64(1, "D")
    step = np.median(np.diff(times))
    start = round(0.8 * len(times))
    stop = len(times)
    if times[-1] - times[0] + step >= 730 * day:
        for year in range(int(times[-1].astype("datetime64[Y]").astype(int)) + 1970, 0, -1):
            first = np.datetime64(f"{year}-01-01")
            last = np.datetime64(f"{year + 1}-01-01")
            if first - times[0] < 180 * day:
                break
            if times[-1] + step >= last:
                start, stop = np.searchsorted(times, [first, last]).tolist()
                break
    return split_before(start, stop, 0, validation_fraction=validation_fraction)


def split_before(start: int, stop: int, first: int, *, validation_fraction: float, gap: int = 0) -> Split:
    """Return the split with test period [start, stop) and the others within [first, start).

    Args:
        start: first position of the test period.
        stop: end of the test period.
        first: first position of the training period.
        validation_fraction: fraction of [first, start) to use for validation.
        gap: times to leave out before the validation and the test period.

    Raises:
        ValueError: the gap leaves no time for training.
    """
    validation = start - round((start - first) * validation_fraction)
    end = max(validation, start - gap)
    train = validation - gap if validation < start else end
    if train <= first:
        raise ValueError(
            f"a gap of {gap} time steps leaves none of the {validation - first} for training; make it smaller"
        )
    return Split(slice(first, train), slice(validation, end), slice(start, stop))


def split_by_periods(times: Times, train: str, validation: str) -> Split:
    """Return the split with chosen training and validation periods; all times after both are the test period.

    Args:
        times: sorted times of the series.
        train: training period, as ``period`` takes it.
        validation: validation period.

    Raises:
        DataError: the periods overlap, or one is not a period of the series.
    """
    first = period(times, train)
    second = period(times, validation)
    start = max(first.start, second.start)
    stop = min(first.stop, second.stop)
    if start < stop:
        raise DataError(
            f"the training period {train} and the validation period {validation} overlap from "
            f"{format_time(times[start])} to {format_time(times[stop - 1])}, so that the best weights would "
            "be chosen on data that they were trained on; choose separate periods"
        )
    return Split(first, second, slice(max(first.stop, second.stop), len(times)), chosen=True)


def period(times: Times, text: str) -> slice:
    """Return the positions of the times in a period.

    Args:
        times: sorted times of the series.
        text: ``START:STOP`` or ``START/STOP``, both inclusive, e.g. ``2013-01:2013-06``, or one of them. Each
            is a year, a month, a day, or, with ``/``, a date with a time of day.

    Raises:
        ValueError: the text is not a period, or contains no time of the series.
    """
    first, _, last = text.partition("/" if "/" in text else ":")
    try:
        begin = np.datetime64(first)
        unit = np.datetime_data((last_time := np.datetime64(last or first)).dtype)[0]
        end = last_time + np.timedelta64(1, unit)  # type: ignore[call-overload]
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a period; write e.g. 2013, or 2013-01-01:2013-12-31") from error
    if not (_EARLIEST < begin < _LATEST and _EARLIEST < end < _LATEST):  # false for NaT
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
