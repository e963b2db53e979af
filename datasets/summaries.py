"""Statistics and climatology of a store, written into it a group of channels at a time."""

import logging
from pathlib import Path

import dask.array
import numpy as np
import xarray as xr
from zarr.abc.store import Store

from ..fno.grids import Plane
from .adapters.opening import open_zarr
from .climatology import SeasonalCycle, minute_of_day, windowed_mean
from .direct import DirectFields
from .fields import Fields
from .plan import COMPRESSOR, SHARD_BYTES, Plan
from .schema import channels, grid_of, implausible
from .statistics import compute_statistics, to_dataset

log = logging.getLogger(__name__)


def write_summaries(plan: Plan, path: Path | Store) -> None:
    """Write statistics and climatology, as many channels at a time as there is room for."""
    dataset, weights = plan.dataset, grid_of(plan.dataset).area_weights
    names, named = list(dataset.data_vars), channels(dataset)
    fields, parts = DirectFields(open_zarr(path)[names], path), []
    for group in _groups(plan, fields):
        some = fields.part(group, cache_bytes=min(2**27, plan.room // 16))
        statistics = compute_statistics(some, plan.fit, weights, plan.gaps, max(4 * some.array[0].size, min(2**25, plan.room // 64)))
        for channel, share, least, largest in zip(named[group], statistics.missing, statistics.minimum, statistics.maximum, strict=True):
            if share == 1:
                raise ValueError(
                    f"{channel} holds no value in the period {statistics.period[0]} ... {statistics.period[1]}; leave it out, or mend it"
                )
            if warning := implausible(channel, str(dataset[channel.variable].attrs.get("standard_name", "")), float(least), float(largest)):
                log.warning("%s", warning)
        parts.append(statistics)
        _write_climatology(plan, some, group, statistics.cycle, path)
    to_dataset(parts, named).to_zarr(path, group="statistics", mode="w", consolidated=False)


def _groups(plan: Plan, fields: Fields) -> list[slice]:
    """Return runs of channels whose sums fit into the room: whole variables, or levels of one."""
    clocks = min(48, max(1, round(np.timedelta64(1, "D") / plan.step)))
    each = int(np.prod(fields.shape[2:])) * (8 * (2 * 7 * clocks + 6) + 24 * clocks + 16 * 31)
    most = max(1, plan.room // 3 // each)
    result: list[slice] = []
    at = 0
    for v in plan.dataset.data_vars.values():
        count = v.sizes.get("level", 1)
        if result and at + count - result[-1].start <= most:
            result[-1] = slice(result[-1].start, at + count)
        else:
            result += [slice(a, min(a + most, at + count)) for a in range(at, at + count, most)]
        at += count
    return result


def _write_climatology(plan: Plan, fields: Fields, group: slice, cycle: SeasonalCycle, path: Path | Store) -> None:
    """Write the windowed mean of the training period a few days at a time, with WeatherBench2's dimensions (hour, dayofyear).

    Days that a period of less than a year never comes near are filled from the seasonal cycle.

    Args:
        plan: of the store.
        fields: some of the channels.
        group: which ones; the first ones also make the group.
        cycle: seasonal cycle of ``fields``.
        path: store.
    """
    dataset, fit = plan.dataset, plan.fit
    most = max(1, min(64, plan.room // (64 * 4 * int(np.prod(fields.shape[1:])))))
    times, minutes = fields.times[fit], cycle.minutes
    if len(minutes) == 1:
        minutes = np.unique(minute_of_day(times))
    lasting = isinstance(grid_of(dataset), Plane)  # a flow has no seasons, and its mean is the cycle
    if lasting:
        minutes = np.array([0])
    one = len(minutes) * int(np.prod(fields.shape[2:])) * 4
    days = max(1, min(366, min(SHARD_BYTES, plan.room // 32) // (one * max(v.sizes.get("level", 1) for v in dataset.data_vars.values()))))
    if group.start == 0:
        coords = {"hour": minutes / 60 if (minutes % 60).any() else minutes // 60, "dayofyear": np.arange(1, 2 if lasting else 367)}
        template, encoding = {}, {}
        for name, v in dataset.data_vars.items():
            chunk = (len(minutes), 1, *v.shape[1:])
            lazy = dask.array.full((len(minutes), len(coords["dayofyear"]), *v.shape[1:]), np.nan, dtype=np.float32, chunks=chunk)
            template[str(name)] = xr.DataArray(lazy, coords | {d: v.coords[d] for d in v.dims[1:]}, ("hour", "dayofyear", *v.dims[1:]), attrs=v.attrs)
            encoding[str(name)] = {
                "chunks": chunk,
                "shards": (len(minutes), min(days, len(coords["dayofyear"])), *v.shape[1:]),
                "compressors": (COMPRESSOR,),
            }
        empty = xr.Dataset(template, attrs={"period": [str(times[0]), str(times[-1])], "window_days": 31})
        empty.to_zarr(path, group="climatology", mode="w", compute=False, encoding=encoding, consolidated=False, safe_chunks=False)
    held: list[np.ndarray] = []
    if lasting:
        return _write_days(dataset, cycle.at(times[:1])[:, None], group.start, 1, path)
    for day, clock, means in windowed_mean(times, lambda at: fields.read(at + fit.start), most=most):
        date = np.datetime64("2004-01-01", "ns") + np.timedelta64(day - 1, "D") + clock.astype("timedelta64[m]")
        held.append(np.where(np.isfinite(means), means, cycle.at(date)))
        if len(held) == days or day == 366:
            _write_days(dataset, np.stack(held, axis=1), group.start, day, path)
            held = []


def _write_days(dataset: xr.Dataset, block: np.ndarray, first: int, last: int, path: Path | Store) -> None:
    """Write the days up to ``last`` of the climatology of the channels from ``first`` on, shape (hour, day, channel, H, W)."""
    at, where = 0, {"dayofyear": slice(last - block.shape[1], last)}
    for name, v in dataset.data_vars.items():
        count = v.sizes.get("level", 1)
        low, high = max(first, at), min(first + block.shape[2], at + count)
        if low < high:
            values, dims = block[:, :, low - first : high - first], ("hour", "dayofyear", *v.dims[1:])
            region = where | ({"level": slice(low - at, high - at)} if "level" in v.dims else {})
            part = xr.Dataset({str(name): (dims, values if "level" in v.dims else values[:, :, 0])})
            part.to_zarr(path, group="climatology", region=region, consolidated=False, safe_chunks=False)
        at += count
