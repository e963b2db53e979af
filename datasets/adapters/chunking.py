"""Chunk sizes of data sets read from a source."""

import numpy as np
import xarray as xr

from ..memory import memory_limit


def chunk_time(dataset: xr.Dataset, chunk_bytes: int) -> xr.Dataset:
    """Return a data set as dask arrays whose chunks along time are multiples of the stored chunks.

    Args:
        dataset: lazy data set.
        chunk_bytes: size of a chunk of a variable to aim at [bytes].
    """
    for name, variable in dataset.data_vars.items():
        if "time" not in variable.dims or variable.chunks is not None:
            continue
        sizes = variable.encoding.get("shards") or variable.encoding.get("preferred_chunks") or {}
        stored = 1
        if isinstance(sizes, dict) and "time" in sizes:
            stored = int(sizes["time"])
        elif isinstance(sizes, tuple):
            stored = int(sizes[0])
        bytes_of_time = max(1, variable.nbytes // max(1, variable.sizes["time"]))
        # Long stored chunks are read several times if they exceed the memory limit.
        stored = max(1, min(stored, memory_limit() // 8 // bytes_of_time))
        dataset[name] = variable.chunk(
            {"time": max(1, chunk_bytes // (bytes_of_time * stored)) * stored}
            | {d: -1 for d in variable.dims if d != "time"}
        )
    return dataset


def bytes_per_time(complete: xr.Dataset, kept: xr.Dataset) -> tuple[int, int]:
    """Return the bytes that are read per time, in whole chunks, and those of them that are kept.

    Args:
        complete: variables of the source.
        kept: the selected part of them.
    """
    read = used = 0
    for name in kept.data_vars:
        if "time" in (variable := complete[name]).dims:
            chunks = variable.encoding.get("preferred_chunks") or {}
            sizes = [
                (size, int(chunks.get(d, 1)), kept[name].sizes.get(d, 1))
                for d, size in variable.sizes.items()
                if d != "time"
            ]
            read += variable.dtype.itemsize * int(
                np.prod([min(size, max(chunk, selected)) for size, chunk, selected in sizes])
            )
            used += variable.dtype.itemsize * int(np.prod([selected for _, _, selected in sizes]))
    return read, used
