"""The ledger: a SQLite file with one row for each cycle, its state, attempts and result.

A cycle is claimed with a token. Each later change requires that token, so that a process that lost a cycle
cannot publish it. A cycle that ended keeps its token until its end is followed up, for example by the
command ``on_success``.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from ..text import one_line, printable
from .database import Database
from .hosts import process_started, this_host, uptime
from .ledger_reader import LONGEST_ERROR, LedgerReader, sql_list
from .masking import mask
from .records import COLUMNS, CycleRecord, read_record
from .states import CLAIMED_STATES, ENDED_STATES, OPEN_STATES, ClaimState, CycleState

_REOPENED = (CycleState.FAILED, CycleState.CANCELLED, CycleState.RETRYING, CycleState.WAITING)
_SILENT_LEASES = 10  # leases without a renewal, after which a living process loses its cycle
_LONGEST_PAUSE = 86400  # s; any backoff is shorter
_UNCLAIMED: dict[str, Any] = {"token": None, "pid": None, "lease_until": None}
_active_tokens: set[str] = set()  # of the cycles that this process works on


class Ledger(LedgerReader):
    """The ledger in a file.

    Args:
        path: SQLite file; created where there is none.
        lease: duration of a claim [s].
        shared: whether schedulers on several machines use it.
        rebuild: enters what is published in an empty ledger that replaces an unreadable one.
        check_cycle: raises ``ValueError`` for a text that is not a cycle; rows with such texts are left out.
        warn: receives a line, once, for each row that is left out.

    Attributes:
        problems: what is wrong with the rows that are left out, by job and cycle as texts.
    """

    def __init__(
        self,
        path: Path,
        lease: float = 60.0,
        *,
        shared: bool = False,
        rebuild: "Callable[[Ledger], None] | None" = None,
        check_cycle: Callable[[str], object] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(path, shared=shared, check_cycle=check_cycle, warn=warn)
        self.lease = lease
        self._rebuild = rebuild

    @property
    def rebuilt(self) -> bool:
        """Whether the last ``open`` created the file."""
        return self._database.rebuilt

    def open(self) -> Path | None:
        """Create the ledger where there is none, or put a damaged one aside and rebuild it.

        Returns:
            Where a damaged ledger was put, or None.

        Raises:
            OSError: another program has locked it, or there is no room.
            ValueError: not a ledger, or one of a newer version.
        """

        def rebuild(fresh: Database) -> None:
            if self._rebuild is not None:
                self._rebuild(Ledger(fresh.path, self.lease, shared=fresh.shared))

        return self._database.open(rebuild)

    def insert(self, job: str, cycles: list[str], now: datetime) -> int:
        """Enter the cycles that the ledger lacks and return their number."""
        with self._database.transaction() as db:
            before = db.total_changes
            rows = [(job, cycle, CycleState.PENDING, now.isoformat()) for cycle in cycles]
            db.executemany("INSERT OR IGNORE INTO cycles (job, cycle, state, seen) VALUES (?, ?, ?, ?)", rows)
            return db.total_changes - before

    def is_claimable(self, record: CycleRecord) -> bool:
        """Return whether a cycle is open and not backing off, or its claim is lost."""
        if record.state in OPEN_STATES:
            # A later time comes from a clock that was set back.
            return not 0 < record.not_before - time.time() <= _LONGEST_PAUSE
        if record.token is None:
            return record.state in CLAIMED_STATES
        return _is_abandoned(record, self.lease)

    def claim(self, job: str, cycle: str) -> CycleRecord | None:
        """Claim a cycle; return it with the new token, or None where another process has it."""
        query = f"SELECT {COLUMNS} FROM cycles WHERE job = ? AND cycle = ?"
        with self._database.transaction() as db:
            row = db.execute(query, (job, cycle)).fetchone()
            if row is None or (old := self._read(row)) is None or not self.is_claimable(old):
                return None
            token = uuid.uuid4().hex
            now = time.time()
            values: dict[str, Any] = {
                "token": token,
                "host": this_host(),
                "pid": os.getpid(),
                "pid_started": process_started(os.getpid()),
                "lease_until": now + self.lease,
                "heard": uptime(),
            }
            if old.state not in ENDED_STATES:
                published = old.state is CycleState.PUBLISHING
                values |= {
                    "started": now,
                    "finished": None,
                    "error": None,
                    "interruptions": old.interruptions + (old.state is CycleState.RUNNING),
                    "state": CycleState.PUBLISHING if published else CycleState.RUNNING,
                }
            db.execute(
                f"UPDATE cycles SET {_assignments(values)} WHERE job=? AND cycle=?",
                (*values.values(), job, cycle),
            )
            claimed = read_record(db.execute(query, (job, cycle)).fetchone())
        _active_tokens.add(token)
        return claimed

    def forget(self, record: CycleRecord) -> None:
        """Forget a claim that this process no longer works on, even if the ledger cannot be written."""
        _active_tokens.discard(record.token or "")

    def begin(self, record: CycleRecord) -> bool:
        """Record that the work on a claimed cycle begins; False where the claim is lost."""
        return self._update(record, {"state": CycleState.RUNNING})

    def renew(self, record: CycleRecord) -> ClaimState:
        """Renew a claim and return its state."""
        with self._database.transaction() as db:
            row = db.execute(
                "SELECT cancel FROM cycles WHERE job=? AND cycle=? AND token=?",
                (record.job, record.cycle, record.token),
            ).fetchone()
            if row is None:
                return ClaimState.LOST
            db.execute(
                "UPDATE cycles SET lease_until=?, heard=? WHERE job=? AND cycle=?",
                (time.time() + self.lease, uptime(), record.job, record.cycle),
            )
            return ClaimState.CANCELLED if row[0] else ClaimState.HELD

    def begin_publishing(self, record: CycleRecord, output: str, checksum: str) -> bool:
        """Record what is about to be published.

        Returns:
            False where the claim is lost, or a cancellation is requested.
        """
        values = {"state": CycleState.PUBLISHING, "output": output, "checksum": checksum}
        return self._update(record, values, condition=" AND cancel=0")

    def end(
        self,
        record: CycleRecord,
        state: CycleState,
        error: str | None = None,
        *,
        not_before: float = 0.0,
        failed: bool = False,
        killed: bool = False,
    ) -> bool:
        """Leave a claimed cycle in a state.

        The claim to one that is done or failed lasts until ``release``.

        Args:
            record: the cycle, as claimed.
            state: new state.
            error: reason of a failure or of waiting.
            not_before: earliest next attempt [s since 1970].
            failed: whether the attempt failed.
            killed: whether the attempt was killed from outside.

        Returns:
            False where the claim is lost.
        """
        values: dict[str, Any] = {
            "state": state,
            "error": None if error is None else _presentable(error),
            "not_before": not_before,
            "cancel": 0,
            "attempts": record.attempts + int(failed),
            "interruptions": record.interruptions + int(killed),
            "finished": time.time() if state in ENDED_STATES else None,
        }
        keeps_claim = state in (CycleState.DONE, CycleState.FAILED)
        return self._update(record, values if keeps_claim else values | _UNCLAIMED)

    def release(self, record: CycleRecord) -> bool:
        """Give up the claim to a cycle; False where it is lost."""
        return self._update(record, _UNCLAIMED)

    def record_verified(self, job: str, cycle: str, scores: str) -> None:
        """Record the scores of a cycle, as JSON."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE cycles SET verified=?, scores=? WHERE job=? AND cycle=?",
                (time.time(), scores, job, cycle),
            )

    def begin_removal(self, job: str, cycle: str) -> bool:
        """Record that the output of a cycle is about to be removed.

        Returns:
            False where another process removes it, or its end is still to be followed up.
        """
        with self._database.transaction() as db:
            update = db.execute(
                "UPDATE cycles SET state=? WHERE job=? AND cycle=? AND state=? AND token IS NULL",
                (CycleState.REMOVING, job, cycle, CycleState.DONE),
            )
            return update.rowcount == 1

    def record_removed(self, job: str, cycle: str, reason: str | None = None) -> None:
        """Record that the output of a cycle is removed, or the reason why a changed one is kept."""
        error = None if reason is None else _presentable(reason)
        with self._database.transaction() as db:
            db.execute(
                "UPDATE cycles SET state=?, error=? WHERE job=? AND cycle=? AND state=?",
                (CycleState.REMOVED, error, job, cycle, CycleState.REMOVING),
            )

    def enter_done(
        self, job: str, cycle: str, now: datetime, *, output: str, checksum: str, followed_up: bool = True
    ) -> None:
        """Enter a cycle that is published already.

        Args:
            job: name of the job.
            cycle: initial time.
            now: the schedule's time.
            output: path or URL of its output.
            checksum: checksum of its output.
            followed_up: whether the command after its end was run; otherwise its claim counts as lost.
        """
        token = None if followed_up else uuid.uuid4().hex
        with self._database.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO cycles (job, cycle, state, seen, output, checksum, finished, token) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (job, cycle, CycleState.DONE, now.isoformat(), output, checksum, time.time(), token),
            )

    def enter_removed(self, job: str, cycle: str, now: datetime) -> None:
        """Enter a cycle whose output was removed by retention."""
        with self._database.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO cycles (job, cycle, state, seen) VALUES (?, ?, ?, ?)",
                (job, cycle, CycleState.REMOVED, now.isoformat()),
            )

    def reopen(self, job: str, cycle: str) -> bool:
        """Make a cycle that failed, was cancelled, waits or backs off pending; False for other states."""
        with self._database.transaction() as db:
            update = db.execute(
                "UPDATE cycles SET state=?, attempts=0, interruptions=0, not_before=0, cancel=0, error=NULL, "
                f"finished=NULL, token=NULL WHERE job=? AND cycle=? AND state IN {sql_list(_REOPENED)}",
                (CycleState.PENDING, job, cycle),
            )
            return update.rowcount == 1

    def cancel(self, job: str, cycle: str) -> CycleState | None:
        """Cancel an open cycle, or request that a running one stops.

        Returns:
            The state of the cycle after that; None where there is no such cycle.
        """
        with self._database.transaction() as db:
            db.execute(
                "UPDATE cycles SET state=?, finished=?, error=NULL "
                f"WHERE job=? AND cycle=? AND state IN {sql_list(OPEN_STATES)}",
                (CycleState.CANCELLED, time.time(), job, cycle),
            )
            db.execute(
                "UPDATE cycles SET cancel=1 WHERE job=? AND cycle=? AND state=?",
                (job, cycle, CycleState.RUNNING),
            )
            row = db.execute("SELECT state FROM cycles WHERE job=? AND cycle=?", (job, cycle)).fetchone()
            return None if row is None else CycleState(row[0])

    def _update(self, record: CycleRecord, values: dict[str, Any], *, condition: str = "") -> bool:
        """Change a claimed cycle; False where the claim is lost or the condition does not hold."""
        with self._database.transaction() as db:
            update = db.execute(
                f"UPDATE cycles SET {_assignments(values)} WHERE job=? AND cycle=? AND token=?{condition}",
                (*values.values(), record.job, record.cycle, record.token),
            )
            return update.rowcount == 1


def _is_abandoned(record: CycleRecord, lease: float) -> bool:
    """Return whether the process that claimed a cycle is gone, or silent for too long."""
    if record.host == this_host() and record.pid is not None:
        if record.pid == os.getpid() and record.token not in _active_tokens:
            return True
        silence = uptime() - (record.heard or 0.0)
        return process_started(record.pid) != record.pid_started or silence > _SILENT_LEASES * lease
    remaining = (record.lease_until or 0.0) - time.time()
    return not 0 <= remaining <= _SILENT_LEASES * lease


def _presentable(error: str) -> str:
    """Return an error as one printable line without secrets."""
    return one_line(mask(printable(error)), LONGEST_ERROR)


def _assignments(columns: Iterable[str]) -> str:
    return ", ".join(f"{column}=?" for column in columns)
