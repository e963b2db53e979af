"""Decoding of CF conventions that masks only the missing values declared by CF attributes.

``_FillValue`` and ``missing_value`` are CF attributes. The ``fill_value`` of a zarr array is not one: it is
the value of chunks that were never written, by default 0, which can be a valid value (no rain, the equator,
the first hour). Zarr format 3 stores both, so only the attribute is used. In format 2 xarray stores a
variable's ``_FillValue`` only as ``fill_value``; there a ``fill_value`` without any CF attribute is used if
no measurement could be equal to it: NaN, at most -99, at least 999, or an extreme of its integer type.
"""

import base64
import struct
from typing import Any

import numpy as np
import xarray as xr
import zarr

from .attributes import explain_times, normalise_attributes

_CF = ("_FillValue", "missing_value")
_LOWEST = -99.0
_HIGHEST = 999.0


def decode(dataset: xr.Dataset) -> xr.Dataset:
    """Decode, lazily, a data set that was opened with ``decode_cf=False``.

    Coordinate variables have no missing values in CF (section 2.5.1): a latitude, longitude or time equal to
    its ``_FillValue`` is kept, unless that is NaN or the lowest integer of its type, which encode missing
    times (NaT).

    Raises:
        ValueError: times cannot be decoded.
    """
    close = dataset.close
    dataset = normalise_attributes(dataset.copy())
    for name, variable in dataset.variables.items():
        for key in _CF:
            if (
                variable.dims == (name,)
                and key in variable.attrs
                and not _marks_missing_coordinate(variable.attrs[key], variable.dtype)
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
    """Decode, lazily, a zarr store that was opened with ``decode_cf=False``.

    Args:
        dataset: undecoded data set, opened with ``use_zarr_fill_value_as_mask=True``.
        group: zarr group of the data set, with the attributes as stored.

    Raises:
        ValueError: times cannot be decoded.
    """
    close = dataset.close
    dataset = dataset.copy()
    for name, variable in dataset.variables.items():
        fill = variable.attrs.pop("_FillValue", None)
        stored = group[str(name)].attrs.asdict()
        if "_FillValue" in stored:
            variable.attrs["_FillValue"] = _decode_fill_value(stored["_FillValue"], variable.dtype)
        elif (
            "missing_value" not in stored
            and group.metadata.zarr_format == 2
            and is_sentinel(fill, variable.dtype)
        ):
            variable.attrs["_FillValue"] = fill
    dataset.set_close(close)
    return decode(dataset)


def is_sentinel(fill: Any, dtype: np.dtype[Any]) -> bool:
    """Return whether a zarr ``fill_value`` can only mark missing values, since no measurement equals it.

    Args:
        fill: fill value, None if there is none.
        dtype: data type of the array.
    """
    if fill is None or dtype.kind not in "fiu":
        return False
    value = float(fill)
    extremes: tuple[float, ...] = ()
    if dtype.kind != "f":
        extremes = (float(np.iinfo(dtype).max), float(np.iinfo(dtype).min or np.nan))
    return bool(np.isnan(value) or value <= _LOWEST or value >= _HIGHEST or value in extremes)


def _marks_missing_coordinate(fill: Any, dtype: np.dtype[Any]) -> bool:
    """Return whether a ``_FillValue`` marks missing values of a coordinate, see ``decode``."""
    values = np.atleast_1d(fill)
    if values.dtype.kind == "f" and np.isnan(values).all():
        return True
    return dtype.kind == "i" and values.dtype.kind in "iu" and bool((values == np.iinfo(dtype).min).all())


def _decode_fill_value(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return a ``_FillValue`` of zarr attributes: a number, or base64-encoded bytes as xarray writes it."""
    if dtype.kind in "fiu" and isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = struct.unpack("<d", base64.standard_b64decode(value))[0]
    return dtype.type(value) if dtype.kind in "fiu" else value
