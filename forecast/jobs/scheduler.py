"""What brings the ledger to where the schedule says it should be: claims cycles, has them made, publishes them."""

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...datasets import atomic
from . import publishing, reports
from .commands import tell
from .engines import DaskEngine, Engine, Killed, LocalEngine
from .ledger import OPEN, TAKEN, Ledger, Row
from .log import Log
from .making import Task
from .spec import Job, JobsFile, load_jobs, moment, written

Clock = Callable[[], datetime]
Cycles = Collection[tuple[str, str]]

_LONGEST_BACKOFF = 3600.0
_MOST_INTERRUPTIONS = 20
_GRACE = 20.0  # seconds that a running attempt gets to end after a request to stop
_LOOK = 5.0  # seconds between two looks at what another scheduler works on
_TICK = 0.5


def utc() -> datetime:
    """Return the time of day."""
    return datetime.now(UTC).replace(tzinfo=None)


class Scheduler:
    """Runs the jobs of a file.

    Args:
        path: jobs file.
        clock: tells the schedule's time.

    Attributes:
        jobs: what the file says.
        ledger: what was done.
    """

    def __init__(self, path: str | Path, clock: Clock = utc) -> None:
        self.path, self.clock = Path(path), clock
        self.jobs = load_jobs(path)
        self.ledger = Ledger(
            self.jobs.folder / self.jobs.ledger,
            self.jobs.lease.total_seconds(),
            self.jobs.shared,
            lambda ledger: publishing.rebuild(self.jobs, ledger, clock()),
        )
        self.log = Log(self.jobs.folder / self.jobs.ledger)
        self._mend()
        self._engine: Engine = LocalEngine()
        self._stopping: float | None = None
        self._reload = False
        self._reporting = threading.Lock()

    def stop(self) -> None:
        """Begin nothing more; what runs gets some seconds to end, and is handed back if it does not."""
        self._stopping = time.monotonic()

    def reload(self) -> None:
        """Read the jobs file again before the next cycle."""
        self._reload = True

    def enter(self, names: Collection[str] | None = None) -> None:
        """Enter in the ledger what is due."""
        now = self.clock()
        for job in self.jobs.jobs:
            if names is None or job.name in names:
                self.ledger.insert(job.name, [written(cycle) for cycle in job.due(now, self.ledger.first_seen(job.name, now))], now)

    def run(self, stay: bool = False, until_ended: bool = False, only: Cycles | None = None) -> list[Row]:
        """Make what is due.

        Args:
            stay: go on until ``stop`` is called, as new cycles fall due.
            until_ended: go on until nothing waits for data or for another try.
            only: (job, cycle) pairs to make; all that is due by default.

        Returns:
            The cycles that were worked on, as they are now.
        """
        self._engine = engine_of(self.jobs)
        try:
            touched = self._loop(stay, until_ended, only)
        finally:
            self._engine.close()
        wanted = touched | set(only or ())
        return [row for row in self.ledger.rows() if (row.job, row.cycle) in wanted]

    def _loop(self, stay: bool, until_ended: bool, only: Cycles | None) -> set[tuple[str, str]]:
        touched: set[tuple[str, str]] = set()
        running: dict[Future[bool], tuple[str, str]] = {}
        try:
            publishing.sweep(self.jobs, self.ledger)
            for job in self.jobs.jobs:  # what was published just before an end
                publishing.point_latest(self.jobs, job, self.ledger)
        except OSError as error:  # done again after the next cycle
            self.log.write(level="error", message=str(error))
        with ThreadPoolExecutor(self.jobs.workers) as pool:
            while True:
                self._reread()
                try:
                    if only is None:
                        self.enter()
                    waiting = [] if self._stopping else self._free(only, set(running.values()))
                except OSError as error:
                    self._recover(error, stay or until_ended)
                    continue
                if not (stay or until_ended):  # each once: what waits or backs off is for the next call
                    waiting = [row for row in waiting if (row.job, row.cycle) not in touched or row.state not in ("waiting", "retrying")]
                for row in waiting[: self.jobs.workers - len(running)]:
                    running[pool.submit(self._cycle, row)] = (row.job, row.cycle)
                if running:
                    done, _ = wait(running, timeout=_TICK, return_when=FIRST_COMPLETED)
                    for future in done:
                        key = running.pop(future)
                        if future.result():
                            touched.add(key)
                    continue
                try:
                    self._verify(touched, everything=only is None)
                    self.report()
                    if self._stopping or not (stay or (until_ended and self._open(only))):
                        return touched
                    pause = self._pause()
                except OSError as error:
                    self._recover(error, stay or until_ended)
                    continue
                until = time.monotonic() + pause
                while time.monotonic() < until and not (self._stopping or self._reload):
                    time.sleep(_TICK)

    def report(self) -> None:
        """Write the status page and its files."""
        with self._reporting, suppress(OSError):  # the next change writes it
            reports.write(self.jobs, self.ledger, self.clock())

    def _reread(self) -> None:
        if self._reload:
            self._reload = False
            try:
                self.jobs = load_jobs(self.path)
                self.log.write(message=f"{self.path} read again")
            except (ValueError, OSError) as error:
                self.log.write(level="error", message=f"{self.path} was not taken: {error}; the jobs go on as before")

    def _mend(self) -> bool:
        """Put a damaged ledger aside and rebuild it; return whether it was damaged."""
        aside = self.ledger.open()
        if aside is not None:
            self.log.write(level="error", message=f"the ledger was damaged: put aside as {aside.name}, rebuilt from the outputs")
        return aside is not None

    def _recover(self, error: OSError, stay: bool) -> None:
        """Go on after the ledger could not be used, if it can be mended or there is time to wait."""
        self.log.write(level="error", message=str(error))
        mended = False
        with suppress(OSError):  # locked, or no room
            mended = self._mend()
        if not (mended or stay):
            raise error
        time.sleep(_TICK)

    def _open(self, only: Cycles | None) -> list[Row]:
        known = {job.name for job in self.jobs.jobs}
        return [row for row in self.ledger.rows(states=(*OPEN, *TAKEN)) if row.job in known and (only is None or (row.job, row.cycle) in only)]

    def _free(self, only: Cycles | None, mine: Collection[tuple[str, str]]) -> list[Row]:
        """Return what can be worked on, in order."""
        jobs = {job.name: job for job in self.jobs.jobs}
        rows = [row for row in self.ledger.rows(states=(*OPEN, *TAKEN)) if row.job in jobs and self.ledger.free(row)]
        rows = [row for row in rows if (row.job, row.cycle) not in mine and (only is None or (row.job, row.cycle) in only)]
        oldest = [row for row in rows if jobs[row.job].catch_up == "oldest"]
        newest = [row for row in rows if jobs[row.job].catch_up == "newest"]
        return [*newest[::-1], *oldest]

    def _pause(self) -> float:
        """Return the seconds until something may change."""
        now, instant = self.clock(), time.time()
        pauses = [(job.next(now) - now).total_seconds() for job in self.jobs.jobs]
        pauses += [row.not_before - instant if row.state in OPEN else _LOOK for row in self._open(None)]
        return min(max(min(pauses), _TICK), self.jobs.poll.total_seconds())

    def _cycle(self, row: Row) -> bool:
        """Work on one cycle until it is published, or has to wait; return whether it was ours to work on."""
        try:
            claimed = self.ledger.claim(row.job, row.cycle)
        except OSError as error:
            self.log.write(level="error", message=str(error))
            time.sleep(_TICK)
            return False
        if claimed is None:
            return False
        job, cycle = self.jobs.job(row.job), moment(row.cycle)
        place, name = publishing.place_of(self.jobs, job), job.name_of(cycle)
        say = self.log.of(job.name, row.cycle, claimed.attempts + 1)
        scratch = place.work / (claimed.token or "")[: publishing.TAG]
        try:
            if row.token:
                atomic.remove(place.work / row.token[: publishing.TAG])
            if known := place.whole(name):
                say(message="was published already")
                if self.ledger.publishing(claimed, self.jobs.output(job, cycle), known):
                    self._done(job, claimed, say)
            elif self.ledger.begin(claimed):
                say(message="begins" if not row.token else "taken over from one that is gone")
                self.report()
                if (result := self._attempt(job, cycle, claimed, scratch, say)) is not None:
                    self._publish(job, claimed, scratch, result, say)
        except OSError as error:  # the ledger cannot be written: the row stays as it is, and is taken up from there
            say(level="error", message=str(error))
        finally:
            self.ledger.drop(claimed)
            with suppress(OSError):  # swept by the next start
                atomic.remove(scratch)
            self.report()
        return True

    def _attempt(self, job: Job, cycle: datetime, row: Row, scratch: Path, say: Callable[..., None]) -> dict[str, Any] | None:
        """Run an attempt; return what it made, or enter in the ledger why there is nothing."""
        began, renewed = time.monotonic(), [time.monotonic()]
        held = self.jobs.lease.total_seconds()

        def stop() -> str | None:
            now = time.monotonic()
            if now - began > job.deadline.total_seconds():
                return "deadline"
            if self._stopping is not None and now - self._stopping > _GRACE:
                return "stopping"
            if now - renewed[0] > min(held / 3, 5):
                try:
                    found = self.ledger.renew(row)
                except OSError:  # locked, or no room: another try before the lease is over
                    return "lost" if now - renewed[0] > held else None
                renewed[0] = now
                return None if found == "ours" else found
            return None

        try:
            result = self._engine.run(Task(job, cycle, self.jobs.folder, scratch), stop, say)
        except Killed as error:
            said = f"{error}, {row.interruptions + 1} time(s) so far"
            many = row.interruptions + 1 >= _MOST_INTERRUPTIONS
            self.ledger.end(row, "failed" if many else "pending", said, killed=True)
            say(level="warning", message=said)
            return None
        except InterruptedError as error:
            if str(error) == "deadline":
                self._failure(job, row, f"took longer than the deadline of {_hours(job.deadline.total_seconds())}", say)
                return None
            if str(error) in ("cancel", "stopping"):
                self.ledger.end(row, "cancelled" if str(error) == "cancel" else "pending")
            meant = {"cancel": "cancelled", "stopping": "handed back", "lost": "the claim was lost to another scheduler"}
            say(level="warning", message=meant[str(error)])
            return None
        if "waits" in result:
            self._waits(job, cycle, row, result["waits"], say)
        elif "error" in result:
            self._failure(job, row, result["error"], say)
        else:
            return result
        return None

    def _waits(self, job: Job, cycle: datetime, row: Row, why: str, say: Callable[..., None]) -> None:
        now = self.clock()
        last = max(cycle + job.delay, datetime.fromisoformat(row.seen)) + job.deadline
        if now >= last:
            self._failed(job, row, f"the data did not come within {_hours(job.deadline.total_seconds())}: {why}", say)
        else:
            pause = min(self.jobs.poll.total_seconds(), max(_TICK, (last - now).total_seconds()))
            self.ledger.end(row, "waiting", why, not_before=time.time() + pause)
            say(message=f"waits for data: {why}")

    def _failure(self, job: Job, row: Row, error: str, say: Callable[..., None]) -> None:
        """Enter a failed attempt: another try later, or the end."""
        if row.attempts >= job.retries:
            self._failed(job, row, error, say)
            return
        pause = min(job.backoff.total_seconds() * 2**row.attempts, _LONGEST_BACKOFF)
        if self.ledger.end(row, "retrying", error, not_before=time.time() + pause, failed=True):
            say(level="warning", message=f"failed, tried again in {_hours(pause)}: {error}")

    def _failed(self, job: Job, row: Row, error: str, say: Callable[..., None]) -> None:
        if self.ledger.end(row, "failed", error, failed=True):
            say(level="error", message=f"failed: {error}")
            tell(job.on_failure, job, moment(row.cycle), self.jobs.folder, say, state="failed", error=error)

    def _publish(self, job: Job, row: Row, scratch: Path, result: dict[str, Any], say: Callable[..., None]) -> None:
        place, cycle, folder = publishing.place_of(self.jobs, job), moment(row.cycle), scratch / result.get("folder", "")
        name = job.name_of(cycle)
        if not self.ledger.publishing(row, self.jobs.output(job, cycle), result["manifest"]["checksum"]):
            cancelled = self.ledger.renew(row) == "cancel" and self.ledger.end(row, "cancelled")
            say(level="warning", message="made, but " + ("cancelled" if cancelled else "the claim was lost to another scheduler"))
            return
        stem = Path(name).stem
        try:
            place.publish(name, folder / result["made"], {f"{stem}.{other}": folder / other for other in result["beside"]}, result["manifest"])
        except OSError as error:
            self._failure(job, row, f"could not be published: {error}", say)
            return
        self._done(job, row, say)

    def _done(self, job: Job, row: Row, say: Callable[..., None]) -> None:
        if not self.ledger.end(row, "done"):
            return
        cycle = moment(row.cycle)
        output = self.jobs.output(job, cycle)
        say(message=f"published as {output}")
        try:
            publishing.point_latest(self.jobs, job, self.ledger)
            for old in publishing.retain(self.jobs, job, self.ledger):
                say(message=f"removed {old}, of which newer ones are kept")
        except OSError as error:  # done again after the next cycle
            say(level="error", message=str(error))
        tell(job.on_success, job, cycle, self.jobs.folder, say, state="done", output=output)

    def _verify(self, touched: Cycles, everything: bool) -> None:
        """Verify published cycles whose truth has come."""
        for job in self.jobs.jobs:
            if job.truth is None or not (self.jobs.folder / job.truth).exists():
                continue
            for row in self.ledger.rows(job.name, ("done",)):
                if row.verified is not None or not (everything or (row.job, row.cycle) in touched):
                    continue
                if reports.verify_cycle(self.jobs, job, moment(row.cycle), self.log.of(job.name, row.cycle)):
                    self.ledger.verified(job.name, row.cycle)


def engine_of(jobs: JobsFile) -> Engine:
    """Return what runs the attempts of a jobs file."""
    return LocalEngine() if jobs.engine == "local" else DaskEngine(jobs.scheduler, jobs.cluster)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"
