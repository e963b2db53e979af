"""Recognition of coordinates by CF attributes and common names, and their conversion to canonical axes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ..ingest.select import Selection, eastward
from ..scalars import is_pressure, record, single_valued_coordinates
from ..schema import grid_of
from ..store.names import fault
from .levels import pressure_levels
from .times import standard_times
from .variables import selectable_variables
from .vocabulary import DEGREES

_COORDINATES: dict[str, dict[str, tuple[str, ...]]] = {
    "latitude": {"units": DEGREES["latitude"], "names": ("latitude", "lat")},
    "longitude": {"units": DEGREES["longitude"], "names": ("longitude", "lon")},
    "y": {"units": (), "names": ("y",)},
    "x": {"units": (), "names": ("x",)},
    "number": {"units": (), "names": ("number", "member", "ensemble", "realization")},
    "time": {"units": (), "names": ("time", "valid_time")},  # or the only axis of dates
}


def canonical_axes(
    dataset: xr.Dataset,
    source: str,
    select: Selection,
    *,
    timeless: bool = False,
    extra_dims: tuple[str, ...] = (),
) -> xr.Dataset:
    """Return a data set with canonical axes: names, levels in hPa, dates, and longitudes eastward.

    Args:
        dataset: data set as arranged by its layout.
        source: path, for error messages.
        select: variables and levels to keep.
        timeless: whether the data set may have no time.
        extra_dims: further axes to keep, such as lead time and member of a forecast.

    Raises:
        ValueError: a coordinate is missing or has invalid values.
    """
    names = {own: name for name in _COORDINATES if (own := _find_coordinate(dataset, name)) is not None}
    if {"latitude", "longitude"} & set(names.values()) or not {"y", "x"} <= set(names.values()):
        names = {own: name for own, name in names.items() if name not in ("y", "x")}
    axes = ("y", "x") if "y" in names.values() else ("latitude", "longitude")
    without_time = timeless and "time" not in names.values() and "time" not in dataset.dims
    for name in (*axes, "time"):
        if name not in names.values() and not (name == "time" and without_time):
            if scattered := [
                v
                for v in dataset.variables.values()
                if name == "latitude" and v.ndim and _is_coordinate(v.attrs, "latitude")
            ]:
                raise ValueError(
                    f"{source} gives its latitudes along ({', '.join(map(str, scattered[0].dims))}), "
                    "which are not the rows and columns of a grid; regrid it first, e.g. with cdo remapbil"
                )
            units = next(iter(_COORDINATES[name]["units"]), "hours since ...")
            raise ValueError(
                f"{source} has no {name} coordinate (dimensions: {', '.join(map(str, dataset.sizes))}); add "
                f"one with CF attributes, e.g. units {units}"
            )
    dataset = dataset.rename({own: name for own, name in names.items() if own != name})
    dataset = dataset.reset_coords([c for c in dataset.coords if set(dataset[c].dims) == set(axes)])
    if wrong := [str(n) for n in dataset.data_vars if fault(str(n))]:
        raise ValueError(f"{source} contains a variable called {wrong[0][:60]!r}, which {fault(wrong[0])}")
    if not without_time:
        dataset = standard_times(dataset if "time" in dataset.dims else dataset.expand_dims("time"), source)
    kept = (*axes, "time", *(name for name in extra_dims if name != "number"))
    single = [name for name in single_valued_coordinates(dataset, kept) if name in dataset.dims]
    if extra_dims:  # a forecast keeps its axis of levels, however short
        single = [name for name in single if not is_pressure(name, dataset[name])]
        kept = (*kept, "level")
    dataset = pressure_levels(
        record(dataset, single), source, selectable_variables(dataset, axes, select), levels=select.levels
    )
    # Terms of formulas are scalars too, so these are recorded after the levels.
    dataset = record(dataset, single_valued_coordinates(dataset, kept))
    return _order_longitudes(dataset, source) if axes[0] == "latitude" else _cartesian_axes(dataset, source)


def _find_coordinate(dataset: xr.Dataset, name: str) -> str | None:
    """Return a source's name of a coordinate, by standard name, then units, then name; None if not found."""
    rules = _COORDINATES[name]
    candidates = [str(c) for c in dataset.variables if dataset[c].ndim == 1 and dataset[c].dims == (c,)]
    if name == "time":
        candidates += [str(c) for c in dataset.coords if dataset[c].ndim == 0]
    standards = {"number": "realization", "y": "projection_y_coordinate", "x": "projection_x_coordinate"}
    tests: list[Any] = [
        lambda c: dataset[c].attrs.get("standard_name") == standards.get(name, name),
        lambda c: dataset[c].attrs.get("units") in rules["units"],
        lambda c: c.lower() in rules["names"] or c in rules["names"],
    ]
    for test in tests:
        if matches := [c for c in candidates if test(c)]:
            return matches[0]
    dated = [
        str(c)
        for c, index in dataset.indexes.items()
        if name == "time" and isinstance(index, pd.DatetimeIndex | xr.CFTimeIndex)
    ]
    return dated[0] if len(dated) == 1 else None


