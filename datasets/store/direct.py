"""Reading of a store by the zarr library without a task graph, decoded by ``zarrs`` where it is installed."""

from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store

from ..adapters.opening import fast_codecs, open_group
from .fields import Fields, Float, runs


class DirectFields(Fields):
    """The fields of ``Fields``, read by the zarr library instead of dask.

    Args:
        dataset: variables of a store, as ``open_store`` returns them.
        path: path of the store, or zarr store.
        cache_bytes: as in ``Fields``.
    """

    def __init__(self, dataset: xr.Dataset, path: str | Path | Store, cache_bytes: int = 0) -> None:
        super().__init__(dataset, cache_bytes)
        with fast_codecs():
            group = open_group(path)
            self._stored: list[tuple[zarr.Array, range]] = []
            for name, variable in dataset.data_vars.items():
                array = group[str(name)]
                assert isinstance(array, zarr.Array)
                self._stored.append((array, range(variable.sizes.get("level", 1))))

    def part(self, channels: slice, cache_bytes: int = 0) -> "DirectFields":
        """Return some of the channels; arguments as for ``Fields.part``."""
        result = DirectFields.__new__(DirectFields)
        result._take_channels(self, channels, cache_bytes)
        result._stored = []
        first = 0
        for array, levels in self._stored:
            if selected := levels[max(0, channels.start - first) : max(0, channels.stop - first)]:
                result._stored.append((array, selected))
            first += len(levels)
        return result

    def _compute(self, positions: NDArray[np.int64] | slice) -> Float:
        pieces = [positions] if isinstance(positions, slice) else runs(positions)
        bounds = [piece.indices(len(self.times))[:2] for piece in pieces]
        result = np.empty((sum(b - a for a, b in bounds), *self.shape[1:]), dtype=np.float32)
        first = 0
        for array, levels in self._stored:
            at = 0
            for start, stop in bounds:
                values = np.asarray(
                    array[start:stop, levels.start : levels.stop] if array.ndim == 4 else array[start:stop]
                )
                result[at : at + stop - start, first : first + len(levels)] = (
                    values if values.ndim == 4 else values[:, None]
                )
                at += stop - start
            first += len(levels)
        return result
