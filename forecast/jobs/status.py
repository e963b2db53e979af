"""State of the jobs and of their last cycles, for the table, for monitors and for the status page."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from .ledger import Ledger
from .masking import clean
from .records import CycleRecord
from .spec import Job, JobsFile
from .states import CLAIMED_STATES, CycleState
from .times import format_cycle, parse_time

_SHOWN_CYCLES = 12
_SHOWN_PROBLEMS = 20
_SECONDS_PER_HOUR = 3600
_COUNTED_ATTEMPTS = (*CLAIMED_STATES, CycleState.DONE)  # states with an attempt that has not failed


@dataclass(frozen=True)
class CycleStatus:
    """State of a cycle.

    Attributes:
        cycle: initial time.
        state: state in the ledger.
        age_hours: time since the initial time [h].
        attempts: number of failed attempts.
        interruptions: number of attempts that were killed from outside.
        seconds: duration of the last attempt [s].
        error: reason of a failure or of waiting.
        output: path or URL of the published forecast.
        checksum: its SHA-256.
        verified: whether it was verified.
        scores: its scores at the last lead time.
    """

    cycle: str
    state: str
    age_hours: float
    attempts: int
    interruptions: int
    seconds: float | None
    error: str | None
    output: str | None
    checksum: str | None
    verified: bool
    scores: list[dict[str, Any]]

    @property
    def tries(self) -> int:
        """Number of attempts, with the one that succeeded or is under way."""
        return self.attempts + (self.state in _COUNTED_ATTEMPTS)


@dataclass(frozen=True)
class JobStatus:
    """State of a job.

    Attributes:
        job: name.
        next: when the next cycle falls due.
        latest: latest published cycle.
        latest_age_hours: its age [h].
        output: path or URL of its forecast.
        healthy: whether the last cycle that ended was published.
        counts: number of cycles by state.
        cycles: last cycles, the oldest first.
    """

    job: str
    next: str
    latest: str | None
    latest_age_hours: float | None
    output: str | None
    healthy: bool
    counts: dict[str, int]
    cycles: list[CycleStatus]


@dataclass(frozen=True)
class JobsStatus:
    """State of all jobs, without secrets.

    Attributes:
        now: the schedule's time.
        jobs: state of each job.
        problems: rows of the ledger that are left out, and why.
    """

    now: str
    jobs: list[JobStatus]
    problems: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the status for JSON."""
        return asdict(self)


def read_status(
    jobs: JobsFile, ledger: Ledger, now: datetime, *, cycles: int | None = _SHOWN_CYCLES
) -> JobsStatus:
    """Return the state of the jobs.

    Args:
        jobs: jobs file.
        ledger: ledger.
        now: the schedule's time.
        cycles: number of cycles of each job; None for all.
    """
    statuses = [_job_status(job, ledger, now, cycles=cycles) for job in jobs.jobs]
    return JobsStatus(format_cycle(now), statuses, list(ledger.problems.values())[:_SHOWN_PROBLEMS])


def _job_status(job: Job, ledger: Ledger, now: datetime, *, cycles: int | None) -> JobStatus:
    records = ledger.records(job.name)
    done = [record for record in records if record.state is CycleState.DONE]
    ended = [record for record in records if record.state in (CycleState.DONE, CycleState.FAILED)]
    latest = parse_time(done[-1].cycle) if done else None
    shown = records if cycles is None else records[-cycles:]
    return JobStatus(
        job=job.name,
        next=format_cycle(job.next_due(now)),
        latest=None if latest is None else format_cycle(latest),
        latest_age_hours=None if latest is None else _hours(now, latest),
        output=clean(done[-1].output) if done else None,
        healthy=not ended or ended[-1].state is CycleState.DONE,
        counts={str(state): sum(record.state is state for record in records) for state in CycleState},
        cycles=[_cycle_status(record, ledger, now) for record in shown],
    )


def _cycle_status(record: CycleRecord, ledger: Ledger, now: datetime) -> CycleStatus:
    seconds = None
    if record.finished is not None and record.started is not None:
        seconds = round(record.finished - record.started, 2)
    return CycleStatus(
        cycle=clean(record.cycle),
        state=str(record.state),
        age_hours=_hours(now, parse_time(record.cycle)),
        attempts=record.attempts,
        interruptions=record.interruptions,
        seconds=seconds,
        error=clean(record.error),
        output=clean(record.output),
        checksum=clean(record.checksum),
        verified=record.verified is not None,
        scores=clean(ledger.scores(record)),
    )


def _hours(now: datetime, time: datetime) -> float:
    return round((now - time).total_seconds() / _SECONDS_PER_HOUR, 2)


def format_table(status: JobsStatus) -> str:
    """Return the status as lines of a table."""
    lines = [f"{'job':<16} {'cycle':<17} {'state':<10} {'age':>9} {'tries':>5}  next / reason"]
    for job in status.jobs:
        for cycle in job.cycles:
            lines.append(
                f"{job.job:<16} {cycle.cycle:<17} {cycle.state:<10} {cycle.age_hours:>7g} h "
                f"{cycle.tries:>5}  {cycle.error or ''}"
            )
        lines.append(f"{job.job:<16} {'':<17} {'next due':<10} {'':>9} {'':>5}  {job.next}")
    return "\n".join([*lines, *status.problems])
