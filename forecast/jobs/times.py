"""Times of cycles as text, and the clock of a schedule."""

import time as system_time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

Clock = Callable[[], datetime]

_FIRST_YEAR = 1700
_LAST_YEAR = 2200  # coordinates in nanoseconds reach little further
_FORMAT = "%Y-%m-%dT%H:%M"


def parse_time(value: Any) -> datetime:
    """Return a time in UTC, without time zone, to the minute.

    Raises:
        ValueError: not a time, or not between the years 1700 and 2200.
    """
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{str(value)[:40]} is not a time; write e.g. 2014-06-01T06:00") from None
    if not _FIRST_YEAR <= time.year < _LAST_YEAR:
        raise ValueError(f"{str(value)[:40]} is not between the years {_FIRST_YEAR} and {_LAST_YEAR}")
    if time.tzinfo:
        time = time.astimezone(UTC).replace(tzinfo=None)
    return time.replace(second=0, microsecond=0)


def format_cycle(time: datetime) -> str:
    """Return the initial time of a cycle as the ledger and the command write it: ``2014-06-01T06:00``."""
    return time.strftime(_FORMAT)


def utc() -> datetime:
    """Return the present time in UTC, without time zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def clock_from(start: datetime) -> Clock:
    """Return a clock that shows ``start`` now and runs at the pace of real time."""
    started = system_time.monotonic()
    return lambda: start + timedelta(seconds=system_time.monotonic() - started)
