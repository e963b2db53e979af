"""Train a solution operator, from configuration to checkpoint; the task ``inverse`` extends its objective."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from ....datasets.pde.loaders import (
    DrawnInstances,
    SolutionLayout,
    StoredInstances,
    open_simulations,
    open_system,
)
from ....datasets.pde.system import System
from ....datasets.store.recorded import recorded
from ....fno.batch import Instances
from ....fno.invariants import TrainingRanges, scales_of
from ....fno.models.operators import EvolutionOperator, SolutionScales
from ....fno.physics.evolution import EvolutionEquation
from ....fno.physics.steady import SteadyEquation, reference_size
from ....fno.progress import Progress
from ....fno.training import train as fit
from ....fno.training.objectives.operator import EvolutionObjective, SteadyObjective
from ....fno.training.settings import identifying
from ...checkpoint.description_operator import SolutionDescription
from ...checkpoint.folder import fingerprint, finished_run, write_checkpoint
from ...checkpoint.identity import RunIdentity
from ...checkpoint.solution import build_operator, input_invariants, residual_of
from ...config.operator import FORECAST_SETTINGS, SolutionConfig
from ...config.sections import identifying_keys
from ...device import pick_device
from ...interruption import saving_when_stopped
from ...monitoring.pictures import RunPictures
from ..base import TrainResult

STATISTICS_SAMPLES = 256  # from which scales and ranges are computed
Source = StoredInstances | DrawnInstances


@dataclass(frozen=True)
class Setting:
    """Data, system and model of a training run.

    Attributes:
        config: configuration.
        source: stored or sampled inputs.
        system: the system to solve.
        layout: layout of its variables.
        device: where the model is trained.
    """

    config: SolutionConfig
    source: Source
    system: System
    layout: SolutionLayout
    device: str

    @classmethod
    def of(cls, config: SolutionConfig, device: str | None) -> "Setting":
        """Open the data of a configuration.

        Raises:
            FileNotFoundError: no store.
            ValueError: store and configuration do not match.
        """
        device = pick_device(device)
        source, system, layout = _open_source(config)
        return cls(config, source, system, layout, device)

    @cached_property
    def first(self) -> Instances:
        """The first samples, from which scales and ranges are computed."""
        if isinstance(self.source, DrawnInstances):
            return self.source.draw(0, STATISTICS_SAMPLES)
        count = min(STATISTICS_SAMPLES, self.source.training)
        return self.source.simulations.read(np.arange(count))

    @cached_property
    def scales(self) -> SolutionScales:
        """Scales of solutions, inputs and parameters."""
        return _scales(self.first, self.config.equation.name, self.system)

    @cached_property
    def model(self) -> Any:
        """The operator that is trained."""
        grid = self.first.state.shape[2:]
        model = build_operator(self.config, self.system, self.layout, scales=self.scales, grid=grid)
        return model.to(self.device)

    def ranges(self) -> TrainingRanges:
        """Return the ranges of the invariants of the inputs."""
        invariants = input_invariants(self.first, self.layout)
        return TrainingRanges.of(invariants, scales_of(self.first, invariants))

    def objective(self) -> EvolutionObjective | SteadyObjective:
        """Return the objective of training on solutions, on the equation, or on both."""
        loss = self.config.loss
        if loss.data and self.first.solution is None and not loss.equation:
            raise ValueError(f"{self.config.data.store} contains no solutions; set loss.equation")
        needs_equation = loss.equation or loss.experiment or self.first.solution is None
        equation = residual_of(self.config, self.system, self.layout) if needs_equation else None
        if isinstance(self.model, EvolutionOperator):
            evolution = equation if isinstance(equation, EvolutionEquation) else None
            return EvolutionObjective(
                self.model, loss, evolution, times=self.layout.times, windows=self.config.model.windows
            )
        return SteadyObjective(self.model, loss, equation if isinstance(equation, SteadyEquation) else None)


def run_identity(setting: Setting, experiment: Mapping[str, Any] | None = None) -> RunIdentity:
    """Return what the result of a run depends on: its settings, the simulations and the experiment.

    Args:
        setting: data, system and model.
        experiment: content of the file of sensors, for the task ``inverse``.
    """
    irrelevant: Any = {
        "task": True,
        "output": True,
        "data": {"store", "experiment"},
        "train": set(FORECAST_SETTINGS),
    }
    settings = setting.config.model_dump(mode="json", exclude=irrelevant)
    settings["model"] = identifying_keys(setting.config.model)
    settings["train"] = identifying(settings["train"])
    content: list[Any] = [settings]
    described: dict[str, Any] = dict(settings)
    if isinstance(setting.source, StoredInstances):
        attrs = dict(setting.source.simulations.dataset.attrs)
        content.append(attrs)
        described["store"] = {str(name): value for name, value in attrs.items()}
    if experiment is not None:
        content.append(experiment)
        described["experiment"] = f"sha256 {fingerprint(experiment)[:8]}"
    return RunIdentity.of(content, described)


def train_setting(
    setting: Setting,
    task: str,
    description: type[SolutionDescription],
    *,
    identity: RunIdentity,
    prepare: Callable[[Setting], tuple[nn.Module, Any]],
    results: Callable[[Any], dict[str, Any]] = lambda _: {},
    progress: Progress | None = None,
) -> TrainResult:
    """Train the operator of a setting, or resume an interrupted run.

    Args:
        setting: data, system and model.
        task: name of the task.
        description: class of the metadata of its checkpoints.
        identity: what the result depends on.
        prepare: returns the module whose parameters are trained, and the objective.
        results: returns further results for the metadata, given the objective after training.
        progress: called with (steps done, total steps, text).

    Returns:
        The checkpoint and its score: the root mean square relative error on validation samples, or without
        solutions that of the residual in units of the solution.
    """
    output = setting.config.output
    if finished := finished_run(
        output, description, task=task, digest=identity.digest, content=identity.description
    ):
        return TrainResult(output / "checkpoint", True, finished.provenance.validation_score)
    module, objective = prepare(setting)
    state = output / "state"
    with saving_when_stopped(state) as guard:
        record = fit(
            module,
            objective,
            setting.source,
            settings=setting.config.train,
            folder=state,
            fingerprint=identity.digest,
            description=identity.description,
            progress=progress,
            stop=guard.stop,
            watch=guard.watch,
            pictures=RunPictures(state, setting.config.train.pictures),
        )
    provenance = {
        "fingerprint": identity.digest,
        "validation_score": record.best_score,
        "best_epoch": record.best_epoch,
        "steps": record.steps,
        "system": setting.system.model_dump(mode="json"),
        "scales": {n: list(getattr(setting.scales, n)) for n in SolutionScales.__dataclass_fields__},
        "trained_grid": list(setting.first.state.shape[2:]),
        "ranges": setting.ranges().to_json(),
        **({} if record.origin is None else {"forked_from": dict(record.origin)}),
        **results(objective),
    }
    meta = {"config": setting.config.model_dump(mode="json"), "provenance": provenance}
    write_checkpoint(output / "checkpoint", task, setting.model.state_dict(), meta=meta)
    return TrainResult(output / "checkpoint", False, record.best_score)


def _scales(instances: Instances, name: str, system: System) -> SolutionScales:
    """Return root mean squares of solutions, and mean and standard deviation of inputs and log parameters.

    Without solutions, the scales of the initial states are used instead.
    """
    if instances.solution is None:
        fields = list(instances.state.transpose(0, 1)) or [instances.state.new_ones(1)]
    else:
        size: Any = 1.0
        if not instances.state.shape[1]:  # a steady system
            size = reference_size(name, system.model_dump())(instances.inputs, instances.parameters)[:, None]
        fields = list((instances.solution / size).movedim(2, 0))
    inputs = instances.inputs.unbind(1)
    logarithms = [parameter.log() for parameter in instances.parameters.values()]
    return SolutionScales(
        [float(field[torch.isfinite(field)].square().mean().sqrt()) or 1.0 for field in fields],
        [float(values.mean()) for values in inputs],
        [float(values.std(correction=0)) or 1.0 for values in inputs],
        [float(values.mean()) for values in logarithms],
        [float(values.std(correction=0)) or 1.0 for values in logarithms],
    )


def _open_source(config: SolutionConfig) -> tuple[Source, System, SolutionLayout]:
    """Return the stored or sampled inputs of a configuration, the system and the layout of its variables."""
    name = config.equation.name
    settings = config.train
    if config.data.store is None:
        system, layout = open_system(name, config.equation.parameters)
        source = DrawnInstances(system, layout, settings.batch_size, config.data.samples, settings.seed)
        return source, system, layout
    path = config.data.store
    store = open_simulations(path)
    stored_name = recorded(store.dataset.attrs, "system", str)
    if stored_name != name:
        raise ValueError(f"{path} contains simulations of {stored_name}, equation.name is {name}")
    configured, _ = open_system(name, {**store.system.model_dump(), **config.equation.parameters})
    for key in config.equation.parameters:
        value = getattr(configured, key)
        if value != getattr(store.system, key):
            raise ValueError(
                f"equation.{key} is {value}, but {path} was simulated with {getattr(store.system, key)}"
            )
    if store.layout.evolves and not store.layout.times:
        raise ValueError(
            f"{path} contains initial states only; leave out data.store to sample them, and set "
            "equation.duration"
        )
    stored = StoredInstances(store, settings.batch_size, settings.seed, config.data.validation_fraction)
    if stored.training < 1:
        raise ValueError(f"{path} contains {len(store)} samples, too few to train on")
    if stored.training < settings.batch_size:
        raise ValueError(
            f"train.batch_size {settings.batch_size} is larger than the {stored.training} training samples; "
            "use a smaller one"
        )
    return stored, store.system, store.layout
