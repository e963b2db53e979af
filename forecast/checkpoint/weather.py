"""Checkpoints of forecast models: everything that a forecast needs, in open formats.

``weights.safetensors`` contains the network and the fields that belong to it (seasonal cycle, static fields,
mask); ``meta.json`` the channels, grid, time step, normalisation and configuration.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...datasets.durations import to_seconds, to_timedelta64
from ...datasets.forcings import FORCINGS, NAMES
from ...datasets.schema import Channel
from ...datasets.statistics.climatology import SeasonalCycle
from ...datasets.stored_forcings import ForcingScales
from ...fno.grids import Box, Grid, LatLon
from ...fno.models.base import mark_trained
from ...fno.models.stepper import Scales, Stepper
from ...fno.weights.blueprint import check_blueprint
from ..config.weather import WeatherConfig
from ..model import build_network
from .description import ForecastDescription
from .folder import StoredCheckpoint, write_checkpoint
from .weather_fields import check_entries, check_values

TASK = "weather"


@dataclass(frozen=True)
class Checkpoint:
    """A trained forecast model and the data it was trained for.

    Attributes:
        stepper: the model of one time step.
        channels: channels of the state, in order.
        attrs: CF attributes of each variable.
        grid: grid of the state.
        dtypes: data types of the two coordinates in the training store.
        step: time step.
        cycle: seasonal cycle from which anomalies are departures.
        config: resolved configuration.
        provenance: training data, periods and scores.
        forcings: names of the input fields that are computed in advance, such as insolation.
        stored_forcings: input fields that are read and not forecast, such as the sea-surface temperature, and
            their normalisation; None without any.
        ranges: minimum and maximum of each channel in the training data, shape (2, channel); None where
            unknown.
        identity: checksum of weights and metadata; empty before it is stored.
        path: folder that it was loaded from.
    """

    stepper: Stepper
    channels: list[Channel]
    attrs: dict[str, dict[str, Any]]
    grid: Grid
    dtypes: tuple[str, str]
    step: np.timedelta64
    cycle: SeasonalCycle
    config: WeatherConfig
    provenance: dict[str, Any]
    forcings: tuple[str, ...] = NAMES
    stored_forcings: ForcingScales | None = None
    ranges: NDArray[np.float64] | None = None
    identity: str = ""
    path: Path | None = None


def save_checkpoint(checkpoint: Checkpoint, path: Path, *, overwrite: bool = False) -> None:
    """Write a checkpoint under a temporary name and rename it.

    Raises:
        FileExistsError: ``path`` exists and may not be replaced.
    """
    stepper = checkpoint.stepper
    grid = checkpoint.grid
    tensors = {f"network.{name}": tensor for name, tensor in stepper.network.state_dict().items()}
    tensors |= {
        "fields.static": stepper.static,
        "fields.mask": stepper.mask,
        "fields.cycle": torch.from_numpy(checkpoint.cycle.coefficients),
        "fields.cycle_minutes": torch.from_numpy(checkpoint.cycle.minutes.astype(np.int64)),
    }
    stored = checkpoint.stored_forcings
    if stored is not None:
        tensors["fields.forcing_mask"] = torch.from_numpy(stored.mask)
    scales = ("mean", "std", "anomaly_std", "tendency_std")
    meta = {
        "config": checkpoint.config.model_dump(mode="json"),
        "channels": [asdict(channel) for channel in checkpoint.channels],
        "attrs": checkpoint.attrs,
        **{axis: points.tolist() for axis, points in grid.coordinates.items()},
        **({"wraps": list(grid.periodic)} if isinstance(grid, Box) else {}),
        "dtypes": list(checkpoint.dtypes),
        "step_seconds": to_seconds(checkpoint.step),
        "window": stepper.window,
        "normalisation": {name: getattr(stepper, name).flatten().tolist() for name in scales},
        "forcings": list(checkpoint.forcings),
        **({} if stored is None else {"stored_forcings": _stored_forcings_meta(stored)}),
        **({} if checkpoint.ranges is None else {"training_range": checkpoint.ranges.tolist()}),
        "provenance": checkpoint.provenance,
    }
    write_checkpoint(path, TASK, tensors, meta=meta, overwrite=overwrite)


def load_checkpoint(source: str | Path | StoredCheckpoint, device: str = "cpu") -> Checkpoint:
    """Read the checkpoint of a forecast model.

    Args:
        source: folder, or one whose metadata was read before.
        device: where the model is placed.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: of another task, damaged, or changed after it was written; all sizes are checked before
            anything is allocated.
    """
    stored = source if isinstance(source, StoredCheckpoint) else StoredCheckpoint.open(source)
    path = str(stored.path)
    stored.require(TASK)
    description = stored.describe(ForecastDescription)
    entries = stored.entries()
    channels = [_channel(c) for c in description.channels]
    with stored.noting_changes():
        grid = grid_of_meta(stored)
        for name in description.forcings:
            FORCINGS.find(name)
        stored_forcings = description.stored_forcings
        extra = 0 if stored_forcings is None else len(stored_forcings.channels)
        static = check_entries(entries, len(channels), grid.shape, source=path, forcings=extra)
    model = description.config.model
    lead_times = description.config.train.lead_times
    count = Stepper.input_channels(
        len(channels),
        window=description.window,
        forcings=len(description.forcings) + extra,
        static=static,
        noise=model.noise_channels,
        lead_time=bool(lead_times),
    )

    def build() -> nn.Module:
        return build_network(model, grid, in_channels=count, out_channels=len(channels), quiet=True)

    layers = model.members * model.layers
    own = {name.removeprefix("network."): e for name, e in entries.items() if not name.startswith("fields.")}
    with stored.noting_changes():
        check_blueprint(build, own, layers=layers, source=path)
    network = build()
    fields = stored.restore(network, entries, "network.")
    mark_trained(network, grid.shape)
    check_values(fields, path)
    scales = Scales(**{name: torch.tensor(v) for name, v in stored.meta["normalisation"].items()})
    stepper = Stepper(
        network,
        scales,
        fields["fields.static"],
        mask=fields["fields.mask"],
        window=description.window,
        noise_channels=model.noise_channels,
        damping=model.damping,
        lead_times=lead_times,
    )
    return Checkpoint(
        stepper=stepper.to(device).eval(),
        channels=channels,
        attrs=description.attrs,
        grid=grid,
        dtypes=(description.dtypes[0], description.dtypes[1]),
        step=to_timedelta64(stored.meta["step_seconds"]),
        cycle=SeasonalCycle(fields["fields.cycle_minutes"].numpy(), fields["fields.cycle"].numpy()),
        config=description.config,
        provenance=stored.meta["provenance"],
        forcings=tuple(description.forcings),
        stored_forcings=None
        if stored_forcings is None
        else ForcingScales(
            [_channel(c) for c in stored_forcings.channels],
            np.array(stored_forcings.mean),
            np.array(stored_forcings.std),
            fields["fields.forcing_mask"].numpy(),
        ),
        ranges=None if description.training_range is None else np.array(description.training_range),
        identity=stored.identity,
        path=stored.path,
    )


def _channel(described: Any) -> Channel:
    """Return the channel that metadata describe."""
    level = cast("int | None", described.level)
    return Channel(described.variable, level, described.units, described.place)


def _stored_forcings_meta(scales: ForcingScales) -> dict[str, Any]:
    return {
        "channels": [asdict(channel) for channel in scales.channels],
        "mean": scales.mean.tolist(),
        "std": scales.std.tolist(),
    }


def open_metadata(path: str | Path) -> StoredCheckpoint:
    """Return the checkpoint of a forecast model whose metadata, but not whose weights, were checked.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: of another task, damaged, or changed after it was written.
    """
    stored = StoredCheckpoint.open(path)
    stored.verify()
    stored.require(TASK)
    stored.describe(ForecastDescription)
    grid_of_meta(stored)
    return stored


def grid_of_meta(stored: StoredCheckpoint) -> Grid:
    """Return the grid that the metadata of a checkpoint describes.

    Raises:
        ValueError: the coordinates are not those of a grid.
    """
    try:
        return _grid(stored.meta)
    except ValueError as error:
        raise ValueError(f"{stored.path}/meta.json: {error}") from error


def _grid(meta: Mapping[str, Any]) -> Grid:
    if meta.get("latitude") is not None:
        return LatLon(np.array(meta["latitude"]), np.array(meta["longitude"]))
    coordinates = {axis: np.array(meta[axis]) for axis in ("y", "x")}
    return Box.from_coordinates(coordinates, tuple(meta["wraps"]))
