"""Which published cycles can be verified: those whose valid times the truth has come to hold."""

import time

import numpy as np

from ...datasets.store.open import open_store
from ..inference.rollout import parse_duration
from .ledger import Ledger
from .log import Log
from .rows import Row
from .spec import Job, JobsFile, moment


class Truths:
    """How far the truth of each job has come, looked at anew every ``poll``.

    Args:
        log: where a truth that cannot be read is said so, once.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._ends: dict[str, np.datetime64 | None] = {}
        self._said: dict[str, str] = {}
        self._tried: dict[tuple[str, str], np.datetime64] = {}
        self._looked = float("-inf")

    def ready(self, jobs: JobsFile, ledger: Ledger) -> list[tuple[Job, Row]]:
        """Return the published cycles that can be verified and were not yet; each once until its truth grows."""
        if time.monotonic() - self._looked > jobs.poll.total_seconds():
            self._looked = time.monotonic()
            self._ends = {job.truth: self._end(jobs, job.truth) for job in jobs.jobs if job.truth is not None}
        found = []
        for job in jobs.jobs:
            end = None if job.truth is None else self._ends.get(job.truth)
            if end is None:
                continue
            for row in ledger.rows(job.name, ("done",)):
                last = np.datetime64(moment(row.cycle)) + parse_duration(job.lead)
                if row.verified is None and last <= end and self._tried.get((row.job, row.cycle)) != end:
                    found.append((job, row))
        return found

    def begin(self, job: Job, row: Row) -> None:
        """Note that a cycle is verified with the truth as it is."""
        if job.truth is not None and (end := self._ends.get(job.truth)) is not None:
            self._tried[row.job, row.cycle] = end

    def _end(self, jobs: JobsFile, truth: str) -> np.datetime64 | None:
        try:
            return np.datetime64(open_store(jobs.folder / truth).dataset["time"].values[-1])
        except FileNotFoundError:
            said = f"there is no truth {truth} yet; cycles are verified once there is"
        except (ValueError, OSError) as error:
            said = f"the truth {truth} cannot be read: {' '.join(str(error).split())}"
        if self._said.get(truth) != said:
            self._said[truth] = said
            self._log.write(level="warning", message=said)
        return None
