"""Forecast files: laid out before the first field is known, then filled as fields come, so that memory stays
small.

The layout is what WeatherBench2 and WeatherBench-X read: ``time`` (initial time), ``prediction_timedelta``,
``[number]``, ``[level]``, ``latitude``, ``longitude``, and ``valid_time``. A chunk is a field; a shard holds
one lead time of a batch of initial times.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from ... import __version__
from ...datasets.stopping import Stopped
from ...datasets.store import atomic
from ...datasets.store.netcdf import (
    CONVENTIONS,
    PRESSURE_LEVEL,
    forecast_attributes,
    history,
    time_encoding,
    write_netcdf,
)
from ...datasets.store.open import consolidate
from ...fno.progress import Progress
from ..checkpoint.weather import Checkpoint
from .limits import Limits
from .output_grid import OutputGrid
from .perturbations import Ensemble

Float = NDArray[np.float32]
Times = NDArray[np.datetime64]
Rollout = Callable[[Times], Iterator[Float]]
PROGRESS = "progress.json"
"""Name of the file next to an unfinished forecast that says how much of it is whole."""

_EARTH = {
    "latitude": {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north", "axis": "Y"},
    "longitude": {
        "standard_name": "longitude",
        "long_name": "longitude",
        "units": "degrees_east",
        "axis": "X",
    },
}
_LEAD_TIME = {"standard_name": "forecast_period", "long_name": "lead time"}
_VALID_TIME = {"standard_name": "time", "long_name": "valid time"}


@dataclass(frozen=True)
class Layout:
    """What the forecasts of a model are laid out like.

    Attributes:
        checkpoint: model.
        grid: grid to write on.
        steps: number of steps after the initial state.
        variables: names of the variables to write.
        ensemble: members.
        history: line for the attribute ``history``; the time and the command by default.
    """

    checkpoint: Checkpoint
    grid: OutputGrid
    steps: int
    variables: list[str]
    ensemble: Ensemble
    history: str | None = None

    def channels(self, variable: str) -> list[int]:
        """Return the positions of a variable's channels."""
        return [i for i, channel in enumerate(self.checkpoint.channels) if channel.variable == variable]

    def part(self, fields: Float, variable: str) -> Float:
        """Return a variable of a lead time on the grid to write on, shape (time, [member], [level], row,
        column).
        """
        channels = self.channels(variable)
        values = self.grid.apply(np.take(fields, channels, axis=-3))
        return values if self.checkpoint.channels[channels[0]].level is not None else values[..., 0, :, :]

    def empty(self, times: Times, batch: int) -> xr.Dataset:
        """Return an empty, lazy forecast of given initial times, in chunks of ``batch`` of them."""
        checkpoint, members = self.checkpoint, self.ensemble.members
        leads = np.arange(self.steps + 1) * checkpoint.step.astype("timedelta64[ns]")
        coords: dict[str, Any] = {
            "time": (
                "time",
                times,
                {"standard_name": "forecast_reference_time", "long_name": "initial time"},
            ),
            "prediction_timedelta": ("prediction_timedelta", leads, _LEAD_TIME),
            "valid_time": (("time", "prediction_timedelta"), times[:, None] + leads, _VALID_TIME),
        }
        for axis, points in zip(self.grid.axes, (self.grid.along_rows, self.grid.along_columns), strict=True):
            coords[axis] = (axis, points, _EARTH.get(axis) or checkpoint.attrs.get(axis, {}))
        if members > 1:
            coords["number"] = ("number", np.arange(members, dtype=np.int32), self._of_members())
        fields = {}
        for name in self.variables:
            mine = [checkpoint.channels[i] for i in self.channels(name)]
            dims = ["time", "prediction_timedelta", *(["number"] if members > 1 else []), *self.grid.axes]
            if mine[0].level is not None:
                dims.insert(-2, "level")
                coords["level"] = (
                    "level",
                    np.array([channel.level for channel in mine], np.int32),
                    PRESSURE_LEVEL,
                )
            shape = tuple(len(coords[dim][1]) for dim in dims)
            lazy = da.full(shape, np.nan, dtype=np.float32, chunks=(batch, 1, *shape[2:]))
            attrs = forecast_attributes(name, checkpoint.attrs.get(name, {}), mine[0].units)
            fields[name] = xr.DataArray(lazy, dims=dims, attrs=attrs)
        described = {
            "Conventions": CONVENTIONS,
            "title": "forecast",
            "source": f"fourcaster {__version__}, {checkpoint.config.model.kind}",
            "history": self.history or history(),
        }
        return xr.Dataset(fields, coords, described | ({"comment": self.grid.note} if self.grid.note else {}))

    def _of_members(self) -> dict[str, str]:
        first = (
            "0 is not perturbed"
            if self.ensemble.control
            else "the two are one pair of opposite perturbations"
        )
        size = f"perturbations of {self.ensemble.amplitude:g} standard deviations of the anomalies"
        attrs = {"standard_name": "realization", "long_name": f"member, {first}", "units": "1"}
        return attrs | {"comment": f"{size}, seed {self.ensemble.seed}"}


