"""Checkpoints of solution operators, and how the operator of a configuration is built."""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...datasets.pde.loaders import SolutionLayout, open_system
from ...datasets.pde.system import System
from ...fno.batch import Instances
from ...fno.invariants import TrainingRanges, invariants_of
from ...fno.models import REGISTRY
from ...fno.models.base import mark_trained
from ...fno.models.operators import EvolutionOperator, SolutionScales, SteadyOperator
from ...fno.physics import equations
from ...fno.physics.evolution import EvolutionEquation
from ...fno.physics.steady import SteadyEquation, reference_size
from ...fno.random import Stream, seeded_torch
from ...fno.weights.blueprint import check_blueprint
from ..config.operator import SolutionConfig
from .description_operator import InverseDescription, OperatorDescription, SolutionDescription
from .folder import StoredCheckpoint

DESCRIPTIONS: dict[str, type[SolutionDescription]] = {
    "operator": OperatorDescription,
    "inverse": InverseDescription,
}
Residual = EvolutionEquation | SteadyEquation


@dataclass(frozen=True)
class Operator:
    """A trained solution operator and the system it was trained for.

    Attributes:
        model: model of an evolution or of a steady solution.
        system: the system whose solutions it approximates.
        layout: layout of the system's variables.
        config: resolved configuration.
        ranges: invariants of the training inputs; None in checkpoints of older versions.
        identity: checksum of weights and metadata.
    """

    model: EvolutionOperator | SteadyOperator
    system: System
    layout: SolutionLayout
    config: SolutionConfig
    ranges: TrainingRanges | None = None
    identity: str = ""

    def invariants(self, instances: Instances) -> dict[str, torch.Tensor]:
        """Return the invariants of the inputs of some samples, each of shape (sample,)."""
        return input_invariants(instances, self.layout)

    def equation(self) -> Residual:
        """Return the residual of the equation; raises ``InputError`` where there is none."""
        return residual_of(self.config, self.system, self.layout)


def input_invariants(instances: Instances, layout: SolutionLayout) -> dict[str, torch.Tensor]:
    """Return mean, variance and spectrum of the inputs and logarithms of the parameters by name."""
    fields = layout.fields if layout.evolves else ()
    return invariants_of(instances, fields=fields, inputs=layout.inputs, edges=layout.edges)


def residual_of(config: SolutionConfig, system: System, layout: SolutionLayout) -> Residual:
    """Return the residual of the equation of a configuration; raises ``InputError`` where there is none."""
    name = config.equation.name
    parameters = system.model_dump()
    if layout.evolves:
        box = layout.box([2] * len(layout.axes))
        window = layout.times[-1] / config.model.windows
        return EvolutionEquation(name, parameters, box=box, window=window)
    return SteadyEquation(name, float(parameters.get("source", 0.0)), layout.lengths[0])


def build_operator(
    config: SolutionConfig,
    system: System,
    layout: SolutionLayout,
    *,
    scales: SolutionScales,
    grid: Sequence[int],
) -> EvolutionOperator | SteadyOperator:
    """Return an untrained operator for training on a grid of ``grid`` points."""
    name = config.equation.name
    network = _network(config, layout, grid)
    if not layout.evolves:
        zero_boundary = equations.get(name).zero_boundary
        size = reference_size(name, system.model_dump())
        return SteadyOperator(
            network,
            scales,
            parameters=layout.parameters,
            edges=layout.edges,
            zero_edges=zero_boundary,
            size=size,
        )
    equation = (
        residual_of(config, system, layout)
        if equations.get(name).collocatable and all(edge == "periodic" for edge in layout.edges)
        else None
    )
    rates = equation.rates if isinstance(equation, EvolutionEquation) else None
    return EvolutionOperator(
        network,
        scales,
        window=layout.times[-1] / config.model.windows,
        nodes=config.model.nodes,
        parameters=layout.parameters,
        edges=layout.edges,
        positions=_takes_positions(config, layout),
        rates=rates,
    )


def _takes_positions(config: SolutionConfig, layout: SolutionLayout) -> bool:
    """Return whether coordinates are inputs of the network.

    They are where the equation or the domain is not invariant to translation.
    """
    return (
        not layout.evolves
        or not equations.get(config.equation.name).translation_invariant
        or any(edge != "periodic" for edge in layout.edges)
    )


