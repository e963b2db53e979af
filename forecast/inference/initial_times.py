"""Initial and lead times of a forecast, from text."""

from collections.abc import Sequence

import numpy as np

from ...datasets.durations import format_duration, format_time, parse_timedelta64
from .initial_states import InitialStates, TimeArray

InitialTimes = Sequence[str] | str | TimeArray | None
"""Initial times, ranges ``START/STOP/STEP``, or None for the latest possible."""

_MOST_TIMES = 1_000_000
_FIRST = np.datetime64("1678-01-01")  # first and last year of times in nanoseconds
_END = np.datetime64("2262-01-01")
_HINT = "write e.g. 2014-03-01T06, or START/STOP/STEP as in 2014-01-01/2014-02-01/12h"


def parse_lead(lead: str, step: np.timedelta64) -> int:
    """Return the number of steps in a lead time such as ``72h`` or ``10d``.

    Raises:
        ValueError: the text is not a duration, or not a positive multiple of the step.
    """
    duration = parse_timedelta64(lead)
    if step <= np.timedelta64(0) or duration % step or duration < step:
        raise ValueError(
            f"lead {lead} is not a positive multiple of the model's step of {format_duration(step)}"
        )
    return int(duration // step)


def parse_times(texts: InitialTimes, states: InitialStates, window: int) -> TimeArray:
    """Return initial times.

    Args:
        texts: times, ranges ``START/STOP/STEP`` that include both ends, an array of times, or None for the
            last state.
        states: states to start from.
        window: number of states in an input window.

    Raises:
        ValueError: a text is not a time or range, an array is not one of times, no time or the same one twice
            results, or there are fewer states than an input window has.
    """
    if texts is None:
        count = len(states.fields.times)
        if count < window:
            raise ValueError(
                f"{states.source} has {count} {'time' if count == 1 else 'times'}, but the model's input is "
                f"{window} states; add the earlier ones"
            )
        return states.fields.times[-1:]
    if isinstance(texts, np.ndarray | np.datetime64):
        result = _check_array(np.atleast_1d(texts))
    else:
        times: list[np.datetime64] = []
        for text in [texts] if isinstance(texts, str) else texts:
            times += _parse_range(str(text), _MOST_TIMES - len(times))
        if not times:
            raise ValueError(f"{texts} contains no time; a range is START/STOP/STEP, with START before STOP")
        result = np.array(times, dtype="datetime64[ns]")
    unique, counts = np.unique(result, return_counts=True)
    if (counts > 1).any():
        twice = format_time(unique[counts > 1][0])
        raise ValueError(f"initial time {twice} is given twice; give each once")
    return result


def _check_array(times: TimeArray) -> TimeArray:
    """Return an array of times in nanoseconds, of which there must be at least one."""
    if times.ndim != 1 or times.dtype.kind != "M":
        raise ValueError(
            f"initial times must be one axis of datetime64, got {times.dtype} of shape {times.shape}; {_HINT}"
        )
    if not len(times):
        raise ValueError("there are no initial times; give at least one")
    if not ((times >= _FIRST) & (times < _END)).all():
        raise ValueError(f"initial times must lie between {_FIRST} and {_END}")
    return times.astype("datetime64[ns]")


def _parse_range(text: str, most: int) -> list[np.datetime64]:
    """Return the times of a range, or the one time of a text that is none."""
    first, *rest = text.split("/")
    if not rest:
        return [_parse_time(first, text)]
    if len(rest) > 2:
        raise ValueError(
            f"{text!r} is not a time; a range is START/STOP/STEP, as in 2014-01-01/2014-02-01/12h"
        )
    step = parse_timedelta64(rest[1] if len(rest) > 1 else "24h").astype("timedelta64[ns]")
    if step <= np.timedelta64(0):
        raise ValueError(f"the step of {text!r} must be positive, e.g. 12h")
    start = _parse_time(first, text)
    stop = _parse_time(rest[0], text)
    # Python's integers, since the difference of two times may exceed 64 bits.
    span = int(stop.astype(np.int64)) - int(start.astype(np.int64))
    count = span // int(step.astype(np.int64)) + 1
    if count > most:
        raise ValueError(
            f"{text!r} contains {count} times, of which there may be {_MOST_TIMES}; choose a longer step"
        )
    return list(start + np.arange(max(0, count)) * step)


def _parse_time(text: str, context: str) -> np.datetime64:
    """Return a time in UTC, in nanoseconds; raises ``ValueError`` with ``context`` where it is none."""
    import pandas as pd

    try:
        timestamp = pd.Timestamp(text)
        if timestamp.tzinfo is not None:
            timestamp = timestamp.tz_convert(None)
        time: np.datetime64 = np.datetime64(timestamp.isoformat())
    except (ValueError, OverflowError, TypeError) as error:
        raise ValueError(f"{context!r} is not a time; {_HINT}") from error
    if not _FIRST <= time < _END:  # NaT is in no range either
        raise ValueError(f"{context!r} is not a time between {_FIRST} and {_END}; {_HINT}")
    return time.astype("datetime64[ns]")  # type: ignore[no-any-return]
