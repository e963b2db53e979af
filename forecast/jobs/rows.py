"""Rows of the ledger: what is known of a cycle, and which values make sense."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

OPEN = ("pending", "waiting", "retrying")
TAKEN = ("running", "publishing")
ENDED = ("done", "failed", "cancelled", "removing", "removed")
_STATES = (*OPEN, *TAKEN, *ENDED)


@dataclass(frozen=True)
class Row:
    """A cycle of a job.

    Attributes:
        job: name of the job.
        cycle: initial time.
        state: pending, waiting (for data), running, publishing, retrying, done, failed, cancelled, removing
            or removed (by retention).
        seen: when it was first seen, by the schedule's clock.
        attempts: how often it failed.
        interruptions: how often an attempt was killed from outside, which does not count as a failure.
        not_before: when it may be tried again, seconds since 1970.
        token: of the present claim.
        host: who claims it.
        pid: process that claims it.
        pid_started: when that process began, which tells it from a later one of the same number.
        lease_until: until when the claim holds unless it is renewed, seconds since 1970.
        heard: when it was last renewed, seconds since its host was started, which no setting of the clock
            changes.
        cancel: whether it is to be cancelled.
        started: when the last attempt began, seconds since 1970.
        finished: when it ended.
        error: why it failed, or waits.
        output: where it is published.
        checksum: of what is published.
        verified: when it was verified.
        scores: what came of that, as JSON.
    """

    job: str
    cycle: str
    state: str
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


_LONG = ("token", "host", "pid_started", "error", "output", "checksum", "scores")
_MOST = 2**20  # characters of a text that are read
COLUMNS = ", ".join(
    f"substr({f.name}, 1, {_MOST}) AS {f.name}" if f.name in _LONG else f.name for f in fields(Row)
)
_TEXTS = ("job", "cycle", "state", "seen")
_NUMBERS = ("not_before", "lease_until", "heard", "started", "finished", "verified")
_COUNTS = {"attempts": 10**6, "interruptions": 10**6, "cancel": 1, "pid": 2**31 - 1}
_OPTIONAL = ("lease_until", "heard", "started", "finished", "verified", "pid")
_FARTHEST = 1e11  # seconds: the year 5138


def read_row(values: Sequence[Any]) -> Row:
    """Return a row as it was read; raises ``ValueError`` where a value is none that this program writes."""
    row = Row(*values)
    for name in _TEXTS:
        if not isinstance(getattr(row, name), str):
            raise ValueError(f"its {name} is {getattr(row, name)!r:.40}, not a text")
    if row.state not in _STATES:
        raise ValueError(f"its state {row.state!r:.40} is not one of {', '.join(_STATES)}")
    for name in _LONG:
        if not isinstance(getattr(row, name), str | None):
            raise ValueError(f"its {name} is {getattr(row, name)!r:.40}, not a text")
    for name in (*_NUMBERS, *_COUNTS):
        value = getattr(row, name)
        if value is None and name in _OPTIONAL:
            continue
        if not isinstance(value, int if name in _COUNTS else (int, float)) or not math.isfinite(value):
            raise ValueError(f"its {name} is {value!r:.40}, not a number")
        if not (0 <= value <= _COUNTS[name] if name in _COUNTS else abs(value) <= _FARTHEST):
            raise ValueError(f"its {name} of {value!r:.40} is out of range")
    if row.token is not None and not re.fullmatch(r"[0-9A-Za-z]{1,64}", row.token):  # names a folder
        raise ValueError(f"its token {row.token!r:.40} is none")
    try:
        datetime.fromisoformat(row.seen)
    except ValueError:
        raise ValueError(f"its seen {row.seen!r:.40} is not a time") from None
    return row
