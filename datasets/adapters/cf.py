"""CF and COARDS data, netCDF or zarr, as the canonical data set. Lazy: values are read when they are computed."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from .. import units as cf_units
from ..schema import DIMENSIONS, LEVEL_VARIABLES, STANDARD_UNITS, axes_of, grid_of, nearest
from ..selection import Selection, places_along
from .layouts import find_layout

_NAME = re.compile(r"[^./\\][^/\\]*")

_COORDINATES: dict[str, dict[str, tuple[str, ...]]] = {
    "latitude": {"units": ("degrees_north", "degree_north", "degrees_N", "degree_N"), "names": ("latitude", "lat")},
    "longitude": {"units": ("degrees_east", "degree_east", "degrees_E", "degree_E"), "names": ("longitude", "lon")},
    "y": {"units": (), "names": ("y",)},
    "x": {"units": (), "names": ("x",)},
    "level": {"units": (), "names": ("level", "lev", "plev", "pressure_level", "isobaricInhPa", "pressure")},
    "number": {"units": (), "names": ("number", "member", "ensemble", "realization")},
    "time": {"units": (), "names": ("time", "valid_time")},  # or the only axis of dates
}


def canonical(
    dataset: xr.Dataset,
    source: str,
    units: Mapping[str, str] | None = None,
    select: Selection | None = None,
    layout: str | None = None,
    chunk_bytes: int = 2**25,
    beyond: tuple[str, ...] = (),
) -> xr.Dataset:
    """Rename, reorder and convert to the canonical data set; fields that do not change with time become coordinates.

    Args:
        dataset: what ``open_lazily`` or ``open_raw`` gave, or a data set in memory.
        source: named in errors.
        units: units by variable that override the file's.
        select: what to keep. Variables that this source does not hold are passed over, since another may hold them.
        layout: name of the layout; recognised by default.
        chunk_bytes: bytes of a variable read at once.
        beyond: axes to keep that a series of states does not have: ``prediction_timedelta`` and ``number`` of a
            forecast, whose variables may also lack units.

    Raises:
        ValueError: no latitude, longitude or time; no field; missing or wrong units; an extra dimension.
    """
    units, select = units or {}, select or Selection()
    axes = {str(dim) for dim in dataset.dims}
    dataset = select.places(dataset, source)
    dataset = _axes(find_layout(dataset, layout).read(dataset, source), source, beyond)
    fields: dict[str, xr.DataArray] = {}
    known = [str(n) for n, v in dataset.data_vars.items() if set(axes_of(dataset)) <= set(v.dims) and v.dtype.kind in "fiu"]
    changing = [name for name in known if "time" in dataset[name].dims]
    wanted = None if select.variables is None else set(select.variables)
    called = {n: {n, str(dataset[n].attrs.get("source_name")), _canonical_name(n, dataset[n])} for n in known}
    names = [n for n in changing if wanted is None or called[n] & wanted]
    static = [n for n in known if set(dataset[n].dims) == set(axes_of(dataset)) and (wanted is None or called[n] & wanted)]
    if not names and changing:
        raise ValueError(f"{source} has no variable {next(iter(wanted or ()))!r}; {nearest(next(iter(wanted or ())), changing)}")
    if not names:
        raise ValueError(
            f"{source} has no variable on (time, {axes_of(dataset)[0]}, {axes_of(dataset)[1]}); it holds {', '.join(map(str, known)) or 'none'}"
        )
    whole = dataset[[*names, *static]]
    dataset = select.of(whole, source)
    cost = _bytes_of_a_time(whole, dataset)
    dataset = _chunked(dataset, chunk_bytes)
    for name in [*names, *static]:
        field = _field(name, dataset[name], source, units, beyond)
        if str(field.name) in fields:
            raise ValueError(f"{source}: {name!r} and another variable are both {field.name!r}; ingest one of them")
        fields[str(field.name)] = field
    result = xr.Dataset({n: v for n, v in fields.items() if "time" in v.dims}, attrs=dataset.attrs)
    result = result.drop_vars([c for c in result.coords if c not in DIMENSIONS])
    result = result.assign_coords({n: v.compute() for n, v in fields.items() if "time" not in v.dims})
    result.encoding = {"bytes_of_a_time": cost, "names": {*changing, *static, *fields}, "axes": axes}
    return result


def _bytes_of_a_time(whole: xr.Dataset, kept: xr.Dataset) -> tuple[int, int]:
    """Return the bytes that are read for each time, since chunks are read whole, and those that are kept."""
    read = used = 0
    for name, variable in whole.data_vars.items():
        if "time" in variable.dims:
            chunks = variable.encoding.get("preferred_chunks") or {}
            sizes = [(size, int(chunks.get(d, 1)), kept[name].sizes.get(d, 1)) for d, size in variable.sizes.items() if d != "time"]
            read += variable.dtype.itemsize * int(np.prod([min(size, max(chunk, selected)) for size, chunk, selected in sizes]))
            used += variable.dtype.itemsize * int(np.prod([selected for _, _, selected in sizes]))
    return read, used


def _axes(dataset: xr.Dataset, source: str, beyond: tuple[str, ...] = ()) -> xr.Dataset:
    """Return the data set with canonical axes: names, hPa, dates, and longitudes eastward."""
    names = {found: name for name in _COORDINATES if (found := _find(dataset, name)) is not None}
    if {"latitude", "longitude"} & set(names.values()) or not {"y", "x"} <= set(names.values()):
        names = {found: name for found, name in names.items() if name not in ("y", "x")}
    axes = ("y", "x") if "y" in names.values() else ("latitude", "longitude")
    for name in (*axes, "time"):
        if name not in names.values():
            if scattered := [v for v in dataset.variables.values() if name == "latitude" and v.ndim and _says(v.attrs, "latitude")]:
                raise ValueError(
                    f"{source} gives its latitudes along ({', '.join(map(str, scattered[0].dims))}), which are no rows and columns of a grid; "
                    "regrid it to one first, e.g. with cdo remapbil"
                )
            raise ValueError(
                f"{source} has no {name} coordinate (dimensions: {', '.join(map(str, dataset.sizes))}); "
                f"give it one with CF attributes, e.g. units {_COORDINATES[name]['units'][:1] or 'hours since ...'}"
            )
    dataset = dataset.rename({found: name for found, name in names.items() if found != name})
    dataset = dataset.reset_coords([c for c in dataset.coords if set(dataset[c].dims) == set(axes)])
    if wrong := [str(n) for n in dataset.data_vars if not _NAME.fullmatch(str(n))]:
        raise ValueError(f"{source} holds a variable called {wrong[0]!r}, which is no name: it could leave the store's folder")
    if "time" not in dataset.dims:
        dataset = dataset.expand_dims("time")
    dataset = _standard_times(dataset, source)
    for name in ("level", "number"):
        if dataset.sizes.get(name) == 1 and not (beyond and name == "level"):
            dataset = dataset.isel({name: 0}, drop=True)
    dataset = _pressure_in_hpa(dataset, source, next((found for found, name in names.items() if name == "level"), "level"))
    return _order_longitudes(dataset, source) if axes[0] == "latitude" else _plane(dataset, source)


def _chunked(dataset: xr.Dataset, chunk_bytes: int) -> xr.Dataset:
    """Return the data set as dask arrays that are read some whole chunks of the source at a time."""
    for name, variable in dataset.data_vars.items():
        if "time" not in variable.dims or variable.chunks is not None:
            continue
        sizes = variable.encoding.get("shards") or variable.encoding.get("preferred_chunks") or {}
        stored = int(sizes["time"] if isinstance(sizes, dict) and "time" in sizes else sizes[0] if isinstance(sizes, tuple) else 1)
        one = max(1, variable.nbytes // max(1, variable.sizes["time"]))
        dataset[name] = variable.chunk({"time": max(1, chunk_bytes // (one * stored)) * stored} | {d: -1 for d in variable.dims if d != "time"})
    return dataset


def _find(dataset: xr.Dataset, name: str) -> str | None:
    """Return the source's name of a coordinate: by standard name, units, then by name."""
    rules = _COORDINATES[name]
    candidates = [str(c) for c in dataset.variables if dataset[c].ndim == 1 and dataset[c].dims == (c,)]
    if name == "time":
        candidates += [str(c) for c in dataset.coords if dataset[c].ndim == 0]
    standards = {"level": "air_pressure", "number": "realization", "y": "projection_y_coordinate", "x": "projection_x_coordinate"}
    tests: list[Any] = [
        lambda c: dataset[c].attrs.get("standard_name") == standards.get(name, name),
        lambda c: dataset[c].attrs.get("units") in rules["units"],
        lambda c: c.lower() in rules["names"] or c in rules["names"],
    ]
    for test in tests:
        if found := [c for c in candidates if test(c)]:
            return found[0]
    dated = [str(c) for c, index in dataset.indexes.items() if name == "time" and isinstance(index, pd.DatetimeIndex | xr.CFTimeIndex)]
    return dated[0] if len(dated) == 1 else None


