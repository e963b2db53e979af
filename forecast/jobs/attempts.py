"""An attempt as it is sent to a worker, and how one can end without a result."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from .spec import Job
from .states import StopReason


class Work(StrEnum):
    """What an attempt does."""

    FORECAST = "make"
    VERIFICATION = "verify"


@dataclass(frozen=True)
class Attempt:
    """An attempt to make or verify the forecast of a cycle.

    Attributes:
        job: the job.
        cycle: initial time.
        folder: folder that the job's paths are relative to.
        scratch: folder to work in.
        work: make the forecast, or verify the published one.
    """

    job: Job
    cycle: datetime
    folder: Path
    scratch: Path
    work: Work = Work.FORECAST


class WorkerKilledError(Exception):
    """The attempt was killed from outside, which does not count as a failure."""


class AttemptStoppedError(Exception):
    """The attempt was stopped on request.

    Attributes:
        reason: reason of the request.
    """

    def __init__(self, reason: StopReason) -> None:
        super().__init__(str(reason))
        self.reason = reason
