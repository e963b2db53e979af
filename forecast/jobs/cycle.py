"""The work on one cycle: its claim, the attempt, publication, and what follows its end.

A scheduler may be killed at any point; each step can be repeated.
"""

import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ...datasets.durations import format_duration
from ...datasets.store import atomic
from . import publishing
from .attempts import Attempt, AttemptStoppedError, Work, WorkerKilledError
from .commands import HookEvent, run_hook
from .executors import Executor
from .files import FileKind, kind_of
from .lease import LeaseKeeper
from .ledger import Ledger
from .log import Log
from .masking import mask
from .output_store import LeaseLostError, OutputStore
from .records import CycleRecord
from .results import ErrorResult, ForecastResult, VerificationResult, WaitingResult
from .spec import Job, JobsFile
from .states import ENDED_STATES, ClaimState, CycleState, StopReason
from .times import parse_time

_LONGEST_BACKOFF = 3600.0  # s
_MOST_DOUBLINGS = 32
_MOST_INTERRUPTIONS = 20
_SHORTEST_WAIT = 0.5  # s before another attempt to find late data
_STOP_REASONS = {ClaimState.CANCELLED: StopReason.CANCELLED, ClaimState.LOST: StopReason.LEASE_LOST}
_LEASE_LOST = "the claim was lost to another scheduler"


@dataclass(frozen=True)
class CycleContext:
    """What the work on all cycles shares.

    Attributes:
        jobs: jobs file.
        ledger: ledger.
        executor: runs the attempts.
        log: destination of log lines.
        clock: returns the schedule's time.
        stopping: returns whether the time for an orderly shutdown is over.
        report: writes the status page.
    """

    jobs: JobsFile
    ledger: Ledger
    executor: Executor
    log: Log
    clock: Callable[[], datetime]
    stopping: Callable[[], bool]
    report: Callable[[], object]


def run_cycle(context: CycleContext, job: Job, record: CycleRecord) -> bool:
    """Work on a cycle until it has ended or has to wait.

    Returns:
        Whether the cycle could be claimed.

    Raises:
        OSError: the ledger cannot be written, and the cycle was not claimed.
    """
    claimed = context.ledger.claim(record.job, record.cycle)
    if claimed is None:
        return False
    with LeaseKeeper(context.ledger, claimed) as lease:
        run = _CycleRun(context, job, claimed, lease=lease)
        try:
            run.work(previous_token=record.token)
        except OSError as error:  # of the ledger, whose row stays as it is; a later claim resumes there
            run.log(level="error", message=str(error))
        except Exception as error:  # noqa: BLE001  an error of one cycle must not end the others
            run.log(level="error", message=traceback.format_exc())
            with suppress(OSError):
                run.end_unexpectedly(f"{type(error).__name__}: {' '.join(str(error).split())}")
    context.report()
    return True


