"""Solution operators from configuration to checkpoint, and their solutions."""

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..datasets.adapters.opening import open_raw
from ..datasets.pde.loaders import DrawnInstances, Layout, StoredInstances, open_simulations, open_system
from ..datasets.pde.system import System
from ..datasets.stopping import requested
from ..datasets.store.recorded import recorded
from ..fno.batch import Instances
from ..fno.invariants import TrainingRanges, invariants_of, scales_of
from ..fno.models import REGISTRY
from ..fno.models.base import mark_trained
from ..fno.models.operators import EvolutionOperator, SolutionScales, SteadyOperator
from ..fno.physics import equations
from ..fno.physics.evolution import EvolutionEquation
from ..fno.physics.steady import SteadyEquation, reference_size
from ..fno.progress import Progress
from ..fno.training import train as fit
from ..fno.training.objectives.inverse import InverseObjective, LatentParameters
from ..fno.training.objectives.operator import EvolutionObjective, SolvingLoss, SteadyObjective
from ..fno.weights.blueprint import check_blueprint
from .checkpoint.description import OperatorDescription
from .checkpoint.folder import finished, open_weights, restore, write_network
from .checkpoint.meta import noting_changes, read_meta
from .config.physics_config import OperatorConfig
from .device import keep_freed_memory, pick_device
from .experiment import read_sensors
from .interruption import saving_when_stopped

log = logging.getLogger(__name__)
Equation = EvolutionEquation | SteadyEquation
_STATISTICS = 256  # samples that scales are taken from


@dataclass(frozen=True)
class Operator:
    """A solution operator and what it was trained for.

    Attributes:
        model: an ``EvolutionOperator`` or a ``SteadyOperator``.
        system: what it solves.
        layout: of its variables.
        config: resolved configuration.
        ranges: of invariants of the inputs it was trained on; None of checkpoints that older versions wrote.
    """

    model: EvolutionOperator | SteadyOperator
    system: System
    layout: Layout
    config: OperatorConfig
    ranges: TrainingRanges | None = None

    def invariants(self, instances: Instances) -> dict[str, torch.Tensor]:
        """Return the invariants of the inputs of some samples."""
        return _invariants(instances, self.layout)

    def equation(self) -> Equation:
        """Return the residual of the equation; raises ``InputError`` where there is none."""
        return _equation(self.config, self.system, self.layout)


def _equation(config: OperatorConfig, system: System, layout: Layout) -> Equation:
    name, parameters = config.equation.name, system.model_dump()
    if layout.evolves:
        return EvolutionEquation(
            name,
            parameters,
            box=layout.box([2] * len(layout.axes)),
            window=layout.times[-1] / config.model.windows,
        )
    return SteadyEquation(name, float(parameters.get("source", 0.0)), layout.lengths[0])


def _build(
    config: OperatorConfig, system: System, layout: Layout, scales: SolutionScales, grid: Sequence[int]
) -> EvolutionOperator | SteadyOperator:
    """Build the operator for training on a grid of ``grid`` points."""
    settings, name = config.model, config.equation.name
    network = _network(config, layout, grid)
    if not layout.evolves:
        size = reference_size(name, system.model_dump())
        return SteadyOperator(
            network, scales, layout.parameters, layout.edges, equations.get(name).zero_boundary, size
        )
    equation = (
        _equation(config, system, layout)
        if equations.get(name).collocatable and all(e == "wrap" for e in layout.edges)
        else None
    )
    rates = equation.rates if isinstance(equation, EvolutionEquation) else None
    window, positions = layout.times[-1] / settings.windows, _positions(config, layout)
    return EvolutionOperator(
        network, scales, window, settings.nodes, layout.parameters, layout.edges, positions, rates
    )


def _positions(config: OperatorConfig, layout: Layout) -> bool:
    return (
        not layout.evolves
        or not equations.get(config.equation.name).translation_invariant
        or any(e != "wrap" for e in layout.edges)
    )


def _network(config: OperatorConfig, layout: Layout, grid: Sequence[int]) -> nn.Module:
    settings, name = config.model, config.equation.name
    if len(settings.n_modes) != len(layout.axes):
        raise ValueError(
            f"model.n_modes has {len(settings.n_modes)} entries, but {name} has the axes {', '.join(layout.axes)}"
        )
    count = _channels(layout, _positions(config, layout))
    nodes = settings.nodes if layout.evolves else 1
    skipped = {"kind", "windows", "nodes", "domain_padding"} | (
        {"factorization", "rank"} if settings.kind == "fno" else set()
    )
    arguments = settings.model_dump(exclude=skipped) | {
        "in_channels": count,
        "out_channels": nodes * len(layout.fields),
    }
    arguments["domain_padding"] = tuple(
        0.0 if edge == "wrap" else settings.domain_padding for edge in layout.edges
    )
    arguments["edges"] = tuple("cell" if edge == "cell" else "node" for edge in layout.edges)
    arguments["reference_size"] = tuple(grid)
    torch.manual_seed(config.train.seed)
    network: Any = REGISTRY[settings.kind](**arguments)
    torch.nn.init.normal_(
        network.projection.fc2.weight, std=1e-3
    )  # an untrained operator says that little happens
    torch.nn.init.zeros_(network.projection.fc2.bias)
    return network  # type: ignore[no-any-return]


