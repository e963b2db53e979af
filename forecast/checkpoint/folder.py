"""Checkpoints: a folder with all that a forecast needs, in open formats.

``weights.safetensors`` holds the network and the fields that go with it (seasonal cycle, static fields,
mask); ``meta.json`` describes them. Neither is trusted: see ``description`` for what a description may hold
and ``sealed`` for its checksum.
"""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ... import __version__
from ...datasets.forcings import NAMES as FORCINGS
from ...datasets.schema import Channel, duration, seconds
from ...datasets.statistics.climatology import SeasonalCycle
from ...datasets.store import atomic
from ...fno.errors import WeightsError
from ...fno.grids import Box, Grid, LatLon
from ...fno.models.base import load_weights, mark_trained
from ...fno.models.stepper import Scales, Stepper
from ...fno.training.state import save_tensors
from ...fno.weights.blueprint import check_blueprint
from ...fno.weights.regular_file import check_memory
from ...fno.weights.tensor_file import Entry, read_file, read_header
from ..config.load import AFNOConfig, Config
from ..model import build_network
from .description import KINDS, Description, ForecastDescription, NetworkDescription
from .fields import check_entries, check_values
from .meta import noting_changes, read_meta, refuse_changed, validated, write_meta

D = TypeVar("D", bound=Description)


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and what it was trained for.

    Attributes:
        stepper: model.
        channels: its channels, in order.
        attrs: CF attributes of each variable.
        grid: its grid.
        dtypes: types of latitude and longitude in the training store.
        step: time step.
        cycle: background that anomalies are departures from.
        config: resolved configuration.
        provenance: where data came from, what was chosen on what.
        forcings: names of the fields known in advance that it is given.
        ranges: least and largest value of each channel in the training data, shape (2, channel); None where
            they are not known.
    """

    stepper: Stepper
    channels: list[Channel]
    attrs: dict[str, dict[str, Any]]
    grid: Grid
    dtypes: tuple[str, str]
    step: np.timedelta64
    cycle: SeasonalCycle
    config: Config
    provenance: dict[str, Any]
    forcings: tuple[str, ...] = FORCINGS
    ranges: NDArray[np.float64] | None = None


def save_checkpoint(checkpoint: Checkpoint, path: Path, overwrite: bool = False) -> None:
    """Write a checkpoint under a temporary name and rename it.

    Raises:
        FileExistsError: ``path`` exists and may not be replaced.
    """
    stepper = checkpoint.stepper
    tensors = {
        f"network.{name}": t.detach().cpu().contiguous() for name, t in stepper.network.state_dict().items()
    }
    tensors |= {
        "fields.static": stepper.static.cpu(),
        "fields.mask": stepper.mask.cpu(),
        "fields.cycle": torch.from_numpy(checkpoint.cycle.coefficients),
        "fields.cycle_minutes": torch.from_numpy(checkpoint.cycle.minutes.astype(np.int64)),
    }
    scales = {
        n: getattr(stepper, n).flatten().tolist() for n in ("mean", "std", "anomaly_std", "tendency_std")
    }
    with atomic.replacing(path, overwrite, "checkpoint") as temporary:
        temporary.mkdir()
        save_tensors(tensors, temporary / "weights.safetensors")
        meta = {
            "config": checkpoint.config.model_dump(mode="json"),
            "channels": [asdict(channel) for channel in checkpoint.channels],
            "attrs": checkpoint.attrs,
            **{axis: points.tolist() for axis, points in checkpoint.grid.coordinates.items()},
            **({"wraps": list(checkpoint.grid.periodic)} if isinstance(checkpoint.grid, Box) else {}),
            "dtypes": list(checkpoint.dtypes),
            "step_seconds": seconds(checkpoint.step),
            "window": stepper.window,
            "normalisation": scales,
            "forcings": list(checkpoint.forcings),
            **({} if checkpoint.ranges is None else {"training_range": checkpoint.ranges.tolist()}),
            "provenance": checkpoint.provenance,
        }
        write_meta(temporary, meta | _origin("torch", "numpy", "xarray", "zarr"))


def write_network(
    path: Path, kind: str, tensors: dict[str, Tensor], meta: dict[str, Any], overwrite: bool = False
) -> None:
    """Write the checkpoint of something else than a forecast model: weights, and what describes them.

    Args:
        path: folder to make.
        kind: what it is.
        tensors: weights.
        meta: anything JSON can hold.
        overwrite: replace an existing checkpoint.

    Raises:
        FileExistsError: ``path`` exists and may not be replaced.
    """
    with atomic.replacing(path, overwrite, "checkpoint") as temporary:
        temporary.mkdir()
        save_tensors(
            {name: t.detach().cpu().contiguous() for name, t in tensors.items()},
            temporary / "weights.safetensors",
        )
        write_meta(temporary, {"kind": kind, **meta} | _origin("torch"))


def _origin(*packages: str) -> dict[str, Any]:
    versions = {"fourcaster": __version__, "python": platform.python_version()} | {
        name: version(name) for name in packages
    }
    return {"versions": versions, "written": datetime.now(UTC).isoformat(timespec="seconds")}


def finished(output: Path, kind: str | None, fingerprint: str) -> dict[str, Any] | None:
    """Return the provenance of the finished run in ``output``, or None where there is none.

    Raises:
        ValueError: it is a run of another kind, or with another fingerprint.
    """
    if not (output / "checkpoint" / "meta.json").exists():
        return None
    meta = read_meta(output / "checkpoint")
    provenance = meta.get("provenance")
    fitting = (
        meta.get("kind") == kind
        and isinstance(provenance, dict)
        and provenance.get("fingerprint") == fingerprint
    )
    if not fitting:
        raise ValueError(
            f"{output} holds a finished run with other settings or data; choose another output, or start afresh (quickstart: --fresh)"
        )
    validated(output / "checkpoint", meta, KINDS[kind])
    return dict(cast("dict[str, Any]", provenance))


def described_meta(path: str | Path) -> dict[str, Any]:
    """Return the description of a checkpoint of any kind, after a check of all that it holds.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: damaged, changed after it was written, or of a format this version does not know.
    """
    path = Path(path)
    meta = read_meta(path)
    description = validated(path, meta, KINDS[meta.get("kind")])
    if isinstance(description, ForecastDescription):
        _grid(path, meta)
    if not isinstance(description, NetworkDescription):
        meta["config"] = description.config.model_dump(
            mode="json"
        )  # with the settings that it leaves to their defaults
    return meta


def open_weights(path: Path, meta: Mapping[str, Any], kind: type[D]) -> tuple[D, dict[str, Entry]]:
    """Return the description of a checkpoint and the tensors that its weights' header names, of which none
    has been read.

    Args:
        path: folder.
        meta: what ``read_meta`` returned.
        kind: what the checkpoint should be.

    Raises:
        ValueError: one of both is damaged.
    """
    with noting_changes(path, meta):
        description = validated(path, meta, kind)
    try:
        return description, read_header(path / "weights.safetensors")
    except FileNotFoundError as error:
        raise ValueError(
            f"{path} has no weights.safetensors, whose checksum is in meta.json; restore it or train again"
        ) from error
    except WeightsError as error:
        raise ValueError(f"{error}; its checksum is not the one in meta.json") from error


def restore(
    network: nn.Module, path: Path, meta: Mapping[str, Any], entries: Mapping[str, Entry], prefix: str = ""
) -> dict[str, Tensor]:
    """Give a network the weights of a checkpoint, whose header was compared with it, and return the other
    tensors.

    Args:
        network: built.
        path: folder.
        meta: its description.
        entries: the header.
        prefix: of the network's tensors.

    Raises:
        ValueError: weights or description were changed after they were written, or are not finite.
    """
    check_memory(path / "weights.safetensors", sum(entry.nbytes for entry in entries.values()))
    refuse_changed(path, meta, weights=True)
    tensors = read_file(path / "weights.safetensors", entries)
    own = {name: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
    load_weights(network, {name.removeprefix(prefix): t for name, t in own.items()}, str(path))
    return tensors


def load_checkpoint(path: str | Path, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: folder.
        device: where the model goes.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: damaged or changed after it was written; all numbers are checked before anything is
            allocated.
    """
    path = Path(path)
    meta = read_meta(path, verify=False)
    if meta.get("kind") == "pinn":
        raise ValueError(
            f"{path} holds a physics-informed network, which starts from no data; see `forecast run {path} --grid 101x256 -o u.nc`"
        )
    if meta.get("kind") == "operator":
        raise ValueError(
            f"{path} holds a solution operator, which forecasts no weather; see `forecast run {path} --init STORE -o OUT`"
        )
    if meta.get("kind") == "network":
        raise ValueError(
            f"{path} holds a network without variables, grid and normalisation, which cannot make a forecast; see forecast.load_network"
        )
    description, entries = open_weights(path, meta, ForecastDescription)
    channels = [
        Channel(c.variable, cast("int | None", c.level), c.units, c.place) for c in description.channels
    ]
    with noting_changes(path, meta):
        grid = _grid(path, meta)
        static = check_entries(entries, len(channels), grid.shape, str(path))
    model = description.config.model
    count = Stepper.input_channels(len(channels), description.window, len(description.forcings), static)

    def build() -> nn.Module:
        return build_network(model, grid, count, len(channels), quiet=True)

    layers = model.members * (model.depth if isinstance(model, AFNOConfig) else model.n_layers)
    own = {
        name.removeprefix("network."): entry
        for name, entry in entries.items()
        if not name.startswith("fields.")
    }
    with noting_changes(path, meta):
        check_blueprint(build, own, layers, str(path))
    network = build()
    fields = restore(network, path, meta, entries, "network.")
    mark_trained(network, grid.shape)
    check_values(fields, str(path))
    scales = Scales(**{name: torch.tensor(values) for name, values in meta["normalisation"].items()})
    stepper = (
        Stepper(network, scales, fields["fields.static"], fields["fields.mask"], description.window)
        .to(device)
        .eval()
    )
    cycle = SeasonalCycle(fields["fields.cycle_minutes"].numpy(), fields["fields.cycle"].numpy())
    first, second = description.dtypes
    return Checkpoint(
        stepper,
        channels,
        description.attrs,
        grid,
        (first, second),
        duration(meta["step_seconds"]),
        cycle,
        description.config,
        meta["provenance"],
        tuple(description.forcings),
        None if description.training_range is None else np.array(description.training_range),
    )


def _grid(path: Path, meta: Mapping[str, Any]) -> Grid:
    try:
        return grid_from(meta)
    except ValueError as error:
        raise ValueError(f"{path}/meta.json: {error}") from error


def grid_from(meta: Mapping[str, Any]) -> Grid:
    """Return the grid that the description of a checkpoint tells."""
    if meta.get("latitude") is not None:
        return LatLon(np.array(meta["latitude"]), np.array(meta["longitude"]))
    coordinates = {axis: np.array(meta[axis]) for axis in ("y", "x")}
    return Box.from_coordinates(coordinates, tuple(meta["wraps"]))
