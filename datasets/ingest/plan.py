"""What it takes to write a store: times, shards, blocks and memory, known before anything is written."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from zarr.codecs import BloscCodec

from .. import memory as limits
from ..loaders.split import default_split, period
from ..schema import channels, describe_axes, grid_of, seconds, time_step

STORE_VERSION = 1
MEMORY = limits.MEMORY
SHARD_BYTES = 2**25
# Bits of neighbouring values side by side: reanalysis shrinks to half or so, and is read several times faster
# than with zstd.
COMPRESSOR = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=4)
_COPIES = 10  # of a block, in float32, while it is read, converted and compressed


@dataclass(frozen=True)
class Plan:
    """What an ingest will do.

    Attributes:
        dataset: canonical data set with the attributes that the store will have.
        step: time step.
        gaps: positions that a gap comes before.
        fit: positions that statistics are computed on.
        shard: times in a shard.
        block: times that are read and written together, whole shards.
        room: bytes that may be used beside what the process has already.
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

    def describe(self) -> dict[str, Any]:
        """Return what a dry run tells; one time is read to estimate how long it will take."""
        started = time.monotonic()
        self.dataset.isel(time=slice(0, 1)).compute(scheduler="threads")
        times = self.dataset["time"].values
        return {
            "kind": "plan of a store",
            "variables": [f"{channel} [{channel.units}]" for channel in channels(self.dataset)],
            "grid": describe_axes(self.dataset),
            "times": f"{len(times)} from {times[0].astype('datetime64[m]')} to {times[-1].astype('datetime64[m]')}",
            "step_hours": float(self.step / np.timedelta64(1, "h")),
            "gaps": len(self.gaps),
            "statistics_from": [str(t.astype("datetime64[m]")) for t in times[self.fit][[0, -1]]],
            "bytes_before_compression": self.bytes,
            "chunk": "one time, all levels",
            "times_in_a_shard": self.shard,
            "shards": -(-len(times) // self.shard) * len(self.dataset.data_vars),
            "seconds_at_the_speed_of_the_first_time": round((time.monotonic() - started) * len(times), 1),
        }


def make_plan(
    dataset: xr.Dataset, train_period: str | None = None, allow_gaps: bool = False, memory: int = MEMORY
) -> Plan:
    """Return what it takes to write a canonical data set as a store.

    Args:
        dataset: canonical data set.
        train_period: ``START:STOP`` for statistics; None takes the default split.
        allow_gaps: record gaps in time instead of refusing them.
        memory: bytes that the process may come to use.

    Raises:
        ValueError: times are not sorted, unique and regular, the period is empty, or the memory too small for
            one time.
    """
    times = dataset["time"].values
    step, gaps = time_step(times, str(dataset.encoding.get("source", "the source")), allow_gaps)
    fit = period(times, train_period) if train_period else default_split(times).fit
    grid_of(dataset)
    one = sum(4 * v.size // len(times) for v in dataset.data_vars.values())
    room = memory - _resident()
    largest = max(v.size // len(times) for v in dataset.data_vars.values()) * 4
    shard = max(1, min(SHARD_BYTES // largest, room // (_COPIES * one), len(times)))
    if room < _COPIES * one:
        raise ValueError(
            f"--memory {memory / 2**30:.2f}GiB is too little: the process has {_resident() / 2**30:.2f} GiB already, "
            f"and a time step needs {_COPIES * one / 2**30:.2f}; allow more, or select fewer variables or levels"
        )
    block = max(shard, min(room // (_COPIES * one), 2**28 // one) // shard * shard)
    attrs = {
        "Conventions": "CF-1.11",
        "store_version": STORE_VERSION,
        "time_step_seconds": seconds(step),
        "gaps": json.dumps([str(times[g]) for g in gaps]),
        "variables": json.dumps([str(name) for name in dataset.data_vars]),
        "train_period": json.dumps([str(times[fit][0]), str(times[fit][-1])]),
    }
    return Plan(dataset.assign_attrs(attrs), step, gaps, fit, shard, block, room)


def _resident() -> int:
    """Return the bytes of memory that this process has."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        return 2**29
