"""Writing of statistics and climatology to a store, one group of channels at a time."""

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
    """Write statistics and climatology, with as many channels at a time as fit into memory.

    Args:
        plan: plan of the store.
        path: store, whose fields are written.

    Raises:
        ValueError: a channel has no value in the training period.
    """
    dataset = plan.dataset
    grid = grid_of(dataset)
    all_channels = channels(dataset)
    fields = DirectFields(open_zarr(path)[list(dataset.data_vars)], path)
    parts = []
    _write_climatology_template(plan, path)
    for group, days_fit in _groups(plan, fields):
        group_fields = fields.part(group, cache_bytes=0 if days_fit else min(2**27, plan.room // 16))
        times = group_fields.times[plan.fit]
        shape = group_fields.shape[1:]
        days = DaySums(times, shape) if days_fit else None
        statistics = compute_statistics(
            group_fields,
            plan.fit,
            grid,
            gaps=plan.gaps,
            block_bytes=max(4 * group_fields.array[0].size, min(2**25, plan.room // 64)),
            days=days,
        )
        for channel, missing, minimum, maximum in zip(
            all_channels[group], statistics.missing, statistics.minimum, statistics.maximum, strict=True
        ):
            if missing == 1:
                first, last = (format_time(np.datetime64(text)) for text in statistics.period)
                raise ValueError(
                    f"{channel} has no value in the period from {first} to {last}; leave it out, or repair it"
                )
            if warning := implausible(
                channel,
                str(dataset[channel.variable].attrs.get("standard_name", "")),
                least=float(minimum),
                largest=float(maximum),
            ):
                log.warning("%s", warning)
        parts.append(statistics)
        if days is not None:
            read_day: DayReader = days.get
        else:
            read = partial(_read_from, group_fields, plan.fit.start)
            max_fields = max(1, min(64, plan.room // (64 * 4 * int(np.prod(shape)))))
            read_day = day_sums(times, shape, read, max_fields=max_fields)
        _write_climatology(plan, read_day, group, cycle=statistics.cycle, path=path)
    to_dataset(parts, all_channels).to_zarr(path, group="statistics", mode="w", consolidated=False)


def _read_from(fields: Fields, start: int, positions: NDArray[np.int64]) -> Float:
    return fields.read(start + positions)


def _groups(plan: Plan, fields: Fields) -> list[tuple[slice, bool]]:
    """Return runs of channels whose sums fit into memory, and whether the sums of all days fit too.

    A group consists of whole variables if they fit, otherwise of some levels of one variable. Without the
    sums of days, the fields are read again for the climatology, which is faster than smaller groups with
    these sums.
    """
    points = int(np.prod(fields.shape[2:]))
    times = fields.times[plan.fit]
    clocks = len(_times_of_day(plan))
    per_channel = points * (8 * (2 * 7 * clocks + 6) + 24 * clocks + 16 * 31)
    with_days = per_channel + points * 10 * clocks * len(np.unique(day_of_year(times)))
    limit = plan.room // 3
    result: list[tuple[slice, bool]] = []
    first = 0
    for v in plan.dataset.data_vars.values():
        stop = first + v.sizes.get("level", 1)
        days_fit = (stop - first) * with_days <= limit
        size = max(1, limit // (with_days if days_fit else per_channel))
        if result and result[-1][1] == days_fit and stop - result[-1][0].start <= size:
            result[-1] = slice(result[-1][0].start, stop), days_fit
        else:
            result += [(slice(a, min(a + size, stop)), days_fit) for a in range(first, stop, size)]
        first = stop
    return result


def _times_of_day(plan: Plan) -> NDArray[np.int64]:
    """Return the times of day of the climatology [min]."""
    if isinstance(grid_of(plan.dataset), Box):  # a flow has no seasons, so its climatology is its time mean
        return np.array([0])
    return np.unique(minute_of_day(plan.dataset["time"].values[plan.fit]))


def _write_climatology_template(plan: Plan, path: Path | Store) -> None:
    """Write an empty climatology, with WeatherBench2's dimensions (hour, dayofyear)."""
    dataset = plan.dataset
    minutes = _times_of_day(plan)
    times = dataset["time"].values[plan.fit]
    count = 1 if isinstance(grid_of(dataset), Box) else 366
    coords = {
        "hour": minutes / 60 if (minutes % 60).any() else minutes // 60,
        "dayofyear": np.arange(1, count + 1),
    }
    template = {}
    encoding = {}
    for name, v in dataset.data_vars.items():
        chunk = (len(minutes), 1, *v.shape[1:])
        lazy = dask.array.full((len(minutes), count, *v.shape[1:]), np.nan, dtype=np.float32, chunks=chunk)
        template[str(name)] = xr.DataArray(
            lazy,
            coords | {d: v.coords[d] for d in v.dims[1:]},
            ("hour", "dayofyear", *v.dims[1:]),
            attrs=v.attrs,
        )
        shards = (len(minutes), min(_days_per_shard(plan), count), *v.shape[1:])
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


def _days_per_shard(plan: Plan) -> int:
    """Return the number of days of the climatology in a shard."""
    largest = max(v.size // len(v) for v in plan.dataset.data_vars.values())
    return max(1, min(366, min(SHARD_BYTES, plan.room // 32) // (4 * len(_times_of_day(plan)) * largest)))


def _write_climatology(
    plan: Plan, read_day: DayReader, group: slice, *, cycle: SeasonalCycle, path: Path | Store
) -> None:
    """Write the windowed mean of the training period, whole shards at a time.

    Days without values in their window, in a period of less than a year, are filled from the seasonal cycle.

    Args:
        plan: plan of the store.
        read_day: returns the sum and the count of a day of the year.
        group: channels that ``read_day`` returns.
        cycle: seasonal cycle of these channels.
        path: store.
    """
    if isinstance(grid_of(plan.dataset), Box):
        mean = cycle.at(plan.dataset["time"].values[:1])[:, None]
        _write_days(plan.dataset, mean, first=group.start, last=1, path=path)
        return
    minutes = _times_of_day(plan).astype("timedelta64[m]")
    days_per_shard = _days_per_shard(plan)
    shard = []
    for day, means in windowed_mean(read_day):
        date = np.datetime64("2004-01-01", "ns") + np.timedelta64(day - 1, "D") + minutes
        shard.append(np.where(np.isfinite(means), means, cycle.at(date)))
        if len(shard) == days_per_shard or day == 366:
            _write_days(plan.dataset, np.stack(shard, axis=1), first=group.start, last=day, path=path)
            shard = []


def _write_days(dataset: xr.Dataset, block: np.ndarray, *, first: int, last: int, path: Path | Store) -> None:
    """Write the climatology of the days up to ``last`` and the channels from ``first`` on.

    Args:
        dataset: canonical data set.
        block: climatology, shape (hour, day, channel, H, W).
        first: position of the first channel.
        last: last day of the year.
        path: store.
    """
    days = {"dayofyear": slice(last - block.shape[1], last)}
    offset = 0  # of the variable's first channel
    for name, v in dataset.data_vars.items():
        count = v.sizes.get("level", 1)
        low = max(first, offset)
        high = min(first + block.shape[2], offset + count)
        if low < high:
            values = block[:, :, low - first : high - first]
            dims = ("hour", "dayofyear", *v.dims[1:])
            region = days | ({"level": slice(low - offset, high - offset)} if "level" in v.dims else {})
            part = xr.Dataset({str(name): (dims, values if "level" in v.dims else values[:, :, 0])})
            part.to_zarr(path, group="climatology", region=region, consolidated=False, safe_chunks=False)
        offset += count