def _is_coordinate(attrs: Mapping[Any, Any], name: str) -> bool:
    return attrs.get("standard_name") == name or attrs.get("units") in _COORDINATES[name]["units"]


def _cartesian_axes(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return a data set on a Cartesian grid with canonical attributes of its axes."""
    for name in ("y", "x"):
        axis = dataset[name]
        kept = {k: v for k, v in axis.attrs.items() if k in ("long_name", "standard_name", "modulo")}
        kept["units"] = str(axis.attrs.get("units", "1"))
        dataset = dataset.assign_coords({name: (name, axis.values.astype(np.float64), kept)})
    if "time" in dataset.coords:
        dataset["time"].attrs = {"standard_name": "time"}
        dataset["time"].encoding = {}
    try:
        grid_of(dataset)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return dataset


def _order_longitudes(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return a data set whose longitudes increase eastward, starting at the western edge of a region."""
    for name, units in (("latitude", "degrees_north"), ("longitude", "degrees_east")):
        dataset[name].attrs = {"standard_name": name, "units": units}
        dataset[name].encoding = {}
    if "time" in dataset.coords:
        dataset["time"].attrs = {"standard_name": "time"}
        dataset["time"].encoding = {}
    longitude = dataset["longitude"].values.astype(np.float64)
    latitude = dataset["latitude"].values
    back = np.flatnonzero(np.diff(longitude) <= 0)
    if len(back) > 1 or (len(back) and longitude[-1] >= longitude[0]) or np.isnan(longitude).any():
        raise ValueError(
            f"{source}: longitudes are not sorted ({longitude[:3]} ... {longitude[-1]:g}); "
            "they must increase eastward, across one seam at most"
        )
    if longitude[-1] - longitude[0] >= 360:
        raise ValueError(
            f"{source}: longitudes {longitude[0]:g} ... {longitude[-1]:g} contain a meridian twice; "
            "drop one, e.g. with ds.isel(longitude=slice(-1))"
        )
    if not ((np.diff(latitude) > 0).all() or (np.diff(latitude) < 0).all()):
        raise ValueError(
            f"{source}: latitudes are not sorted ({latitude[:3]} ... {latitude[-1]:g}); "
            "sort them, e.g. with ds.sortby('latitude')"
        )
    gaps = np.diff(longitude, append=longitude[0] + 360) % 360
    # A region begins east of the largest gap, on either side of the seam.
    if len(gaps) > 2 and gaps.max() > 1.5 * np.median(gaps):
        first = (int(gaps.argmax()) + 1) % len(gaps)
        dataset = dataset.roll(longitude=-first, roll_coords=True) if first else dataset
        return dataset.assign_coords(
            longitude=("longitude", eastward(dataset["longitude"].values), dataset["longitude"].attrs)
        )
    return dataset.roll(longitude=-(int(back[0]) + 1), roll_coords=True) if len(back) else dataset
