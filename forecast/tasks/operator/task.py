"""The task ``operator``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import xarray as xr

from ....fno.progress import Progress
from ...checkpoint.description_operator import OperatorDescription, SolutionDescription
from ...checkpoint.folder import StoredCheckpoint
from ...config.operator import OperatorConfig, SolutionConfig
from ...inference.operator import SolutionOperator, check_refinement, score_solutions
from ...summaries import SimulationSummary, simulation_summary
from ..base import CheckpointSummary, MissingOptionError, Summary, Task, TrainResult, VerifyOptions
from ..check import CheckReport, Findings
from .training import Setting, run_identity, train_setting

_RESULTS = ("validation_score", "best_epoch", "steps", "recovered")


@dataclass(frozen=True)
class SolutionOperatorSummary(CheckpointSummary):
    """Summary of a solution operator.

    Attributes:
        equation: section ``equation`` of its configuration.
        data: section ``data``.
        model: section ``model``.
        loss: section ``loss``.
        train: section ``train``.
        results: validation score, its epoch, number of steps and recovered parameters, those that exist.
    """

    equation: dict[str, Any]
    data: dict[str, Any]
    model: dict[str, Any]
    loss: dict[str, Any]
    train: dict[str, Any]
    results: dict[str, Any]


class SolutionTask(Task):
    """What the tasks ``operator`` and ``inverse`` have in common."""

    title = "solution operator"
    can_fork = True
    description: ClassVar[type[SolutionDescription]]
    run_options = frozenset({"init", "refine", "follow_links"})
    verify_options = frozenset({"follow_links"})

    def inputs(self, config: SolutionConfig) -> list[Path | None]:
        """Return the store of simulations and the file of sensors."""
        return [config.data.store, config.data.experiment]

    def check(self, config: SolutionConfig, *, device: str | None, probe_seconds: float) -> CheckReport:
        """Compare a configuration with its simulations, and build the model; memory is not estimated."""
        findings = Findings()
        findings.notes.append("memory and time of this task are not estimated")
        parameters: int | None = None
        name = device or "cpu"
        with findings.collecting():
            setting = Setting.of(config, device)
            name = setting.device
            setting.objective()
            parameters = sum(p.numel() for p in setting.model.parameters())
        return CheckReport(
            f"training of a {self.title}", name, findings.problems, findings.notes, parameters=parameters
        )

    def load(self, stored: StoredCheckpoint, device: str | None) -> SolutionOperator:
        """Return the operator."""
        return SolutionOperator.load(stored, device)

    def run_arguments(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of ``SolutionOperator.run``."""
        arguments = super().run_arguments(options)
        if arguments["init"] is None:
            raise MissingOptionError(
                "init", "name the store of simulations that contains the initial states or coefficients"
            )
        check_refinement(options["refine"], options["device"])
        return arguments

    def summarise_run(self, dataset: xr.Dataset, output: Path) -> Summary:
        """Return the number and size of the solutions, and how their inputs differ from training."""
        text = f"{dataset.sizes['sample']} solutions of {', '.join(map(str, dataset.data_vars))}"
        values: dict[str, Any] = {"output": str(output), "solved": text}
        values |= {str(name): size for name, size in dataset.sizes.items()}
        if "outside_training" in dataset.attrs:
            values["outside_training"] = dataset.attrs["outside_training"]
        return Summary(values, f"{output}: {text}")

    def verify(self, forecast: str, truth: Path, options: VerifyOptions) -> Summary:
        """Score solutions by their relative L2 error."""
        scores = score_solutions(
            forecast,
            truth,
            options.output,
            overwrite=options.overwrite,
            follow_links=options.follow_links,
        )
        return Summary(scores, "\n".join(f"{name}: {value:.4g}" for name, value in scores.items()))

    def describe(self, stored: StoredCheckpoint) -> SolutionOperatorSummary:
        """Return equation, data, model, settings and results."""
        config = stored.describe(self.description).config.model_dump(mode="json")
        results = stored.meta["provenance"]
        return SolutionOperatorSummary(
            kind=self.title,
            equation=config["equation"],
            data=config["data"],
            model=config["model"],
            loss=config["loss"],
            train=config["train"],
            results={name: value for name, value in results.items() if name in _RESULTS},
        )


class OperatorTask(SolutionTask):
    """Solution operators trained on simulations, on the equation, or on both."""

    name = "operator"
    config = OperatorConfig
    description = OperatorDescription

    def train(self, config: OperatorConfig, *, device: str | None, progress: Progress | None) -> TrainResult:
        """Train a solution operator, or resume an interrupted run."""
        setting = Setting.of(config, device)
        return train_setting(
            setting,
            self.name,
            self.description,
            identity=run_identity(setting),
            prepare=lambda s: (s.model, s.objective()),
            progress=progress,
        )

    def wrote(self, attrs: Mapping[str, Any]) -> bool:
        """Return whether the attributes are those of simulations or of solutions by an operator."""
        return "system" in attrs

    def describe_output(self, dataset: xr.Dataset) -> SimulationSummary:
        """Return system, parameters and sizes."""
        return simulation_summary(dataset)
