"""The task ``pinn``: physics-informed networks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from ...datasets.stopping import requested
from ...datasets.store import atomic
from ...datasets.store.open import write_dataset
from ...fno.models.pinn import TimeWindows
from ...fno.progress import Progress
from ...fno.training.pinn.train import train_pinn
from ..checkpoint.description import PinnDescription
from ..checkpoint.folder import StoredCheckpoint, finished_run, write_checkpoint
from ..checkpoint.identity import RunIdentity
from ..checkpoint.pinn import build_coordinate_network, problem_of
from ..config.pinn import PinnConfig
from ..inference.pinn import PinnSolution, relative_error
from ..interruption import saving_when_stopped
from ..monitoring.pictures import RunPictures
from .base import CheckpointSummary, Summary, Task, TrainResult, VerifyOptions

_SCORE = "held-out residual"


@dataclass(frozen=True)
class PinnSummary(CheckpointSummary):
    """Summary of a physics-informed network.

    Attributes:
        equation: section ``equation`` of its configuration.
        model: section ``model``.
        loss: section ``loss``.
        train: section ``train``.
        results: iterations, training residual and held-out residual.
    """

    equation: dict[str, Any]
    model: dict[str, Any]
    loss: dict[str, Any]
    train: dict[str, Any]
    results: dict[str, Any]


class PinnTask(Task):
    """Physics-informed networks trained on the residual of an equation."""

    name = "pinn"
    title = "physics-informed network"
    config = PinnConfig
    description = PinnDescription
    run_options = frozenset({"grid"})
    verify_options = frozenset({"follow_links"})
    grid = "TIMESxPOINTS, e.g. 101x256"

    def train(self, config: PinnConfig, *, device: str | None, progress: Progress | None) -> TrainResult:
        """Train a physics-informed network, or resume an interrupted run."""
        _check_device(device, "trained")
        output = config.output
        without_effect: Any = {"output": True, "task": True, "train": {"loggers", "log_every"}}
        content = config.model_dump(mode="json", exclude=without_effect)
        identity = RunIdentity.of(content, content)
        if finished := finished_run(
            output, PinnDescription, task=self.name, digest=identity.digest, content=identity.description
        ):
            residual = finished.provenance.held_out_residual
            return TrainResult(output / "checkpoint", True, residual, _SCORE)
        with saving_when_stopped(output / "state") as guard:
            networks, record = train_pinn(
                problem_of(config),
                lambda start, stop: build_coordinate_network(config, start, stop),
                config.train,
                folder=output / "state",
                fingerprint=identity.digest,
                description=identity.description,
                progress=progress,
                loss=config.loss,
                stop=lambda: requested() or guard.stop(),
                pictures=RunPictures(output / "state"),
            )
        provenance = {
            "fingerprint": identity.digest,
            "iterations": record.iterations,
            "training_residual": record.residual,
            "held_out_residual": record.held_out,
        }
        meta = {"config": config.model_dump(mode="json"), "provenance": provenance}
        tensors = TimeWindows(networks).state_dict()
        write_checkpoint(output / "checkpoint", self.name, tensors, meta=meta)
        return TrainResult(output / "checkpoint", False, record.held_out, _SCORE)

    def load(self, stored: StoredCheckpoint, device: str | None) -> PinnSolution:
        """Return the solution as a function of time and place."""
        _check_device(device, "evaluated")
        return PinnSolution.load(stored)

    def summarise_run(self, dataset: xr.Dataset, output: Path) -> Summary:
        """Return the size of the solution."""
        text = f"u on {dataset.sizes['t']} times by {dataset.sizes['x']} places"
        sizes = {str(name): size for name, size in dataset.sizes.items()}
        return Summary({"output": str(output), "solved": text, **sizes}, f"{output}: {text}")

    def wrote(self, attrs: Mapping[str, Any]) -> bool:
        """Return whether the attributes are those of a solution of such a network."""
        return {"equation", "checkpoint"} <= set(attrs) and "system" not in attrs

    def verify(self, forecast: str, truth: Path, options: VerifyOptions) -> Summary:
        """Score a solution by its relative L2 error."""
        error = relative_error(forecast, truth, follow_links=options.follow_links)
        if options.output is not None:
            scores = xr.Dataset({"u_relative_l2": error}, attrs={"title": "scores of solutions"})
            kind = "file of scores"
            overwrite = options.overwrite
            with atomic.reserved(options.output, kind, overwrite=overwrite, inputs=[forecast, truth]) as path:
                write_dataset(scores, path, overwrite=overwrite, kind=kind)
        return Summary({"u_relative_l2": error}, f"u_relative_l2: {error:.4g}")

    def describe(self, stored: StoredCheckpoint) -> PinnSummary:
        """Return equation, model, settings and residuals."""
        config = stored.describe(PinnDescription).config.model_dump(mode="json")
        provenance = stored.meta["provenance"]
        return PinnSummary(
            kind=self.title,
            equation=config["equation"],
            model=config["model"],
            loss=config["loss"],
            train=config["train"],
            results={name: value for name, value in provenance.items() if name != "fingerprint"},
        )


def _check_device(device: str | None, verb: str) -> None:
    if device not in (None, "cpu"):
        raise ValueError(f"physics-informed networks are {verb} on the CPU, not on {device}")
