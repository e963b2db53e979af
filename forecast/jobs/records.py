"""Rows of the ledger and the values that are valid in them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from .states import CycleState


@dataclass(frozen=True)
class CycleRecord:
    """A cycle of a job. Times without a unit are ISO 8601 texts in UTC.

    Attributes:
        job: name of the job.
        cycle: initial time.
        state: state of the cycle.
        seen: when it was first entered, by the schedule's clock.
        attempts: number of failed attempts.
        interruptions: number of attempts that were killed from outside, which are not failures.
        not_before: earliest next attempt [s since 1970].
        token: identity of the present claim.
        host: machine that has the claim.
        pid: process that has the claim.
        pid_started: start of that process, which distinguishes it from a later one with the same number.
        lease_until: end of the lease unless it is renewed [s since 1970].
        heard: last renewal [s since the host was started].
        cancel: 1 where a cancellation is requested.
        started: start of the last attempt [s since 1970].
        finished: end of the last attempt [s since 1970].
        error: reason of a failure or of waiting.
        output: path or URL of the published forecast.
        checksum: SHA-256 of the published forecast.
        verified: when it was verified [s since 1970].
        scores: scores of the last lead time, as JSON.
    """

    job: str
    cycle: str
    state: CycleState
    seen: str
    attempts: int
    interruptions: int
    not_before: float
    token: str | None
    host: str | None
    pid: int | None
    pid_started: str | None
    lease_until: float | None
    heard: float | None
    cancel: int
    started: float | None
    finished: float | None
    error: str | None
    output: str | None
    checksum: str | None
    verified: float | None
    scores: str | None


_OPTIONAL_TEXTS = ("token", "host", "pid_started", "error", "output", "checksum", "scores")
_LONGEST_TEXT = 2**20  # characters that are read
COLUMNS = ", ".join(
    f"substr({f.name}, 1, {_LONGEST_TEXT}) AS {f.name}" if f.name in _OPTIONAL_TEXTS else f.name
    for f in fields(CycleRecord)
)
"""Columns to select for ``read_record``."""
_TEXTS = ("job", "cycle", "state", "seen")
_NUMBERS = ("not_before", "lease_until", "heard", "started", "finished", "verified")
_LARGEST_COUNTS = {"attempts": 10**6, "interruptions": 10**6, "cancel": 1, "pid": 2**31 - 1}
_OPTIONAL_NUMBERS = ("lease_until", "heard", "started", "finished", "verified", "pid")
_LATEST = 1e11  # s since 1970: the year 5138


def read_record(values: Sequence[Any]) -> CycleRecord:
    """Return the record of a row of the table ``cycles``.

    Args:
        values: values of ``COLUMNS``.

    Raises:
        ValueError: a value that this program does not write.
    """
    record = CycleRecord(*values)
    for name in _TEXTS:
        if not isinstance(value := getattr(record, name), str):
            raise ValueError(f"its {name} is {value!r:.40}, not a text")
    if record.state not in list(CycleState):
        raise ValueError(f"its state {str(record.state)!r:.40} is not one of {', '.join(CycleState)}")
    for name in _OPTIONAL_TEXTS:
        if not isinstance(value := getattr(record, name), str | None):
            raise ValueError(f"its {name} is {value!r:.40}, not a text")
    for name in (*_NUMBERS, *_LARGEST_COUNTS):
        _check_number(name, getattr(record, name))
    if record.token is not None and not re.fullmatch(r"[0-9A-Za-z]{1,64}", record.token):  # names a folder
        raise ValueError(f"its token {record.token!r:.40} is not a token")
    try:
        datetime.fromisoformat(record.seen)
    except ValueError:
        raise ValueError(f"its seen {record.seen!r:.40} is not a time") from None
    return replace(record, state=CycleState(record.state))


def _check_number(name: str, value: Any) -> None:
    if value is None and name in _OPTIONAL_NUMBERS:
        return
    count = name in _LARGEST_COUNTS
    if not isinstance(value, int if count else (int, float)) or not math.isfinite(value):
        raise ValueError(f"its {name} is {value!r:.40}, not a number")
    if not (0 <= value <= _LARGEST_COUNTS[name] if count else abs(value) <= _LATEST):
        raise ValueError(f"its {name} of {value!r:.40} is out of range")
