"""The jobs file: what to forecast, when, from what, and where to."""

import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BeforeValidator, Field

from ...datasets.schema import nearest
from ..config.sections import Strict
from ..inference.rollout import parse_duration

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_MINUTE = "%Y-%m-%dT%H:%M"
_FIRST, _LAST = 1700, 2200
"""Years between which times lie; those of a forecast's coordinates, in nanoseconds, reach little further."""
_LONGEST = timedelta(days=36525)


def _span(value: Any) -> timedelta:
    try:
        span = timedelta(seconds=float(parse_duration(str(value)) / np.timedelta64(1, "s")))
    except OverflowError:
        span = timedelta.max
    if span > _LONGEST:
        raise ValueError("should be 100 years at most")
    return span


def _second(span: timedelta) -> timedelta:
    if span < timedelta(seconds=1):
        raise ValueError("should be 1 s at least")
    return span


def _lead(text: str) -> str:
    _span(text)
    return text


def _cron(text: str) -> str:
    try:
        if len(text.split()) != 5:  # a sixth would be of seconds
            raise CronSimError("Wrong number of fields")
        if next(CronSim(text, datetime(2000, 1, 1)), None) is None:
            raise CronSimError("no such day ever comes")
    except CronSimError as error:
        raise ValueError(
            f"is no cron expression ({error}); write minute hour day month weekday, e.g. '0 */6 * * *'"
        ) from error
    return text


def _template(text: str) -> str:
    """Refuse a template whose names are not known, or which could lead out of its folder."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"is no template ({error})") from error
    if wrong := [name for _, name, _, _ in parts if name is not None and name not in ("name", "cycle")]:
        raise ValueError(
            f"names {{{wrong[0]}}}, but there are {{name}} and {{cycle}}, e.g. {{cycle:%Y%m%dT%H}}"
        )
    if any(name == "name" and (form or conversion) for _, name, form, conversion in parts):
        raise ValueError("has a form for {name}, which is written as it is")
    if any(
        name == "cycle" and (not spec or "/" in spec or "." in spec or conversion)
        for _, name, spec, conversion in parts
    ):
        raise ValueError("needs a form for {cycle}, such as {cycle:%Y%m%dT%H}, without slashes or dots")
    if ".." in Path(text).parts:
        raise ValueError("holds '..', which could lead out of its folder")
    return text


def _output(text: str) -> str:
    if "{cycle" not in text:
        raise ValueError(
            "lacks {cycle}, so that one cycle would replace another; write e.g. out/{name}/{cycle:%Y%m%dT%H}.zarr"
        )
    if not text.endswith((".zarr", ".nc")):
        raise ValueError("must end in .zarr or .nc")
    return _template(text)


def moment(value: Any) -> datetime:
    """Return a time, in UTC, to the minute; raises ``ValueError`` where it is none."""
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{str(value)[:40]} is not a time; write e.g. 2014-06-01T06:00") from None
    if not _FIRST <= time.year < _LAST:
        raise ValueError(f"{str(value)[:40]} is not between the years {_FIRST} and {_LAST}")
    return (time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time).replace(
        second=0, microsecond=0
    )


def spoken(span: timedelta | float) -> str:
    """Return a duration in seconds, or hours where it is long."""
    seconds = span.total_seconds() if isinstance(span, timedelta) else span
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"


def written(time: datetime) -> str:
    """Return a cycle as the ledger and the command write it."""
    return time.strftime(_MINUTE)


Count = Annotated[int, Field(ge=1, le=10**6)]
Span = Annotated[timedelta, BeforeValidator(_span)]
Second = Annotated[Span, AfterValidator(_second)]
Command = Annotated[list[str], Field(min_length=1)]
Template = Annotated[str, AfterValidator(_template)]


class Files(Strict):
    """Files that hold the initial states, of any layout that ``forecast ingest`` reads.

    Attributes:
        files: paths or patterns, with ``{name}`` and ``{cycle:...}``.
        units: units by variable that the files lack or have wrong.
        layout: how they are laid out; recognised by default.
        follow_links: follow links within a file or store that lead outside of it.
    """

    files: Annotated[
        list[Template], BeforeValidator(lambda v: [v] if isinstance(v, str) else v), Field(min_length=1)
    ]
    units: dict[str, str] = Field(default_factory=dict)
    layout: str | None = None
    follow_links: bool = False


class Picture(Strict):
    """A map of each cycle's forecast.

    Attributes:
        variable: variable to draw.
        lead: lead time.
        level: pressure in hPa, for variables with levels.
    """

    variable: str
    lead: str = "24h"
    level: int | None = None


class Job(Strict):
    """A forecast for each cycle.

    Attributes:
        name: letters, digits, ``_``, ``-`` and dots.
        checkpoint: folder that training made.
        source: store that holds the initial states, or files.
        cycle: cron expression in UTC.
        start: nothing before it is due; by default, nothing before the job was first seen.
        delay: data are expected this long after the cycle.
        lead: how far.
        members: members of an ensemble.
        seed: of an ensemble's perturbations.
        amplitude: of an ensemble's perturbations, in standard deviations of the anomalies.
        bounds: whether to clip humidity, precipitation, fractions, ... to their physical bounds.
        clip: least and largest value of variables by name, in place of the physical ones.
        grid: degrees between points, or ``HxW`` points, to interpolate to.
        area: ``NORTH/WEST/SOUTH/EAST`` to keep.
        variables: variables to keep.
        output: what to make, with ``{name}`` and ``{cycle:...}``; ends in ``.zarr`` or ``.nc``.
        prepare: command that fetches the data, run before each attempt.
        truth: store to verify past cycles with, once it holds all of their valid times.
        report: whether to write a page of scores and maps of each cycle that is verified.
        plots: maps to draw; the first variable at the last lead time by default.
        keep: how many cycles to keep; all by default.
        retries: how often to try again after a failure.
        backoff: pause before the first retry; it doubles with each.
        deadline: how long a cycle may wait for its data, from when it fell due or was first seen, and an
            attempt may take.
        catch_up: which missed cycles come first.
        max_catchup: how many missed cycles are made up for, the newest ones.
        on_success: command to run after a cycle is published.
        on_failure: command to run after a cycle has failed for good.
        device: ``cpu`` or ``cuda``; a GPU where there is one by default.
    """

    name: Annotated[str, Field(pattern=f"^{_NAME}$", max_length=100)]
    checkpoint: Path
    source: str | Files
    cycle: Annotated[str, AfterValidator(_cron)]
    start: Annotated[datetime, BeforeValidator(moment)] | None = None
    delay: Span = timedelta(0)
    lead: Annotated[str, AfterValidator(_lead)]
    members: Annotated[int, Field(ge=1, le=10_000)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    amplitude: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    bounds: bool = True
    clip: dict[str, tuple[float | None, float | None]] | None = None
    grid: Annotated[float, Field(allow_inf_nan=False)] | str | None = None
    area: str | None = None
    variables: list[str] | None = None
    output: Annotated[str, AfterValidator(_output)]
    prepare: Command | None = None
    truth: str | None = None
    report: bool = False
    plots: list[Picture] | None = None
    keep: Count | None = None
    retries: Annotated[int, Field(ge=0, le=10_000)] = 5
    backoff: Span = timedelta(minutes=1)
    deadline: Second = timedelta(hours=6)
    catch_up: Literal["oldest", "newest"] = "oldest"
    max_catchup: Count = 100
    on_success: Command | None = None
    on_failure: Command | None = None
    device: Literal["cpu", "cuda"] | None = None

    def due(self, now: datetime, first_seen: datetime) -> list[datetime]:
        """Return the cycles whose data are expected by ``now``, at most the newest ``max_catchup``, in the
        order to make them.
        """
        earliest = self.start or first_seen
        found: list[datetime] = []
        for time in CronSim(self.cycle, now - self.delay + timedelta(minutes=1), reverse=True):
            if time < earliest or len(found) == self.max_catchup:
                break
            found.append(time)
        return found if self.catch_up == "newest" else found[::-1]

    def between(self, first: datetime, last: datetime) -> Iterator[datetime]:
        """Yield the cycles of a period, both ends included."""
        for time in CronSim(self.cycle, first - timedelta(minutes=1)):
            if time > last:
                return
            yield time

    def next(self, now: datetime) -> datetime:
        """Return when the next cycle falls due."""
        earliest = now - self.delay
        if self.start is not None:
            earliest = max(earliest, self.start - timedelta(minutes=1))
        return next(iter(CronSim(self.cycle, earliest))) + self.delay

    def fill(self, template: str, cycle: datetime) -> str:
        """Return a template with name and cycle in it."""
        return template.format(name=self.name, cycle=cycle)

    @property
    def home(self) -> str:
        """The folder or URL of all outputs, which is that of ``latest``."""
        return self.output.replace("{name}", self.name).partition("{cycle")[0].rpartition("/")[0]

    def name_of(self, cycle: datetime) -> str:
        """Return the name of a cycle's output in ``home``."""
        return self.fill(self.output, cycle).removeprefix(self.home).lstrip("/")


