"""Arrays of variables along one axis, or of grid points along one axis, as variables on rows and columns."""

import numpy as np
import xarray as xr

from ..ingest.select import eastward

VARIABLE_AXES = ("variable", "variables", "channel", "channels", "param", "parameter", "feature")
_COORDINATES = {
    "latitude": (("latitude", "lat", "latitudes"), ("degrees_north", "degree_north", "degrees_N")),
    "longitude": (("longitude", "lon", "longitudes"), ("degrees_east", "degree_east", "degrees_E")),
}


def channels_to_variables(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return one variable a channel for arrays that have an axis of names, such as ``t2m`` and ``z500``.

    Raises:
        ValueError: an axis of variables has no names, or one name twice.
    """
    for axis in [str(d) for d in dataset.dims if str(d).lower() in VARIABLE_AXES]:
        names = next(
            (c for c in dataset.coords.values() if c.dims == (axis,) and c.dtype.kind in "UOST"), None
        )
        if names is None:
            raise ValueError(
                f"{source}: the axis {axis!r} has no names of variables; give it a coordinate of them"
            )
        called = [v.decode() if isinstance(v, bytes) else str(v) for v in names.values.tolist()]
        arrays = {str(name): v for name, v in dataset.data_vars.items() if axis in v.dims}
        along = [str(name) for name, c in dataset.coords.items() if axis in c.dims]
        parts: dict[str, xr.DataArray] = {}
        for array in arrays.values():
            bare = array.drop_vars(along, errors="ignore")
            # Units of the array are those of no channel in particular, unless there is one.
            attrs = array.attrs if len(called) == 1 else {}
            for i, name in enumerate(called):
                if name in parts or name in dataset.data_vars:
                    raise ValueError(f"{source} holds the variable {name!r} twice; drop one")
                parts[name] = bare.isel({axis: i}).drop_attrs().assign_attrs(attrs)
        dataset = dataset.drop_vars([*arrays, *along]).assign(parts)
    return dataset


def cells_to_grid(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return rows and columns for fields whose points stand along one axis, with a latitude and longitude
    each.

    Raises:
        ValueError: the points are not those of a regular latitude-longitude grid.
    """
    names = {name: _coordinate(dataset, name) for name in _COORDINATES}
    latitude, longitude = names["latitude"], names["longitude"]
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
    place = row * len(columns) + column
    if not np.array_equal(np.sort(place), np.arange(len(rows) * len(columns))):
        raise ValueError(
            f"{source}: its {latitude.size} points are no regular latitude-longitude grid ({len(rows)} latitudes, "
            f"{len(columns)} longitudes); regrid it to one first, e.g. with cdo remapbil"
        )
    order = np.argsort(place)
    dataset = dataset.drop_vars(
        [str(c) for c in dataset.variables if cell in dataset[c].dims and c not in dataset.data_vars]
    )
    dataset = dataset.drop_vars([str(latitude.name), str(longitude.name)], errors="ignore")
    fields = {
        name: _unstacked(v, cell, order, (len(rows), len(columns)))
        for name, v in dataset.data_vars.items()
        if cell in v.dims
    }
    dataset = dataset.drop_vars(list(fields)).assign(fields)
    return dataset.assign_coords(
        latitude=("latitude", rows, {"units": "degrees_north"}),
        longitude=("longitude", columns, {"units": "degrees_east"}),
    )


def named_axes(dataset: xr.Dataset) -> xr.Dataset:
    """Return the data set with latitude and longitude as axes, and longitudes that cross a seam counted on
    eastward.
    """
    for name in _COORDINATES:
        found = _coordinate(dataset, name)
        if found is not None and found.name not in found.dims:
            dataset = dataset.set_coords(str(found.name)).swap_dims({found.dims[0]: found.name})
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
    """Return the one-dimensional coordinate of a name: by its standard name, units, or names in use."""
    names, units = _COORDINATES[name]
    found = [v for v in dataset.variables if dataset[v].ndim == 1]
    for test in (
        lambda v: v.attrs.get("standard_name") == name,
        lambda v: v.attrs.get("units") in units,
        lambda v: str(v.name).lower() in names,
    ):
        if matching := [v for v in found if test(dataset[v])]:
            return dataset[matching[0]]
    return None


def _distinct(values: np.ndarray) -> "tuple[np.ndarray, np.ndarray]":
    """Return the distinct values, to 1e-4 degrees, and which of them each is."""
    kept, index = np.unique(np.round(values.astype(np.float64), 4), return_inverse=True)
    first = np.zeros(len(kept), dtype=np.int64)
    first[index[::-1]] = np.arange(len(values))[::-1]
    return values[first], index


def _unstacked(
    variable: xr.DataArray, cell: object, order: np.ndarray, shape: tuple[int, int]
) -> xr.DataArray:
    variable = variable.transpose(..., cell)
    if not np.array_equal(order, np.arange(len(order))):
        variable = variable.isel({cell: order})
    lazy = variable.chunk({cell: -1})
    data = lazy.data.reshape(*lazy.shape[:-1], *shape)
    coords = {c: v for c, v in variable.coords.items() if cell not in v.dims}
    return xr.DataArray(data, coords, (*lazy.dims[:-1], "latitude", "longitude"), attrs=variable.attrs)
