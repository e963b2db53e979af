"""Outputs that are whole: checked, with a checksum, under their name in one step; ``latest`` and what is kept."""

import fcntl
import hashlib
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets import atomic
from ..api import open_forecast
from .ledger import Ledger
from .spec import Job, JobsFile, moment, written

LATEST = "latest"


def check(path: Path, leads: int) -> None:
    """Raise ``ValueError`` unless a forecast has all lead times, and values wherever its initial state has them.

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
                raise ValueError(f"{path}: {name!r} is not finite at lead {made['prediction_timedelta'].values[k].astype('timedelta64[h]')}")


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of a folder's files."""
    if path.is_file():
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(f"{file.relative_to(path).as_posix()}\0{checksum(file)}\n".encode())
    return total.hexdigest()


def manifest_path(output: Path) -> Path:
    """Return the file beside an output that says what it is."""
    return output.with_name(f"{output.name}.json")


def is_published(output: Path, expected: str | None = None) -> str | None:
    """Return the checksum of an output that is whole, and the expected one where one is; else None."""
    try:
        said = str(json.loads(manifest_path(output).read_text())["checksum"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return said if output.exists() and expected in (None, said) and checksum(output) == said else None


def publish(made: Path, output: Path, manifest: dict[str, Any]) -> None:
    """Put a checked forecast under its final name; its manifest comes first, so that no forecast is ever without one."""
    output.parent.mkdir(parents=True, exist_ok=True)
    _write(manifest_path(output), json.dumps(manifest, indent=1))
    if output.exists():  # what stands there is no published forecast of this ledger: keep it, out of the way
        aside = output.with_name(f".{output.name}.replaced")
        atomic.remove(aside)
        os.rename(output, aside)
    os.rename(made, output)
    _sync(output.parent)


def point_latest(jobs: JobsFile, job: Job, ledger: Ledger) -> None:
    """Let the pointer ``latest`` name the output of the latest cycle that is published."""
    folder = jobs.folder / job.home
    if not folder.is_dir():
        return
    with open(folder / f".{LATEST}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = ledger.rows(job.name, ("done",))
        if not done:
            return
        target, link, temporary = os.path.relpath(jobs.output(job, moment(done[-1].cycle)), folder), folder / LATEST, folder / f".{LATEST}"
        if not link.is_symlink() or os.readlink(link) != target:
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target)
            os.replace(temporary, link)


def retain(jobs: JobsFile, job: Job, ledger: Ledger) -> list[str]:
    """Remove the oldest outputs beyond ``keep``, never what ``latest`` points to; return their cycles."""
    if job.keep is None:
        return []
    done, latest = ledger.rows(job.name, ("done",)), (jobs.folder / job.home / LATEST).resolve()
    gone = []
    for row in done[: max(0, len(done) - job.keep)]:
        output = jobs.output(job, moment(row.cycle))
        if output.resolve() == latest:
            continue
        ledger.removed(job.name, row.cycle)
        for path in (*beside(output), output, manifest_path(output)):
            atomic.remove(path)
        gone.append(row.cycle)
    return gone


def beside(output: Path) -> list[Path]:
    """Return the pictures and scores that lie beside an output."""
    return sorted(p for p in output.parent.glob(f"{output.stem}.*") if p.suffix in (".png", ".nc") and p != output)


def rebuild(jobs: JobsFile, ledger: Ledger, now: datetime) -> None:
    """Enter in an empty ledger what is published."""
    for job in jobs.jobs:
        folder = jobs.folder / job.home
        found = []
        for manifest in folder.rglob("*.json") if folder.is_dir() else ():
            try:
                said = json.loads(manifest.read_text())
                cycle = moment(said["cycle"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            output = jobs.output(job, cycle)
            if manifest_path(output) == manifest and (known := is_published(output)):
                ledger.enter_done(job.name, written(cycle), str(output), known, now)
                found.append(cycle)
        if found:
            ledger.first_seen(job.name, min(found))


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
