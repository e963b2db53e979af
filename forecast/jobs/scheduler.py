"""The scheduler: enters due cycles in the ledger, has open cycles worked on, and repairs what breaks."""

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from . import publishing, status_page
from .database import DamagedError
from .ledger import Ledger
from .load import check_jobs, load_jobs
from .log import Log
from .records import CycleRecord
from .states import OPEN_STATES, CycleState
from .times import Clock, format_cycle, parse_time, utc
from .truth_monitor import TruthMonitor

if TYPE_CHECKING:
    from .executors import Executor

CycleKey = tuple[str, str]
"""Name of the job and initial time."""

_GRACE = 20.0  # s that a running attempt has to end after a request to stop
_OTHERS_INTERVAL = 5.0  # s between two checks of cycles that another scheduler works on
_TICK = 0.5  # s between two checks of running work and of requests
_MOST_REPAIRS_BY_OTHERS = 10  # of a damaged ledger, which this scheduler then finds sound
_FIXED_KEYS = ("ledger", "shared", "engine", "workers", "scheduler", "cluster", "lease")
"""Keys of a jobs file that take effect only when the scheduler is started again."""


@dataclass(frozen=True)
class _RunOptions:
    """Options of a run: see ``Scheduler.run``."""

    stay: bool
    until_ended: bool
    only: Collection[CycleKey] | None

    @property
    def repeats(self) -> bool:
        """Whether cycles that wait or back off are tried again in this run."""
        return self.stay or self.until_ended


@dataclass(frozen=True)
class _RunningWork:
    """Work of a thread on a cycle.

    Attributes:
        key: the cycle.
        makes_forecast: whether the work is to run the forecast; otherwise it is to verify it.
    """

    key: CycleKey
    makes_forecast: bool


