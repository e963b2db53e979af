"""The canonical zarr store: one chunk a time step, sharded, with statistics and climatology inside."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
import zarr

from ..fno.grids import LatLon
from . import atomic
from .adapters.opening import open_raw, open_zarr
from .climatology import SeasonalCycle, windowed_mean
from .fields import Fields
from .schema import Channel, channels, grid_of, nearest, time_step
from .split import Split, cut, default_split, period
from .statistics import Statistics, compute_statistics, to_dataset

SHARD_BYTES = 2**25


@dataclass(frozen=True)
class Store:
    """An open canonical store.

    Attributes:
        path: where it is.
        dataset: its variables, lazy.
        step: time step.
        gaps: positions in time that a gap comes before.
    """

    path: Path
    dataset: xr.Dataset
    step: np.timedelta64
    gaps: list[int]

    @property
    def grid(self) -> LatLon:
        """Grid of the store."""
        return grid_of(self.dataset)

    @property
    def channels(self) -> list[Channel]:
        """Channels of the store."""
        return channels(self.dataset)

    @property
    def train_period(self) -> tuple[str, str]:
        """First and last time of the period that statistics and climatology were computed on."""
        first, last = json.loads(self.dataset.attrs["train_period"])
        return first, last

    def split(self, train_period: str | None = None, validation_fraction: float = 0.1) -> Split:
        """Return the split of the series: the store's own training period, or another one, then all that follows."""
        times = self.dataset["time"].values
        text = train_period or "/".join(self.train_period)
        fit = period(times, text)
        standard = default_split(times, validation_fraction) if len(times) >= 10 else None
        stop = standard.test.stop if standard and standard.test.start == fit.stop else len(times)
        return cut(fit.stop, stop, fit.start, validation_fraction)


def write_store(dataset: xr.Dataset, path: Path, train_period: str | None = None, allow_gaps: bool = False, overwrite: bool = False) -> Store:
    """Write a canonical data set as a store, with statistics and climatology of the training period.

    Lazy arrays are read and written a shard at a time. A write that dies leaves the old store, or none.

    Args:
        dataset: canonical data set.
        path: folder to make.
        train_period: ``START:STOP``; None takes the default split.
        allow_gaps: record gaps in time instead of refusing them.
        overwrite: replace an existing store.

    Raises:
        FileExistsError: the store exists and may not be replaced.
        ValueError: times are not sorted, unique and regular, or the period is empty.
        OSError: no room.
    """
    atomic.recover(path)
    times = dataset["time"].values
    step, gaps = time_step(times, str(dataset.encoding.get("source", "the source")), allow_gaps)
    fit = period(times, train_period) if train_period else default_split(times).fit
    grid, named = grid_of(dataset), channels(dataset)
    dataset = dataset.assign_attrs(
        Conventions="CF-1.11",
        time_step_seconds=int(step / np.timedelta64(1, "s")),
        gaps=json.dumps([str(times[g]) for g in gaps]),
        variables=json.dumps([str(name) for name in dataset.data_vars]),
        train_period=json.dumps([str(times[fit][0]), str(times[fit][-1])]),
    )
    with atomic.replacing(path, overwrite) as temporary, dask.config.set(scheduler="threads"):
        encoding = {str(name): field_encoding(v, SHARD_BYTES) for name, v in dataset.data_vars.items()}
        shards = {"time": max((e["shards"][0] for e in encoding.values()), default=1)}
        for name, e in encoding.items():  # one shard length for all, so that dask chunks fit every variable
            e["shards"] = (shards["time"], *e["shards"][1:])
            dataset[name].encoding = {}
        dataset.chunk(shards).to_zarr(temporary, mode="w", encoding=encoding | {"time": time_encoding()}, consolidated=False)
        # A folder lists its arrays in any order.
        written = Fields(open_zarr(temporary)[list(dataset.data_vars)], cache_bytes=2**27)
        statistics = compute_statistics(written, fit, grid.area_weights, gaps)
        to_dataset(statistics, named).to_zarr(temporary, group="statistics", mode="w", consolidated=False)
        _write_climatology(dataset, written, fit, statistics.cycle, temporary)
        consolidate(temporary)
    return open_store(path)


def consolidate(path: Path) -> None:
    """Gather the metadata of a zarr store in one file, so that it opens at once and without a warning."""
    with warnings.catch_warnings():  # that the third version of the format does not know this yet
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(path)


def write_dataset(dataset: xr.Dataset, path: Path, overwrite: bool) -> None:
    """Write a data set whole or not at all: netCDF if the name ends in .nc, else zarr.

    Raises:
        FileExistsError: ``path`` exists and may not be replaced.
        OSError: no room.
    """
    with atomic.replacing(path, overwrite) as temporary:
        if path.suffix == ".nc":
            dataset.to_netcdf(temporary, engine="netcdf4")
        else:
            dataset.to_zarr(temporary, mode="w", consolidated=False)
            consolidate(temporary)


