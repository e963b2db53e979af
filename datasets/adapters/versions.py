"""ERA5 and its preliminary version ERA5T in one file: final values where they are, preliminary ones
elsewhere.

The Climate Data Store marks them by ``expver``, 1 (0001) for ERA5 and 5 (0005) for ERA5T: a dimension, along
which each version is missing where the other one has values, or a coordinate along time.
"""

import logging
from typing import Any

import numpy as np
import xarray as xr

log = logging.getLogger(__name__)

VERSION = "expver"
_KNOWN = {1: "ERA5", 5: "ERA5T, preliminary"}


def drop_superseded(dataset: xr.Dataset) -> xr.Dataset:
    """Return the data set with the final version of each time that it has in both; ``expver`` is along time
    or absent.
    """
    if VERSION not in dataset.variables or dataset[VERSION].dims != ("time",):
        return dataset
    versions = _numbers(dataset[VERSION].values)
    dataset = dataset.drop_vars(VERSION)
    if versions is None:
        return dataset
    order = np.lexsort((np.array(versions), dataset["time"].values))
    _, first = np.unique(dataset["time"].values[order], return_index=True)
    keep = np.sort(order[first])
    return dataset if len(keep) == dataset.sizes["time"] else dataset.isel(time=keep)


def fill_versions(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return the data set without a dimension ``expver``: each value of the final version, or of the
    preliminary one where that is missing.

    Other experiments along ``expver`` are left as they are. Lazy where the data set is.
    """
    if VERSION not in dataset.dims or VERSION not in dataset.coords:
        return dataset
    versions = _numbers(dataset[VERSION].values)
    if versions is None or len(set(versions)) < len(versions):
        return dataset
    order = np.argsort(versions)
    for name, variable in dataset.data_vars.items():
        if VERSION in variable.dims:
            parts = [variable.isel({VERSION: int(at)}, drop=True) for at in order]
            filled = parts[0]
            for part in parts[1:]:
                filled = filled.where(filled.notnull(), part)
            dataset[name] = filled.assign_attrs(variable.attrs)
    if len(order) > 1:
        log.warning(
            "%s: values of %s, filled from %s where they are missing",
            source,
            *(_KNOWN[v] for v in sorted(versions)),
        )
    return dataset.drop_dims(VERSION)


def _numbers(values: Any) -> list[int] | None:
    """Return versions, which files write as 1, "0001" or b"0001", as numbers; None where one is no version of
    ERA5.
    """
    texts = [
        value.decode() if isinstance(value, bytes) else str(value) for value in np.atleast_1d(values).tolist()
    ]
    try:
        numbers = [int(float(text)) for text in texts]
    except ValueError:
        return None
    return numbers if set(numbers) <= set(_KNOWN) else None
