"""Durations and times as text, and durations as seconds.

This is the only module that parses durations. It imports numpy only in functions that need it, so that a
scheduler that reads a duration starts quickly.
"""

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_PATTERN = re.compile(rf"\s*(\d+(?:\.\d+)?)\s*({'|'.join(_SECONDS)})\s*", flags=re.IGNORECASE)
_CLOCK = re.compile(r"\s*(?:(\d{1,6})-)?(\d{1,6}):([0-5]?\d):([0-5]?\d)\s*")
_LONGEST = 200 * 366 * 86400  # s; timestamps in nanoseconds cover a range three times as long


def parse_seconds(text: str) -> float:
    """Return the seconds in a duration such as ``90min``, ``72h`` or ``10d``; units are s, min, h, d and w.

    Raises:
        ValueError: the text is not a duration, or longer than 200 years.
    """
    match = _PATTERN.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{str(text)[:80]!r} is not a duration; write e.g. 90min, 72h or 10d")
    seconds = float(match[1]) * _SECONDS[match[2].lower()]
    if not seconds <= _LONGEST:
        raise ValueError(f"{str(text)[:80]!r} is longer than 200 years; write e.g. 90min, 72h or 10d")
    return seconds


def parse_clock(text: str) -> float:
    """Return the seconds in a time limit: a duration, or a time as batch queues write it.

    The latter is ``HOURS:MINUTES:SECONDS`` or ``DAYS-HOURS:MINUTES:SECONDS``.

    >>> parse_clock("3:50:00"), parse_clock("1-12:00:00"), parse_clock("30min")
    (13800.0, 129600.0, 1800.0)

    Raises:
        ValueError: the text is neither, zero, or longer than 200 years.
    """
    match = _CLOCK.fullmatch(str(text))
    try:
        if match is None:
            seconds = parse_seconds(text)
        else:
            days, hours, minutes, rest = (float(part or 0) for part in match.groups())
            seconds = 86400 * days + 3600 * hours + 60 * minutes + rest
    except ValueError as error:
        raise ValueError(f"{str(text)[:80]!r} is not a time limit; write e.g. 3:50:00 or 230min") from error
    if not 0 < seconds <= _LONGEST:
        raise ValueError(f"{str(text)[:80]!r} is not between 0 and 200 years; write e.g. 3:50:00 or 230min")
    return seconds


def parse_duration(text: str) -> timedelta:
    """Return a duration such as ``90min``, ``72h`` or ``10d``, to the microsecond.

    >>> parse_duration("90min")
    datetime.timedelta(seconds=5400)

    Raises:
        ValueError: the text is not a duration, or longer than 200 years.
    """
    return timedelta(seconds=parse_seconds(text))


def parse_timedelta64(text: str) -> "np.timedelta64":
    """Return a duration such as ``90min``, ``72h`` or ``10d`` for arithmetic with times of a data set.

    Raises:
        ValueError: the text is not a duration, or longer than 200 years.
    """
    return to_timedelta64(parse_seconds(text))


def to_seconds(duration: "timedelta | np.timedelta64") -> int | float:
    """Return a duration in seconds, as an integer where it is whole."""
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    else:
        import numpy as np

        seconds = float(duration / np.timedelta64(1, "s"))
    return int(seconds) if seconds.is_integer() else seconds


def to_timedelta64(seconds: float) -> "np.timedelta64":
    """Return seconds as ``timedelta64[s]``, or as ``timedelta64[ns]`` where they are not whole."""
    import numpy as np

    if float(seconds).is_integer():
        return np.timedelta64(int(seconds), "s")
    return np.timedelta64(round(seconds * 1e9), "ns")


def format_duration(duration: "timedelta | np.timedelta64 | float") -> str:
    """Return a duration, or a number of seconds, as text in hours, whole minutes or seconds.

    >>> format_duration(timedelta(days=3)), format_duration(5400), format_duration(1800), format_duration(90)
    ('72 h', '1.5 h', '30 min', '90 s')
    """
    seconds = duration if isinstance(duration, int | float) else to_seconds(duration)
    if abs(seconds) >= 3600:
        return f"{seconds / 3600:g} h"
    if seconds and seconds % 60 == 0:
        return f"{seconds / 60:g} min"
    return f"{seconds:g} s"


def format_time(time: "datetime | np.datetime64") -> str:
    """Return a time in ISO 8601, to the minute or to as many digits as it needs.

    >>> format_time(datetime(2014, 3, 1, 6))
    '2014-03-01T06:00'
    """
    if isinstance(time, datetime):
        return time.isoformat(timespec="auto" if time.second or time.microsecond else "minutes")
    import numpy as np

    minute = time.astype("datetime64[m]")
    return str(minute if time == minute else np.datetime_as_string(time, "auto"))
