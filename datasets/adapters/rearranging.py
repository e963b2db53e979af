"""Conversion of an axis of channels to variables, and of a list of grid points to rows and columns."""

import numpy as np
import xarray as xr

from ..ingest.select import eastward
from .vocabulary import DEGREES

VARIABLE_AXES = ("variable", "variables", "channel", "channels", "param", "parameter", "feature")
_NAMES = {
    "latitude": ("latitude", "lat", "latitudes"),
    "longitude": ("longitude", "lon", "longitudes"),
}


def channels_to_variables(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Split arrays with an axis of variable names, such as ``t2m`` and ``z500``, into variables.

    Args:
        dataset: data set.
        source: path, for error messages.

    Raises:
        ValueError: an axis of variables has no names, or a name occurs twice.
    """
    for axis in [str(d) for d in dataset.dims if str(d).lower() in VARIABLE_AXES]:
        names = next(
            (c for c in dataset.coords.values() if c.dims == (axis,) and c.dtype.kind in "UOST"), None
        )
        if names is None:
            raise ValueError(f"{source}: the axis {axis!r} has no variable names; add a coordinate with them")
        called = [v.decode() if isinstance(v, bytes) else str(v) for v in names.values.tolist()]
        arrays = {str(name): v for name, v in dataset.data_vars.items() if axis in v.dims}
        along = [str(name) for name, c in dataset.coords.items() if axis in c.dims]
        parts: dict[str, xr.DataArray] = {}
        for array in arrays.values():
            bare = array.drop_vars(along, errors="ignore")
            # The attributes of the array describe a channel only if there is no other.
            attrs = array.attrs if len(called) == 1 else {}
            for i, name in enumerate(called):
                if name in parts or name in dataset.data_vars:
                    raise ValueError(f"{source} contains the variable {name!r} twice; drop one")
                parts[name] = bare.isel({axis: i}).drop_attrs().assign_attrs(attrs)
        dataset = dataset.drop_vars([*arrays, *along]).assign(parts)
    return dataset


def cells_to_grid(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Reshape fields on a list of grid points, each with a latitude and longitude, to rows and columns.

    Args:
        dataset: data set; returned unchanged without such a list.
        source: path, for error messages.

    Raises:
        ValueError: the points do not form a regular latitude-longitude grid.
    """
    latitude = _coordinate(dataset, "latitude")
    longitude = _coordinate(dataset, "longitude")
    if (
        latitude is None
        or longitude is None
        or latitude.dims != longitude.dims
        or latitude.name in latitude.dims
    ):
        return dataset
    if longitude.name in longitude.dims:
        return dataset
    (cell,) = latitude.dims
    rows, row = _distinct(latitude.values)
    columns, column = _distinct(longitude.values)
    position = row * len(columns) + column
    if not np.array_equal(np.sort(position), np.arange(len(rows) * len(columns))):
        raise ValueError(
            f"{source}: its {latitude.size} points do not form a regular latitude-longitude grid "
            f"({len(rows)} latitudes, {len(columns)} longitudes); regrid it first, e.g. with cdo remapbil"
        )
    order = np.argsort(position)
    dataset = dataset.drop_vars(
        [str(c) for c in dataset.variables if cell in dataset[c].dims and c not in dataset.data_vars]
    )
    dataset = dataset.drop_vars([str(latitude.name), str(longitude.name)], errors="ignore")
    fields = {
        name: _unstack(v, cell, order, shape=(len(rows), len(columns)))
        for name, v in dataset.data_vars.items()
        if cell in v.dims
    }
    dataset = dataset.drop_vars(list(fields)).assign(fields)
    return dataset.assign_coords(
        latitude=("latitude", rows, {"units": "degrees_north"}),
        longitude=("longitude", columns, {"units": "degrees_east"}),
    )


def named_axes(dataset: xr.Dataset) -> xr.Dataset:
    """Return a data set with latitude and longitude as axes, and longitudes that increase across a seam."""
    for name in _NAMES:
        coordinate = _coordinate(dataset, name)
        if coordinate is not None and coordinate.name not in coordinate.dims:
            dataset = dataset.set_coords(str(coordinate.name)).swap_dims(
                {coordinate.dims[0]: coordinate.name}
            )
    longitude = _coordinate(dataset, "longitude")
    if (
        longitude is not None
        and (np.diff(longitude.values) < 0).sum() == 1
        and longitude.values[-1] < longitude.values[0]
    ):
        values = eastward(longitude.values)
        dataset = dataset.assign_coords({longitude.name: (longitude.name, values, longitude.attrs)})
    return dataset


def _coordinate(dataset: xr.Dataset, name: str) -> xr.DataArray | None:
    """Return a one-dimensional coordinate, found by standard name, units or common names, or None."""
    candidates = [v for v in dataset.variables if dataset[v].ndim == 1]
    for test in (
        lambda v: v.attrs.get("standard_name") == name,
        lambda v: v.attrs.get("units") in DEGREES[name],
        lambda v: str(v.name).lower() in _NAMES[name],
    ):
        if matching := [v for v in candidates if test(dataset[v])]:
            return dataset[matching[0]]
    return None


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values, to 1e-4 degrees, and the index of the one that each value equals."""
    distinct, index = np.unique(np.round(values.astype(np.float64), 4), return_inverse=True)
    first = np.zeros(len(distinct), dtype=np.int64)
    first[index[::-1]] = np.arange(len(values))[::-1]
    return values[first], index


def _unstack(
    variable: xr.DataArray, cell: object, order: np.ndarray, *, shape: tuple[int, int]
) -> xr.DataArray:
    """Return a variable with its axis of cells, in the given order, reshaped to rows and columns; lazy."""
    variable = variable.transpose(..., cell)
    if not np.array_equal(order, np.arange(len(order))):
        variable = variable.isel({cell: order})
    lazy = variable.chunk({cell: -1})
    data = lazy.data.reshape(*lazy.shape[:-1], *shape)
    coords = {c: v for c, v in variable.coords.items() if cell not in v.dims}
    return xr.DataArray(data, coords, (*lazy.dims[:-1], "latitude", "longitude"), attrs=variable.attrs)
