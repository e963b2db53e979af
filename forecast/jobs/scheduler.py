"""What brings the ledger to where the schedule says it should be: enters what is due, has free cycles worked
on, and mends what breaks.
"""

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from . import cycle, publishing, reports
from .cycle import Desk
from .database import Damaged
from .engines import DaskEngine, Engine, LocalEngine
from .ledger import Ledger
from .log import Log
from .reading import load_jobs
from .rows import OPEN, Row
from .spec import JobsFile, moment, written
from .verifying import Truths

Clock = Callable[[], datetime]
Key = tuple[str, str]
Running = dict["Future[bool]", tuple[Key, bool]]
"""What is worked on: job and cycle, and whether the cycle is made, or verified."""

_GRACE = 20.0  # seconds that a running attempt gets to end after a request to stop
_LOOK = 5.0  # seconds between two looks at what another scheduler works on
_TICK = 0.5
_OTHERS = 10  # how often a ledger that was damaged may be sound again, by the work of others
_FIXED = ("ledger", "shared", "engine", "workers", "scheduler", "cluster", "lease")
"""Keys of a jobs file that hold until the scheduler is started anew."""


def utc() -> datetime:
    """Return the time of day."""
    return datetime.now(UTC).replace(tzinfo=None)


def clock_from(start: datetime) -> Clock:
    """Return a clock that shows ``start`` now and goes at the pace of real time, so that what waits for a
    deadline reaches it.
    """
    began = time.monotonic()
    return lambda: start + timedelta(seconds=time.monotonic() - began)


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
        self.log = Log(self.jobs.folder / self.jobs.ledger)
        self.ledger = Ledger(
            self.jobs.folder / self.jobs.ledger,
            self.jobs.lease.total_seconds(),
            self.jobs.shared,
            lambda ledger: publishing.rebuild(self.jobs, ledger, clock()),
            moment,
            lambda text: self.log.write(level="warning", message=text),
        )
        self._unwritable: str | None = None
        self._others = 0
        self._mend()
        self._truths = Truths(self.log)
        self._stopping: float | None = None
        self._reload = False
        self._reporting = threading.Lock()

    def stop(self) -> None:
        """Begin nothing more; what runs gets some seconds to end, and is handed back if it does not."""
        self._stopping = time.monotonic()

    def reload(self) -> None:
        """Read the jobs file again before the next cycle."""
        self._reload = True

    def enter(self) -> None:
        """Enter in the ledger what is due."""
        now = self.clock()
        for job in self.jobs.jobs:
            self.ledger.insert(
                job.name,
                [written(cycle) for cycle in job.due(now, self.ledger.first_seen(job.name, now))],
                now,
            )

    def run(
        self, stay: bool = False, until_ended: bool = False, only: Collection[Key] | None = None
    ) -> list[Row]:
        """Make what is due.

        Args:
            stay: go on until ``stop`` is called, as new cycles fall due.
            until_ended: go on until nothing waits for data or for another try.
            only: (job, cycle) pairs to make; all that is due by default.

        Returns:
            The cycles that were worked on, as they are now.

        Raises:
            OSError: the ledger cannot be used, and it is not to stay.
        """
        engine = engine_of(self.jobs)
        try:
            touched = self._loop(engine, stay, until_ended, only)
        finally:
            engine.close()
        wanted = touched | set(only or ())
        return [row for row in self.ledger.rows() if (row.job, row.cycle) in wanted]

    def _loop(self, engine: Engine, stay: bool, until_ended: bool, only: Collection[Key] | None) -> set[Key]:
        touched: set[Key] = set()
        running: Running = {}
        self._tidy()
        with ThreadPoolExecutor(self.jobs.workers) as pool:
            while True:
                try:
                    self._reread()
                    if only is None:
                        self.enter()
                    if self._stopping is None:
                        self._begin(pool, engine, running, touched, again=stay or until_ended, only=only)
                    if running:
                        self._collect(running, touched)
                        continue
                    self.report()
                    if self._stopping is not None or not (stay or (until_ended and self._unfinished(only))):
                        return touched
                    pause = self._pause()
                except OSError as error:
                    self._recover(error, stay or until_ended)
                    continue
                until = time.monotonic() + pause
                while time.monotonic() < until and self._stopping is None and not self._reload:
                    time.sleep(_TICK)

    def _begin(
        self,
        pool: ThreadPoolExecutor,
        engine: Engine,
        running: Running,
        touched: set[Key],
        again: bool,
        only: Collection[Key] | None,
    ) -> None:
        """Give free workers something to do: cycles first, then what can be verified."""
        jobs = self.jobs
        desk = Desk(jobs, self.ledger, engine, self.log, self.clock, self._ending, self.report)
        making = {key for key, makes in running.values() if makes}
        for row in self._free(only):
            key = (row.job, row.cycle)
            if len(running) == jobs.workers:
                return
            # Where it is not to go on, each once: what waits or backs off is for the next call.
            if key not in making and (
                again or key not in touched or row.state not in ("waiting", "retrying")
            ):
                running[pool.submit(cycle.work, desk, jobs.job(row.job), row)] = (key, True)
        for job, row in self._truths.ready(jobs, self.ledger):
            if len(running) == jobs.workers:
                return
            if only is None or (row.job, row.cycle) in only:
                self._truths.begin(job, row)
                running[pool.submit(cycle.verify, desk, job, row)] = ((row.job, row.cycle), False)

    def _collect(self, running: Running, touched: set[Key]) -> None:
        """Wait a little for what is running, and note what was worked on."""
        done, _ = wait(running, timeout=_TICK, return_when=FIRST_COMPLETED)
        for future in done:
            key, makes = running.pop(future)
            if future.result() and makes:
                touched.add(key)

    def report(self) -> str | None:
        """Write the status page and its files; return why they could not be written, which is logged once."""
        with self._reporting, suppress(OSError):  # of the ledger; the next change writes it
            try:
                reports.write(self.jobs, self.ledger, self.clock())
            except reports.Unwritable as error:
                if self._unwritable != str(error):
                    self._unwritable = str(error)
                    self.log.write(level="error", message=str(error))
            else:
                self._unwritable = None
        return self._unwritable

    def _tidy(self) -> None:
        """Do what a scheduler that was killed left undone."""
        tasks: list[Callable[[], None]] = [partial(publishing.sweep, self.jobs, self.ledger)]
        for job in self.jobs.jobs:
            tasks.append(partial(publishing.point_latest, self.jobs, job, self.ledger))
            tasks.append(
                partial(publishing.retain, self.jobs, job, self.ledger, partial(self.log.write, job=job.name))
            )
        for task in tasks:
            try:
                task()
            except OSError as error:  # done again after the next cycle
                self.log.write(level="error", message=str(error))

    def _reread(self) -> None:
        if not self._reload:
            return
        self._reload = False
        try:
            read = load_jobs(self.path)
        except (ValueError, OSError) as error:
            self.log.write(
                level="error", message=f"{self.path} was not taken: {error}; the jobs go on as before"
            )
            return
        fixed = {key: getattr(self.jobs, key) for key in _FIXED}
        changed = [key for key, value in fixed.items() if getattr(read, key) != value]
        self.jobs = read.model_copy(update=fixed)
        later = f"; {', '.join(changed)} will be taken when it is started anew" if changed else ""
        self.log.write(level="warning" if changed else "info", message=f"{self.path} read again{later}")

    def _ending(self) -> bool:
        return self._stopping is not None and time.monotonic() - self._stopping > _GRACE

    def _mend(self) -> bool:
        """Put a damaged ledger aside and rebuild it, or make one that is gone; return whether it was."""
        aside = self.ledger.open()
        if aside is not None:
            self.log.write(
                level="error",
                message=f"the ledger was damaged: put aside as {aside.name}, rebuilt from the outputs",
            )
        return self.ledger.rebuilt

    def _recover(self, error: OSError, stay: bool) -> None:
        """Go on after the ledger could not be used, if it can be mended or there is time to wait."""
        self.log.write(level="error", message=str(error))
        mended = False
        try:
            mended = self._mend()
            if (
                not mended and isinstance(error, Damaged) and self._others < _OTHERS
            ):  # another scheduler has mended it
                self._others += 1
                mended = True
        except OSError:  # locked, or no room
            pass
        except ValueError as foreign:  # what lies there now is not ours
            raise OSError(str(foreign)) from error
        if not (mended or (stay and self._stopping is None)):
            raise error
        time.sleep(_TICK)

    def _unfinished(self, only: Collection[Key] | None) -> list[Row]:
        known = {job.name for job in self.jobs.jobs}
        return [
            row
            for row in self.ledger.unfinished()
            if row.job in known and (only is None or (row.job, row.cycle) in only)
        ]

    def _free(self, only: Collection[Key] | None) -> list[Row]:
        """Return what can be worked on, in order: what was never looked at goes before what waits for data."""
        newest = {job.name for job in self.jobs.jobs if job.catch_up == "newest"}
        rows = [row for row in self._unfinished(only) if self.ledger.free(row)]
        rows = [
            *(row for row in rows[::-1] if row.job in newest),
            *(row for row in rows if row.job not in newest),
        ]
        return sorted(rows, key=lambda row: row.not_before if row.state == "waiting" else 0.0)

    def _pause(self) -> float:
        """Return the seconds until something may change."""
        now, instant = self.clock(), time.time()
        pauses = [(job.next(now) - now).total_seconds() for job in self.jobs.jobs]
        pauses += [row.not_before - instant if row.state in OPEN else _LOOK for row in self._unfinished(None)]
        return min(max(min(pauses), _TICK), self.jobs.poll.total_seconds())


def engine_of(jobs: JobsFile) -> Engine:
    """Return what runs the attempts of a jobs file."""
    return LocalEngine() if jobs.engine == "local" else DaskEngine(jobs.scheduler, jobs.cluster)
