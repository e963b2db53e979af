"""Paths of a jobs file that conflict: nothing written may be an input, or lie in one."""

import os
import re
import string
from collections.abc import Iterator
from datetime import datetime
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from .spec import Files, Job, JobsFile

_EXAMPLES = 10  # cycles of which the file names are compared
_DIRECTIVES = {
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


class _Location(NamedTuple):
    """A path that must not be written over, and its name in messages."""

    label: str
    path: Path
    is_input: bool = False


def refuse_collisions(jobs: JobsFile, path: Path) -> None:
    """Raise ``ValueError`` where the ledger, the status page or an output would replace or lie in an input.

    Args:
        jobs: content of the jobs file.
        path: the jobs file.
    """
    ledger = _real(jobs.ledger_path)
    status = _real(jobs.folder / jobs.status)
    jobs_file = _Location("the jobs file", _real(path))
    _refuse_same(
        f"ledger {jobs.ledger}", ledger, [jobs_file, _Location("the folder of the status page", status)]
    )
    _refuse_same(f"status {jobs.status}", status, [jobs_file, _Location("the ledger", ledger)])
    for job in jobs.jobs:
        inputs = list(_inputs(jobs, job))
        for label, target in ((f"ledger {jobs.ledger}", ledger), (f"status {jobs.status}", status)):
            for location in inputs:
                if target.is_relative_to(location.path):
                    relation = "is" if target == location.path else "lies in"
                    raise ValueError(
                        f"{path}: {label} {relation} {location.label} of job {job.name}; choose another path"
                    )
        if "://" not in job.output:
            own = [_Location("the ledger", ledger), _Location("the status page", status)]
            _refuse_output(jobs, job, path, locations=[*inputs, jobs_file, *own])


def _refuse_same(label: str, target: Path, others: list[_Location]) -> None:
    for other in others:
        if target == other.path:
            raise ValueError(f"{label} is {other.label}; choose another path")


def _inputs(jobs: JobsFile, job: Job) -> Iterator[_Location]:
    """Yield what a job reads from disk."""
    yield _Location("the checkpoint", _real(jobs.folder / job.checkpoint), is_input=True)
    for label, value in (("the source", job.source), ("the truth", job.truth)):
        if isinstance(value, str) and "://" not in value:
            yield _Location(label, _real(jobs.folder / value), is_input=True)


def _refuse_output(jobs: JobsFile, job: Job, path: Path, *, locations: list[_Location]) -> None:
    """Raise ``ValueError`` where outputs of a job could replace or share one of the locations or outputs."""
    root = _real(jobs.folder / job.output_root)
    pattern = re.compile(re.escape(f"{root}{os.sep}") + _name_pattern(job))
    for location in locations:
        inside = any(pattern.fullmatch(str(p)) for p in (location.path, *location.path.parents))
        if inside or (location.is_input and root.is_relative_to(location.path)):
            raise ValueError(
                f"{path}: job {job.name}: the outputs {job.output} would lie in or replace "
                f"{location.label}, {location.path}; choose another path"
            )
    for other in jobs.jobs:
        if other is not job and "://" not in other.output:
            _refuse_shared_root(
                job, other, path, roots=(root, _real(jobs.folder / other.output_root)), pattern=pattern
            )
    if isinstance(job.source, Files):
        _refuse_output_among_files(jobs, job, job.source, path=path)


def _refuse_shared_root(
    job: Job, other: Job, path: Path, *, roots: tuple[Path, Path], pattern: re.Pattern[str]
) -> None:
    root, other_root = roots
    if other_root == root:
        raise ValueError(
            f"{path}: jobs {job.name} and {other.name} write to one folder, {root}, "
            "and would share one `latest`; choose another path"
        )
    if any(pattern.fullmatch(str(p)) for p in (other_root, *other_root.parents)):
        raise ValueError(
            f"{path}: the outputs of job {other.name} would lie in one of job {job.name}; choose another path"
        )


def _refuse_output_among_files(jobs: JobsFile, job: Job, source: Files, *, path: Path) -> None:
    cycles = list(islice(job.cycles_between(datetime(2000, 1, 1), datetime(2100, 1, 1)), _EXAMPLES))
    for template in source.files:
        for cycle in cycles:
            output = jobs.output_path(job, cycle)
            file = str(jobs.folder / job.fill(template, cycle))
            if fnmatch(os.path.normpath(output), os.path.normpath(file)):
                raise ValueError(
                    f"{path}: job {job.name}: its outputs {job.output} are among its files {template}; "
                    "choose another path"
                )


def _name_pattern(job: Job) -> str:
    """Return a regular expression for the names of a job's outputs in its folder."""
    template = job.output.replace("{name}", job.name).removeprefix(job.output_root).lstrip("/")
    parts = []
    for text, field, form, _ in string.Formatter().parse(template):
        parts.append(re.escape(text))
        if field is not None:
            parts.append(re.sub(r"%(.)|([^%]+)", _form_pattern, form or ""))
    return "".join(parts)


def _form_pattern(match: re.Match[str]) -> str:
    return re.escape(match[2]) if match[2] else _DIRECTIVES.get(match[1], r"[^/]+")


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
