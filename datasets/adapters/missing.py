"""Decode CF conventions, with missing values only where CF attributes name them.

``_FillValue`` and ``missing_value`` are attributes of CF. The ``fill_value`` of a zarr array is not: it is
what a chunk that was never written reads as, and zarr's own default is 0, which is a value like any other (no
rain, the equator, the first hour). Zarr format 3 stores both, so only the attribute counts. In format 2
xarray stores a variable's ``_FillValue`` as ``fill_value`` alone, so there a ``fill_value`` without any CF
attribute counts where no measurement could be equal to it: NaN, at most -99, at least 999, or an extreme of
its integer type.
"""

import base64
import struct
from typing import Any

import numpy as np
import xarray as xr
import zarr

from .attributes import explain_times, plain

_CF = ("_FillValue", "missing_value")
_LOWEST = -99.0
_HIGHEST = 999.0


def decode(dataset: xr.Dataset) -> xr.Dataset:
    """Decode a data set that xarray opened with ``decode_cf=False``; lazy.

    Coordinate variables have no missing values in CF (section 2.5.1): a latitude, longitude or time that
    equals its ``_FillValue`` is kept, except where that is NaN or the lowest integer of its type, which is
    how times that are missing (NaT) are written.

    Raises:
        ValueError: times without a meaning.
    """
    close = dataset.close
    dataset = plain(dataset.copy())
    for name, variable in dataset.variables.items():
        for key in _CF:
            if (
                variable.dims == (name,)
                and key in variable.attrs
                and not _no_coordinate(variable.attrs[key], variable.dtype)
            ):
                del variable.attrs[key]
    try:
        decoded: xr.Dataset = xr.decode_cf(dataset)
    except (ValueError, OverflowError) as error:
        explain_times(dataset, error)
        raise
    decoded.set_close(close)
    return decoded


def decode_zarr(dataset: xr.Dataset, group: zarr.Group) -> xr.Dataset:
    """Decode a data set that xarray opened with ``decode_cf=False`` and ``use_zarr_fill_value_as_mask=True``;
    lazy.

    Args:
        dataset: undecoded.
        group: its zarr group, which has the attributes as they are stored.

    Raises:
        ValueError: times without a meaning.
    """
    close = dataset.close
    dataset = dataset.copy()
    for name, variable in dataset.variables.items():
        fill = variable.attrs.pop("_FillValue", None)
        stored = group[str(name)].attrs.asdict()
        if "_FillValue" in stored:
            variable.attrs["_FillValue"] = _attribute(stored["_FillValue"], variable.dtype)
        elif (
            "missing_value" not in stored
            and group.metadata.zarr_format == 2
            and is_sentinel(fill, variable.dtype)
        ):
            variable.attrs["_FillValue"] = fill
    dataset.set_close(close)
    return decode(dataset)


def is_sentinel(fill: Any, dtype: np.dtype[Any]) -> bool:
    """Return whether a zarr ``fill_value`` marks missing values: no measurement of this type could be equal
    to it.
    """
    if fill is None or dtype.kind not in "fiu":
        return False
    value = float(fill)
    extremes = () if dtype.kind == "f" else (float(np.iinfo(dtype).max), float(np.iinfo(dtype).min or np.nan))
    return bool(np.isnan(value) or value <= _LOWEST or value >= _HIGHEST or value in extremes)


def _no_coordinate(fill: Any, dtype: np.dtype[Any]) -> bool:
    values = np.atleast_1d(fill)
    if values.dtype.kind == "f" and np.isnan(values).all():
        return True
    return dtype.kind == "i" and values.dtype.kind in "iu" and bool((values == np.iinfo(dtype).min).all())


def _attribute(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return a ``_FillValue`` of zarr attributes: a number, or what xarray writes for floats, their eight
    bytes in base 64.
    """
    if dtype.kind in "fiu" and isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = struct.unpack("<d", base64.standard_b64decode(value))[0]
    return dtype.type(value) if dtype.kind in "fiu" else value