class Cluster(Strict):
    """Dask workers that are started as jobs of a queue, by ``dask-jobqueue``.

    Attributes:
        queue: which kind of queue.
        jobs: how many of its jobs to keep.
        options: what each asks for, by dask-jobqueue's names: cores, memory, walltime, queue, account, ...
    """

    queue: Literal["slurm", "pbs", "sge", "lsf", "oar", "htcondor", "moab", "local"]
    jobs: Annotated[int, Field(ge=1, le=10_000)] = 1
    options: dict[str, Any] = Field(default_factory=dict)


class JobsFile(Strict):
    """A jobs file; what ``defaults`` says holds for each job that does not say otherwise.

    Attributes:
        ledger: SQLite file with a row for each cycle.
        shared: whether schedulers of several machines use the ledger, on a file system whose locks hold
            between them.
        status: folder of the status page and its files.
        engine: ``local`` processes, or ``dask``.
        workers: cycles that are made at once.
        scheduler: address of a Dask scheduler for the engine ``dask``, or ``local:N`` for N processes of one
            of its own.
        cluster: a queue to start Dask workers in, in place of ``scheduler``.
        lease: how long a cycle stays taken by a scheduler that is not heard of.
        poll: how often to look again for data that are late.
        jobs: the jobs.
        folder: where paths start from.
    """

    ledger: Path = Path("ledger.sqlite")
    shared: bool = False
    status: Path = Path("status")
    engine: Literal["local", "dask"] = "local"
    workers: Annotated[int, Field(ge=1, le=1000)] = 1
    scheduler: str | None = None
    cluster: Cluster | None = None
    lease: Second = timedelta(seconds=60)
    poll: Second = timedelta(seconds=60)
    jobs: Annotated[list[Job], Field(min_length=1)]
    folder: Path

    def job(self, name: str) -> Job:
        """Return the job of a name; raises ``ValueError`` where there is none."""
        names = [job.name for job in self.jobs]
        if name not in names:
            raise ValueError(f"no job {name!r}; {nearest(name, names)}")
        return self.jobs[names.index(name)]

    def output(self, job: Job, cycle: datetime) -> str:
        """Return where the forecast of a cycle is published: a path or URL."""
        filled = job.fill(job.output, cycle)
        return filled if "://" in filled else str(self.folder / filled)
