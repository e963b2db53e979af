"""The work on one cycle: claimed, made, published, and what follows its end. Each step may be done again
after a kill.
"""

import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ...datasets.store import atomic
from . import publishing
from .commands import tell
from .engines import Engine, Killed
from .files import kind_of
from .hold import Hold
from .ledger import Ledger
from .log import Log
from .making import Task
from .manifests import with_command_pending
from .masking import mask
from .places import Lost, Place
from .rows import ENDED, Row
from .spec import Job, JobsFile, moment, spoken

_LONGEST_BACKOFF = 3600.0
_MOST_INTERRUPTIONS = 20
_SOONEST = 0.5  # seconds until late data are looked for again, at the least


@dataclass(frozen=True)
class Desk:
    """What all cycles are worked on with.

    Attributes:
        jobs: jobs file.
        ledger: ledger.
        engine: runs attempts.
        log: takes log lines.
        clock: tells the schedule's time.
        ending: whether the scheduler's time to end in good order is over.
        report: writes the status page.
    """

    jobs: JobsFile
    ledger: Ledger
    engine: Engine
    log: Log
    clock: Callable[[], datetime]
    ending: Callable[[], bool]
    report: Callable[[], object]


def work(desk: Desk, job: Job, row: Row) -> bool:
    """Work on a cycle until it has ended or has to wait; return whether it was ours to work on.

    Raises:
        OSError: the ledger cannot be written, and the cycle was not claimed.
    """
    claimed = desk.ledger.claim(row.job, row.cycle)
    if claimed is None:
        return False
    with Hold(desk.ledger, claimed) as hold:
        one = _Cycle(desk, job, claimed, hold)
        try:
            one.work(row.token)
        except (
            OSError
        ) as error:  # the ledger cannot be written: the row stays as it is, and is taken up from there
            one.say(level="error", message=str(error))
        except Exception as error:  # noqa: BLE001 (whatever it is, the others go on)
            one.say(level="error", message=traceback.format_exc())
            with suppress(OSError):
                one.broken(f"{type(error).__name__}: {' '.join(str(error).split())}")
    desk.report()
    return True


