"""The ``Task`` protocol: what a kind of model must provide to be trained, run, verified and inspected.

Another package adds a task with one class and one entry point in the group ``fourcaster.tasks``; see
``docs/extending.md``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import xarray as xr
from pydantic import BaseModel
from torch import nn

from ...datasets.errors import DataError
from ...fno.progress import Progress
from ..checkpoint.description import Description
from ..checkpoint.folder import StoredCheckpoint
from ..summaries import DataSummary, output_summary
from .check import CheckReport


@dataclass(frozen=True)
class TrainResult:
    """Result of a training run.

    Attributes:
        checkpoint: folder of the checkpoint.
        already_done: whether the run had finished before.
        best_score: score of the checkpoint, None without validation data.
        score: name of that score.
        comparison: scores and balance errors of the model and of one trained on the data alone, if physics
            terms were added to the loss.
    """

    checkpoint: Path
    already_done: bool
    best_score: float | None
    score: str = "validation score"
    comparison: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        values: dict[str, Any] = {
            "checkpoint": str(self.checkpoint),
            "already_done": self.already_done,
            self.score.replace(" ", "_"): self.best_score,
        }
        return values | ({"comparison": self.comparison} if self.comparison else {})


@dataclass(frozen=True)
class CheckpointSummary:
    """Summary of a checkpoint; a subclass adds what matters for its task.

    Attributes:
        kind: what the checkpoint is.
    """

    kind: str

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, as JSON can represent them."""
        return asdict(self)