class Scheduler:
    """Runs the jobs of a file.

    Args:
        path: jobs file.
        clock: returns the schedule's time.
        defer_model_checks: whether the jobs are checked against their checkpoints only when there is
            something to do. Those checks load torch. They are not deferred where there is no ledger yet.

    Attributes:
        jobs: content of the jobs file.
        ledger: ledger.
    """

    def __init__(self, path: str | Path, clock: Clock = utc, *, defer_model_checks: bool = False) -> None:
        self.path = Path(path)
        self.clock = clock
        self.jobs = load_jobs(path, check_models=False)
        self._models_checked = False
        if not (defer_model_checks and self.jobs.ledger_path.exists()):
            self._check_models()
        self.log = Log(self.jobs.ledger_path)
        self.ledger = Ledger(
            self.jobs.ledger_path,
            self.jobs.lease.total_seconds(),
            shared=self.jobs.shared,
            rebuild=lambda ledger: publishing.rebuild(self.jobs, ledger, clock()),
            check_cycle=parse_time,
            warn=lambda text: self.log.write(level="warning", message=text),
        )
        self._page_error: str | None = None
        self._repairs_by_others = 0
        self._repair()
        self._truths = TruthMonitor(self.log)
        self._stop_requested: float | None = None
        self._reload_requested = False
        self._reporting = threading.Lock()

    def stop(self) -> None:
        """Begin no more work; running attempts have some seconds to end, and are then handed back."""
        self._stop_requested = time.monotonic()

    def reload(self) -> None:
        """Read the jobs file again before the next cycle."""
        self._reload_requested = True

    def enter_due(self) -> None:
        """Enter the due cycles in the ledger."""
        now = self.clock()
        for job in self.jobs.jobs:
            cycles = job.due_cycles(now, self.ledger.first_seen(job.name, now))
            self.ledger.insert(job.name, [format_cycle(cycle) for cycle in cycles], now)

    def run(
        self,
        *,
        stay: bool = False,
        until_ended: bool = False,
        only: Collection[CycleKey] | None = None,
    ) -> list[CycleRecord]:
        """Make the due forecasts.

        Args:
            stay: continue until ``stop`` is called, as new cycles fall due.
            until_ended: continue until no cycle waits for data or for another attempt.
            only: cycles to make; all due ones by default.

        Returns:
            The cycles that were worked on, in their present states.

        Raises:
            OSError: the ledger cannot be used, and ``stay`` is not set.
            ValueError: a job that could not run.
        """
        if not self._models_checked:
            if only is None and self._is_idle():
                self._tidy()
                self.report()
                return []
            self._check_models()
        from .executors import make_executor  # not needed where there is nothing to do

        executor = make_executor(self.jobs)
        try:
            touched = self._loop(executor, _RunOptions(stay, until_ended, only))
        finally:
            executor.close()
        keys = touched | set(only or ())
        return [record for record in self.ledger.records() if (record.job, record.cycle) in keys]

    def _check_models(self) -> None:
        check_jobs(self.jobs, self.path)
        self._models_checked = True

    def _is_idle(self) -> bool:
        """Return whether no cycle is due, unfinished, or may be verified."""
        try:
            if self._unfinished(None):
                return False
            now = self.clock()
            for job in self.jobs.jobs:
                known = {record.cycle for record in self.ledger.records(job.name)}
                due = job.due_cycles(now, self.ledger.first_seen(job.name, now))
                if any(format_cycle(cycle) not in known for cycle in due):
                    return False
            return not self._truths.verifiable(self.jobs, self.ledger)
        except OSError:  # of the ledger, from which the loop of a run recovers
            return False

    def _loop(self, executor: "Executor", options: _RunOptions) -> set[CycleKey]:
        """Work until nothing is left to do and return the cycles that were worked on."""
        touched: set[CycleKey] = set()
        running: dict[Future[bool], _RunningWork] = {}
        self._tidy()
        with ThreadPoolExecutor(self.jobs.workers) as pool:
            while True:
                try:
                    self._reload_if_requested()
                    if options.only is None:
                        self.enter_due()
                    if self._stop_requested is None:
                        self._begin(pool, executor, options, running=running, touched=touched)
                    if running:
                        self._collect(running, touched)
                        continue
                    self.report()
                    waits = options.until_ended and bool(self._unfinished(options.only))
                    if self._stop_requested is not None or not (options.stay or waits):
                        return touched
                    pause = self._pause()
                except OSError as error:
                    self._recover(error, stay=options.repeats)
                    continue
                self._sleep(pause)

    def _sleep(self, seconds: float) -> None:
        """Wait, but not beyond a request to stop or to reload."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self._stop_requested is None and not self._reload_requested:
            time.sleep(_TICK)

    def _begin(
        self,
        pool: ThreadPoolExecutor,
        executor: "Executor",
        options: _RunOptions,
        *,
        running: dict["Future[bool]", _RunningWork],
        touched: set[CycleKey],
    ) -> None:
        """Start work in the idle threads: forecasts first, then verifications."""
        from .cycle import CycleContext, run_cycle, verify_cycle

        jobs = self.jobs
        context = CycleContext(
            jobs, self.ledger, executor, self.log, self.clock, self._grace_is_over, self.report
        )
        active = {work.key for work in running.values() if work.makes_forecast}
        for record in self._claimable(options.only):
            key = (record.job, record.cycle)
            if len(running) == jobs.workers:
                return
            # Unless the run repeats, each cycle is tried once.
            tried = key in touched and record.state in (CycleState.WAITING, CycleState.RETRYING)
            if key not in active and (options.repeats or not tried):
                future = pool.submit(run_cycle, context, jobs.job(record.job), record)
                running[future] = _RunningWork(key, makes_forecast=True)
        for job, record in self._truths.verifiable(jobs, self.ledger):
            key = (record.job, record.cycle)
            if len(running) == jobs.workers:
                return
            if options.only is None or key in options.only:
                self._truths.record_tried(job, record)
                future = pool.submit(verify_cycle, context, job, record)
                running[future] = _RunningWork(key, makes_forecast=False)

    def _collect(self, running: dict["Future[bool]", _RunningWork], touched: set[CycleKey]) -> None:
        """Wait up to ``_TICK`` for running work, and record the cycles that were worked on."""
        done, _ = wait(running, timeout=_TICK, return_when=FIRST_COMPLETED)
        for future in done:
            work = running.pop(future)
            if future.result() and work.makes_forecast:
                touched.add(work.key)

    def report(self) -> str | None:
        """Write the status page and its files.

        Returns:
            Why they could not be written, which is logged once; None where they were written.
        """
        with self._reporting, suppress(OSError):  # of the ledger; the page is written after the next change
            try:
                status_page.write(self.jobs, self.ledger, self.clock())
            except status_page.PageWriteError as error:
                if self._page_error != str(error):
                    self._page_error = str(error)
                    self.log.write(level="error", message=str(error))
            else:
                self._page_error = None
        return self._page_error

    def _tidy(self) -> None:
        """Complete the work that a killed scheduler left undone."""
        tasks: list[Callable[[], None]] = [partial(publishing.sweep, self.jobs, self.ledger)]
        for job in self.jobs.jobs:
            log = partial(self.log.write, job=job.name)
            tasks.append(partial(publishing.set_latest, self.jobs, job, self.ledger))
            tasks.append(partial(publishing.apply_retention, self.jobs, job, self.ledger, log=log))
        for task in tasks:
            try:
                task()
            except OSError as error:  # repeated after the next cycle
                self.log.write(level="error", message=str(error))

    def _reload_if_requested(self) -> None:
        if not self._reload_requested:
            return
        self._reload_requested = False
        try:
            new = load_jobs(self.path)
        except (ValueError, OSError) as error:
            self.log.write(level="error", message=f"{self.path} was not taken: {error}; the jobs continue")
            return
        fixed = {key: getattr(self.jobs, key) for key in _FIXED_KEYS}
        changed = [key for key, value in fixed.items() if getattr(new, key) != value]
        self.jobs = new.model_copy(update=fixed)
        note = f"; changes of {', '.join(changed)} take effect at the next start" if changed else ""
        self.log.write(level="warning" if changed else "info", message=f"{self.path} read again{note}")

    def _grace_is_over(self) -> bool:
        return self._stop_requested is not None and time.monotonic() - self._stop_requested > _GRACE

    def _repair(self) -> bool:
        """Put a damaged ledger aside and rebuild it, or create a missing one; return whether it did."""
        aside = self.ledger.open()
        if aside is not None:
            message = f"the ledger was damaged: put aside as {aside.name}, rebuilt from the outputs"
            self.log.write(level="error", message=message)
        return self.ledger.rebuilt

    def _recover(self, error: OSError, *, stay: bool) -> None:
        """Continue after an error of the ledger where it can be repaired or there is time to wait.

        Raises:
            OSError: the ledger cannot be used, and ``stay`` is not set.
        """
        self.log.write(level="error", message=str(error))
        repaired = False
        try:
            repaired = self._repair()
            by_other = not repaired and isinstance(error, DamagedError)
            if by_other and self._repairs_by_others < _MOST_REPAIRS_BY_OTHERS:
                self._repairs_by_others += 1
                repaired = True
        except OSError:  # locked, or no room
            pass
        except ValueError as foreign:  # the present file is not ours
            raise OSError(str(foreign)) from error
        if not (repaired or (stay and self._stop_requested is None)):
            raise error
        time.sleep(_TICK)

    def _unfinished(self, only: Collection[CycleKey] | None) -> list[CycleRecord]:
        names = {job.name for job in self.jobs.jobs}
        return [
            record
            for record in self.ledger.unfinished()
            if record.job in names and (only is None or (record.job, record.cycle) in only)
        ]

    def _claimable(self, only: Collection[CycleKey] | None) -> list[CycleRecord]:
        """Return the cycles to work on, in order; those that wait for data come last."""
        newest_first = {job.name for job in self.jobs.jobs if job.catch_up == "newest"}
        records = [record for record in self._unfinished(only) if self.ledger.is_claimable(record)]
        ordered = [record for record in reversed(records) if record.job in newest_first]
        ordered += [record for record in records if record.job not in newest_first]
        return sorted(ordered, key=lambda r: r.not_before if r.state is CycleState.WAITING else 0.0)

    def _pause(self) -> float:
        """Return the time until something may change [s]."""
        now = self.clock()
        instant = time.time()
        pauses = [(job.next_due(now) - now).total_seconds() for job in self.jobs.jobs]
        for record in self._unfinished(None):
            is_open = record.state in OPEN_STATES
            pauses.append(record.not_before - instant if is_open else _OTHERS_INTERVAL)
        return min(max(min(pauses), _TICK), self.jobs.poll.total_seconds())
