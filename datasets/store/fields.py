"""A canonical data set seen as one array (time, channel, H, W): the form that statistics and loaders read."""

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

Float = NDArray[np.float32]

_WORTH_A_RUN = 4  # times: longer runs are read one by one, as slices, which dask takes through to the file


class Fields:
    """All channels of a canonical data set, read by position in time with one threaded compute.

    Args:
        dataset: canonical data set, lazy or in memory.
        cache_bytes: read the whole into memory at first use if it is no larger than this.
    """

    def __init__(self, dataset: xr.Dataset, cache_bytes: int = 0) -> None:
        parts = []
        for variable in dataset.data_vars.values():
            array = da.asarray(variable.data)
            parts.append(array if array.ndim == 4 else array[:, None])
        self.times = dataset["time"].values.astype("datetime64[ns]")
        self.array = da.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
        self.cache_bytes = cache_bytes
        self._cached: Float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(time, channel, H, W)."""
        return tuple(int(n) for n in self.array.shape)

    def read(self, positions: NDArray[np.int64] | slice) -> Float:
        """Return the fields at positions in time, shape (time, channel, H, W), float32."""
        if self._cached is None and self.array.nbytes <= self.cache_bytes:
            self._cached = self._compute(slice(None))
        if self._cached is not None:
            return self._cached[positions]
        if isinstance(positions, slice):
            return self._compute(positions)
        if len(positions) < 2 or (np.diff(positions) > 0).all():
            return self._compute(positions)
        unique, inverse = np.unique(positions, return_inverse=True)
        return self._compute(unique)[inverse]

    def part(self, channels: slice, cache_bytes: int = 0) -> "Fields":
        """Return some of the channels, read through dask."""
        result = Fields.__new__(Fields)
        result.times, result.array, result.cache_bytes, result._cached = (
            self.times,
            self.array[:, channels],
            cache_bytes,
            None,
        )
        return result

    def _compute(self, positions: NDArray[np.int64] | slice) -> Float:
        if isinstance(positions, slice):
            return self._pieces([positions])
        pieces = runs(positions)
        if len(pieces) * _WORTH_A_RUN > len(positions):
            return np.asarray(self.array[positions].compute(scheduler="threads"), dtype=np.float32)
        return self._pieces(pieces)

    def _pieces(self, pieces: list[slice]) -> Float:
        lazy = da.concatenate([self.array[piece] for piece in pieces])
        return np.asarray(lazy.compute(scheduler="threads"), dtype=np.float32)

    def blocks(self, period: slice, block_bytes: int = 2**25) -> list[slice]:
        """Return consecutive pieces of ``period`` that each hold at most ``block_bytes``, and at least one
        time.
        """
        length = max(1, block_bytes // max(1, int(np.prod(self.shape[1:])) * 4))
        start, stop, _ = period.indices(len(self.times))
        return [slice(first, min(first + length, stop)) for first in range(start, stop, length)]


def runs(positions: NDArray[np.int64]) -> list[slice]:
    """Return sorted positions as runs of consecutive ones."""
    ends = np.flatnonzero(np.diff(positions) != 1) + 1
    edges = [0, *ends.tolist(), len(positions)]
    return [
        slice(int(positions[a]), int(positions[b - 1]) + 1)
        for a, b in zip(edges[:-1], edges[1:], strict=True)
        if b > a
    ]