class _CycleRun:
    """The work on a claimed cycle."""

    def __init__(self, context: CycleContext, job: Job, record: CycleRecord, *, lease: LeaseKeeper) -> None:
        self._context = context
        self._job = job
        self._record = record
        self._lease = lease
        self._ledger = context.ledger
        self._cycle = parse_time(record.cycle)
        self._name = job.output_name(self._cycle)
        self._output = context.jobs.output_path(job, self._cycle)
        self._ended = record.state in ENDED_STATES
        self.log = context.log.for_cycle(job.name, record.cycle, record.attempts + 1)

    def work(self, previous_token: str | None) -> None:
        """Do the remaining work.

        Args:
            previous_token: token of a claim that was lost.
        """
        if self._ended:
            self._follow_up(self._record.state, self._record.error or "")
            return
        store = publishing.output_store(self._context.jobs, self._job)
        if (kind := kind_of(store.work)) not in (None, FileKind.FOLDER):
            self._fail(f"{store.work} is {kind}, not a folder; remove it")
            return
        if previous_token:
            atomic.remove(store.work / publishing.scratch_name(previous_token))
        try:
            published = store.verify_checksum(self._name)
        except OSError as error:
            self._fail(f"cannot tell whether it is published: {error}")
            return
        if published is not None:
            self.log(message="was published already")
            if self._ledger.begin_publishing(self._record, self._output, published):
                self._complete()
        elif self._ledger.begin(self._record):
            self.log(message="taken over from a process that is gone" if previous_token else "begins")
            self._context.report()
            scratch = store.work / publishing.scratch_name(self._record.token)
            try:
                if (result := self._attempt(scratch)) is not None:
                    self._publish(store, scratch / result.subfolder, result)
            finally:
                with suppress(OSError):  # swept at the next start
                    atomic.remove(scratch)

    def _attempt(self, scratch: Path) -> ForecastResult | None:
        """Return the forecast of an attempt, or record why there is none."""
        started = time.monotonic()
        deadline = self._job.deadline.total_seconds()

        def stop() -> StopReason | None:
            if time.monotonic() - started > deadline:
                return StopReason.DEADLINE
            if self._context.stopping():
                return StopReason.SHUTDOWN
            return _STOP_REASONS.get(self._lease.state)

        attempt = Attempt(self._job, self._cycle, self._context.jobs.folder, scratch)
        try:
            result = self._context.executor.run(attempt, stop, self.log)
        except WorkerKilledError as error:
            self._interrupt(str(error))
            return None
        except AttemptStoppedError as error:
            self._stop(error.reason)
            return None
        if isinstance(result, ForecastResult):
            return result
        if isinstance(result, WaitingResult):
            self._wait(result.text)
        elif isinstance(result, ErrorResult):
            self._fail(result.text)
        else:
            raise TypeError(f"an attempt at a forecast returned {type(result).__name__}")
        return None

    def _interrupt(self, error: str) -> None:
        """Record that an attempt was killed from outside."""
        count = self._record.interruptions + 1
        message = f"{error}, {count} {'interruption' if count == 1 else 'interruptions'} so far"
        self.log(level="warning", message=message)
        if count >= _MOST_INTERRUPTIONS:
            self._fail_for_good(message)
        else:
            self._ledger.end(self._record, CycleState.PENDING, message, killed=True)

    def _stop(self, reason: StopReason) -> None:
        """Record that an attempt was stopped on request."""
        if reason is StopReason.DEADLINE:
            self._fail(f"took longer than the deadline of {format_duration(self._job.deadline)}")
        elif reason is StopReason.CANCELLED:
            self._ledger.end(self._record, CycleState.CANCELLED)
            self.log(level="warning", message="cancelled")
        elif reason is StopReason.SHUTDOWN:
            self._ledger.end(self._record, CycleState.PENDING)
            self.log(level="warning", message="handed back")
        else:
            self.log(level="warning", message=_LEASE_LOST)

    def _wait(self, reason: str) -> None:
        """Record that the data are not there yet, or that their deadline is over."""
        now = self._context.clock()
        seen = datetime.fromisoformat(self._record.seen)
        last = max(self._cycle + self._job.delay, seen) + self._job.deadline
        if now >= last:
            self._fail_for_good(
                f"the data did not come within {format_duration(self._job.deadline)}: {reason}"
            )
            return
        poll = self._context.jobs.poll.total_seconds()
        pause = min(poll, max(_SHORTEST_WAIT, (last - now).total_seconds()))
        self._ledger.end(self._record, CycleState.WAITING, reason, not_before=time.time() + pause)
        self.log(message=f"waits for data: {reason}")

    def end_unexpectedly(self, error: str) -> None:
        """Record an error that no other method handles."""
        if self._ended:
            self._ledger.release(self._record)
        else:
            self._fail(error)

    def _fail(self, error: str) -> None:
        """Record a failed attempt: a retry later, or the end."""
        if self._record.attempts >= self._job.retries:
            self._fail_for_good(error)
            return
        doublings = min(self._record.attempts, _MOST_DOUBLINGS)
        pause = min(self._job.backoff.total_seconds() * 2**doublings, _LONGEST_BACKOFF)
        not_before = time.time() + pause
        if self._ledger.end(self._record, CycleState.RETRYING, error, not_before=not_before, failed=True):
            self.log(level="warning", message=f"failed, retried in {format_duration(pause)}: {error}")

    def _fail_for_good(self, error: str) -> None:
        """Record that the cycle failed, and do what follows."""
        if self._ledger.end(self._record, CycleState.FAILED, error, failed=True):
            self.log(level="error", message=f"failed: {error}")
            self._follow_up(CycleState.FAILED, error)

    def _publish(self, store: OutputStore, folder: Path, result: ForecastResult) -> None:
        """Publish the forecast in a folder unless the claim is lost or a cancellation is requested."""
        manifest = result.manifest
        if not self._ledger.begin_publishing(self._record, self._output, manifest.checksum):
            cancelled = self._ledger.renew(self._record) is ClaimState.CANCELLED and self._ledger.end(
                self._record, CycleState.CANCELLED
            )
            self.log(level="warning", message=f"made, but {'cancelled' if cancelled else _LEASE_LOST}")
            return
        stem = Path(self._name).stem
        attachments = {f"{stem}.{name}": folder / name for name in result.plots}
        if self._job.on_success:
            manifest = manifest.with_hook_pending()
        try:
            store.publish(
                self._name,
                folder / result.output,
                manifest,
                attachments=attachments,
                lease_held=self._lease.is_held,
            )
        except LeaseLostError:
            self.log(level="warning", message=f"made, but {_LEASE_LOST}")
        except OSError as error:
            self._fail(f"could not be published: {error}")
        else:
            self._complete()

    def _complete(self) -> None:
        """Record that the cycle is published, and do what follows."""
        if self._ledger.end(self._record, CycleState.DONE):
            self.log(message=f"published as {self._output}")
            self._follow_up(CycleState.DONE)

    @contextmanager
    def _errors_logged(self) -> Iterator[None]:
        """Log an ``OSError`` of a step that is repeated after the next cycle."""
        try:
            yield
        except OSError as error:
            self.log(level="error", message=str(error))

    def _follow_up(self, state: CycleState, error: str = "") -> None:
        """Set ``latest``, run the command after the end, and give up the claim.

        All of this is repeated where the scheduler is killed before the claim is given up.
        """
        self._ended = True
        jobs = self._context.jobs
        done = state is CycleState.DONE
        if done:
            with self._errors_logged():
                publishing.set_latest(jobs, self._job, self._ledger)
        commands = {CycleState.DONE: self._job.on_success, CycleState.FAILED: self._job.on_failure}
        command = commands.get(state)
        event = HookEvent(str(state), self._output if done else "", mask(error))
        if not run_hook(
            command,
            self._job,
            self._cycle,
            event=event,
            folder=jobs.folder,
            log=self.log,
            stopping=self._context.stopping,
        ):
            return
        if done and command:
            with self._errors_logged():
                publishing.output_store(jobs, self._job).record_hook_ended(self._name)
        self._ledger.release(self._record)
        if done:  # after the release, since no output of a claimed cycle is removed
            with self._errors_logged():
                publishing.apply_retention(jobs, self._job, self._ledger, log=self.log)


