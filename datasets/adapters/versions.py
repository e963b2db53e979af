"""Merging of ERA5 and preliminary ERA5T values in one file, with final values where they exist.

The Climate Data Store distinguishes them by ``expver``, 1 (0001) for ERA5 and 5 (0005) for ERA5T. It is a
dimension, along which a version is missing where the other has values, or a coordinate along time.
"""

import logging
from typing import Any

import numpy as np
import xarray as xr

log = logging.getLogger(__name__)

VERSION = "expver"
_VERSION_NAMES = {1: "ERA5", 5: "ERA5T, preliminary"}


def drop_superseded(dataset: xr.Dataset) -> xr.Dataset:
    """Return a data set without the preliminary times that also exist as final ones.

    This applies if ``expver`` is a coordinate along time.
    """
    if VERSION not in dataset.variables or dataset[VERSION].dims != ("time",):
        return dataset
    versions = _version_numbers(dataset[VERSION].values)
    dataset = dataset.drop_vars(VERSION)
    if versions is None:
        return dataset
    order = np.lexsort((np.array(versions), dataset["time"].values))
    _, first = np.unique(dataset["time"].values[order], return_index=True)
    keep = np.sort(order[first])
    return dataset if len(keep) == dataset.sizes["time"] else dataset.isel(time=keep)


def fill_versions(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return a data set without a dimension ``expver``, with preliminary values where final ones are missing.

    The dimension is kept if it has other experiments. The result is lazy if the data set is.

    Args:
        dataset: data set.
        source: path, for the log.
    """
    if VERSION not in dataset.dims or VERSION not in dataset.coords:
        return dataset
    versions = _version_numbers(dataset[VERSION].values)
    if versions is None or len(set(versions)) < len(versions):
        return dataset
    order = np.argsort(versions)
    for name, variable in dataset.data_vars.items():
        if VERSION in variable.dims:
            parts = [variable.isel({VERSION: int(index)}, drop=True) for index in order]
            filled = parts[0]
            for part in parts[1:]:
                filled = filled.where(filled.notnull(), part)
            dataset[name] = filled.assign_attrs(variable.attrs)
    if len(order) > 1:
        log.warning(
            "%s: values of %s, filled from %s where they are missing",
            source,
            *(_VERSION_NAMES[v] for v in sorted(versions)),
        )
    return dataset.drop_dims(VERSION)


def _version_numbers(values: Any) -> list[int] | None:
    """Return versions such as 1, "0001" or b"0001" as numbers, or None if one is not a version of ERA5."""
    texts = [
        value.decode() if isinstance(value, bytes) else str(value) for value in np.atleast_1d(values).tolist()
    ]
    try:
        numbers = [int(float(text)) for text in texts]
    except ValueError:
        return None
    return numbers if set(numbers) <= set(_VERSION_NAMES) else None
