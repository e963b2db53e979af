"""Loading of a jobs file: a job that could not run is refused before any job does.

Checks that need the models or the network import heavy libraries, and are therefore in ``model_checks``.
"""

import os
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...datasets.suggestions import suggest
from ...datasets.validation import first_problem
from ..config.yaml_text import read_yaml
from ..text import one_line
from .collisions import refuse_collisions
from .commands import check_command
from .files import FileKind, kind_of
from .page_files import refuse_foreign_pages
from .spec import Job, JobsFile
from .times import format_cycle

_LONGEST_ERROR = 900  # characters
_LONGEST_NAME = 200  # bytes of a part of a path


def load_jobs(path: str | Path, *, check_models: bool = True) -> JobsFile:
    """Read a jobs file and refuse jobs that could not run.

    Args:
        path: jobs file.
        check_models: whether to check the jobs against their checkpoints, devices and remote stores too, see
            ``check_jobs``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not YAML; a key is unknown or appears twice; a value is invalid, also for
            the checkpoint; two jobs have one name or folder; or a checkpoint, source or environment
            variable is missing.
    """
    try:
        jobs = _load(Path(path))
        if check_models:
            check_jobs(jobs, path)
        return jobs
    except ValueError as error:
        raise ValueError(one_line(str(error), _LONGEST_ERROR)) from error


def check_jobs(jobs: JobsFile, path: str | Path) -> None:
    """Check all jobs against their checkpoints, devices and remote stores, and the names of their outputs.

    Args:
        jobs: content of a jobs file.
        path: the jobs file, for messages.

    Raises:
        ValueError: a job that could not run.
    """
    from ...fno.references import trusting
    from .model_checks import check_device, check_model, check_urls

    for job in jobs.jobs:
        try:
            _refuse_shared_names(job)
            if jobs.engine == "local":
                check_device(job)
            check_urls(job)
            with trusting(*(jobs.folder / folder for folder in job.trust)):
                check_model(job, jobs.folder / job.checkpoint)
        except (ValueError, OSError, OverflowError) as error:
            raise ValueError(one_line(f"{path}: job {job.name}: {error}", _LONGEST_ERROR)) from error


def _load(path: Path) -> JobsFile:
    jobs = _parse(path)
    _refuse_clashes(jobs, path)
    try:
        refuse_collisions(jobs, path)
        refuse_foreign_pages(jobs.folder / jobs.status)
    except OSError as error:
        raise ValueError(f"{path}: {error}") from error
    for job in jobs.jobs:
        try:
            _refuse_missing(jobs, job)
            _refuse_outputs(jobs, job)
            for command in (job.prepare, job.on_success, job.on_failure):
                if command is not None:
                    check_command(command, job)
        except (ValueError, OSError, OverflowError) as error:
            raise ValueError(f"{path}: job {job.name}: {error}") from error
    return jobs


def _parse(path: Path) -> JobsFile:
    values = _read_values(path)
    if not isinstance(values, dict) or not isinstance(values.get("jobs"), list):
        raise ValueError(f"{path} contains no list of jobs; see docs/operations.md")
    defaults = values.pop("defaults", None) or {}
    if not isinstance(defaults, dict):
        raise ValueError(
            f"{path}: defaults: should contain keys of a job and their values, got {str(defaults)[:80]!r}"
        )
    values["jobs"] = [{**defaults, **job} if isinstance(job, dict) else job for job in values["jobs"]]
    try:
        return JobsFile.model_validate(values | {"folder": path.absolute().parent})
    except ValidationError as error:
        raise ValueError(f"{path}: {_describe_first(error, values['jobs'])}") from error
    except (OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: a value is out of range ({error})") from error


def _read_values(path: Path) -> Any:
    """Return the content of a YAML file, within bounds of size and depth."""
    if (kind := kind_of(Path(os.path.realpath(path)))) is None:
        raise FileNotFoundError(f"{path} does not exist; write a jobs file, see docs/operations.md")
    if kind is not FileKind.FILE:
        raise ValueError(f"{path} is {kind}, not a jobs file; see docs/operations.md")
    values = read_yaml(path)
    if _contains_null(values):
        raise ValueError(f"{path} contains a null character, which no path or command can contain")
    return values


def _contains_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_contains_null(inner) for item in value.items() for inner in item)
    if isinstance(value, list):
        return any(_contains_null(inner) for inner in value)
    return isinstance(value, str) and "\0" in value