def _channels(layout: Layout, positions: bool) -> int:
    fields = len(layout.fields) if layout.evolves else 0
    return EvolutionOperator.channels(
        fields, len(layout.inputs), len(layout.parameters), layout.edges, positions
    )


def _scales(instances: Instances, name: str, system: System) -> SolutionScales:
    """Return what some instances are like; of the initial states where an evolution is not known."""
    if instances.solution is None:
        fields = list(instances.state.transpose(0, 1)) or [instances.state.new_ones(1)]
    else:
        steady = not instances.state.shape[1]
        size = (
            reference_size(name, system.model_dump())(instances.inputs, instances.parameters)[:, None]
            if steady
            else 1.0
        )
        fields = list((instances.solution / size).movedim(2, 0))
    root = [float(f[torch.isfinite(f)].square().mean().sqrt()) or 1.0 for f in fields]
    inputs, numbers = instances.inputs.unbind(1), [n.log() for n in instances.parameters.values()]
    spread = [[float(x.std(correction=0)) or 1.0 for x in values] for values in (inputs, numbers)]
    return SolutionScales(
        root, [float(x.mean()) for x in inputs], spread[0], [float(n.mean()) for n in numbers], spread[1]
    )


def train(
    config: OperatorConfig, device: str | None = None, progress: Progress | None = None
) -> tuple[Path, bool, float | None]:
    """Train the operator of a configuration, or go on where a run of it stopped.

    Leaves ``output/checkpoint``; the state for a resume and the log lie in ``output/state``.

    Returns:
        The checkpoint, whether it was there before, and the root mean square of the relative error on samples
        that were kept, or without solutions of the residual in units of the solution.

    Raises:
        FileNotFoundError: no store.
        ValueError: store and configuration do not fit, ``output`` holds another run, or the loss is not
            finite.
    """
    keep_freed_memory()
    device, output, settings = pick_device(device), config.output, config.train
    source, system, layout = _source(config)
    identity = [
        config.model_dump(
            mode="json",
            exclude={"output": True, "data": {"store", "experiment"}, "train": {"checkpoint_minutes"}},
        )
    ]
    identity += [dict(source.simulations.dataset.attrs)] if isinstance(source, StoredInstances) else []
    if config.data.experiment is not None:
        identity += [open_raw(str(config.data.experiment)).to_dict()]
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
    if held := finished(output, "operator", fingerprint):
        return output / "checkpoint", True, held["validation_score"]
    first = _first(source)
    if config.loss.data and first.solution is None and not config.loss.equation:
        raise ValueError(f"{config.data.store} holds no solutions to learn from; set loss.equation")
    scales = _scales(first, config.equation.name, system)
    model = _build(config, system, layout, scales, first.state.shape[2:]).to(device)
    equation = (
        _equation(config, system, layout)
        if config.loss.equation or config.loss.experiment or first.solution is None
        else None
    )
    objective: Any = _objective(model, config.loss, equation, layout, config.model.windows)
    trained: nn.Module = model
    if config.data.experiment is not None:
        sensors = read_sensors(config.data.experiment, layout, float(getattr(system, "start", 0.0)))
        unknowns = LatentParameters(first.state, first.parameters)
        objective = InverseObjective(objective, unknowns, sensors, config.loss.experiment)
        trained = nn.ModuleDict({"operator": model, "unknowns": unknowns})
    with saving_when_stopped(output / "state"):
        record = fit(trained, objective, source, settings, output / "state", fingerprint, progress, requested)
    ranges, recovered = _ranges(first, layout), {}
    if isinstance(objective, InverseObjective):
        recovered = {"recovered": objective.recover()}
        logarithms = {
            name: torch.tensor([math.log(number["value"])]) for name, number in recovered["recovered"].items()
        }
        if outside := ranges.departures(logarithms):
            log.warning(
                "the experiment lies outside of the simulations that the operator was trained on: %s",
                "; ".join(outside),
            )
    provenance = {
        "fingerprint": fingerprint,
        "validation_score": record.best_score,
        "best_epoch": record.best_epoch,
        "steps": record.steps,
        "system": system.model_dump(mode="json"),
        "scales": {name: list(getattr(scales, name)) for name in SolutionScales.__dataclass_fields__},
        "trained_grid": list(first.state.shape[2:]),
        "ranges": ranges.to_json(),
        **recovered,
    }
    tensors = {name: t for name, t in model.state_dict().items()}
    write_network(
        output / "checkpoint",
        "operator",
        tensors,
        {"config": config.model_dump(mode="json"), "provenance": provenance},
    )
    return output / "checkpoint", False, record.best_score


