"""Plan of a store: times, shards, blocks and memory, determined before writing."""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from zarr.codecs import BloscCodec

from .. import memory as limits
from ..durations import format_time, to_seconds
from ..errors import DataError
from ..loaders.split import default_split, period
from ..schema import channels, describe_axes, grid_of, time_step

STORE_VERSION = 1
MEMORY = limits.MEMORY
SHARD_BYTES = 2**25  # largest size of a shard, before compression
# With bit shuffling, lz4 roughly halves the size of reanalyses and decodes several times faster than zstd.
COMPRESSOR = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=4)
_COPIES = 10  # float32 copies of a block in memory while it is read, converted and compressed


@dataclass(frozen=True)
class PlanSummary:
    """Summary of a plan, which a dry run reports.

    Attributes:
        variables: channels with their units.
        grid: size and extent of the grid.
        times: number, first and last time.
        step_hours: time step [h].
        gaps: number of gaps in time.
        statistics_from: first and last time of the training period.
        bytes_before_compression: size of the fields [bytes].
        times_in_a_shard: times in a shard.
        shards: number of shards of all variables.
        seconds_at_the_speed_of_the_first_time: estimated time to read the source [s].
    """

    kind: str = field(default="plan of a store", init=False)
    variables: list[str]
    grid: str
    times: str
    step_hours: float
    gaps: int
    statistics_from: list[str]
    bytes_before_compression: int
    chunk: str = field(default="one time, all levels", init=False)
    times_in_a_shard: int
    shards: int
    seconds_at_the_speed_of_the_first_time: float

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, as JSON can represent them."""
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """Layout of a store to write.

    Attributes:
        dataset: canonical data set with the attributes of the store.
        step: time step.
        gaps: positions of the first times after gaps.
        fit: positions of the training period, which statistics are computed from.
        shard: times in a shard.
        block: times to read and write together, a multiple of ``shard``.
        room: bytes that may be allocated in addition to the current memory of the process.
    """

    dataset: xr.Dataset
    step: np.timedelta64
    gaps: list[int]
    fit: slice
    shard: int
    block: int
    room: int

    @property
    def bytes(self) -> int:
        """Bytes of the fields before compression."""
        return int(sum(v.nbytes for v in self.dataset.data_vars.values()))

    def describe(self) -> PlanSummary:
        """Return a summary; reads one time step to estimate the duration."""
        started = time.monotonic()
        self.dataset.isel(time=slice(0, 1)).compute(scheduler="threads")
        duration = (time.monotonic() - started) * self.dataset.sizes["time"]
        times = self.dataset["time"].values
        return PlanSummary(
            variables=[f"{channel} [{channel.units}]" for channel in channels(self.dataset)],
            grid=describe_axes(self.dataset),
            times=f"{len(times)} from {format_time(times[0])} to {format_time(times[-1])}",
            step_hours=float(self.step / np.timedelta64(1, "h")),
            gaps=len(self.gaps),
            statistics_from=[format_time(t) for t in times[self.fit][[0, -1]]],
            bytes_before_compression=self.bytes,
            times_in_a_shard=self.shard,
            shards=-(-len(times) // self.shard) * len(self.dataset.data_vars),
            seconds_at_the_speed_of_the_first_time=round(duration, 1),
        )


def make_plan(
    dataset: xr.Dataset,
    train_period: str | None = None,
    *,
    allow_gaps: bool = False,
    memory: int = MEMORY,
) -> Plan:
    """Plan the layout of a store for a canonical data set.

    Args:
        dataset: canonical data set.
        train_period: period of statistics and climatology, ``START:STOP``; by default training and validation
            period of the default split.
        allow_gaps: record gaps in time instead of raising an error.
        memory: memory that the process may use [bytes].

    Raises:
        ValueError: times are not sorted, unique and regular, the period is empty, or the memory is too small
            for one time.
    """
    times = dataset["time"].values
    step, gaps = time_step(times, "the source", allow_gaps)
    fit = period(times, train_period) if train_period else default_split(times).fit
    grid_of(dataset)
    bytes_per_time = sum(4 * v.size // len(times) for v in dataset.data_vars.values())
    resident = _resident_bytes()
    room = memory - resident
    largest = max(v.size // len(times) for v in dataset.data_vars.values()) * 4
    shard = max(1, min(SHARD_BYTES // largest, room // (_COPIES * bytes_per_time), len(times)))
    if room < _COPIES * bytes_per_time:
        raise DataError(
            f"memory of {memory / 2**30:.2f} GiB is too little: the process uses {resident / 2**30:.2f} GiB, "
            f"and a time step needs {_COPIES * bytes_per_time / 2**30:.2f} GiB; allow more, or select fewer "
            "variables or levels",
            option="memory",
        )
    block = max(shard, min(room // (_COPIES * bytes_per_time), 2**28 // bytes_per_time) // shard * shard)
    attrs = {
        "Conventions": "CF-1.11",
        "store_version": STORE_VERSION,
        "time_step_seconds": to_seconds(step),
        "gaps": json.dumps([str(times[g]) for g in gaps]),
        "variables": json.dumps([str(name) for name in dataset.data_vars]),
        "train_period": json.dumps([str(times[fit][0]), str(times[fit][-1])]),
    }
    return Plan(dataset.assign_attrs(attrs), step, gaps, fit, shard, block, room)


def _resident_bytes() -> int:
    """Return the resident memory of this process [bytes], or an estimate if it is unknown."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        return 2**29