def _describe_first(error: ValidationError, jobs: list[Any]) -> str:
    """Return the first error of a validation in words."""
    problem = first_problem(error, tags=("str", "Files"))
    location = list(problem.location)
    if location[:1] == ["jobs"] and len(location) > 1 and isinstance(jobs[int(location[1])], dict):
        location[:2] = [f"job {jobs[int(location[1])].get('name', location[1])}"]
    message = problem.message
    if problem.kind == "extra_forbidden":
        model = Job if location[0].startswith("job ") else JobsFile
        message = (
            f"unknown key; {suggest(location[-1], [key for key in model.model_fields if key != 'folder'])}"
        )
    value = "" if problem.kind == "missing" else f", got {repr(problem.value)[:80]}"
    return f"{': '.join(location)}: {message}{value}"


def _refuse_clashes(jobs: JobsFile, path: Path) -> None:
    """Refuse jobs with one name or one folder, and keys that contradict each other."""
    names = [job.name for job in jobs.jobs]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{path}: two jobs are called {repeated[0]!r}; give each a name of its own")
    roots = [job.output_root for job in jobs.jobs]
    if shared := [root for root in roots if roots.count(root) > 1]:
        raise ValueError(
            f"{path}: two jobs write to {shared[0]}, and would share one `latest`; "
            "put {name} into the output"
        )
    if (jobs.engine == "dask") != ((jobs.scheduler is None) + (jobs.cluster is None) == 1):
        raise ValueError(
            f"{path}: engine dask, and no other, needs either a scheduler, "
            "as in tcp://host:8786 or local:4, or a cluster"
        )


def _refuse_missing(jobs: JobsFile, job: Job) -> None:
    """Refuse a missing checkpoint or source, and a truth that cannot be used."""
    if not (jobs.folder / job.checkpoint / "meta.json").is_file():
        raise ValueError(f"there is no checkpoint {job.checkpoint}; train one with `forecast train`")
    if (
        isinstance(job.source, str)
        and "://" not in job.source
        and job.prepare is None
        and not (jobs.folder / job.source).exists()
    ):
        raise ValueError(
            f"there is no source {job.source}; check the path, or add a prepare command that fetches it"
        )
    if job.truth is not None and "://" in job.truth:
        raise ValueError(
            f"truth {job.truth} is a URL, but must be a store on disk, written by `forecast ingest`"
        )
    if job.truth is not None and (job.grid is not None or job.area is not None):
        raise ValueError(
            "truth is compared at the model's own points; leave out grid and area, or verify in another job"
        )
    if job.report and job.truth is None:
        raise ValueError("a report needs truth to compare with; name a store, or leave out report")


def _refuse_outputs(jobs: JobsFile, job: Job) -> None:
    """Refuse outputs that cannot be written."""
    if "://" in job.output:
        if not job.output.startswith(("s3://", "gs://")):
            from ...datasets.adapters.remote import check_url

            check_url(job.output)  # its message repeats no password
            raise ValueError(f"output {job.output} cannot be written to; use a path, s3:// or gs://")
    elif not (jobs.folder / job.output).is_relative_to(jobs.folder):
        raise ValueError(f"output {job.output} leads out of the folder of the jobs file")
    example = job.fill(job.output, datetime(2000, 12, 31))
    if any(len(part.encode()) > _LONGEST_NAME for part in example.split("/")):
        raise ValueError(f"output {job.output[:40]}... has a name longer than {_LONGEST_NAME} bytes")


def _refuse_shared_names(job: Job) -> None:
    """Refuse a template that gives several cycles one output."""
    times: dict[str, datetime] = {}
    # Cycles of each month of two years show whether the name leaves out a part of the time.
    starts = [datetime(year, month, 1) for year in (2000, 2001) for month in range(1, 13)]
    for start in starts:
        for time in islice(job.cycles_between(start, datetime(2100, 1, 1)), 80):
            if (other := times.setdefault(job.output_name(time), time)) != time:
                raise ValueError(
                    f"{format_cycle(other)} and {format_cycle(time)} would be one output; "
                    "put more of {cycle} into it"
                )
