"""The ledger: one row a cycle, in SQLite. Who works on it, since when, how often it was tried, what came of
it.

A cycle is claimed with a token. Each later change asks for that token, so that whoever has lost a cycle
cannot publish it. A cycle that ended keeps its token until what follows the end, such as the operator's
command, is done too.
"""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ..text import one_line, printable
from .database import Database
from .hosts import awake, process_started, this_host
from .masking import clean, mask
from .rows import COLUMNS, ENDED, OPEN, TAKEN, Row, read_row

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (name TEXT PRIMARY KEY, first_seen TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cycles (
    job TEXT NOT NULL, cycle TEXT NOT NULL, state TEXT NOT NULL, seen TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, interruptions INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0,
    token TEXT, host TEXT, pid INTEGER, pid_started TEXT, lease_until REAL, heard REAL, cancel INTEGER NOT NULL DEFAULT 0,
    started REAL, finished REAL, error TEXT, output TEXT, checksum TEXT, verified REAL, scores TEXT,
    PRIMARY KEY (job, cycle)
);
"""
_VERSION = 1
_LONGEST = 2000  # characters of an error
_HELD: set[str] = set()  # tokens that this process works on
_FAR = 10  # leases that a living process may be silent before its cycle is taken from it


def _is_score(score: Any) -> bool:
    return (
        isinstance(score["variable"], str)
        and isinstance(score["units"], str)
        and isinstance(score["level"], int | float | None)
        and isinstance(score["rmse"]["forecast"], int | float)
    )


class Ledger:
    """The ledger in a file.

    Args:
        path: SQLite file; made where there is none.
        lease: seconds that a claim holds.
        shared: whether schedulers of several machines use it.
        rebuild: called with an empty ledger in place of one that cannot be read, to enter what is published.
        is_cycle: raises ``ValueError`` for what is no cycle; rows of such are reported and left out.
        warn: takes a line on a row that is left out, once for each.

    Attributes:
        problems: what is wrong with rows that are left out, by job and cycle as texts.
    """

    def __init__(
        self,
        path: Path,
        lease: float = 60.0,
        shared: bool = False,
        rebuild: "Callable[[Ledger], None] | None" = None,
        is_cycle: Callable[[str], object] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.path, self.lease, self._rebuild = path, lease, rebuild
        self._file = Database(path, _SCHEMA, _VERSION, shared)
        self._is_cycle, self._warn = is_cycle, warn
        self.problems: dict[tuple[str, str], str] = {}

    @property
    def rebuilt(self) -> bool:
        """Whether the last ``open`` made the file."""
        return self._file.rebuilt

    def open(self) -> Path | None:
        """Make the ledger where there is none; put a damaged one aside, rebuild it and return where the old
        one is.

        Raises:
            OSError: another program holds it, or there is no room.
            ValueError: a newer version of this package wrote it.
        """

        def rebuild(fresh: Database) -> None:
            if self._rebuild is not None:
                self._rebuild(Ledger(fresh.path, self.lease, fresh.shared))

        return self._file.open(rebuild)

    def first_seen(self, job: str, now: datetime) -> datetime:
        """Return when a job was first seen; that is ``now`` for a new one."""
        with self._file.change() as db:
            db.execute("INSERT OR IGNORE INTO jobs VALUES (?, ?)", (job, now.isoformat()))
            known = db.execute("SELECT first_seen FROM jobs WHERE name = ?", (job,)).fetchone()[0]
            try:
                return datetime.fromisoformat(known).replace(tzinfo=None)
            except (TypeError, ValueError):
                self._report(
                    f"job {job!r}: when it was first seen, {known!r:.40}, is not a time; it counts as seen now",
                    job,
                    "",
                )
                db.execute("UPDATE jobs SET first_seen = ? WHERE name = ?", (now.isoformat(), job))
                return now

    def insert(self, job: str, cycles: list[str], now: datetime) -> int:
        """Enter cycles that are not there yet; return how many."""
        with self._file.change() as db:
            before = db.total_changes
            entered = [(job, cycle, now.isoformat()) for cycle in cycles]
            db.executemany(
                "INSERT OR IGNORE INTO cycles (job, cycle, state, seen) VALUES (?, ?, 'pending', ?)", entered
            )
            return db.total_changes - before

    def rows(self, job: str | None = None, states: tuple[str, ...] | None = None) -> list[Row]:
        """Return the cycles, the oldest first."""
        asked: list[tuple[str, tuple[str, ...]]] = [("job", (job,))] if job is not None else []
        asked += [("state", states)] if states is not None else []
        return self._found(
            " AND ".join(f"{name} IN ({', '.join('?' * len(values))})" for name, values in asked) or "1",
            *(v for _, values in asked for v in values),
        )

    def row(self, job: str, cycle: str) -> Row | None:
        """Return a cycle, or None."""
        return next(iter(self._found("job = ? AND cycle = ?", job, cycle)), None)

    def scores(self, row: Row) -> list[dict[str, Any]]:
        """Return the scores of a cycle; none where what the ledger holds is no scores, which is reported."""
        if not row.scores:
            return []
        try:
            scores = json.loads(row.scores)
            if isinstance(scores, list) and all(map(_is_score, scores)):
                return scores
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        self._report(
            f"the scores of job {row.job!r}, cycle {row.cycle!r} are left out: they are not understood",
            row.job,
            row.cycle,
        )
        return []

    def unfinished(self) -> list[Row]:
        """Return the cycles that have not ended, or whose end something is still to follow."""
        return self._found(f"state IN {(*OPEN, *TAKEN)} OR token IS NOT NULL")

    def _found(self, condition: str, *values: object) -> list[Row]:
        with self._file.change() as db:
            read = db.execute(f"SELECT {COLUMNS} FROM cycles WHERE {condition} ORDER BY cycle, job", values)
            return [row for values in read if (row := self._read(values)) is not None]

    def _read(self, values: Sequence[Any]) -> Row | None:
        """Return a row, or None where it is none that this program writes, which is reported."""
        try:
            row = read_row(values)
            if self._is_cycle is not None:
                self._is_cycle(row.cycle)
            return row
        except (ValueError, OverflowError) as error:
            job, cycle = (f"{values[i]}"[:80] for i in (0, 1))
            self._report(
                f"the row of job {job!r}, cycle {cycle!r} is left out: {error}; remove it from {self.path.name}",
                job,
                cycle,
            )
            return None

    def _report(self, text: str, job: str, cycle: str) -> None:
        text = str(clean(text, _LONGEST))
        if self.problems.get((job, cycle)) != text:
            self.problems[job, cycle] = text
            if self._warn is not None:
                self._warn(text)

    def free(self, row: Row) -> bool:
        """Return whether a cycle may be claimed: it is open and not backing off, or whoever has it is gone."""
        if row.state in OPEN:
            # A time further away than any backoff comes from a clock that was set back.
            return not 0 < row.not_before - time.time() <= 86400
        if row.token is None:  # of one that is taken, by nobody
            return row.state in TAKEN
        return self._lost(row)

    def _lost(self, row: Row) -> bool:
        if row.host == this_host() and row.pid is not None:
            if row.pid == os.getpid() and row.token not in _HELD:
                return True
            return (
                process_started(row.pid) != row.pid_started
                or awake() - (row.heard or 0.0) > _FAR * self.lease
            )
        left = (row.lease_until or 0.0) - time.time()
        return not 0 <= left <= _FAR * self.lease

    def claim(self, job: str, cycle: str) -> Row | None:
        """Take a cycle; return it with the new token, or None where another has it."""
        with self._file.change() as db:
            found = db.execute(
                f"SELECT {COLUMNS} FROM cycles WHERE job = ? AND cycle = ?", (job, cycle)
            ).fetchone()
            if found is None or (old := self._read(found)) is None or not self.free(old):
                return None
            token, now = uuid.uuid4().hex, time.time()
            values: dict[str, Any] = {
                "token": token,
                "host": this_host(),
                "pid": os.getpid(),
                "pid_started": process_started(os.getpid()),
                "lease_until": now + self.lease,
                "heard": awake(),
            }
            if old.state not in ENDED:
                values |= {
                    "started": now,
                    "finished": None,
                    "error": None,
                    "interruptions": old.interruptions + (old.state == "running"),
                }
                values["state"] = "publishing" if old.state == "publishing" else "running"
            db.execute(
                f"UPDATE cycles SET {_equal(values)} WHERE job=? AND cycle=?", (*values.values(), job, cycle)
            )
            taken = read_row(
                db.execute(
                    f"SELECT {COLUMNS} FROM cycles WHERE job = ? AND cycle = ?", (job, cycle)
                ).fetchone()
            )
        _HELD.add(token)
        return taken

    def drop(self, row: Row) -> None:
        """Forget a claim that this process works on no longer, whatever the ledger could be told of it."""
        _HELD.discard(row.token or "")

    def begin(self, row: Row) -> bool:
        """Enter that the work on a claimed cycle begins; False where the claim is lost."""
        return self._set(row, state="running")

    def renew(self, row: Row) -> str:
        """Renew a claim; return ``ours``, ``lost`` or ``cancel``."""
        with self._file.change() as db:
            held = db.execute(
                "SELECT cancel FROM cycles WHERE job=? AND cycle=? AND token=?",
                (row.job, row.cycle, row.token),
            ).fetchone()
            if held is None:
                return "lost"
            beat = (time.time() + self.lease, awake(), row.job, row.cycle)
            db.execute("UPDATE cycles SET lease_until=?, heard=? WHERE job=? AND cycle=?", beat)
            return "cancel" if held[0] else "ours"

    def publishing(self, row: Row, output: str, checksum: str) -> bool:
        """Enter what is about to be published; False where the claim is lost, or the cycle to be cancelled."""
        return self._set(row, " AND cancel=0", state="publishing", output=output, checksum=checksum)

    def end(
        self,
        row: Row,
        state: str,
        error: str | None = None,
        not_before: float = 0.0,
        failed: bool = False,
        killed: bool = False,
    ) -> bool:
        """Leave a cycle in a state; False where the claim is lost.

        The claim to one that is done or failed is kept until ``release``.
        """
        values: dict[str, Any] = {
            "state": state,
            "error": None if error is None else one_line(mask(printable(error)), _LONGEST),
            "not_before": not_before,
            "cancel": 0,
            "attempts": row.attempts + int(failed),
            "interruptions": row.interruptions + int(killed),
            "finished": time.time() if state in ENDED else None,
        }
        return self._set(row, **(values if state in ("done", "failed") else values | _UNCLAIMED))

    def release(self, row: Row) -> bool:
        """Give the claim to a cycle up; False where it is lost."""
        return self._set(row, **_UNCLAIMED)

    def verified(self, job: str, cycle: str, scores: str) -> None:
        """Enter what came of verifying a cycle."""
        with self._file.change() as db:
            db.execute(
                "UPDATE cycles SET verified=?, scores=? WHERE job=? AND cycle=?",
                (time.time(), scores, job, cycle),
            )

    def removing(self, job: str, cycle: str) -> bool:
        """Enter that a cycle's output is about to be removed; False where another did, or something is still
        to follow its end.
        """
        with self._file.change() as db:
            done = db.execute(
                "UPDATE cycles SET state='removing' WHERE job=? AND cycle=? AND state='done' AND token IS NULL",
                (job, cycle),
            )
            return done.rowcount == 1

    def removed(self, job: str, cycle: str, kept: str | None = None) -> None:
        """Enter that a cycle's output is removed, or why what lies there is kept."""
        text = None if kept is None else one_line(mask(printable(kept)), _LONGEST)
        with self._file.change() as db:
            db.execute(
                "UPDATE cycles SET state='removed', error=? WHERE job=? AND cycle=? AND state='removing'",
                (text, job, cycle),
            )

    def enter_done(
        self, job: str, cycle: str, output: str, checksum: str, now: datetime, followed: bool = True
    ) -> None:
        """Enter a cycle that is found published, and whether what follows an end was done; else its claim is
        one that was lost.
        """
        token = None if followed else uuid.uuid4().hex
        with self._file.change() as db:
            db.execute(
                "INSERT OR IGNORE INTO cycles (job, cycle, state, seen, output, checksum, finished, token) VALUES (?, ?, 'done', ?, ?, ?, ?, ?)",
                (job, cycle, now.isoformat(), output, checksum, time.time(), token),
            )

    def enter_removed(self, job: str, cycle: str, now: datetime) -> None:
        """Enter a cycle that must have been removed."""
        with self._file.change() as db:
            db.execute(
                "INSERT OR IGNORE INTO cycles (job, cycle, state, seen) VALUES (?, ?, 'removed', ?)",
                (job, cycle, now.isoformat()),
            )

    def reopen(self, job: str, cycle: str) -> bool:
        """Let a failed or cancelled cycle be tried anew, or one that backs off at once; False where it is in
        another state.
        """
        with self._file.change() as db:
            done = db.execute(
                "UPDATE cycles SET state='pending', attempts=0, interruptions=0, not_before=0, cancel=0, error=NULL, finished=NULL, token=NULL "
                "WHERE job=? AND cycle=? AND state IN ('failed', 'cancelled', 'retrying', 'waiting')",
                (job, cycle),
            )
            return done.rowcount == 1

    def cancel(self, job: str, cycle: str) -> str | None:
        """Cancel an open cycle, or ask the one who has it to stop; return the state that it is in now, None
        where there is no such cycle.
        """
        with self._file.change() as db:
            db.execute(
                f"UPDATE cycles SET state='cancelled', finished=?, error=NULL WHERE job=? AND cycle=? AND state IN {OPEN}",
                (time.time(), job, cycle),
            )
            db.execute("UPDATE cycles SET cancel=1 WHERE job=? AND cycle=? AND state='running'", (job, cycle))
            found = db.execute("SELECT state FROM cycles WHERE job=? AND cycle=?", (job, cycle)).fetchone()
            return None if found is None else str(found[0])

    def _set(self, row: Row, condition: str = "", **values: object) -> bool:
        asked = (*values.values(), row.job, row.cycle, row.token)
        with self._file.change() as db:
            return (
                db.execute(
                    f"UPDATE cycles SET {_equal(values)} WHERE job=? AND cycle=? AND token=?{condition}",
                    asked,
                ).rowcount
                == 1
            )


_UNCLAIMED: dict[str, Any] = {"token": None, "pid": None, "lease_until": None}


def _equal(values: Iterable[str]) -> str:
    return ", ".join(f"{name}=?" for name in values)
