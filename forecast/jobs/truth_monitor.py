"""Selection of the published cycles that can be verified: those whose valid times are all in the truth."""

import time
from datetime import datetime

from ...datasets.durations import parse_duration
from .ledger import Ledger
from .log import Log
from .records import CycleRecord
from .spec import Job, JobsFile
from .states import CycleState
from .times import parse_time


class TruthMonitor:
    """Record of the last time of each job's truth, which is read again every ``poll``.

    Args:
        log: receives a line, once, for a truth that cannot be read.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._ends: dict[str, datetime | None] = {}
        self._warnings: dict[str, str] = {}
        self._tried: dict[tuple[str, str], datetime] = {}
        self._last_read: dict[str, float] = {}

    def verifiable(self, jobs: JobsFile, ledger: Ledger) -> list[tuple[Job, CycleRecord]]:
        """Return the published cycles to verify; each once until its truth grows."""
        unverified = {
            job.name: [r for r in ledger.records(job.name, [CycleState.DONE]) if r.verified is None]
            for job in jobs.jobs
            if job.truth is not None
        }
        cycles = []
        for job in jobs.jobs:
            # A truth is read only where a cycle waits for it, since that loads xarray.
            if job.truth is None or not unverified[job.name]:
                continue
            end = self._end(jobs, job.truth)
            if end is None:
                continue
            for record in unverified[job.name]:
                last = parse_time(record.cycle) + parse_duration(job.lead)
                if last <= end and self._tried.get((record.job, record.cycle)) != end:
                    cycles.append((job, record))
        return cycles

    def record_tried(self, job: Job, record: CycleRecord) -> None:
        """Record that a cycle is verified with the present truth."""
        if job.truth is not None and (end := self._ends.get(job.truth)) is not None:
            self._tried[record.job, record.cycle] = end

    def _end(self, jobs: JobsFile, truth: str) -> datetime | None:
        """Return the last time of a truth, at most ``poll`` old."""
        now = time.monotonic()
        if now - self._last_read.get(truth, float("-inf")) > jobs.poll.total_seconds():
            self._last_read[truth] = now
            self._ends[truth] = self._read_end(jobs, truth)
        return self._ends[truth]

    def _read_end(self, jobs: JobsFile, truth: str) -> datetime | None:
        """Return the last time of a truth, or None where it cannot be read."""
        from ...datasets.store.open import open_store

        try:
            last = open_store(jobs.folder / truth).dataset["time"].values[-1]
            return last.astype("datetime64[us]").item()  # type: ignore[no-any-return]
        except FileNotFoundError:
            warning = f"there is no truth {truth} yet; cycles are verified once there is"
        except (ValueError, OSError) as error:
            warning = f"the truth {truth} cannot be read: {' '.join(str(error).split())}"
        if self._warnings.get(truth) != warning:
            self._warnings[truth] = warning
            self._log.write(level="warning", message=warning)
        return None
