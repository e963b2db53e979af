"""Outputs that are whole: checked, published under their name, pointed to by ``latest``, kept as long as the
job says.
"""

import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np

from ...datasets.store import atomic
from ..inference.forecaster import open_forecast
from .buckets import Bucket
from .files import locked
from .ledger import Ledger
from .manifests import is_pending
from .places import Folder, Foreign, Place
from .rows import TAKEN, Row
from .spec import Job, JobsFile, moment, written

TAG = 8  # letters of a claim's token that name its folder
VERIFYING = ".verifying-"
_SCRATCH = re.compile(rf"[0-9a-f]{{{TAG}}}|removed-[0-9a-f]{{16}}")
_STALE = 86400.0  # seconds after which what is left of a verification is nobody's


def place_of(jobs: JobsFile, job: Job) -> Place:
    """Return where a job's outputs lie."""
    return place_at(job, jobs.folder, jobs.folder / jobs.ledger.parent)


def place_at(job: Job, folder: Path, near: Path) -> Place:
    """Return where a job's outputs lie, by the folder of the jobs file, and one for what is not uploaded yet."""
    return Bucket(job.home, near) if "://" in job.home else Folder(folder / job.home)


def check(path: Path, leads: int) -> None:
    """Raise ``ValueError`` unless a forecast has all lead times, and values wherever its initial state has
    them.

    Args:
        path: forecast.
        leads: how many lead times it should have, the initial one included.
    """
    made = open_forecast(path)
    if made.sizes["prediction_timedelta"] != leads:
        raise ValueError(f"{path} has {made.sizes['prediction_timedelta']} lead times, {leads} are wanted")
    for name, variable in made.data_vars.items():
        missing = ~np.isfinite(variable.isel(prediction_timedelta=0).values)
        for k in range(leads):
            if (~np.isfinite(variable.isel(prediction_timedelta=k).values) & ~missing).any() or missing.all():
                raise ValueError(
                    f"{path}: {name!r} is not finite at lead {made['prediction_timedelta'].values[k].astype('timedelta64[h]')}"
                )


def sweep(jobs: JobsFile, ledger: Ledger) -> None:
    """Remove what schedulers that were killed left unfinished."""
    for job in jobs.jobs:
        work = place_of(jobs, job).work
        found = (
            list(work.iterdir()) if work.is_dir() else []
        )  # before the rows: whoever works now has entered it
        active = {(row.token or "")[:TAG] for row in ledger.rows(job.name, TAKEN) if not ledger.free(row)}
        for left in found:
            if left.name not in active and _SCRATCH.fullmatch(left.name):
                atomic.remove(left)
    for left in (jobs.folder / jobs.ledger.parent).glob(f"{VERIFYING}*"):
        if time.time() - left.stat().st_mtime > _STALE:
            atomic.remove(left)


def point_latest(jobs: JobsFile, job: Job, ledger: Ledger) -> None:
    """Let ``latest`` name the output of the latest cycle that is published."""
    with locked(ledger.path.with_name(f".{ledger.path.name}.latest")):  # or a slower one could set it back
        if done := ledger.rows(job.name, ("done",)):
            place_of(jobs, job).point(job.name_of(moment(done[-1].cycle)))


def retain(jobs: JobsFile, job: Job, ledger: Ledger, say: Callable[..., None]) -> None:
    """Remove the oldest outputs beyond ``keep``, never what ``latest`` points to, or what is still worked on;
    log a line for each.

    Only what was published, and was not changed since, is removed.
    """
    if job.keep is None:
        return
    place = place_of(jobs, job)
    latest = place.latest()
    for row in ledger.rows(job.name, ("removing",)):  # begun by one that was killed
        remove(place, job, ledger, row, say)
    done = ledger.rows(job.name, ("done",))
    for row in done[: max(0, len(done) - job.keep)]:
        if job.name_of(moment(row.cycle)) != latest and ledger.removing(job.name, row.cycle):
            remove(place, job, ledger, row, say)


def remove(place: Place, job: Job, ledger: Ledger, row: Row, say: Callable[..., None]) -> None:
    """Remove the output of a cycle, and enter that."""
    try:
        place.remove(job.name_of(moment(row.cycle)), row.checksum)
    except Foreign as error:
        ledger.removed(job.name, row.cycle, str(error))
        say(level="warning", message=f"kept {row.cycle}: {error}")
    else:
        ledger.removed(job.name, row.cycle)
        say(message=f"removed {row.cycle}, of which newer ones are kept")


def rebuild(jobs: JobsFile, ledger: Ledger, now: datetime) -> None:
    """Enter in an empty ledger what is published."""
    for job in jobs.jobs:
        place, found = place_of(jobs, job), []
        for name, said in place.manifests():
            try:
                cycle = moment(said["cycle"])
            except (ValueError, KeyError, OverflowError):
                continue
            if job.name_of(cycle) == name and (known := place.whole(name)):
                ledger.enter_done(
                    job.name,
                    written(cycle),
                    jobs.output(job, cycle),
                    known,
                    now,
                    followed=not is_pending(said),
                )
                found.append(cycle)
        if found:
            ledger.first_seen(job.name, min(found))
        if (
            job.keep and len(found) >= job.keep and job.start is not None
        ):  # what is older was removed, and is not to be made again
            for cycle in job.between(job.start, min(found)):
                ledger.enter_removed(job.name, written(cycle), now)
