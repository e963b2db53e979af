"""Checkpoints: a folder with all that a forecast needs, in open formats.

``weights.safetensors`` holds the network and the fields that go with it (seasonal cycle, static fields, mask);
``meta.json`` describes them and holds the checksum of the weights.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from .. import __version__
from ..datasets import atomic
from ..datasets.climatology import SeasonalCycle
from ..datasets.forcings import NAMES as FORCINGS
from ..datasets.schema import Channel, duration, seconds
from ..fno.grids import Grid, LatLon, Plane
from ..fno.models.base import load_weights, mark_trained
from ..fno.models.stepper import Scales, Stepper
from ..fno.training.state import save_tensors
from .config import Config
from .model import build_network

FORMAT_VERSION = 1


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
        ranges: least and largest value of each channel in the training data, shape (2, channel); None where they are not known.
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
    tensors = {f"network.{name}": t.detach().cpu().contiguous() for name, t in stepper.network.state_dict().items()}
    tensors |= {
        "fields.static": stepper.static.cpu(),
        "fields.mask": stepper.mask.cpu(),
        "fields.cycle": torch.from_numpy(checkpoint.cycle.coefficients),
        "fields.cycle_minutes": torch.from_numpy(checkpoint.cycle.minutes.astype(np.int64)),
    }
    scales = {n: getattr(stepper, n).flatten().tolist() for n in ("mean", "std", "anomaly_std", "tendency_std")}
    with atomic.replacing(path, overwrite, "checkpoint") as temporary:
        temporary.mkdir()
        save_tensors(tensors, temporary / "weights.safetensors")
        meta = {
            "format_version": FORMAT_VERSION,
            "config": checkpoint.config.model_dump(mode="json"),
            "channels": [asdict(channel) for channel in checkpoint.channels],
            "attrs": checkpoint.attrs,
            **{axis: getattr(checkpoint.grid, axis).tolist() for axis in checkpoint.grid.axes},
            **({"wraps": checkpoint.grid.wraps} if isinstance(checkpoint.grid, Plane) else {}),
            "dtypes": list(checkpoint.dtypes),
            "step_seconds": seconds(checkpoint.step),
            "window": stepper.window,
            "normalisation": scales,
            "forcings": list(checkpoint.forcings),
            **({} if checkpoint.ranges is None else {"training_range": checkpoint.ranges.tolist()}),
            "provenance": checkpoint.provenance,
            "versions": {"fourcaster": __version__, "python": platform.python_version()}
            | {name: version(name) for name in ("torch", "numpy", "xarray", "zarr")},
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "sha256": sha256(temporary / "weights.safetensors"),
        }
        (temporary / "meta.json").write_text(json.dumps(meta, indent=1))


def write_network(path: Path, kind: str, tensors: dict[str, torch.Tensor], meta: dict[str, Any], overwrite: bool = False) -> None:
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
        save_tensors({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary / "weights.safetensors")
        rest = {
            "versions": {"fourcaster": __version__, "python": platform.python_version(), "torch": version("torch")},
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "sha256": sha256(temporary / "weights.safetensors"),
        }
        (temporary / "meta.json").write_text(json.dumps({"format_version": FORMAT_VERSION, "kind": kind, **meta, **rest}, indent=1))


def finished(output: Path, kind: str | None, fingerprint: str) -> dict[str, Any] | None:
    """Return the provenance of the finished run in ``output``, or None where there is none.

    Raises:
        ValueError: it is a run of another kind, or with another fingerprint.
    """
    path = output / "checkpoint" / "meta.json"
    if not path.exists():
        return None
    held: dict[str, Any] = json.loads(path.read_text())
    if held.get("kind") != kind or held["provenance"]["fingerprint"] != fingerprint:
        raise ValueError(f"{output} holds a finished run with other settings or data; choose another output, or start afresh (quickstart: --fresh)")
    return dict(held["provenance"])


def read_meta(path: str | Path) -> dict[str, Any]:
    """Return the description of a checkpoint.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: damaged, or of a format this version does not know.
    """
    path = Path(path)
    atomic.recover(path)
    if not (path / "meta.json").is_file():
        raise FileNotFoundError(f"{path} holds no checkpoint (no meta.json); name the folder that `forecast train` made, e.g. RUN/checkpoint")
    try:
        meta: dict[str, Any] = json.loads((path / "meta.json").read_text())
        number = meta["format_version"]
    except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}/meta.json is damaged ({error}); restore it or train again") from error
    if number != FORMAT_VERSION:
        raise ValueError(f"{path} has format version {number}, this version of fourcaster reads {FORMAT_VERSION}; use a newer one")
    return meta


def read_tensors(path: Path, meta: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights of a checkpoint, once their checksum is the one in ``meta``; raises ``ValueError`` where not."""
    weights = path / "weights.safetensors"
    if not weights.is_file() or sha256(weights) != meta["sha256"]:
        raise ValueError(f"{weights} is damaged: its checksum is not the one in meta.json; restore it or train again")
    tensors: dict[str, torch.Tensor] = load_file(weights)
    return tensors


def load_checkpoint(path: str | Path, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: folder.
        device: where the model goes.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: damaged; the checksum is compared.
    """
    path, meta = Path(path), read_meta(path)
    if meta.get("kind") == "pinn":
        raise ValueError(f"{path} holds a physics-informed network, which starts from no data; see `forecast run {path} --grid 101x256 -o u.nc`")
    if meta.get("kind") == "operator":
        raise ValueError(f"{path} holds a solution operator, which forecasts no weather; see `forecast run {path} --init STORE -o OUT`")
    if meta.get("kind") == "network":
        raise ValueError(f"{path} holds a network without variables, grid and normalisation, which cannot make a forecast; see forecast.load_network")
    tensors = read_tensors(path, meta)
    fields = {name.removeprefix("fields."): tensors.pop(name) for name in list(tensors) if name.startswith("fields.")}
    channels = [Channel(**channel) for channel in meta["channels"]]
    grid = grid_from(meta)
    config = Config.model_validate(meta["config"])
    count = Stepper.input_channels(len(channels), meta["window"], len(meta["forcings"]), len(fields["static"]))
    network = build_network(config.model, grid, count, len(channels))
    load_weights(network, {name.removeprefix("network."): t for name, t in tensors.items()}, str(path))
    mark_trained(network, grid.shape)
    scales = Scales(**{name: torch.tensor(values) for name, values in meta["normalisation"].items()})
    stepper = Stepper(network, scales, fields["static"], fields["mask"], meta["window"]).to(device).eval()
    cycle = SeasonalCycle(fields["cycle_minutes"].numpy(), fields["cycle"].numpy())
    step = duration(meta["step_seconds"])
    first, second = meta["dtypes"]
    return Checkpoint(
        stepper,
        channels,
        meta["attrs"],
        grid,
        (first, second),
        step,
        cycle,
        config,
        meta["provenance"],
        tuple(meta["forcings"]),
        np.array(meta["training_range"]) if "training_range" in meta else None,
    )


def grid_from(meta: Mapping[str, Any]) -> Grid:
    """Return the grid that the description of a checkpoint tells."""
    if "latitude" in meta:
        return LatLon(np.array(meta["latitude"]), np.array(meta["longitude"]))
    return Plane(np.array(meta["y"]), np.array(meta["x"]), tuple(meta["wraps"]))


def sha256(path: Path) -> str:
    """Return the checksum of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