class _Cycle:
    def __init__(self, desk: Desk, job: Job, row: Row, hold: Hold) -> None:
        self.desk, self.job, self.row, self.hold, self.ledger = desk, job, row, hold, desk.ledger
        self.cycle = moment(row.cycle)
        self.name, self.output = job.name_of(self.cycle), desk.jobs.output(job, self.cycle)
        self.say = desk.log.of(job.name, row.cycle, row.attempts + 1)
        self.ended = row.state in ENDED

    def work(self, before: str | None) -> None:
        """Do what is left to do of a claimed cycle.

        Args:
            before: token of a claim that was lost.
        """
        if self.row.state in ENDED:
            self._follow(self.row.state, self.row.error or "")
            return
        place = publishing.place_of(self.desk.jobs, self.job)
        if (kind := kind_of(place.work)) not in (None, "a folder"):
            self.failure(f"{place.work} is {kind}, not a folder; remove it")
            return
        if before:
            atomic.remove(place.work / before[: publishing.TAG])
        try:
            known = place.whole(self.name)
        except OSError as error:
            self.failure(f"it could not be seen whether it is published: {error}")
            return
        if known is not None:
            self.say(message="was published already")
            if self.ledger.publishing(self.row, self.output, known):
                self._done()
        elif self.ledger.begin(self.row):
            self.say(message="taken over from one that is gone" if before else "begins")
            self.desk.report()
            scratch = place.work / (self.row.token or "")[: publishing.TAG]
            try:
                if (result := self._attempt(scratch)) is not None:
                    self._publish(place, scratch / result.get("folder", ""), result)
            finally:
                with suppress(OSError):  # swept by the next start
                    atomic.remove(scratch)

    def _attempt(self, scratch: Path) -> dict[str, Any] | None:
        """Run an attempt in a folder; return what it made, or enter in the ledger why there is nothing."""
        began, deadline = time.monotonic(), self.job.deadline.total_seconds()

        def stop() -> str | None:
            if time.monotonic() - began > deadline:
                return "deadline"
            if self.desk.ending():
                return "stopping"
            return None if self.hold.state == "ours" else self.hold.state

        try:
            result = self.desk.engine.run(
                Task(self.job, self.cycle, self.desk.jobs.folder, scratch), stop, self.say
            )
        except Killed as error:
            self._interrupted(str(error))
        except InterruptedError as error:
            self._stopped(str(error))
        else:
            if "waits" in result:
                self._waits(result["waits"])
            elif "error" in result:
                self.failure(result["error"])
            else:
                return result
        return None

    def _interrupted(self, error: str) -> None:
        said = f"{error}, {self.row.interruptions + 1} time(s) so far"
        self.say(level="warning", message=said)
        if self.row.interruptions + 1 >= _MOST_INTERRUPTIONS:
            self._failed(said)
        else:
            self.ledger.end(self.row, "pending", said, killed=True)

    def _stopped(self, reason: str) -> None:
        if reason == "deadline":
            self.failure(f"took longer than the deadline of {spoken(self.job.deadline)}")
            return
        if reason in ("cancel", "stopping"):
            self.ledger.end(self.row, "cancelled" if reason == "cancel" else "pending")
        meant = {
            "cancel": "cancelled",
            "stopping": "handed back",
            "lost": "the claim was lost to another scheduler",
        }
        self.say(level="warning", message=meant[reason])

    def _waits(self, why: str) -> None:
        now = self.desk.clock()
        last = max(self.cycle + self.job.delay, datetime.fromisoformat(self.row.seen)) + self.job.deadline
        if now >= last:
            self._failed(f"the data did not come within {spoken(self.job.deadline)}: {why}")
        else:
            pause = min(self.desk.jobs.poll.total_seconds(), max(_SOONEST, (last - now).total_seconds()))
            self.ledger.end(self.row, "waiting", why, not_before=time.time() + pause)
            self.say(message=f"waits for data: {why}")

    def broken(self, error: str) -> None:
        """Go on after an error that nobody thought of."""
        if self.ended:
            self.ledger.release(self.row)
        else:
            self.failure(error)

    def failure(self, error: str) -> None:
        """Enter a failed attempt: another try later, or the end."""
        if self.row.attempts >= self.job.retries:
            self._failed(error)
            return
        pause = min(self.job.backoff.total_seconds() * 2 ** min(self.row.attempts, 32), _LONGEST_BACKOFF)
        if self.ledger.end(self.row, "retrying", error, not_before=time.time() + pause, failed=True):
            self.say(level="warning", message=f"failed, tried again in {spoken(pause)}: {error}")

    def _failed(self, error: str) -> None:
        if self.ledger.end(self.row, "failed", error, failed=True):
            self.say(level="error", message=f"failed: {error}")
            self._follow("failed", error)

    def _publish(self, place: Place, folder: Path, result: dict[str, Any]) -> None:
        if not self.ledger.publishing(self.row, self.output, result["manifest"]["checksum"]):
            cancelled = self.ledger.renew(self.row) == "cancel" and self.ledger.end(self.row, "cancelled")
            self.say(
                level="warning",
                message="made, but "
                + ("cancelled" if cancelled else "the claim was lost to another scheduler"),
            )
            return
        beside = {f"{Path(self.name).stem}.{other}": folder / other for other in result["beside"]}
        manifest = with_command_pending(result["manifest"]) if self.job.on_success else result["manifest"]
        try:
            place.publish(self.name, folder / result["made"], beside, manifest, self.hold.ours)
        except Lost:
            self.say(level="warning", message="made, but the claim was lost to another scheduler")
        except OSError as error:
            self.failure(f"could not be published: {error}")
        else:
            self._done()

    def _done(self) -> None:
        if self.ledger.end(self.row, "done"):
            self.say(message=f"published as {self.output}")
            self._follow("done")

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Log an error of what is done again after the next cycle."""
        try:
            yield
        except OSError as error:
            self.say(level="error", message=str(error))

    def _follow(self, state: str, error: str = "") -> None:
        """Do what follows an end, then give up the claim; it is done again where a kill comes between."""
        self.ended = True
        if state == "done":
            with self._said():
                publishing.point_latest(self.desk.jobs, self.job, self.ledger)
        command = {"done": self.job.on_success, "failed": self.job.on_failure}.get(state)
        what = {"state": state, "error": mask(error), "output": self.output if state == "done" else ""}
        if not tell(command, self.job, self.cycle, self.desk.jobs.folder, self.say, self.desk.ending, **what):
            return
        if state == "done" and command:
            with self._said():
                publishing.place_of(self.desk.jobs, self.job).command_ended(self.name)
        self.ledger.release(self.row)
        if state == "done":  # the last, for no output is removed whose cycle is claimed
            with self._said():
                publishing.retain(self.desk.jobs, self.job, self.ledger, self.say)


def verify(desk: Desk, job: Job, row: Row) -> bool:
    """Score a published cycle whose truth has come; return whether it could be."""
    say = desk.log.of(job.name, row.cycle)
    scratch = desk.jobs.folder / desk.jobs.ledger.parent / f"{publishing.VERIFYING}{uuid.uuid4().hex[:8]}"
    began = time.monotonic()

    def stop() -> str | None:
        return (
            "stopping"
            if desk.ending()
            else "deadline"
            if time.monotonic() - began > job.deadline.total_seconds()
            else None
        )

    try:
        result = desk.engine.run(Task(job, moment(row.cycle), desk.jobs.folder, scratch, "verify"), stop, say)
        if "scores" in result:
            desk.ledger.verified(row.job, row.cycle, result["scores"])
            say(message=result["said"])
            if (
                now := desk.ledger.row(row.job, row.cycle)
            ) is not None and now.state == "removed":  # meanwhile, and the scores came after
                publishing.place_of(desk.jobs, job).remove(job.name_of(moment(row.cycle)), row.checksum)
        else:
            say(level="error", message=f"could not be verified: {result['error']}")
        return "scores" in result
    except Exception as error:  # noqa: BLE001 (whatever it is, the others go on)
        say(
            level="error",
            message=f"could not be verified: {type(error).__name__}: {' '.join(str(error).split())}",
        )
        return False
    finally:
        with suppress(OSError):
            atomic.remove(scratch)
        desk.report()