def _says(attrs: Mapping[Any, Any], name: str) -> bool:
    return attrs.get("standard_name") == name or attrs.get("units") in _COORDINATES[name]["units"]


def _standard_times(dataset: xr.Dataset, source: str) -> xr.Dataset:
    times = dataset["time"]
    if times.dtype == object:  # cftime: another calendar
        calendar = times.dt.calendar
        try:
            dataset = dataset.convert_calendar("standard", use_cftime=False)
        except ValueError as error:
            raise ValueError(f"{source} uses the calendar {calendar!r}; convert it with ds.convert_calendar('standard', align_on='date')") from error
    elif times.dtype.kind in "mfiu" and "y" in dataset.dims and "x" in dataset.dims:
        return dataset.assign_coords(time=("time", _seconds_as_dates(times)))
    elif not np.issubdtype(times.dtype, np.datetime64):
        raise ValueError(f"{source}: time has no CF units (dtype {times.dtype}); set e.g. 'hours since 2000-01-01'")
    if np.isnat(dataset["time"].values).any():
        raise ValueError(f"{source}: {int(np.isnat(dataset['time'].values).sum())} time(s) are missing; drop those records")
    return dataset.assign_coords(time=dataset["time"].astype("datetime64[ns]"))


def _canonical_name(name: str, variable: xr.DataArray) -> str:
    """Return WeatherBench2's name for a variable on pressure levels, its own name for any other."""
    standard = str(variable.attrs.get("standard_name"))
    return LEVEL_VARIABLES[standard][0] if variable.sizes.get("level", 1) > 1 and standard in LEVEL_VARIABLES else name


