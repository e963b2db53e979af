"""A canonical data set as one array of shape (time, channel, H, W), as statistics and loaders read it."""

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

Float = NDArray[np.float32]

_SLICED_RUN = 4  # mean length [times] of runs from which they are read as slices rather than by position


class Fields:
    """All channels of a canonical data set, read by position in time with one threaded compute.

    Args:
        dataset: canonical data set, lazy or in memory.
        cache_bytes: if the fields are no larger than this, all are read into memory at first use.
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
        """Number of times, channels, rows and columns."""
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
        """Return some of the channels, read through dask.

        Args:
            channels: positions of the channels.
            cache_bytes: as for the class.
        """
        result = Fields.__new__(Fields)
        result._take_channels(self, channels, cache_bytes)
        return result

    def _take_channels(self, other: "Fields", channels: slice, cache_bytes: int) -> None:
        """Become some of the channels of other fields, without reading them."""
        self.times = other.times
        self.array = other.array[:, channels]
        self.cache_bytes = cache_bytes
        self._cached = None

    def _compute(self, positions: NDArray[np.int64] | slice) -> Float:
        if isinstance(positions, slice):
            return self._pieces([positions])
        pieces = runs(positions)
        if len(pieces) * _SLICED_RUN > len(positions):
            return np.asarray(self.array[positions].compute(scheduler="threads"), dtype=np.float32)
        return self._pieces(pieces)

    def _pieces(self, pieces: list[slice]) -> Float:
        lazy = da.concatenate([self.array[piece] for piece in pieces])
        return np.asarray(lazy.compute(scheduler="threads"), dtype=np.float32)

    def blocks(self, period: slice, block_bytes: int = 2**25) -> list[slice]:
        """Return consecutive pieces of a period, each of at least one time.

        Args:
            period: positions in time.
            block_bytes: largest size of a piece [bytes], unless it is a single time.
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
