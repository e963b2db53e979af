"""Reading of the ledger; rows that are not valid are reported and left out."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from .database import Database
from .masking import clean
from .records import COLUMNS, CycleRecord, read_record
from .states import CLAIMED_STATES, OPEN_STATES, CycleState

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (name TEXT PRIMARY KEY, first_seen TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cycles (
    job TEXT NOT NULL, cycle TEXT NOT NULL, state TEXT NOT NULL, seen TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, interruptions INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0,
    token TEXT, host TEXT, pid INTEGER, pid_started TEXT, lease_until REAL, heard REAL, cancel INTEGER NOT NULL DEFAULT 0,
    started REAL, finished REAL, error TEXT, output TEXT, checksum TEXT, verified REAL, scores TEXT,
    PRIMARY KEY (job, cycle)
);
"""  # noqa: E501  these statements prove that a file is ours, see `ownership`, and so never change
VERSION = 1
LONGEST_ERROR = 2000
"""Characters of an error that are recorded."""


def sql_list(states: Sequence[CycleState]) -> str:
    """Return states as a list in SQL, such as ``('pending', 'waiting')``."""
    return f"({', '.join(repr(state.value) for state in states)})"


class LedgerReader:
    """Read access to the ledger.

    Args:
        path: SQLite file.
        shared: whether schedulers on several machines use it.
        check_cycle: raises ``ValueError`` for a text that is not a cycle; rows with such texts are left out.
        warn: receives a line, once, for each row that is left out.

    Attributes:
        problems: what is wrong with the rows that are left out, by job and cycle as texts.
    """

    def __init__(
        self,
        path: Path,
        *,
        shared: bool = False,
        check_cycle: Callable[[str], object] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.path = path
        self.problems: dict[tuple[str, str], str] = {}
        self._database = Database(path, SCHEMA, VERSION, shared=shared)
        self._check_cycle = check_cycle
        self._warn = warn

    def first_seen(self, job: str, now: datetime) -> datetime:
        """Return when a job was first seen; that is ``now`` for a new one, which is recorded."""
        with self._database.transaction() as db:
            db.execute("INSERT OR IGNORE INTO jobs VALUES (?, ?)", (job, now.isoformat()))
            value = db.execute("SELECT first_seen FROM jobs WHERE name = ?", (job,)).fetchone()[0]
            try:
                return datetime.fromisoformat(value).replace(tzinfo=None)
            except (TypeError, ValueError):
                self._report(
                    f"job {job!r}: when it was first seen, {value!r:.40}, is not a time; "
                    "it counts as seen now",
                    job=job,
                )
                db.execute("UPDATE jobs SET first_seen = ? WHERE name = ?", (now.isoformat(), job))
                return now

    def records(
        self, job: str | None = None, states: Sequence[CycleState] | None = None
    ) -> list[CycleRecord]:
        """Return the cycles, the oldest first, of one job or with some states."""
        conditions = ["1"]
        if job is not None:
            conditions.append("job = ?")
        if states is not None:
            conditions.append(f"state IN {sql_list(states)}")
        return self._select(" AND ".join(conditions), *([] if job is None else [job]))

    def record(self, job: str, cycle: str) -> CycleRecord | None:
        """Return a cycle, or None where it is not in the ledger."""
        return next(iter(self._select("job = ? AND cycle = ?", job, cycle)), None)

    def unfinished(self) -> list[CycleRecord]:
        """Return the cycles that have not ended, or whose end is still to be followed up."""
        return self._select(f"state IN {sql_list((*OPEN_STATES, *CLAIMED_STATES))} OR token IS NOT NULL")

    def scores(self, record: CycleRecord) -> list[dict[str, Any]]:
        """Return the scores of a cycle; none where those in the ledger are not valid, which is reported."""
        if not record.scores:
            return []
        try:
            scores = json.loads(record.scores)
            if isinstance(scores, list) and all(map(_is_score, scores)):
                return scores
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        self._report(
            f"the scores of job {record.job!r}, cycle {record.cycle!r} are left out: they are not understood",
            job=record.job,
            cycle=record.cycle,
        )
        return []

    def _select(self, condition: str, *values: object) -> list[CycleRecord]:
        with self._database.transaction() as db:
            rows = db.execute(f"SELECT {COLUMNS} FROM cycles WHERE {condition} ORDER BY cycle, job", values)
            return [record for row in rows if (record := self._read(row)) is not None]

    def _read(self, values: Sequence[Any]) -> CycleRecord | None:
        """Return the record of a row, or None where it is not valid, which is reported."""
        try:
            record = read_record(values)
            if self._check_cycle is not None:
                self._check_cycle(record.cycle)
            return record
        except (ValueError, OverflowError) as error:
            job, cycle = (f"{value}"[:80] for value in values[:2])
            self._report(
                f"the row of job {job!r}, cycle {cycle!r} is left out: {error}; "
                f"remove it from {self.path.name}",
                job=job,
                cycle=cycle,
            )
            return None

    def _report(self, text: str, *, job: str, cycle: str = "") -> None:
        text = str(clean(text, LONGEST_ERROR))
        if self.problems.get((job, cycle)) != text:
            self.problems[job, cycle] = text
            if self._warn is not None:
                self._warn(text)


def _is_score(score: Any) -> bool:
    return (
        isinstance(score["variable"], str)
        and isinstance(score["units"], str)
        and isinstance(score["level"], int | float | None)
        and isinstance(score["rmse"]["forecast"], int | float)
    )