@dataclass(frozen=True)
class MetadataSummary(CheckpointSummary):
    """Summary of a checkpoint that consists of all its metadata.

    Attributes:
        metadata: content of ``meta.json`` in the form of the present format version.
    """

    metadata: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the metadata and the kind as JSON values."""
        return {"kind": self.kind, **self.metadata}


class MissingOptionError(DataError):
    """An option that the task needs is missing; ``option`` names it."""

    def __init__(self, option: str, instruction: str) -> None:
        super().__init__(f"{option} is missing: {instruction}", option=option)


@dataclass(frozen=True)
class Summary:
    """Summary of a result for the command.

    Attributes:
        values: the result as JSON values.
        text: the result as text, or values to show as lines; ``values`` by default.
        notes: remarks on the result, one line each.
    """

    values: Any
    text: str | dict[str, Any] | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class VerifyOptions:
    """Options of ``Task.verify``. ``output``, ``overwrite`` and ``progress`` are those of all tasks.

    Attributes:
        output: file of scores to write.
        overwrite: replace existing files.
        progress: called with (steps done, total steps, text).
        report: HTML page to write.
        metrics: names of the metrics to compute; those of the task by default.
        area: area to score, ``NORTH/WEST/SOUTH/EAST`` [degrees]; all common points by default.
        regrid: regrid the finer of forecast and truth to the grid of the coarser.
        lead_units: unit of lead times that are numbers without one, e.g. ``hours``.
        follow_links: follow links in forecast and truth that lead outside of them.
    """

    output: Path | None = None
    overwrite: bool = False
    progress: Progress | None = None
    report: Path | None = None
    metrics: Sequence[str] | None = None
    area: str | None = None
    regrid: bool = False
    lead_units: str | None = None
    follow_links: bool = False


class TaskConfig(Protocol):
    """Configuration of any task."""

    @property
    def task(self) -> str:
        """Name of the task."""
        ...

    @property
    def output(self) -> Path:
        """Folder of the run."""
        ...


class TrainedModel(Protocol):
    """A loaded checkpoint; the arguments of ``run`` are those of its task."""

    def run(self, *args: Any, **kwargs: Any) -> xr.Dataset:
        """Return a forecast or solution, written to ``output`` if one is given."""
        ...


class Task(Protocol):
    """A kind of model. Subclasses are stateless; one instance is created on first use.

    Attributes:
        name: value of the key ``task`` in configurations and ``meta.json``.
        title: what its checkpoints are, for messages.
        config: class of its configurations, which has a field ``task`` and a field ``output``; None for a
            task without training.
        description: class of the metadata of its checkpoints.
        run_options: names of the options of ``forecast run`` that it accepts, besides those of all tasks.
        verify_options: names of the options of ``forecast verify`` that it accepts, besides those of all
            tasks.
        distributed: whether several processes, started by ``torchrun``, can train one model.
        grid: meaning of the option ``grid``; empty if it is not accepted.
        can_fork: whether a new run can start from the weights of another one, because training uses
            ``fno.training.train``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    config: ClassVar[type[BaseModel] | None]
    description: ClassVar[type[Description]]
    run_options: ClassVar[frozenset[str]] = frozenset()
    verify_options: ClassVar[frozenset[str]] = frozenset()
    distributed: ClassVar[bool] = False
    grid: ClassVar[str] = ""
    can_fork: ClassVar[bool] = False

    def inputs(self, config: Any) -> list[Path | None]:
        """Return the files that training reads, which its output may not contain."""
        return []

    def train(self, config: Any, *, device: str | None, progress: Progress | None) -> TrainResult:
        """Train the model of a configuration, or resume an interrupted run.

        Writes ``config.output/checkpoint`` with ``write_checkpoint``; the state of a resumable run belongs
        in ``config.output/state``.
        """
        raise ValueError(f"the task {self.name} has no training")

    def child(self, stored: StoredCheckpoint) -> dict[str, Any]:
        """Return the configuration, as nested keys, of a run that starts from the weights of a checkpoint.

        The key ``output`` is missing, and further keys if the checkpoint does not have them.
        """
        raise ValueError(f"{stored.path} is a {self.title}, from which training cannot start")

    def check(self, config: Any, *, device: str | None, probe_seconds: float) -> CheckReport:
        """Check a configuration against its data and the machine, without training and without writing.

        Args:
            config: configuration.
            device: device of training.
            probe_seconds: time for which steps may be timed; 0 for none.
        """
        raise ValueError(f"the task {self.name} has no check of a configuration")

    def check_checkpoint(
        self, stored: StoredCheckpoint, store: Path | None, *, device: str | None
    ) -> CheckReport:
        """Check a checkpoint against the data that its model would start from."""
        raise ValueError(f"{stored.path} is a {self.title}, which has no check")

    def load(self, stored: StoredCheckpoint, device: str | None) -> TrainedModel:
        """Return the model of a checkpoint."""
        ...

    def load_network(self, stored: StoredCheckpoint) -> nn.Module:
        """Return the network of a checkpoint as a module."""
        raise ValueError(f"{stored.path} is a {self.title}, whose network cannot be loaded alone")

    def run_arguments(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of ``run`` for the accepted options of the command, which are mostly text."""
        return {name: options[name] for name in self.run_options & options.keys()}

    def summarise_run(self, dataset: xr.Dataset, output: Path) -> Summary:
        """Return the summary of what ``run`` returned and wrote to ``output``."""
        return Summary({"output": str(output), **{str(n): size for n, size in dataset.sizes.items()}})

    def wrote(self, attrs: Mapping[str, Any]) -> bool:
        """Return whether a data set with these attributes is an output of the task's models."""
        return attrs.get("task") == self.name

    def describe_output(self, dataset: xr.Dataset) -> DataSummary:
        """Return a summary of an output of the task's models; by default its variables and sizes."""
        return output_summary(dataset, f"output of a {self.title}")

    def verify(self, forecast: str, truth: Path, options: VerifyOptions) -> Summary:
        """Score an output against the truth.

        Args:
            forecast: output of a model of this task.
            truth: data set with the truth.
            options: options, of which those that are not among ``verify_options`` have their defaults.
        """
        raise ValueError(f"outputs of the task {self.name} cannot be scored")

    def describe(self, stored: StoredCheckpoint) -> CheckpointSummary:
        """Return a summary of a checkpoint; by default all its metadata."""
        return MetadataSummary(self.title, stored.meta)
