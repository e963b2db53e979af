"""The ledger: one row a cycle, in SQLite. Who works on it, since when, how often it was tried, what came of it.

A cycle is claimed with a token. Each later change asks for that token, so that whoever has lost a cycle cannot publish it.
"""

import fcntl
import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from .hosts import process_started, this_host

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (name TEXT PRIMARY KEY, first_seen TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cycles (
    job TEXT NOT NULL, cycle TEXT NOT NULL, state TEXT NOT NULL, seen TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, interruptions INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0,
    token TEXT, host TEXT, pid INTEGER, pid_started TEXT, lease_until REAL, cancel INTEGER NOT NULL DEFAULT 0,
    started REAL, finished REAL, error TEXT, output TEXT, checksum TEXT, verified REAL,
    PRIMARY KEY (job, cycle)
);
"""
OPEN = ("pending", "waiting", "retrying")
TAKEN = ("running", "publishing")
ENDED = ("done", "failed", "cancelled", "removing", "removed")
_HELD: set[str] = set()  # tokens that this process works on
_FAR = 10  # leases that a living process may be silent before its cycle is taken from it
_PATIENCE = 30.0  # seconds to wait for another's transaction


@dataclass(frozen=True)
class Row:
    """A cycle of a job.

    Attributes:
        job: name of the job.
        cycle: initial time.
        state: pending, waiting (for data), running, publishing, retrying, done, failed, cancelled, removing or removed
            (by retention).
        seen: when it was first seen, by the schedule's clock.
        attempts: how often it failed.
        interruptions: how often an attempt was killed from outside, which does not count as a failure.
        not_before: when it may be tried again, seconds since 1970.
        token: of the present claim.
        host: who claims it.
        pid: process that claims it.
        pid_started: when that process began, which tells it from a later one of the same number.
        lease_until: until when the claim holds unless it is renewed, seconds since 1970.
        cancel: whether it is to be cancelled.
        started: when the last attempt began, seconds since 1970.
        finished: when it ended.
        error: why it failed, or waits.
        output: where it is published.
        checksum: of what is published.
        verified: when it was verified.
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
    cancel: int
    started: float | None
    finished: float | None
    error: str | None
    output: str | None
    checksum: str | None
    verified: float | None


class Ledger:
    """The ledger in a file; safe to use from several threads and processes, of several machines too where it is shared.

    Args:
        path: SQLite file; made where there is none.
        lease: seconds that a claim holds.
        shared: whether the file is on a disk that several machines share, where SQLite's write-ahead log cannot be used.
        rebuild: called with an empty ledger in place of one that cannot be read, to enter what is published.
    """

    def __init__(self, path: Path, lease: float = 60.0, shared: bool = False, rebuild: "Callable[[Ledger], None] | None" = None) -> None:
        self.path, self.lease, self._rebuild = path, lease, rebuild
        self._journal = "DELETE" if shared else "WAL"

    def open(self) -> Path | None:
        """Make the ledger where there is none; put a damaged one aside, rebuild it and return where the old one is.

        Raises:
            OSError: another program holds it, or there is no room.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if not self._damaged():
                with self._transaction() as db:
                    for statement in _SCHEMA.split(";"):
                        db.execute(statement)
                return None
            # Rebuilt under another name, so that nobody ever sees half of it.
            fresh = Ledger(self.path.with_name(f".{self.path.name}.rebuilt"), self.lease, self._journal != "WAL")
            fresh._remove("", "-wal", "-shm")
            fresh.open()
            if self._rebuild is not None:
                self._rebuild(fresh)
            aside = self.path.with_name(f"{self.path.name}.corrupt-{uuid.uuid4().hex[:8]}")
            shutil.copy2(self.path, aside)
            self._remove("-wal", "-shm")  # or they would be taken for the new one's
            os.replace(fresh.path, self.path)
            return aside

    def _remove(self, *tails: str) -> None:
        for tail in tails:
            self.path.with_name(self.path.name + tail).unlink(missing_ok=True)

    @contextmanager
    def _alone(self, how: int = fcntl.LOCK_EX) -> Iterator[None]:
        """Keep others from exchanging the file meanwhile, or all others from using it."""
        with open(self.path.with_name(f".{self.path.name}.lock"), "a") as lock:
            fcntl.flock(lock, how)
            yield

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute(f"PRAGMA journal_mode={self._journal}")
        db.execute("PRAGMA synchronous=FULL")
        return db

    def _damaged(self) -> bool:
        """Return whether there is a file that is no sound database."""
        if not self.path.exists():
            return False
        try:
            db = self._connect()
            try:
                return bool(db.execute("PRAGMA quick_check").fetchone()[0] != "ok")
            finally:
                db.close()
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "unable to open" in str(error):
                raise OSError(f"the ledger {self.path} cannot be opened ({error}); another program holds it, or may not be read") from error
            return True
        except sqlite3.DatabaseError:
            return True

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Give a connection as ``_transaction`` does, to a file that nobody exchanges meanwhile."""
        with self._alone(fcntl.LOCK_SH), self._transaction() as db:
            yield db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Give a connection within a transaction that begins at once, so that what is read is still true when it is written."""
        try:
            db = self._connect()
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                if db.in_transaction:
                    db.execute("COMMIT")
            finally:
                db.close()
        except sqlite3.OperationalError as error:
            raise OSError(f"the ledger {self.path} cannot be written ({error}); nothing is lost: the same command goes on from here") from error
        except sqlite3.DatabaseError as error:
            raise OSError(f"the ledger {self.path} is damaged ({error}); the next start puts it aside and rebuilds it from the outputs") from error

    def first_seen(self, job: str, now: datetime) -> datetime:
        """Return when a job was first seen; that is ``now`` for a new one."""
        with self._change() as db:
            db.execute("INSERT OR IGNORE INTO jobs VALUES (?, ?)", (job, now.isoformat()))
            return datetime.fromisoformat(db.execute("SELECT first_seen FROM jobs WHERE name = ?", (job,)).fetchone()[0])

    def insert(self, job: str, cycles: list[str], now: datetime) -> int:
        """Enter cycles that are not there yet; return how many."""
        with self._change() as db:
            before = db.total_changes
            entered = [(job, cycle, now.isoformat()) for cycle in cycles]
            db.executemany("INSERT OR IGNORE INTO cycles (job, cycle, state, seen) VALUES (?, ?, 'pending', ?)", entered)
            return db.total_changes - before

    def rows(self, job: str | None = None, states: tuple[str, ...] | None = None) -> list[Row]:
        """Return the cycles, the oldest first."""
        names = ", ".join(field.name for field in fields(Row))
        asked: list[tuple[str, tuple[str, ...]]] = [("job", (job,))] if job is not None else []
        asked += [("state", states)] if states is not None else []
        where = " AND ".join(f"{name} IN ({', '.join('?' * len(values))})" for name, values in asked)
        with self._change() as db:
            found = db.execute(
                f"SELECT {names} FROM cycles {'WHERE ' + where if where else ''} ORDER BY cycle, job", [v for _, values in asked for v in values]
            )
            return [Row(*row) for row in found]

    def row(self, job: str, cycle: str) -> Row | None:
        """Return a cycle, or None."""
        return next((row for row in self.rows(job) if row.cycle == cycle), None)

    def free(self, row: Row, now: float | None = None) -> bool:
        """Return whether a cycle may be claimed: it is open and not backing off, or whoever has it is gone."""
        now = time.time() if now is None else now
        if row.state in OPEN:
            # A time further away than any backoff comes from a clock that was set back.
            return row.not_before <= now or row.not_before > now + 86400
        return row.state in TAKEN and self._lost(row, now)

    def _lost(self, row: Row, now: float) -> bool:
        until = row.lease_until or 0.0
        if row.host == this_host() and row.pid is not None:
            if row.pid == os.getpid() and row.token not in _HELD:
                return True
            return process_started(row.pid) != row.pid_started or until < now - _FAR * self.lease
        return until < now or until > now + _FAR * self.lease

    def claim(self, job: str, cycle: str) -> Row | None:
        """Take a cycle; return it as it was, with the new token, or None where another has it."""
        with self._change() as db:
            names = ", ".join(field.name for field in fields(Row))
            found = db.execute(f"SELECT {names} FROM cycles WHERE job = ? AND cycle = ?", (job, cycle)).fetchone()
            if found is None or not self.free(old := Row(*found)):
                return None
            token, now = uuid.uuid4().hex, time.time()
            killed = old.state == "running"
            state = "publishing" if old.state == "publishing" else "running"
            db.execute(
                "UPDATE cycles SET state=?, token=?, host=?, pid=?, pid_started=?, lease_until=?, started=?, finished=NULL, error=NULL, "
                "interruptions=interruptions+? WHERE job=? AND cycle=?",
                (state, token, this_host(), os.getpid(), process_started(os.getpid()), now + self.lease, now, int(killed), job, cycle),
            )
            taken = Row(*db.execute(f"SELECT {names} FROM cycles WHERE job = ? AND cycle = ?", (job, cycle)).fetchone())
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
        with self._change() as db:
            held = db.execute("SELECT cancel FROM cycles WHERE job=? AND cycle=? AND token=?", (row.job, row.cycle, row.token)).fetchone()
            if held is None:
                return "lost"
            db.execute("UPDATE cycles SET lease_until=? WHERE job=? AND cycle=?", (time.time() + self.lease, row.job, row.cycle))
            return "cancel" if held[0] else "ours"

    def publishing(self, row: Row, output: str, checksum: str) -> bool:
        """Enter what is about to be published; False where the claim is lost, or the cycle to be cancelled."""
        return self._set(row, " AND cancel=0", state="publishing", output=output, checksum=checksum)

    def end(self, row: Row, state: str, error: str | None = None, not_before: float = 0.0, failed: bool = False, killed: bool = False) -> bool:
        """Give a cycle up in a state; False where the claim is lost."""
        attempts, interruptions = row.attempts + int(failed), row.interruptions + int(killed)
        ended = time.time() if state in ENDED else None
        values: dict[str, Any] = {"error": error, "not_before": not_before, "attempts": attempts, "interruptions": interruptions, "finished": ended}
        return self._set(row, state=state, token=None, pid=None, lease_until=None, cancel=0, **values)

    def verified(self, job: str, cycle: str) -> None:
        """Enter that a cycle was verified."""
        with self._change() as db:
            db.execute("UPDATE cycles SET verified=? WHERE job=? AND cycle=?", (time.time(), job, cycle))

    def removing(self, job: str, cycle: str) -> bool:
        """Enter that a cycle's output is about to be removed; False where another did."""
        with self._change() as db:
            done = db.execute("UPDATE cycles SET state='removing' WHERE job=? AND cycle=? AND state='done'", (job, cycle))
            return done.rowcount == 1

    def removed(self, job: str, cycle: str) -> None:
        """Enter that a cycle's output is removed."""
        with self._change() as db:
            db.execute("UPDATE cycles SET state='removed' WHERE job=? AND cycle=? AND state='removing'", (job, cycle))

    def enter_done(self, job: str, cycle: str, output: str, checksum: str, now: datetime) -> None:
        """Enter a cycle that is found published."""
        with self._change() as db:
            db.execute(
                "INSERT OR IGNORE INTO cycles (job, cycle, state, seen, output, checksum, finished) VALUES (?, ?, 'done', ?, ?, ?, ?)",
                (job, cycle, now.isoformat(), output, checksum, time.time()),
            )

    def enter_removed(self, job: str, cycle: str, now: datetime) -> None:
        """Enter a cycle that must have been removed."""
        with self._change() as db:
            db.execute("INSERT OR IGNORE INTO cycles (job, cycle, state, seen) VALUES (?, ?, 'removed', ?)", (job, cycle, now.isoformat()))

    def reopen(self, job: str, cycle: str) -> bool:
        """Let a failed or cancelled cycle be tried anew, or one that backs off at once; False where it is in another state."""
        with self._change() as db:
            done = db.execute(
                "UPDATE cycles SET state='pending', attempts=0, interruptions=0, not_before=0, cancel=0, error=NULL, finished=NULL "
                "WHERE job=? AND cycle=? AND state IN ('failed', 'cancelled', 'retrying', 'waiting')",
                (job, cycle),
            )
            return done.rowcount == 1

    def cancel(self, job: str, cycle: str) -> str | None:
        """Cancel an open cycle, or ask the one who has it to stop; return the state that it is in now, None where there is no such cycle."""
        with self._change() as db:
            db.execute(
                f"UPDATE cycles SET state='cancelled', finished=?, error=NULL WHERE job=? AND cycle=? AND state IN {OPEN}", (time.time(), job, cycle)
            )
            db.execute("UPDATE cycles SET cancel=1 WHERE job=? AND cycle=? AND state='running'", (job, cycle))
            found = db.execute("SELECT state FROM cycles WHERE job=? AND cycle=?", (job, cycle)).fetchone()
            return None if found is None else str(found[0])

    def _set(self, row: Row, condition: str = "", **values: object) -> bool:
        names = ", ".join(f"{name}=?" for name in values)
        with self._change() as db:
            done = db.execute(
                f"UPDATE cycles SET {names} WHERE job=? AND cycle=? AND token=?{condition}", (*values.values(), row.job, row.cycle, row.token)
            )
            return done.rowcount == 1
