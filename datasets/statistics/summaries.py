"""Statistics and climatology of a store, written into it a group of channels at a time."""

import logging
from functools import partial
from pathlib import Path

import dask.array
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from zarr.abc.store import Store

from ...fno.grids import Box
from ..adapters.opening import open_zarr
from ..durations import format_time
from ..ingest.plan import COMPRESSOR, SHARD_BYTES, Plan
from ..schema import channels, grid_of, implausible
from ..store.direct import DirectFields
from ..store.fields import Fields, Float
from .climatology import (
    DayReader,
    DaySums,
    SeasonalCycle,
    day_of_year,
    day_sums,
    minute_of_day,
    windowed_mean,
)
from .moments import compute_statistics, to_dataset

log = logging.getLogger(__name__)


def write_summaries(plan: Plan, path: Path | Store) -> None:
    """Write statistics and climatology, as many channels at a time as there is room for."""
    dataset, grid = plan.dataset, grid_of(plan.dataset)
    names, named = list(dataset.data_vars), channels(dataset)
    fields, parts = DirectFields(open_zarr(path)[names], path), []
    _lay_out_climatology(plan, path)
    for group, held in _groups(plan, fields):
        some = fields.part(group, cache_bytes=0 if held else min(2**27, plan.room // 16))
        times, shape = some.times[plan.fit], some.shape[1:]
        days = DaySums(times, shape) if held else None
        statistics = compute_statistics(
            some,
            plan.fit,
            grid,
            gaps=plan.gaps,
            block_bytes=max(4 * some.array[0].size, min(2**25, plan.room // 64)),
            days=days,
        )
        for channel, share, least, largest in zip(
            named[group], statistics.missing, statistics.minimum, statistics.maximum, strict=True
        ):
            if share == 1:
                first, last = (format_time(np.datetime64(text)) for text in statistics.period)
                raise ValueError(
                    f"{channel} has no value in the period from {first} to {last}; leave it out, or repair it"
                )
            if warning := implausible(
                channel,
                str(dataset[channel.variable].attrs.get("standard_name", "")),
                least=float(least),
                largest=float(largest),
            ):
                log.warning("%s", warning)
        parts.append(statistics)
        most = max(1, min(64, plan.room // (64 * 4 * int(np.prod(shape)))))
        of = days.of if days else day_sums(times, shape, partial(_read_from, some, plan.fit.start), most=most)
        _write_climatology(plan, of, group, cycle=statistics.cycle, path=path)
    to_dataset(parts, named).to_zarr(path, group="statistics", mode="w", consolidated=False)


def _read_from(fields: Fields, start: int, positions: NDArray[np.int64]) -> Float:
    return fields.read(start + positions)


def _groups(plan: Plan, fields: Fields) -> list[tuple[slice, bool]]:
    """Return runs of channels whose sums fit into the room, and whether the sums of every day of the year do
    too.

    Whole variables where they fit, or else levels of one: then its shards are read again for the climatology
    rather than once for every few levels.
    """
    point = int(np.prod(fields.shape[2:]))
    times, clocks = fields.times[plan.fit], len(_times_of_day(plan))
    each = point * (8 * (2 * 7 * clocks + 6) + 24 * clocks + 16 * 31)
    with_days = each + point * 10 * clocks * len(np.unique(day_of_year(times)))
    limit = plan.room // 3
    result: list[tuple[slice, bool]] = []
    at = 0
    for v in plan.dataset.data_vars.values():
        count = v.sizes.get("level", 1)
        held = count * with_days <= limit
        most = max(1, limit // (with_days if held else each))
        if result and result[-1][1] == held and at + count - result[-1][0].start <= most:
            result[-1] = slice(result[-1][0].start, at + count), held
        else:
            result += [(slice(a, min(a + most, at + count)), held) for a in range(at, at + count, most)]
        at += count
    return result


def _times_of_day(plan: Plan) -> NDArray[np.int64]:
    """Return the times of day of the climatology [min]."""
    if isinstance(grid_of(plan.dataset), Box):  # a flow has no seasons: its mean is its cycle
        return np.array([0])
    return np.unique(minute_of_day(plan.dataset["time"].values[plan.fit]))


def _lay_out_climatology(plan: Plan, path: Path | Store) -> None:
    """Write an empty climatology, with WeatherBench2's dimensions (hour, dayofyear)."""
    dataset, minutes, times = plan.dataset, _times_of_day(plan), plan.dataset["time"].values[plan.fit]
    count = 1 if isinstance(grid_of(dataset), Box) else 366
    coords = {
        "hour": minutes / 60 if (minutes % 60).any() else minutes // 60,
        "dayofyear": np.arange(1, count + 1),
    }
    template, encoding = {}, {}
    for name, v in dataset.data_vars.items():
        chunk = (len(minutes), 1, *v.shape[1:])
        lazy = dask.array.full((len(minutes), count, *v.shape[1:]), np.nan, dtype=np.float32, chunks=chunk)
        template[str(name)] = xr.DataArray(
            lazy,
            coords | {d: v.coords[d] for d in v.dims[1:]},
            ("hour", "dayofyear", *v.dims[1:]),
            attrs=v.attrs,
        )
        shards = (len(minutes), min(_days_of_a_shard(plan), count), *v.shape[1:])
        encoding[str(name)] = {"chunks": chunk, "shards": shards, "compressors": (COMPRESSOR,)}
    empty = xr.Dataset(template, attrs={"period": [str(times[0]), str(times[-1])], "window_days": 31})
    empty.to_zarr(
        path,
        group="climatology",
        mode="w",
        compute=False,
        encoding=encoding,
        consolidated=False,
        safe_chunks=False,
    )


def _days_of_a_shard(plan: Plan) -> int:
    largest = max(v.size // len(v) for v in plan.dataset.data_vars.values())
    return max(1, min(366, min(SHARD_BYTES, plan.room // 32) // (4 * len(_times_of_day(plan)) * largest)))


def _write_climatology(
    plan: Plan, of: DayReader, group: slice, *, cycle: SeasonalCycle, path: Path | Store
) -> None:
    """Write the windowed mean of the training period, whole shards at a time.

    Days that a period of less than a year never comes near are filled from the seasonal cycle.

    Args:
        plan: of the store.
        of: returns sum and count of a day of the year.
        group: which channels they are of.
        cycle: seasonal cycle of these channels.
        path: store.
    """
    if isinstance(grid_of(plan.dataset), Box):
        return _write_days(
            plan.dataset,
            cycle.at(plan.dataset["time"].values[:1])[:, None],
            first=group.start,
            last=1,
            path=path,
        )
    minutes, days, held = _times_of_day(plan).astype("timedelta64[m]"), _days_of_a_shard(plan), []
    for day, means in windowed_mean(of):
        date = np.datetime64("2004-01-01", "ns") + np.timedelta64(day - 1, "D") + minutes
        held.append(np.where(np.isfinite(means), means, cycle.at(date)))
        if len(held) == days or day == 366:
            _write_days(plan.dataset, np.stack(held, axis=1), first=group.start, last=day, path=path)
            held = []


def _write_days(dataset: xr.Dataset, block: np.ndarray, *, first: int, last: int, path: Path | Store) -> None:
    """Write the days up to ``last`` of the climatology of the channels from ``first`` on, shape (hour, day,
    channel, H, W).
    """
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
