"""Layout of anemoi-datasets: an array ``data`` (time, variable, ensemble, cell), described by attributes."""

import re

import dask.array as da
import numpy as np
import xarray as xr

from ...fno.grids import COORDINATE_TOLERANCE, spacing_at
from .vocabulary import CONSTANT_SHORT_NAMES, ECMWF

_ON_LEVEL = re.compile(r"([a-z]+\d?)_(\d+)")
_COMPUTED = re.compile(
    r"(cos|sin)_(latitude|longitude|julian_day|local_time|solar_zenith_angle)|insolation|ecef_[xyz]"
)


def matches(dataset: xr.Dataset) -> bool:
    """Return whether a data set has the arrays and attributes of anemoi-datasets."""
    arrays = {"data", "dates", "latitudes", "longitudes"}
    return arrays <= set(dataset.variables) and "variables" in dataset.attrs


def arrange(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return variables on (time, number, [level], latitude, longitude), without the missing dates.

    Args:
        dataset: data set as opened.
        source: path, for error messages.

    Raises:
        ValueError: the cells do not form a regular latitude-longitude grid, or attributes and arrays are
            inconsistent.
    """
    _check(dataset, source)
    names = [str(name) for name in dataset.attrs["variables"]]
    shape = [int(n) for n in dataset.attrs.get("field_shape", ())]
    latitude, longitude = (
        dataset[name].values.reshape(shape) if len(shape) == 2 else None
        for name in ("latitudes", "longitudes")
    )
    if (
        latitude is None
        or longitude is None
        or not (_has_constant_rows(latitude) and _has_constant_rows(longitude.T))
    ):
        raise ValueError(
            f"{source}: its {dataset.sizes['cell']} cells do not form a regular latitude-longitude grid; "
            "regrid it first, since other grids are not supported"
        )
    times = dataset["dates"].values.astype("datetime64[ns]")
    missing = np.array(dataset.attrs.get("missing_dates", []), dtype="datetime64[ns]")
    keep = np.flatnonzero(~np.isin(times, missing))
    data = dataset["data"].isel(time=keep)
    members = data.sizes["ensemble"]
    coords = {
        "time": times[keep],
        "number": np.arange(members),
        "latitude": latitude[:, 0],
        "longitude": longitude[0],
    }
    metadata = dataset.attrs.get("variables_metadata", {})
    fields: dict[str, tuple[tuple[str, ...], da.Array, dict[str, str]]] = {}
    constant = {*dataset.attrs.get("constant_fields", ()), *CONSTANT_SHORT_NAMES}
    levels: dict[str, dict[int, int]] = {}
    dims = ("time", "number", "latitude", "longitude")
    for index, name in enumerate(names):
        if match := _ON_LEVEL.fullmatch(name):
            levels.setdefault(match[1], {})[int(match[2])] = index
        elif not (_COMPUTED.fullmatch(name) or metadata.get(name, {}).get("computed_forcing")):
            units = metadata.get(name, {}).get("units", "")
            values = _cells(data, index, shape)
            new = "geopotential_at_surface" if name == "z" else name
            if name in constant:
                fields[new] = (dims[2:], values[0, 0], {"units": units})
            else:
                fields[new] = (dims, values, {"units": units})
    all_levels = sorted({level for own_levels in levels.values() for level in own_levels}, reverse=True)
    for name, own_levels in levels.items():
        if len(own_levels) < len(all_levels):  # not on all levels, so one variable per level
            attrs = {"units": ECMWF[name].units} if name in ECMWF else {}
            fields |= {
                f"{name}{level}": (dims, _cells(data, index, shape), attrs)
                for level, index in own_levels.items()
            }
        else:
            stacked = da.stack([_cells(data, own_levels[level], shape) for level in all_levels], axis=2)
            fields[name] = (("time", "number", "level", "latitude", "longitude"), stacked, {})
    if not all_levels:
        return xr.Dataset(fields, coords)
    return xr.Dataset(fields, coords | {"level": ("level", all_levels, {"units": "hPa"})})


def _check(dataset: xr.Dataset, source: str) -> None:
    """Raise ``ValueError`` if attributes and arrays are inconsistent."""
    dims = dataset["data"].dims
    names = dataset.attrs["variables"]
    if set(dims) != {"time", "variable", "ensemble", "cell"}:
        raise ValueError(
            f"{source}: its data have the dimensions {', '.join(map(str, dims))}, "
            "expected time, variable, ensemble and cell"
        )
    if not isinstance(names, list | tuple) or len(names) != dataset.sizes["variable"]:
        raise ValueError(
            f"{source}: its attribute variables does not name its {dataset.sizes['variable']} variables"
        )
    shape = dataset.attrs.get("field_shape", [])
    if not isinstance(shape, list | tuple) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"{source}: its attribute field_shape {str(shape)[:80]} is not a list of sizes")
    if len(shape) == 2 and shape[0] * shape[1] != dataset.sizes["cell"]:
        raise ValueError(
            f"{source}: its attribute field_shape {str(shape)[:80]} does not match "
            f"its {dataset.sizes['cell']} cells"
        )
    metadata = dataset.attrs.get("variables_metadata", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, dict) for value in metadata.values()):
        raise ValueError(f"{source}: its attribute variables_metadata is not a mapping of names to mappings")


def _has_constant_rows(rows: np.ndarray) -> bool:
    """Return whether the values of each row are equal, up to rounding."""
    return bool(np.ptp(rows, axis=1).max() <= COORDINATE_TOLERANCE * spacing_at(rows[:, 0]).min())


def _cells(data: xr.DataArray, index: int, shape: list[int]) -> da.Array:
    """Return a variable as a lazy array of shape (time, member, row, column)."""
    lazy = da.asarray(data.isel(variable=index).chunk({"time": 1}).data)
    cells: da.Array = lazy.reshape(*lazy.shape[:2], *shape)
    return cells