def _invariants(instances: Instances, layout: Layout) -> dict[str, torch.Tensor]:
    fields = layout.fields if layout.evolves else ()
    return invariants_of(instances, fields, layout.inputs, layout.edges)


def _ranges(instances: Instances, layout: Layout) -> TrainingRanges:
    invariants = _invariants(instances, layout)
    return TrainingRanges.of(invariants, scales_of(instances, invariants))


def _source(config: OperatorConfig) -> tuple[StoredInstances | DrawnInstances, System, Layout]:
    name, settings = config.equation.name, config.train
    if config.data.store is None:
        system, layout = open_system(name, config.equation.parameters)
        return (
            DrawnInstances(system, layout, settings.batch_size, config.data.samples, settings.seed),
            system,
            layout,
        )
    store = open_simulations(config.data.store)
    held = recorded(store.dataset.attrs, "system", str)
    if held != name:
        raise ValueError(f"{config.data.store} holds simulations of {held}, equation.name is {name}")
    made, _ = open_system(name, {**store.system.model_dump(), **config.equation.parameters})
    for key in config.equation.parameters:
        if getattr(made, key) != getattr(store.system, key):
            raise ValueError(
                f"equation.{key} is {getattr(made, key)}, but {config.data.store} was simulated with {getattr(store.system, key)}"
            )
    if store.layout.evolves and not store.layout.times:
        raise ValueError(
            f"{config.data.store} holds initial states alone; leave data.store out to draw them, and set equation.duration"
        )
    source = StoredInstances(store, settings.batch_size, settings.seed, config.data.validation_fraction)
    if source.training < 1:
        raise ValueError(f"{config.data.store} holds {len(store)} samples, too few to train on")
    return source, store.system, store.layout


def _first(source: StoredInstances | DrawnInstances) -> Instances:
    if isinstance(source, DrawnInstances):
        return source.draw(0, _STATISTICS)
    return source.simulations.read(np.arange(min(_STATISTICS, source.training)))


def _objective(
    model: EvolutionOperator | SteadyOperator,
    loss: SolvingLoss,
    equation: Equation | None,
    layout: Layout,
    windows: int,
) -> EvolutionObjective | SteadyObjective:
    if isinstance(model, EvolutionOperator):
        return EvolutionObjective(
            model, loss, equation if isinstance(equation, EvolutionEquation) else None, layout.times, windows
        )
    return SteadyObjective(model, loss, equation if isinstance(equation, SteadyEquation) else None)


def load_operator(path: str | Path, device: str = "cpu") -> Operator:
    """Read the checkpoint of a solution operator.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: something else, or damaged.
    """
    path = Path(path)
    meta = read_meta(path, verify=False)
    if meta.get("kind") != "operator":
        raise ValueError(f"{path} holds no solution operator")
    description, entries = open_weights(path, meta, OperatorDescription)
    config, provenance = description.config, description.provenance
    with noting_changes(path, meta):
        system, layout = _described_system(path, description)
    grid, scales = provenance.trained_grid, SolutionScales(**provenance.scales.model_dump())
    own = {name.removeprefix("network."): entry for name, entry in entries.items()}
    with noting_changes(path, meta):
        check_blueprint(lambda: _network(config, layout, grid), own, config.model.n_layers, str(path))
    model = _build(config, system, layout, scales, grid)
    restore(model, path, meta, entries)
    mark_trained(model, tuple(grid))
    ranges = None if provenance.ranges is None else TrainingRanges.from_json(provenance.ranges.model_dump())
    return Operator(model.to(device).eval(), system, layout, config, ranges)


def _described_system(path: Path, description: OperatorDescription) -> tuple[System, Layout]:
    """Return the system of a checkpoint and its layout, to which the scales and the grid must belong."""
    provenance = description.provenance
    try:
        system, layout = open_system(description.config.equation.name, provenance.system)
    except ValueError as error:
        raise ValueError(
            f"{path}/meta.json: provenance.system: {error}; restore it or train again"
        ) from error
    fields, inputs, numbers = len(layout.fields), len(layout.inputs), len(layout.parameters)
    counts = {
        "solution": fields,
        "input_mean": inputs,
        "input_std": inputs,
        "parameter_mean": numbers,
        "parameter_std": numbers,
    }
    for name, count in counts.items():
        if (length := len(getattr(provenance.scales, name))) != count:
            raise ValueError(
                f"{path}/meta.json: provenance.scales.{name} has {length} entries, wanted {count}; restore it or train again"
            )
    for name, length in (
        ("provenance.trained_grid", len(provenance.trained_grid)),
        ("config.model.n_modes", len(description.config.model.n_modes)),
    ):
        if length != len(layout.axes):
            raise ValueError(
                f"{path}/meta.json: {name} has {length} entries, wanted {len(layout.axes)}; restore it or train again"
            )
    return system, layout
