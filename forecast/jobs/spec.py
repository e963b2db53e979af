"""The jobs file: what to forecast, when, from which data, and where to publish it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from cronsim import CronSim
from pydantic import BeforeValidator, Field

from ...datasets.suggestions import suggest
from ..config.sections import Strict
from .spec_fields import Command, Count, Cron, Duration, Lead, Output, PositiveDuration, Template, Time

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"


class Files(Strict):
    """Files with the initial states, of any layout that ``forecast ingest`` reads.

    Attributes:
        files: paths or patterns, with ``{name}`` and ``{cycle:...}``.
        units: units of the variables for which the files have none or wrong ones.
        layout: name of the layout; detected by default.
        follow_links: follow links within a file or store that lead outside of it.
    """

    files: Annotated[
        list[Template], BeforeValidator(lambda v: [v] if isinstance(v, str) else v), Field(min_length=1)
    ]
    units: dict[str, str] = Field(default_factory=dict)
    layout: str | None = None
    follow_links: bool = False


class Plot(Strict):
    """A map of each cycle's forecast.

    Attributes:
        variable: variable to draw.
        lead: lead time.
        level: pressure [hPa], for variables with levels.
    """

    variable: str
    lead: str = "24h"
    level: int | None = None


class Job(Strict):
    """A forecast for each cycle.

    Attributes:
        name: letters, digits, ``_``, ``-`` and dots.
        checkpoint: folder written by training.
        source: store with the initial states, or files with them.
        cycle: cron expression of the initial times, in UTC.
        start: no earlier cycle is due; by default, none before the job was first seen.
        delay: the data are expected this long after the cycle.
        lead: length of the forecast.
        members: size of the ensemble.
        seed: seed of the ensemble's perturbations.
        amplitude: amplitude of the perturbations [standard deviations of the anomalies].
        bounds: whether to clip humidity, precipitation, fractions, ... to their physical bounds.
        clip: bounds (lower, upper) by variable, in place of the physical ones.
        grid: spacing [degrees], or ``HxW`` points, to interpolate to.
        area: ``NORTH/WEST/SOUTH/EAST`` [degrees] to keep.
        variables: variables to keep.
        output: path or URL with ``{name}`` and ``{cycle:...}``; ends in ``.zarr`` or ``.nc``.
        prepare: command that fetches the data, run before each attempt.
        truth: store for verification of past cycles, once it contains all their valid times.
        report: whether to write a page of scores and maps for each verified cycle.
        plots: maps to draw; the first variable at the last lead time by default.
        keep: number of cycles to keep; all by default.
        retries: number of attempts after a failed one.
        backoff: pause before the first retry; it doubles with each further one.
        deadline: longest time that a cycle waits for its data, counted from when it fell due or was first
            seen, and that an attempt may take.
        catch_up: which missed cycles come first.
        max_catchup: number of missed cycles to run; of more, the newest are run.
        on_success: command to run after a cycle is published.
        on_failure: command to run after a cycle has failed for good.
        device: ``cpu`` or ``cuda``; a GPU where there is one by default.
        trust: folders from which code that the checkpoint names as ``module:Class`` may be imported; code of
            installed packages needs none.
    """

    name: Annotated[str, Field(pattern=f"^{_NAME}$", max_length=100)]
    checkpoint: Path
    source: str | Files
    cycle: Cron
    start: Time | None = None
    delay: Duration = timedelta(0)
    lead: Lead
    members: Annotated[int, Field(ge=1, le=10_000)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    amplitude: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    bounds: bool = True
    clip: dict[str, tuple[float | None, float | None]] | None = None
    grid: Annotated[float, Field(allow_inf_nan=False)] | str | None = None
    area: str | None = None
    variables: list[str] | None = None
    output: Output
    prepare: Command | None = None
    truth: str | None = None
    report: bool = False
    plots: list[Plot] | None = None
    keep: Count | None = None
    retries: Annotated[int, Field(ge=0, le=10_000)] = 5
    backoff: Duration = timedelta(minutes=1)
    deadline: PositiveDuration = timedelta(hours=6)
    catch_up: Literal["oldest", "newest"] = "oldest"
    max_catchup: Count = 100
    on_success: Command | None = None
    on_failure: Command | None = None
    device: Literal["cpu", "cuda"] | None = None
    trust: list[Path] = Field(default_factory=list)

    def due_cycles(self, now: datetime, first_seen: datetime) -> list[datetime]:
        """Return the cycles whose data are expected by ``now``, in the order in which to make them.

        These are at most the newest ``max_catchup`` ones.
        """
        earliest = self.start or first_seen
        cycles: list[datetime] = []
        for time in CronSim(self.cycle, now - self.delay + timedelta(minutes=1), reverse=True):
            if time < earliest or len(cycles) == self.max_catchup:
                break
            cycles.append(time)
        return cycles if self.catch_up == "newest" else cycles[::-1]

    def cycles_between(self, first: datetime, last: datetime) -> Iterator[datetime]:
        """Yield the cycles of a period, both ends included."""
        for time in CronSim(self.cycle, first - timedelta(minutes=1)):
            if time > last:
                return
            yield time

    def next_due(self, now: datetime) -> datetime:
        """Return when the next cycle falls due."""
        earliest = now - self.delay
        if self.start is not None:
            earliest = max(earliest, self.start - timedelta(minutes=1))
        return next(iter(CronSim(self.cycle, earliest))) + self.delay

    def fill(self, template: str, cycle: datetime) -> str:
        """Return a template with name and cycle filled in."""
        return template.format(name=self.name, cycle=cycle)

    @property
    def output_root(self) -> str:
        """Folder or URL of all outputs and of ``latest``."""
        return self.output.replace("{name}", self.name).partition("{cycle")[0].rpartition("/")[0]

    def output_name(self, cycle: datetime) -> str:
        """Return the name of a cycle's output, relative to ``output_root``."""
        return self.fill(self.output, cycle).removeprefix(self.output_root).lstrip("/")


