"""Upkeep of published outputs: the pointer ``latest``, retention, and rebuilding of a lost ledger."""

import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ...datasets.store import atomic
from .files import locked
from .ledger import Ledger
from .output_store import ForeignFileError, LocalStore, OutputStore
from .records import CycleRecord
from .spec import Job, JobsFile
from .states import CLAIMED_STATES, CycleState
from .times import format_cycle, parse_time

VERIFYING = ".verifying-"
"""Start of the names of folders in which forecasts are verified."""
_TOKEN_DIGITS = 8  # of the token of a claim, in the name of its folder
_SCRATCH = re.compile(rf"[0-9a-f]{{{_TOKEN_DIGITS}}}|removed-[0-9a-f]{{16}}")
_STALE = 86400.0  # s after which the folder of a verification is abandoned


def output_store(jobs: JobsFile, job: Job) -> OutputStore:
    """Return the store of a job's outputs."""
    return output_store_at(job, jobs.folder, local=jobs.state_folder)


def output_store_at(job: Job, folder: Path, *, local: Path) -> OutputStore:
    """Return the store of a job's outputs.

    Args:
        job: the job.
        folder: folder of the jobs file.
        local: folder for outputs that are not uploaded yet.
    """
    if "://" in job.output_root:
        from .object_store import ObjectStore  # imports zarr and xarray

        return ObjectStore(job.output_root, local)
    return LocalStore(folder / job.output_root)


def scratch_name(token: str | None) -> str:
    """Return the name of the folder in which the owner of a claim works."""
    return (token or "")[:_TOKEN_DIGITS]


def sweep(jobs: JobsFile, ledger: Ledger) -> None:
    """Remove the unfinished work of schedulers that were killed."""
    for job in jobs.jobs:
        work = output_store(jobs, job).work
        # Listed before the ledger is read: an active process has recorded its claim by then.
        folders = list(work.iterdir()) if work.is_dir() else []
        claimed = ledger.records(job.name, CLAIMED_STATES)
        active = {scratch_name(record.token) for record in claimed if not ledger.is_claimable(record)}
        for folder in folders:
            if folder.name not in active and _SCRATCH.fullmatch(folder.name):
                atomic.remove(folder)
    for folder in jobs.state_folder.glob(f"{VERIFYING}*"):
        if time.time() - folder.stat().st_mtime > _STALE:
            atomic.remove(folder)


def set_latest(jobs: JobsFile, job: Job, ledger: Ledger) -> None:
    """Point ``latest`` to the output of the latest published cycle."""
    lock = ledger.path.with_name(f".{ledger.path.name}.latest")
    with locked(lock):  # a slower process must not set it back
        if done := ledger.records(job.name, [CycleState.DONE]):
            output_store(jobs, job).set_latest(job.output_name(parse_time(done[-1].cycle)))


def apply_retention(jobs: JobsFile, job: Job, ledger: Ledger, *, log: Callable[..., None]) -> None:
    """Remove the oldest outputs beyond ``keep``, except the one that ``latest`` points to.

    Only an output that is still what was published is removed, and none whose cycle is claimed.

    Args:
        jobs: jobs file.
        job: job whose outputs to remove.
        ledger: ledger.
        log: receives the fields of a log line for each removed output.
    """
    if job.keep is None:
        return
    store = output_store(jobs, job)
    latest = store.latest()
    for record in ledger.records(job.name, [CycleState.REMOVING]):  # by a process that was killed
        _remove(store, job, ledger, record=record, log=log)
    done = ledger.records(job.name, [CycleState.DONE])
    for record in done[: max(0, len(done) - job.keep)]:
        if job.output_name(parse_time(record.cycle)) == latest:
            continue
        if ledger.begin_removal(job.name, record.cycle):
            _remove(store, job, ledger, record=record, log=log)


def _remove(
    store: OutputStore, job: Job, ledger: Ledger, *, record: CycleRecord, log: Callable[..., None]
) -> None:
    """Remove the output of a cycle and record that."""
    try:
        store.remove(job.output_name(parse_time(record.cycle)), record.checksum)
    except ForeignFileError as error:
        ledger.record_removed(job.name, record.cycle, str(error))
        log(level="warning", message=f"kept {record.cycle}: {error}")
    else:
        ledger.record_removed(job.name, record.cycle)
        log(message=f"removed {record.cycle}, since newer cycles are kept")


def rebuild(jobs: JobsFile, ledger: Ledger, now: datetime) -> None:
    """Enter what is published in an empty ledger."""
    for job in jobs.jobs:
        store = output_store(jobs, job)
        cycles = []
        for name, manifest in store.manifests():
            try:
                cycle = parse_time(manifest.cycle)
            except (ValueError, OverflowError):
                continue
            if job.output_name(cycle) == name and (checksum := store.verify_checksum(name)):
                ledger.enter_done(
                    job.name,
                    format_cycle(cycle),
                    now,
                    output=jobs.output_path(job, cycle),
                    checksum=checksum,
                    followed_up=not manifest.hook_pending,
                )
                cycles.append(cycle)
        if cycles:
            ledger.first_seen(job.name, min(cycles))
        if job.keep and len(cycles) >= job.keep and job.start is not None:
            # Older cycles were removed by retention, and must not be run again.
            for cycle in job.cycles_between(job.start, min(cycles)):
                ledger.enter_removed(job.name, format_cycle(cycle), now)
