"""Forecast files: laid out before the first field is known, then filled as fields come, so that memory stays small.

The layout is what WeatherBench2 and WeatherBench-X read: ``time`` (initial time), ``prediction_timedelta``,
``[number]``, ``[level]``, ``latitude``, ``longitude``, and ``valid_time``. A chunk is a field; a shard holds one lead time of a batch of
initial times.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from .. import __version__
from ..datasets import atomic
from ..datasets.stores import consolidate, time_encoding
from .checkpoint import Checkpoint
from .output_grid import OutputGrid

Float = NDArray[np.float32]
Times = NDArray[np.datetime64]
Rollout = Callable[[Times], Iterator[Float]]
Progress = Callable[[int, int, str], None]

_ATTRIBUTES = {
    "latitude": {"standard_name": "latitude", "units": "degrees_north"},
    "longitude": {"standard_name": "longitude", "units": "degrees_east"},
}


def template(checkpoint: Checkpoint, grid: OutputGrid, times: Times, steps: int, variables: list[str], batch: int, members: int = 1) -> xr.Dataset:
    """Return an empty forecast of given initial times, lazy, with its coordinates and attributes."""
    rows, columns = grid.axes
    leads = np.arange(steps + 1) * checkpoint.step.astype("timedelta64[ns]")
    coords: dict[str, Any] = {
        "time": ("time", times, {"standard_name": "forecast_reference_time", "long_name": "initial time"}),
        "prediction_timedelta": ("prediction_timedelta", leads, {"standard_name": "forecast_period", "long_name": "lead time"}),
        rows: (rows, grid.along_rows, _ATTRIBUTES.get(rows) or checkpoint.attrs.get(rows, {})),
        columns: (columns, grid.along_columns, _ATTRIBUTES.get(columns) or checkpoint.attrs.get(columns, {})),
        "valid_time": (("time", "prediction_timedelta"), times[:, None] + leads, {"standard_name": "time", "long_name": "valid time"}),
    }
    if members > 1:
        coords["number"] = ("number", np.arange(members, dtype=np.int32), {"standard_name": "realization", "long_name": "member, 0 is not perturbed"})
    number, size = (("number",), (members,)) if members > 1 else ((), ())
    fields = {}
    for name in variables:
        levels = [c.level for c in checkpoint.channels if c.variable == name]
        dims: tuple[str, ...] = ("time", "prediction_timedelta", *number, rows, columns)
        shape: tuple[int, ...] = (len(times), steps + 1, *size, len(grid.along_rows), len(grid.along_columns))
        if levels != [None]:
            dims, shape = (*dims[:-2], "level", *dims[-2:]), (*shape[:-2], len(levels), *shape[-2:])
            coords["level"] = ("level", np.array(levels, np.int32), {"standard_name": "air_pressure", "units": "hPa", "positive": "down"})
        lazy = da.full(shape, np.nan, dtype=np.float32, chunks=(batch, 1, *shape[2:]))
        fields[name] = xr.DataArray(lazy, dims=dims, attrs=checkpoint.attrs.get(name, {}))
    source = f"fourcaster {__version__}, {checkpoint.config.model.kind}"
    attrs = {"Conventions": "CF-1.11", "title": "forecast", "source": source} | ({"comment": grid.note} if grid.note else {})
    return xr.Dataset(fields, coords, attrs)


def write_forecast(
    checkpoint: Checkpoint,
    grid: OutputGrid,
    rollout: Rollout,
    times: Times,
    steps: int,
    path: Path,
    variables: list[str] | None = None,
    batch: int = 32,
    overwrite: bool = False,
    identity: str = "",
    progress: Progress | None = None,
    members: int = 1,
) -> None:
    """Run forecasts batch by batch and write them as they come.

    What is written so far lies beside ``path`` under a hidden name; a run with the same arguments that was stopped
    is taken up after its last whole batch.

    Args:
        checkpoint: model, for the layout.
        grid: where to write on.
        rollout: makes the forecast of a batch of initial times, step by step.
        times: initial times.
        steps: number of steps.
        path: zarr store to make, or a netCDF file if it ends in ``.nc``.
        variables: variables to write; all by default.
        batch: initial times of a batch.
        overwrite: replace an existing forecast.
        identity: names what the forecast is made from; a partial one with another is not taken up.
        progress: called with (batches done, batches in all, text).
        members: members of an ensemble.

    Raises:
        FileExistsError: ``path`` exists and may not be replaced.
        OSError: no room; what is written stays for the next try.
    """
    atomic.recover(path)
    names = variables or list(dict.fromkeys(c.variable for c in checkpoint.channels))
    index = {n: [i for i, c in enumerate(checkpoint.channels) if c.variable == n] for n in names}
    batch = min(batch, len(times))
    identity = json.dumps([identity, times.astype(str).tolist(), steps, names, batch, members, grid.along_rows.tolist(), grid.along_columns.tolist()])
    if path.suffix == ".nc":
        hidden = path.with_name(f".{path.name}.zarr")
        write_forecast(checkpoint, grid, rollout, times, steps, hidden, variables, batch, True, identity, progress, members)
        with atomic.replacing(path, overwrite) as temporary, xr.open_zarr(hidden, consolidated=False, decode_timedelta=True) as dataset:
            dataset.to_netcdf(temporary, engine="netcdf4", encoding=dict.fromkeys(("time", "valid_time"), time_encoding(checkpoint.step)))
        atomic.remove(hidden)
        return
    with atomic.replacing(path, overwrite, keep_partial=True) as temporary:
        done = _batches_done(temporary, identity)
        if done is None:
            atomic.remove(temporary)
            done = 0
            _lay_out(template(checkpoint, grid, times, steps, names, batch, members), temporary, batch, time_encoding(checkpoint.step))
            _note(temporary, identity, 0)
        group = zarr.open_group(temporary, mode="r+")
        arrays: dict[str, Any] = {name: group[name] for name in names}
        number = -(-len(times) // batch)
        for b in range(done, number):
            where = slice(b * batch, min((b + 1) * batch, len(times)))
            for lead, fields in enumerate(rollout(times[where])):
                for name, channels in index.items():
                    part = grid.apply(np.take(fields, channels, axis=-3))
                    arrays[name][where, lead] = part if part.ndim + 1 == arrays[name].ndim else part[..., 0, :, :]
                if progress:
                    progress(b * (steps + 1) + lead + 1, number * (steps + 1), "forecast")
            _note(temporary, identity, b + 1)
        (temporary / PROGRESS).unlink()
        consolidate(temporary)


PROGRESS = "progress.json"


def _lay_out(empty: xr.Dataset, path: Path, batch: int, time: dict[str, Any]) -> None:
    encoding: dict[str, Any] = {
        str(name): {"chunks": (*(1,) * (v.ndim - 2), *v.shape[-2:]), "shards": (batch, 1, *v.shape[2:])} for name, v in empty.data_vars.items()
    }
    encoding |= {"time": time, "valid_time": time}
    empty.to_zarr(path, mode="w", compute=False, encoding=encoding, consolidated=False, safe_chunks=False)


def _note(path: Path, identity: str, batches: int) -> None:
    temporary = path / f".{PROGRESS}"
    temporary.write_text(json.dumps({"identity": identity, "batches": batches}))
    os.replace(temporary, path / PROGRESS)


def _batches_done(path: Path, identity: str) -> int | None:
    """Return the whole batches of a partial forecast, or None where there is none that fits."""
    try:
        held = json.loads((path / PROGRESS).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return int(held["batches"]) if held["identity"] == identity else None
