"""Physics-informed networks from configuration to checkpoint, and their values on a grid."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from ..datasets.stopping import requested
from ..datasets.store import atomic
from ..datasets.store.open import write_dataset
from ..fno.models.pinn import CoordinateNetwork, TimeWindows
from ..fno.physics import equations
from ..fno.progress import Progress
from ..fno.training.pinn.train import train_pinn
from ..fno.weights.blueprint import check_counts, compare
from .checkpoint.description import PinnDescription
from .checkpoint.folder import finished, open_weights, restore, write_network
from .checkpoint.meta import identity, noting_changes, read_meta
from .config.physics_config import PinnConfig
from .interruption import saving_when_stopped

log = logging.getLogger(__name__)

MOST_POINTS = 2**24


def problem_of(config: PinnConfig) -> equations.Problem:
    """Return the problem of the literature for an equation, with the coefficients of the configuration."""
    return equations.get(config.equation.name).problem(**config.equation.parameters)


def train(config: PinnConfig, progress: Progress | None = None) -> tuple[Path, bool, float]:
    """Train the network of a configuration, or go on where a run of it stopped.

    Leaves ``output/checkpoint``; the state for a resume and the log lie in ``output/state``.

    Returns:
        The checkpoint, whether it was there before, and the held-out residual.

    Raises:
        ValueError: ``output`` holds another run, or the loss is not finite.
    """
    output = config.output
    fingerprint = hashlib.sha256(
        json.dumps(config.model_dump(mode="json", exclude={"output"}), sort_keys=True).encode()
    ).hexdigest()
    if held := finished(output, "pinn", fingerprint):
        return output / "checkpoint", True, held["held_out_residual"]
    with saving_when_stopped(output / "state"):
        networks, record = train_pinn(
            problem_of(config),
            lambda a, b: _network(config, a, b),
            config.train,
            output / "state",
            fingerprint,
            progress,
            config.loss,
            requested,
        )
    provenance = {
        "fingerprint": fingerprint,
        "iterations": record.iterations,
        "training_residual": record.residual,
        "held_out_residual": record.held_out,
    }
    tensors = TimeWindows(networks).state_dict()
    write_network(
        output / "checkpoint",
        "pinn",
        tensors,
        {"config": config.model_dump(mode="json"), "provenance": provenance},
    )
    return output / "checkpoint", False, record.held_out


def evaluate(
    checkpoint: str | Path, grid: str = "101x256", output: str | Path | None = None, overwrite: bool = False
) -> xr.Dataset:
    """Return the values of a trained network on a grid of times by places.

    Args:
        checkpoint: folder that training made.
        grid: number of times, both ends included, by number of places; an axis that wraps is given without
            its right end.
        output: write them there too: netCDF if it ends in .nc, else zarr.
        overwrite: replace an existing file.

    Returns:
        Data set with the variable ``u`` and the coordinates ``t`` and ``x``.

    Raises:
        FileNotFoundError: no checkpoint there.
        FileExistsError: ``output`` exists and may not be replaced.
        ValueError: it holds something else, is damaged, or the grid is not understood.
    """
    if output is None:
        return _evaluate(Path(checkpoint), grid)
    with atomic.reserved(output, "solution", overwrite, [checkpoint]) as path:
        dataset = _evaluate(Path(checkpoint), grid)
        write_dataset(dataset, path, overwrite, "solution")
    return dataset


def _evaluate(path: Path, grid: str) -> xr.Dataset:
    meta = read_meta(path, verify=False)
    if meta.get("kind") != "pinn":
        raise ValueError(f"{path} holds no physics-informed network")
    times, places = parse_grid(grid)
    description, entries = open_weights(path, meta, PinnDescription)
    config = description.config
    problem, windows = problem_of(config), config.train.windows

    def build() -> TimeWindows:
        return TimeWindows([_network(config, i / windows, (i + 1) / windows) for i in range(windows)])

    settings = config.model
    waves = settings.fourier_features + settings.harmonics * problem.periodic
    with noting_changes(path, meta):
        check_counts(
            entries,
            windows * settings.depth,
            windows * settings.width * (waves + settings.width * (settings.depth - 1)),
            str(path),
        )
        model = build()
        compare(model, entries, str(path))
    restore(model, path, meta, entries)
    t = torch.linspace(0, 1, times, dtype=torch.float64)
    share = torch.arange(places, dtype=torch.float64) / (places - (not problem.periodic))
    x = problem.low + (problem.high - problem.low) * share
    with torch.no_grad():
        u = torch.stack([model(torch.stack([row.expand(places), x], dim=1)) for row in t])
    return xr.Dataset(
        {"u": (("t", "x"), u.numpy(), {"long_name": "solution", "units": "1"})},
        {
            "t": ("t", t.numpy(), {"long_name": "time"}),
            "x": ("x", x.numpy(), {"long_name": "place", "periodic": str(problem.periodic).lower()}),
        },
        {
            "Conventions": "CF-1.11",
            "equation": config.equation.name,
            "parameters": json.dumps(dict(problem.coefficients)),
            "checkpoint": identity(meta),
        },
    )


def parse_grid(text: str) -> tuple[int, int]:
    """Return the numbers of times and places of a text such as 101x256.

    Raises:
        ValueError: not two whole numbers of at least 2.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and len(part) < 10 and int(part) >= 2 for part in parts):
        raise ValueError(f"--grid {text[:80]} is not understood; write times by places, e.g. --grid 101x256")
    times, places = int(parts[0]), int(parts[1])
    if times * places > MOST_POINTS:
        raise ValueError(
            f"--grid {text} has {times * places} points, of which there may be {MOST_POINTS}; take fewer times or places"
        )
    return times, places


def _network(config: PinnConfig, start: float, stop: float) -> CoordinateNetwork:
    problem = problem_of(config)
    arguments: dict[str, Any] = config.model.model_dump()
    return CoordinateNetwork(
        {"t": start, "x": problem.low},
        {"t": stop, "x": problem.high},
        ("x",) if problem.periodic else (),
        **arguments,
    )