class Cluster(Strict):
    """Dask workers that ``dask-jobqueue`` starts as jobs of a queue.

    Attributes:
        queue: kind of queue.
        jobs: number of queued jobs to maintain.
        options: resources of each, with dask-jobqueue's names: cores, memory, walltime, queue, account, ...
    """

    queue: Literal["slurm", "pbs", "sge", "lsf", "oar", "htcondor", "moab", "local"]
    jobs: Annotated[int, Field(ge=1, le=10_000)] = 1
    options: dict[str, Any] = Field(default_factory=dict)


class JobsFile(Strict):
    """A jobs file, with the values of ``defaults`` copied to the jobs that do not set them.

    Attributes:
        ledger: SQLite file with a row for each cycle.
        shared: whether schedulers on several machines use the ledger, on a file system whose locks work
            between them.
        status: folder of the status page and its files.
        engine: ``local`` processes, or ``dask``.
        workers: number of cycles that are worked on at once.
        scheduler: address of a Dask scheduler for the engine ``dask``, or ``local:N`` for N processes on
            this machine.
        cluster: queue in which to start Dask workers, in place of ``scheduler``.
        lease: how long a cycle stays claimed by a scheduler that no longer renews its claim.
        poll: interval between two checks for late data.
        jobs: the jobs.
        folder: folder that paths are relative to.
    """

    ledger: Path = Path("ledger.sqlite")
    shared: bool = False
    status: Path = Path("status")
    engine: Literal["local", "dask"] = "local"
    workers: Annotated[int, Field(ge=1, le=1000)] = 1
    scheduler: str | None = None
    cluster: Cluster | None = None
    lease: PositiveDuration = timedelta(seconds=60)
    poll: PositiveDuration = timedelta(seconds=60)
    jobs: Annotated[list[Job], Field(min_length=1)]
    folder: Path

    @property
    def ledger_path(self) -> Path:
        """Path of the ledger."""
        return self.folder / self.ledger

    @property
    def state_folder(self) -> Path:
        """Folder of the ledger, the logs and unfinished uploads."""
        return self.ledger_path.parent

    def job(self, name: str) -> Job:
        """Return the job with a name; raises ``ValueError`` where there is none."""
        names = [job.name for job in self.jobs]
        if name not in names:
            raise ValueError(f"no job {name!r}; {suggest(name, names)}")
        return self.jobs[names.index(name)]

    def output_path(self, job: Job, cycle: datetime) -> str:
        """Return the path or URL at which the forecast of a cycle is published."""
        filled = job.fill(job.output, cycle)
        return filled if "://" in filled else str(self.folder / filled)
