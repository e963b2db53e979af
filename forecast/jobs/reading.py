"""Reading a jobs file: what could not run is refused before anything does."""

import os
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from ...datasets.adapters.remote import check_url, connect
from ...datasets.schema import duration, nearest
from ..checkpoint.folder import described_meta, grid_from
from ..config.yaml_text import read_yaml
from ..device import pick_device
from ..inference.limits import check_clip
from ..inference.output_grid import output_grid
from ..inference.perturbations import Ensemble
from ..inference.rollout import parse_duration, parse_lead
from ..text import one_line
from .collisions import refuse_collisions
from .commands import check_command
from .files import kind_of
from .reports import refuse_foreign_pages
from .spec import Job, JobsFile, written

_LINE = 900  # characters of an error
_STEPS = 100_000  # of a forecast


def load_jobs(path: str | Path) -> JobsFile:
    """Read a jobs file and refuse what could not run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, a key that is unknown or given twice, a value that does not fit, also to the
            checkpoint, two jobs of one name or one folder, a missing checkpoint, source or variable of the
            environment.
    """
    try:
        return _load(Path(path))
    except ValueError as error:
        raise ValueError(one_line(str(error), _LINE)) from error


def _load(path: Path) -> JobsFile:
    values = _values(path)
    if not isinstance(values, dict) or not isinstance(values.get("jobs"), list):
        raise ValueError(f"{path} holds no list of jobs; see docs/operations.md")
    defaults = values.pop("defaults", None) or {}
    if not isinstance(defaults, dict):
        raise ValueError(
            f"{path}: defaults: should hold keys of a job and their values, got {str(defaults)[:80]!r}"
        )
    values["jobs"] = [{**defaults, **job} if isinstance(job, dict) else job for job in values["jobs"]]
    try:
        found = JobsFile.model_validate(values | {"folder": path.absolute().parent})
    except ValidationError as error:
        raise ValueError(f"{path}: {_said(error, values['jobs'])}") from error
    except (OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: a value is out of range ({error})") from error
    _refuse_clashes(found, path)
    try:
        refuse_collisions(found, path)
        refuse_foreign_pages(found.folder / found.status)
    except OSError as error:
        raise ValueError(f"{path}: {error}") from error
    for job in found.jobs:
        try:
            _refuse_missing(found, job)
            _refuse_outputs(found, job)
            _refuse_what_the_model_lacks(job, described_meta(found.folder / job.checkpoint))
            for command in (job.prepare, job.on_success, job.on_failure):
                if command is not None:
                    check_command(command, job)
        except (ValueError, OSError, OverflowError) as error:
            raise ValueError(f"{path}: job {job.name}: {error}") from error
    return found


def _values(path: Path) -> Any:
    """Return what a YAML file holds, read within bounds."""
    if (kind := kind_of(Path(os.path.realpath(path)))) is None:
        raise FileNotFoundError(f"{path} does not exist; write a jobs file, see docs/operations.md")
    if kind != "a file":
        raise ValueError(f"{path} is {kind}, not a jobs file; see docs/operations.md")
    values = read_yaml(path)
    if _holds_zero(values):
        raise ValueError(f"{path} holds a character of value zero, which is in no path and no command")
    return values


def _holds_zero(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_zero(one) for pair in value.items() for one in pair)
    return (
        any(_holds_zero(one) for one in value)
        if isinstance(value, list)
        else isinstance(value, str) and "\0" in value
    )


def _said(error: ValidationError, jobs: list[Any]) -> str:
    """Return the first error in words."""
    first = error.errors()[0]
    at = [str(part) for part in first["loc"] if part not in ("str", "Files")]
    if at[:1] == ["jobs"] and len(at) > 1 and isinstance(jobs[int(at[1])], dict):
        at[:2] = [f"job {jobs[int(at[1])].get('name', at[1])}"]
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        known = [
            name for name in (Job if at[0].startswith("job ") else JobsFile).model_fields if name != "folder"
        ]
        said = f"unknown key; {nearest(at[-1], known)}"
    return (
        f"{': '.join(at)}: {said}{'' if first['type'] == 'missing' else ', got ' + repr(first['input'])[:80]}"
    )


def _refuse_clashes(found: JobsFile, path: Path) -> None:
    names = [job.name for job in found.jobs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{path}: two jobs are called {twice[0]!r}; give each a name of its own")
    homes = [job.home for job in found.jobs]
    if shared := [home for home in homes if homes.count(home) > 1]:
        raise ValueError(
            f"{path}: two jobs write to {shared[0]}, and would share one `latest`; put {{name}} into the output"
        )
    if (found.engine == "dask") != ((found.scheduler is None) + (found.cluster is None) == 1):
        raise ValueError(
            f"{path}: engine dask, and no other, needs either a scheduler, as in tcp://host:8786 or local:4, or a cluster"
        )


def _refuse_missing(found: JobsFile, job: Job) -> None:
    if not (found.folder / job.checkpoint / "meta.json").is_file():
        raise ValueError(f"there is no checkpoint {job.checkpoint}; train one with `forecast train`")
    if found.engine == "local":
        pick_device(job.device)
    if isinstance(job.source, str):
        if "://" in job.source:
            check_url(job.source)
        elif job.prepare is None and not (found.folder / job.source).exists():
            raise ValueError(
                f"there is no source {job.source}; check the path, or give a prepare command that fetches it"
            )
    if job.truth is not None and "://" in job.truth:
        raise ValueError(
            f"truth {job.truth} is a URL, but is to be a store on disk, made by `forecast ingest`"
        )
    if job.truth is not None and (job.grid is not None or job.area is not None):
        raise ValueError(
            "truth scores the model's own points; leave out grid and area, or verify by another job"
        )
    if job.report and job.truth is None:
        raise ValueError("a report needs truth to score with; name a store, or leave out report")


def _refuse_outputs(found: JobsFile, job: Job) -> None:
    if "://" in job.output:
        check_url(job.output)
        if not job.output.startswith(("s3://", "gs://")):
            raise ValueError(f"output {job.output} cannot be written to; use a path, s3:// or gs://")
        connect(job.home)
    elif not (found.folder / job.output).is_relative_to(found.folder):
        raise ValueError(f"output {job.output} leads out of the folder of the jobs file")
    if any(len(part.encode()) > 200 for part in job.fill(job.output, datetime(2000, 12, 31)).split("/")):
        raise ValueError(f"output {job.output[:40]}... has a name that is longer than 200 bytes")
    known: dict[str, datetime] = {}
    # Some cycles of each month of two years tell whether a part of the time is left out of the name.
    starts = [datetime(year, month, 1) for year in (2000, 2001) for month in range(1, 13)]
    for time in [t for start in starts for t in islice(job.between(start, datetime(2100, 1, 1)), 80)]:
        if (other := known.setdefault(job.name_of(time), time)) != time:
            raise ValueError(
                f"{written(other)} and {written(time)} would be one output; put more of {{cycle}} into it"
            )


def _refuse_what_the_model_lacks(job: Job, meta: dict[str, Any]) -> None:
    if "channels" not in meta:
        raise ValueError(f"the checkpoint {job.checkpoint} holds no forecast model, but a {meta.get('kind')}")
    step = duration(meta["step_seconds"])
    if parse_lead(job.lead, step) > _STEPS:
        raise ValueError(f"lead {job.lead} is more than {_STEPS} steps of the model")
    levels: dict[str, list[int | None]] = {}
    for channel in meta["channels"]:
        levels.setdefault(channel["variable"], []).append(channel["level"])
    kept = job.variables or list(levels)
    for name in kept:
        if name not in levels:
            raise ValueError(f"variables: the model has no {name!r}; {nearest(name, levels)}")
    Ensemble.of(job.members, job.seed, job.amplitude)
    check_clip(job.clip or {}, list(levels))
    output_grid(grid_from(meta), (meta["dtypes"][0], meta["dtypes"][1]), job.grid, job.area)
    for picture in job.plots or ():
        if picture.variable not in kept:
            raise ValueError(
                f"plots: the forecast has no {picture.variable!r}; {nearest(picture.variable, kept)}"
            )
        if picture.level not in (held := levels[picture.variable]):
            raise ValueError(
                f"plots: {picture.variable} has {'no levels' if held == [None] else f'the levels {held}'}, got level {picture.level}"
            )
        if parse_duration(picture.lead) > parse_duration(job.lead) or parse_duration(
            picture.lead
        ) % step != np.timedelta64(0):
            hours = step / np.timedelta64(1, "h")
            raise ValueError(
                f"plots: lead {picture.lead} is none of the forecast's, which go to {job.lead} in steps of {hours:g} h"
            )
