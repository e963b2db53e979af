"""Paths of a jobs file that are in each other's way: what is written must be none of what is read, nor lie in
it.
"""

import os
import re
import string
from collections.abc import Iterator
from datetime import datetime
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

from .spec import Files, Job, JobsFile

_DIGITS = {
    "Y": r"\d{4}",
    "m": r"\d\d",
    "d": r"\d\d",
    "H": r"\d\d",
    "M": r"\d\d",
    "S": r"\d\d",
    "y": r"\d\d",
    "j": r"\d{3}",
    "%": "%",
}


def refuse_collisions(jobs: JobsFile, path: Path) -> None:
    """Raise ``ValueError`` where the ledger, the status page or an output would be written over an input, or
    into one.

    Args:
        jobs: what the file says.
        path: the jobs file.
    """
    ledger, status = _real(jobs.folder / jobs.ledger), _real(jobs.folder / jobs.status)
    itself = _real(path)
    _refuse_at(
        "ledger", jobs.ledger, ledger, [("the jobs file", itself), ("the folder of the status page", status)]
    )
    _refuse_at("status", jobs.status, status, [("the jobs file", itself), ("the ledger", ledger)])
    for job in jobs.jobs:
        inputs = list(_inputs(jobs, job))
        for what, where, target in (("ledger", jobs.ledger, ledger), ("status", jobs.status, status)):
            for name, place in inputs:
                if target.is_relative_to(place):
                    raise ValueError(
                        f"{path}: {what} {where} {'is' if target == place else 'lies in'} {name} of job {job.name}; choose another path"
                    )
        if "://" not in job.output:
            _refuse_output(
                jobs,
                job,
                path,
                [*inputs, ("the jobs file", itself), ("the ledger", ledger), ("the status page", status)],
            )


def _refuse_at(what: str, where: Path, target: Path, others: list[tuple[str, Path]]) -> None:
    for name, place in others:
        if target == place:
            raise ValueError(f"{what} {where} is {name}; choose another path")


def _inputs(jobs: JobsFile, job: Job) -> Iterator[tuple[str, Path]]:
    """Yield what a job reads from disk, by its key."""
    yield "the checkpoint", _real(jobs.folder / job.checkpoint)
    for name, value in (("the source", job.source), ("the truth", job.truth)):
        if isinstance(value, str) and "://" not in value:
            yield name, _real(jobs.folder / value)


def _refuse_output(jobs: JobsFile, job: Job, path: Path, others: list[tuple[str, Path]]) -> None:
    home = _real(jobs.folder / job.home)
    pattern = re.compile(re.escape(f"{home}{os.sep}") + _pattern(job))
    for name, place in others:
        inside = any(pattern.fullmatch(str(at)) for at in (place, *place.parents))
        if inside or (name in ("the checkpoint", "the source", "the truth") and home.is_relative_to(place)):
            raise ValueError(
                f"{path}: job {job.name}: the outputs {job.output} would lie in or replace {name}, {place}; choose another path"
            )
    for other in jobs.jobs:
        if other is not job and "://" not in other.output:
            at = _real(jobs.folder / other.home)
            if at == home:
                raise ValueError(
                    f"{path}: jobs {job.name} and {other.name} write to one folder, {home}, and would share one `latest`; choose another path"
                )
            if any(pattern.fullmatch(str(above)) for above in (at, *at.parents)):
                raise ValueError(
                    f"{path}: the outputs of job {other.name} would lie in one of job {job.name}; choose another path"
                )
    if isinstance(job.source, Files):
        cycles = list(islice(job.between(datetime(2000, 1, 1), datetime(2100, 1, 1)), 10))
        for given in job.source.files:
            for cycle in cycles:
                made, read = jobs.output(job, cycle), str(jobs.folder / job.fill(given, cycle))
                if fnmatch(os.path.normpath(made), os.path.normpath(read)):
                    raise ValueError(
                        f"{path}: job {job.name}: its outputs {job.output} are among its files {given}; choose another path"
                    )


def _pattern(job: Job) -> str:
    """Return a regular expression of the names of a job's outputs in its folder."""
    name = job.output.replace("{name}", job.name).removeprefix(job.home).lstrip("/")
    parts = []
    for text, field, form, _ in string.Formatter().parse(name):
        parts.append(re.escape(text))
        if field is not None:
            parts.append(
                re.sub(
                    r"%(.)|([^%]+)",
                    lambda m: re.escape(m[2]) if m[2] else _DIGITS.get(m[1], r"[^/]+"),
                    form or "",
                )
            )
    return "".join(parts)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
