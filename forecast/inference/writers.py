"""Forecast files, filled field by field as a rollout proceeds, so that memory stays small.

A chunk is a field; a shard has one lead time of a batch of initial times.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from ...datasets.stopping import Stopped
from ...datasets.store import atomic
from ...datasets.store.netcdf import time_encoding, write_netcdf
from ...datasets.store.open import consolidate
from ...fno.progress import Progress
from .initial_states import TimeArray
from .layout import ForecastLayout
from .limits import Limits

Rollout = Callable[[TimeArray], Iterator[NDArray[np.float32]]]
"""Function that yields the forecast of a batch of initial times, lead time by lead time."""

PROGRESS = "progress.json"
"""Name of the file next to an unfinished forecast that records how many of its batches are complete."""


def write_forecast(
    layout: ForecastLayout,
    rollout: Rollout,
    times: TimeArray,
    *,
    output: Path,
    limits: Limits,
    batch_size: int = 32,
    overwrite: bool = False,
    identity: str = "",
    progress: Progress | None = None,
) -> None:
    """Run forecasts batch by batch and write them as they are computed.

    Complete batches are kept under a hidden name next to ``output``, and an interrupted run with the same
    arguments resumes after them. The result has the same values and attributes as that of an uninterrupted
    run; its ``history`` is that of the first attempt.

    Args:
        layout: model, grid and variables.
        rollout: runs a batch of initial times.
        times: initial times, shape (time,).
        output: zarr store to write, or a netCDF file if it ends in ``.nc``.
        limits: observer of what ``rollout`` yields, whose records become attributes of the variables.
        batch_size: number of initial times in a batch.
        overwrite: replace an existing forecast.
        identity: text that identifies model, initial states and options; a partial forecast with another one
            is not resumed.
        progress: called with (steps done, total steps, text).

    Raises:
        FileExistsError: ``output`` exists and ``overwrite`` is false.
        OSError: the disk is full; complete batches are kept for the next attempt.
        Stopped: interrupted by the user; complete batches are kept.
    """
    with atomic.replacing(output, overwrite=overwrite, kind="forecast", keep_partial=True) as temporary:
        to_netcdf = output.suffix == ".nc"
        store = temporary.with_name("store.zarr") if to_netcdf else temporary
        batch_size = min(batch_size, len(times))
        partial = _Partial(store, _identify(layout, times, batch_size=batch_size, identity=identity), limits)
        _fill(layout, rollout, times, partial=partial, batch_size=batch_size, progress=progress)
        if not to_netcdf:
            consolidate(temporary)
            return
        with xr.open_zarr(store, consolidated=False, decode_timedelta=True) as dataset:
            write_netcdf(_in_order(dataset, layout.variables), temporary, layout.checkpoint.step)


def _in_order(dataset: xr.Dataset, names: list[str]) -> xr.Dataset:
    """Return a data set in a fixed order of variables; zarr lists the arrays of a store in any order."""
    fields = {name: dataset.variables[name] for name in names}
    coordinates = {name: dataset.variables[name] for name in sorted(map(str, dataset.coords))}
    return xr.Dataset(fields, coordinates, dataset.attrs)


def _identify(layout: ForecastLayout, times: TimeArray, *, batch_size: int, identity: str) -> str:
    """Return a text that contains everything on which the values of a forecast depend."""
    axes = [layout.grid.along_rows.tolist(), layout.grid.along_columns.tolist()]
    described = (layout.steps, layout.variables, batch_size, repr(layout.ensemble))
    return json.dumps([identity, times.astype(str).tolist(), *described, *axes])


class _Partial:
    """A forecast that is being written, and the record of its complete batches.

    Args:
        store: zarr store.
        identity: text that identifies the forecast.
        limits: counts of the complete batches.
    """

    def __init__(self, store: Path, identity: str, limits: Limits) -> None:
        self.store = store
        self.identity = identity
        self.limits = limits
        self._file = store.with_name(PROGRESS)

    def resume(self) -> int | None:
        """Restore the counts and return the number of complete batches.

        None where there is no partial forecast, or one with another identity.
        """
        try:
            record = json.loads(self._file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        if not self.store.exists() or record["identity"] != self.identity or "limits" not in record:
            return None
        self.limits.restore(record["limits"])
        return int(record["batches"])

    def create(self, empty: xr.Dataset, batch_size: int, time: dict[str, Any]) -> None:
        """Replace the store by one without values.

        Args:
            empty: layout of the forecast.
            batch_size: number of initial times in a shard.
            time: encoding of times.
        """
        atomic.remove(self.store)
        encoding: dict[str, Any] = {"time": time, "valid_time": time}
        for name, array in empty.data_vars.items():
            chunks = (*(1,) * (array.ndim - 2), *array.shape[-2:])
            encoding[str(name)] = {"chunks": chunks, "shards": (batch_size, 1, *array.shape[2:])}
        empty.to_zarr(
            self.store, mode="w", compute=False, encoding=encoding, consolidated=False, safe_chunks=False
        )
        self.record(0)

    def record(self, batches: int) -> None:
        """Record that ``batches`` batches are complete."""
        record = {"identity": self.identity, "batches": batches, "limits": self.limits.state()}
        atomic.write_file(self._file, json.dumps(record).encode())


def _fill(
    layout: ForecastLayout,
    rollout: Rollout,
    times: TimeArray,
    *,
    partial: _Partial,
    batch_size: int,
    progress: Progress | None,
) -> None:
    """Run and write the batches that are not complete."""
    done = partial.resume()
    if done is None:
        done = 0
        partial.create(layout.empty(times, batch_size), batch_size, time_encoding(layout.checkpoint.step))
    group = zarr.open_group(partial.store, mode="r+")
    arrays: dict[str, zarr.Array] = {}
    for name in layout.variables:
        array = group[name]
        assert isinstance(array, zarr.Array)
        arrays[name] = array
    count = -(-len(times) // batch_size)
    leads = layout.steps + 1
    try:
        for batch in range(done, count):
            where = slice(batch * batch_size, min((batch + 1) * batch_size, len(times)))
            for lead, fields in enumerate(rollout(times[where])):
                for name, array in arrays.items():
                    array[where, lead] = layout.extract(fields, name)
                if progress:
                    progress(batch * leads + lead + 1, count * leads, "forecast")
            for name in arrays:
                atomic.sync_all(partial.store / name / "c" / str(batch))
            partial.record(batch + 1)
            done = batch + 1
    except KeyboardInterrupt as error:
        text = f"forecasts of {done * batch_size} of {len(times)} initial times are written"
        raise Stopped(f"{text}; the same command resumes after them") from error
    for name, array in arrays.items():
        array.attrs.update(partial.limits.attributes(name))
