"""The direct route to a store's values: zarr arrays decoded by many threads of compiled code, without a task graph."""

import importlib.util
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from .fields import Fields, Float, runs


class DirectFields(Fields):
    """The same fields as ``Fields`` reads through dask, read by zarr itself with the ``zarrs`` pipeline.

    Args:
        dataset: variables of a store, as ``open_store`` gives them.
        path: the store.
        cache_bytes: as in ``Fields``.

    Raises:
        ValueError: the package ``zarrs`` is missing.
    """

    def __init__(self, dataset: xr.Dataset, path: str | Path, cache_bytes: int = 0) -> None:
        super().__init__(dataset, cache_bytes)
        if importlib.util.find_spec("zarrs") is None:
            raise ValueError("the direct route needs one more package: pip install 'fourcaster[fast]', or set data.route=dask")
        with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
            group = zarr.open_group(path, mode="r")
            self._stored = [(group[str(name)], v.sizes.get("level", 1)) for name, v in dataset.data_vars.items()]

    def _compute(self, positions: NDArray[np.int64] | slice) -> Float:
        pieces = [positions] if isinstance(positions, slice) else runs(positions)
        bounds = [piece.indices(len(self.times))[:2] for piece in pieces]
        result = np.empty((sum(b - a for a, b in bounds), *self.shape[1:]), dtype=np.float32)
        first = 0
        for array, levels in self._stored:
            at = 0
            for start, stop in bounds:
                values = np.asarray(array[start:stop])
                result[at : at + stop - start, first : first + levels] = values if values.ndim == 4 else values[:, None]
                at += stop - start
            first += levels
        return result