def _network(config: SolutionConfig, layout: SolutionLayout, grid: Sequence[int]) -> nn.Module:
    """Return an untrained network for training on a grid of ``grid`` points.

    Raises:
        ValueError: the number of axes differs from that of the modes.
    """
    settings = config.model
    if len(settings.n_modes) != len(layout.axes):
        raise ValueError(
            f"model.n_modes has {len(settings.n_modes)} entries, but {config.equation.name} has the axes "
            f"{', '.join(layout.axes)}"
        )
    fields = len(layout.fields)
    in_channels = EvolutionOperator.channels(
        fields if layout.evolves else 0,
        len(layout.inputs),
        len(layout.parameters),
        edges=layout.edges,
        positions=_takes_positions(config, layout),
    )
    excluded = {"kind", "windows", "nodes", "domain_padding"}
    if settings.kind == "fno":
        excluded |= {"factorization", "rank"}
    arguments = settings.model_dump(exclude=excluded) | {
        "in_channels": in_channels,
        "out_channels": fields * (settings.nodes if layout.evolves else 1),
        "domain_padding": tuple(
            0.0 if edge == "periodic" else settings.domain_padding for edge in layout.edges
        ),
        "edges": tuple("cell" if edge == "cell" else "node" for edge in layout.edges),
        "periodic": tuple(edge == "periodic" for edge in layout.edges),
        "reference_size": tuple(grid),
    }
    with seeded_torch(config.train.seed, Stream.INITIAL_WEIGHTS):
        network: Any = REGISTRY[settings.kind](**arguments)
        # Small weights in the last layer, so that an untrained operator returns almost no change.
        torch.nn.init.normal_(network.projection.fc2.weight, std=1e-3)
    torch.nn.init.zeros_(network.projection.fc2.bias)
    return network  # type: ignore[no-any-return]


def load_operator(source: str | Path | StoredCheckpoint, device: str = "cpu") -> Operator:
    """Read the checkpoint of a solution operator.

    Args:
        source: folder, or one whose metadata was read before.
        device: where the model is placed.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: of another task, damaged, or changed after it was written.
    """
    stored = source if isinstance(source, StoredCheckpoint) else StoredCheckpoint.open(source)
    stored.require(*DESCRIPTIONS)
    description = stored.describe(DESCRIPTIONS[stored.task])
    entries = stored.entries()
    config = description.config
    provenance = description.provenance
    with stored.noting_changes():
        system, layout = _described_system(stored.path, description)
    grid = provenance.trained_grid
    scales = SolutionScales(**provenance.scales.model_dump())
    own = {name.removeprefix("network."): entry for name, entry in entries.items()}
    with stored.noting_changes():
        check_blueprint(
            lambda: _network(config, layout, grid), own, layers=config.model.n_layers, source=str(stored.path)
        )
    model = build_operator(config, system, layout, scales=scales, grid=grid)
    stored.restore(model, entries)
    mark_trained(model, tuple(grid))
    ranges = None if provenance.ranges is None else TrainingRanges.from_json(provenance.ranges.model_dump())
    return Operator(model.to(device).eval(), system, layout, config, ranges, stored.identity)


def _described_system(path: Path, description: SolutionDescription) -> tuple[System, SolutionLayout]:
    """Return the system of a checkpoint and its layout, which the scales and the grid must match."""
    provenance = description.provenance
    try:
        system, layout = open_system(description.config.equation.name, provenance.system)
    except ValueError as error:
        raise ValueError(
            f"{path}/meta.json: provenance.system: {error}; restore it or train again"
        ) from error
    axes = len(layout.axes)
    lengths: dict[str, tuple[Sized, int]] = {
        "provenance.scales.solution": (provenance.scales.solution, len(layout.fields)),
        "provenance.scales.input_mean": (provenance.scales.input_mean, len(layout.inputs)),
        "provenance.scales.input_std": (provenance.scales.input_std, len(layout.inputs)),
        "provenance.scales.parameter_mean": (provenance.scales.parameter_mean, len(layout.parameters)),
        "provenance.scales.parameter_std": (provenance.scales.parameter_std, len(layout.parameters)),
        "provenance.trained_grid": (provenance.trained_grid, axes),
        "config.model.n_modes": (description.config.model.n_modes, axes),
    }
    for name, (values, expected) in lengths.items():
        if len(values) != expected:
            raise ValueError(
                f"{path}/meta.json: {name} has {len(values)} entries, expected {expected}; restore it or "
                "train again"
            )
    return system, layout