def _field(
    name: str, variable: xr.DataArray, source: str, units: Mapping[str, str], beyond: tuple[str, ...] = ()
) -> xr.DataArray:
    extra = [d for d in variable.dims if d not in DIMENSIONS and d not in beyond]
    for dim in extra:
        if variable.sizes[dim] > 1:
            place = places_along(variable[dim].values)[0]
            raise ValueError(f"{source}: {name!r} has a dimension {dim!r} of {variable.sizes[dim]}; keep one, e.g. --select {dim}={place}")
    variable = variable.isel(dict.fromkeys(extra, 0), drop=True)
    if "number" in variable.dims and "number" not in beyond:
        raise ValueError(f"{source}: {name!r} holds {variable.sizes['number']} members; select one, e.g. --member 0")
    standard = variable.attrs.get("standard_name")
    new = _canonical_name(name, variable)
    if "level" in variable.dims:
        standard = next((s for s, (wb, _) in LEVEL_VARIABLES.items() if wb == new), standard)
    wanted = STANDARD_UNITS.get(str(standard))
    try:
        said = variable.attrs.get("units") or (None if "time" in variable.dims else "1")
        given = units.get(name, units.get(new, said))
        given = "" if beyond and not given else cf_units.normalise(given)
        target = (wanted if given else "") or ("K" if given == "degC" else given)
        factor, offset = cf_units.conversion(given, target) if given else (1.0, 0.0)
    except ValueError as error:
        hint = f" (its standard name is {standard})" if wanted else ""
        raise ValueError(f"{source}: {name!r} {error}{hint}; set the attribute, or pass --units {name}=...") from error
    attrs = {k: v for k, v in variable.attrs.items() if k in ("long_name", "standard_name", "cell_methods")}
    attrs |= {"units": target, "source_name": variable.attrs.get("source_name", name)} | ({"standard_name": standard} if standard else {})
    if (factor, offset) != (1.0, 0.0):
        variable = variable * factor + offset
    order = dict.fromkeys(("time", *beyond, *DIMENSIONS))
    variable = variable.astype(np.float32).transpose(*[d for d in order if d in variable.dims])
    variable.attrs = attrs
    variable.encoding = {}
    return variable.rename(new)


