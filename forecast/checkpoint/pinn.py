"""Checkpoints of physics-informed networks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...fno.models.pinn import CoordinateNetwork, TimeWindows
from ...fno.physics import equations
from ...fno.physics.equations import Problem
from ...fno.weights.blueprint import check_counts, compare
from ..config.pinn import PinnConfig
from .description import PinnDescription
from .folder import StoredCheckpoint

TASK = "pinn"


@dataclass(frozen=True)
class PinnCheckpoint:
    """A trained physics-informed network and the problem that it solves.

    Attributes:
        model: network of (t, x) for all time windows.
        problem: equation, coefficients, domain, initial and boundary values.
        config: resolved configuration.
        identity: checksum of weights and metadata.
    """

    model: TimeWindows
    problem: Problem
    config: PinnConfig
    identity: str = ""


def problem_of(config: PinnConfig) -> Problem:
    """Return the default problem of an equation, with the coefficients of a configuration."""
    return equations.get(config.equation.name).problem(**config.equation.parameters)


def build_coordinate_network(config: PinnConfig, start: float, stop: float) -> CoordinateNetwork:
    """Return an untrained network for the time window [start, stop]."""
    problem = problem_of(config)
    arguments: dict[str, Any] = config.model.model_dump()
    return CoordinateNetwork(
        {"t": start, "x": problem.low},
        {"t": stop, "x": problem.high},
        ("x",) if problem.periodic else (),
        **arguments,
    )


def load_pinn(source: str | Path | StoredCheckpoint) -> PinnCheckpoint:
    """Read the checkpoint of a physics-informed network.

    Args:
        source: folder, or one whose metadata was read before.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: of another task, damaged, or changed after it was written.
    """
    stored = source if isinstance(source, StoredCheckpoint) else StoredCheckpoint.open(source)
    stored.require(TASK)
    config = stored.describe(PinnDescription).config
    entries = stored.entries()
    problem = problem_of(config)
    windows = config.train.windows
    settings = config.model

    def build() -> TimeWindows:
        return TimeWindows(
            [build_coordinate_network(config, i / windows, (i + 1) / windows) for i in range(windows)]
        )

    waves = settings.fourier_features + settings.harmonics * problem.periodic
    parameters = settings.width * (waves + settings.width * (settings.depth - 1))
    with stored.noting_changes():
        check_counts(
            entries, layers=windows * settings.depth, weights=windows * parameters, source=str(stored.path)
        )
        model = build()
        compare(model, entries, str(stored.path))
    stored.restore(model, entries)
    return PinnCheckpoint(model, problem, config, stored.identity)