def verify_cycle(context: CycleContext, job: Job, record: CycleRecord) -> bool:
    """Score a published cycle whose truth is complete; return whether that succeeded."""
    log = context.log.for_cycle(job.name, record.cycle)
    scratch = context.jobs.state_folder / f"{publishing.VERIFYING}{uuid.uuid4().hex[:8]}"
    started = time.monotonic()

    def stop() -> StopReason | None:
        if context.stopping():
            return StopReason.SHUTDOWN
        late = time.monotonic() - started > job.deadline.total_seconds()
        return StopReason.DEADLINE if late else None

    cycle = parse_time(record.cycle)
    attempt = Attempt(job, cycle, context.jobs.folder, scratch, Work.VERIFICATION)
    try:
        result = context.executor.run(attempt, stop, log)
        if not isinstance(result, VerificationResult):
            reason = result.text if isinstance(result, ErrorResult) else type(result).__name__
            log(level="error", message=f"could not be verified: {reason}")
            return False
        context.ledger.record_verified(record.job, record.cycle, result.scores)
        log(message=result.summary)
        present = context.ledger.record(record.job, record.cycle)
        if present is not None and present.state is CycleState.REMOVED:
            # Removed in the meantime, and the scores were written after that.
            publishing.output_store(context.jobs, job).remove(job.output_name(cycle), record.checksum)
        return True
    except AttemptStoppedError as error:
        log(level="error", message=f"could not be verified: {error.reason}")
        return False
    except Exception as error:  # noqa: BLE001  an error of one cycle must not end the others
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        log(level="error", message=f"could not be verified: {reason}")
        return False
    finally:
        with suppress(OSError):
            atomic.remove(scratch)
        context.report()