def _pressure_in_hpa(dataset: xr.Dataset, source: str, called: str) -> xr.Dataset:
    if "level" not in dataset.dims:
        return dataset
    level = dataset["level"]
    try:
        factor, offset = cf_units.conversion(level.attrs.get("units", "hPa"), "hPa")
    except ValueError as error:
        raise ValueError(
            f"{source}: {called!r} {error}; only pressure levels are kept together, keep one of these, e.g. --select {called}={level.values[0]:g}"
        ) from error
    values = np.round(level.values * factor + offset).astype(np.int32)
    attrs = {"standard_name": "air_pressure", "units": "hPa", "positive": "down"}
    return dataset.assign_coords(level=("level", values, attrs))


def _seconds_as_dates(times: xr.DataArray) -> np.ndarray:
    """Return times that a flow counts in seconds, or without unit, as dates from 1970 on, evenly spaced where they are meant to be."""
    values = times.values / np.timedelta64(1, "s") if times.dtype.kind == "m" else times.values.astype(np.float64)
    if times.dtype.kind != "m" and str(times.attrs.get("units", "s")) not in ("s", "second", "seconds", "1", ""):
        values = values * cf_units.conversion(str(times.attrs["units"]), "s")[0]
    step = (values[-1] - values[0]) / max(1, len(values) - 1)
    even = values[0] + step * np.arange(len(values))
    if len(values) > 1 and np.abs(values - even).max() < 1e-3 * abs(step):
        nanoseconds = round(values[0] * 1e9) + round(step * 1e9) * np.arange(len(values))
    else:
        nanoseconds = np.round(values * 1e9).astype(np.int64)
    return np.asarray(np.datetime64("1970-01-01", "ns") + nanoseconds.astype("timedelta64[ns]"))


def _plane(dataset: xr.Dataset, source: str) -> xr.Dataset:
    for name in ("y", "x"):
        axis = dataset[name]
        kept = {k: v for k, v in axis.attrs.items() if k in ("long_name", "standard_name", "modulo")} | {"units": str(axis.attrs.get("units", "1"))}
        dataset = dataset.assign_coords({name: (name, axis.values.astype(np.float64), kept)})
    dataset["time"].attrs, dataset["time"].encoding = {"standard_name": "time"}, {}
    try:
        grid_of(dataset)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return dataset


def _order_longitudes(dataset: xr.Dataset, source: str) -> xr.Dataset:
    for name, units in (("latitude", "degrees_north"), ("longitude", "degrees_east")):
        dataset[name].attrs = {"standard_name": name, "units": units}
        dataset[name].encoding = {}
    dataset["time"].attrs = {"standard_name": "time"}
    dataset["time"].encoding = {}
    longitude, latitude = dataset["longitude"].values.astype(np.float64), dataset["latitude"].values
    back = np.flatnonzero(np.diff(longitude) <= 0)
    if len(back) > 1 or (len(back) and longitude[-1] >= longitude[0]) or np.isnan(longitude).any():
        raise ValueError(f"{source}: longitudes are jumbled ({longitude[:3]} ... {longitude[-1]:g}); they must go eastward, across one seam at most")
    if longitude[-1] - longitude[0] >= 360:
        raise ValueError(
            f"{source}: longitudes {longitude[0]:g} ... {longitude[-1]:g} hold a meridian twice; drop one, e.g. with ds.isel(longitude=slice(-1))"
        )
    if not ((np.diff(latitude) > 0).all() or (np.diff(latitude) < 0).all()):
        raise ValueError(f"{source}: latitudes are jumbled ({latitude[:3]} ... {latitude[-1]:g}); sort them, e.g. with ds.sortby('latitude')")
    return dataset.roll(longitude=-(int(back[0]) + 1), roll_coords=True) if len(back) else dataset