def field_encoding(variable: xr.DataArray, shard_bytes: int) -> dict[str, Any]:
    """Return the zarr encoding of a field: a chunk holds one time, a shard as many as fit."""
    one = (1, *variable.shape[1:])
    count = max(1, min(len(variable), shard_bytes // (4 * int(np.prod(one)))))
    return {"chunks": one, "shards": (count, *one[1:]), "dtype": "float32"}


def time_encoding() -> dict[str, Any]:
    """Return the encoding of a time coordinate that keeps every second."""
    return {"units": "seconds since 1970-01-01", "dtype": "int64", "calendar": "proleptic_gregorian"}


def _write_climatology(dataset: xr.Dataset, fields: Fields, fit: slice, cycle: SeasonalCycle, path: Path) -> None:
    """Write the windowed mean of the training period a day at a time, with WeatherBench2's dimensions (hour, dayofyear).

    Days that a period of less than a year never comes near are filled from the seasonal cycle.
    """
    start = fit.start
    template: dict[str, xr.DataArray] = {}
    for day, minutes, means in windowed_mean(fields.times[fit], lambda at: fields.read(at + start)):
        if not template:
            coords = {"hour": minutes / 60 if (minutes % 60).any() else minutes // 60, "dayofyear": np.arange(1, 367)}
            for name, v in dataset.data_vars.items():
                shape = (len(minutes), 366, *v.shape[1:])
                dims = ("hour", "dayofyear", *v.dims[1:])
                lazy = dask.array.full(shape, np.nan, dtype=np.float32, chunks=(len(minutes), 1, *v.shape[1:]))
                template[str(name)] = xr.DataArray(lazy, coords | {d: v.coords[d] for d in v.dims[1:]}, dims, attrs=v.attrs)
            empty = xr.Dataset(template, attrs={"period": [str(fields.times[fit][0]), str(fields.times[fit][-1])], "window_days": 31})
            days = max(1, min(366, SHARD_BYTES // (4 * int(np.prod(means.shape)))))
            encoding = {n: {"chunks": (len(minutes), 1, *v.shape[2:]), "shards": (len(minutes), days, *v.shape[2:])} for n, v in template.items()}
            empty.to_zarr(path, group="climatology", mode="w", compute=False, encoding=encoding, consolidated=False, safe_chunks=False)
            held: list[np.ndarray] = []
        date = np.datetime64("2004-01-01", "ns") + np.timedelta64(day - 1, "D") + minutes.astype("timedelta64[m]")
        held.append(np.where(np.isfinite(means), means, cycle.at(date)))
        if len(held) == days or day == 366:
            _write_days(template, np.stack(held, axis=1), day, path)
            held = []


def _write_days(template: dict[str, xr.DataArray], block: np.ndarray, last: int, path: Path) -> None:
    """Write the days up to ``last`` of the climatology, shape (hour, day, channel, H, W)."""
    variables, at = {}, 0
    for name, v in template.items():
        levels = v.sizes.get("level")
        values = block[:, :, at] if levels is None else block[:, :, at : at + levels]
        variables[name] = (v.dims, values)
        at += levels or 1
    where = {"dayofyear": slice(last - block.shape[1], last)}
    xr.Dataset(variables).to_zarr(path, group="climatology", region=where, consolidated=False, safe_chunks=False)


def open_store(path: str | Path, whole_shards: bool = True) -> Store:
    """Open a store.

    Args:
        path: folder.
        whole_shards: read a shard at a time; else a time at a time, for random access.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is not a store that ``write_store`` made.
    """
    path = Path(path)
    atomic.recover(path)
    dataset = open_raw(str(path), whole_shards)
    if not {"time_step_seconds", "train_period", "gaps", "variables"} <= set(dataset.attrs):
        raise ValueError(f"{path} is not a store made by `forecast ingest`; run `forecast ingest {path} -o STORE` first")
    dataset = dataset[json.loads(dataset.attrs["variables"])]
    times = dataset["time"].values.astype("datetime64[ns]")
    gaps = [int(np.searchsorted(times, np.datetime64(text))) for text in json.loads(dataset.attrs["gaps"])]
    return Store(path, dataset, np.timedelta64(int(dataset.attrs["time_step_seconds"]), "s"), gaps)


def read_group(store: Store, group: str) -> xr.Dataset:
    """Return ``statistics`` or ``climatology`` of a store."""
    return open_zarr(store.path, group=group)


def store_statistics(store: Store, fields: Fields, fit: slice) -> Statistics:
    """Compute statistics and seasonal cycle of a period of a store."""
    return compute_statistics(fields, fit, store.grid.area_weights, store.gaps)


def select_variables(store: Store, variables: Sequence[str] | None) -> Store:
    """Return the store with only some variables.

    Raises:
        ValueError: a variable it does not hold.
    """
    for name in variables or ():
        if name not in store.dataset.data_vars:
            raise ValueError(f"{store.path} has no variable {name!r}; {nearest(name, store.dataset.data_vars)}")
    return store if variables is None else Store(store.path, store.dataset[list(variables)], store.step, store.gaps)