def write_forecast(
    layout: Layout,
    rollout: Rollout,
    times: Times,
    path: Path,
    limits: Limits,
    *,
    batch: int = 32,
    overwrite: bool = False,
    identity: str = "",
    progress: Progress | None = None,
) -> None:
    """Run forecasts batch by batch and write them as they come.

    What is written so far lies next to ``path`` under a hidden name; a run with the same arguments that was
    interrupted is resumed after its last whole batch. It ends with the same values and attributes, its
    ``history`` included, which is that of the first attempt.

    Args:
        layout: model, grid and variables.
        rollout: makes the forecast of a batch of initial times, step by step.
        times: initial times.
        path: zarr store to write, or a netCDF file if it ends in ``.nc``.
        limits: watches what ``rollout`` yields; its record becomes the variables' attributes.
        batch: initial times of a batch.
        overwrite: replace an existing forecast.
        identity: names model, initial states and options; a partial one with another is not resumed.
        progress: called with (steps done, steps to do, text).

    Raises:
        FileExistsError: ``path`` exists and may not be replaced.
        OSError: no room; what is written stays for the next try.
    """
    with atomic.replacing(path, overwrite=overwrite, kind="forecast", keep_partial=True) as temporary:
        if path.suffix != ".nc":
            _fill(layout, rollout, times, temporary, limits, batch, identity, progress)
            consolidate(temporary)
            return
        store = temporary.with_name("store.zarr")
        _fill(layout, rollout, times, store, limits, batch, identity, progress)
        with xr.open_zarr(store, consolidated=False, decode_timedelta=True) as dataset:
            write_netcdf(dataset, temporary, layout.checkpoint.step)


def _fill(
    layout: Layout,
    rollout: Rollout,
    times: Times,
    path: Path,
    limits: Limits,
    batch: int,
    identity: str,
    progress: Progress | None,
) -> None:
    """Write forecasts batch by batch to a zarr store, from where an earlier call stopped."""
    batch, grid = min(batch, len(times)), layout.grid
    axes = [grid.along_rows.tolist(), grid.along_columns.tolist()]
    identity = json.dumps(
        [
            identity,
            times.astype(str).tolist(),
            layout.steps,
            layout.variables,
            batch,
            repr(layout.ensemble),
            *axes,
        ]
    )
    done = _batches_done(path, identity, limits)
    if done is None:
        atomic.remove(path)
        done = 0
        _lay_out(layout.empty(times, batch), path, batch, time_encoding(layout.checkpoint.step))
        _note(path, identity, 0, limits)
    group = zarr.open_group(path, mode="r+")
    arrays: dict[str, Any] = {name: group[name] for name in layout.variables}
    count = -(-len(times) // batch)
    try:
        for b in range(done, count):
            where = slice(b * batch, min((b + 1) * batch, len(times)))
            for lead, fields in enumerate(rollout(times[where])):
                for name, array in arrays.items():
                    array[where, lead] = layout.part(fields, name)
                if progress:
                    progress(b * (layout.steps + 1) + lead + 1, count * (layout.steps + 1), "forecast")
            for name in arrays:
                atomic.sync_all(path / name / "c" / str(b))
            _note(path, identity, b + 1, limits)
            done = b + 1
    except KeyboardInterrupt as error:
        kept = f"forecasts of {done * batch} of {len(times)} initial times are written"
        raise Stopped(f"{kept}; the same command resumes after them") from error
    for name, array in arrays.items():
        array.attrs.update(limits.attributes(name))


def _lay_out(empty: xr.Dataset, path: Path, batch: int, time: dict[str, Any]) -> None:
    encoding: dict[str, Any] = {
        str(name): {"chunks": (*(1,) * (v.ndim - 2), *v.shape[-2:]), "shards": (batch, 1, *v.shape[2:])}
        for name, v in empty.data_vars.items()
    }
    encoding |= {"time": time, "valid_time": time}
    empty.to_zarr(path, mode="w", compute=False, encoding=encoding, consolidated=False, safe_chunks=False)


def _note(path: Path, identity: str, batches: int, limits: Limits) -> None:
    noted = {"identity": identity, "batches": batches, "limits": limits.state()}
    atomic.write_file(path.with_name(PROGRESS), json.dumps(noted).encode())


def _batches_done(path: Path, identity: str, limits: Limits) -> int | None:
    """Return the whole batches of a partial forecast and take up the record of their limits, or None where
    there is none that fits.
    """
    try:
        noted = json.loads(path.with_name(PROGRESS).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if not path.exists() or noted["identity"] != identity or "limits" not in noted:
        return None
    limits.restore(noted["limits"])
    return int(noted["batches"])
