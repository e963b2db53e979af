"""CF and COARDS data, netCDF or zarr, as the canonical data set. Lazy: values are read when they are
computed.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from .. import units as cf_units
from ..errors import DataError
from ..identity import find_variables, identity
from ..ingest.select import (
    NothingSelectedError,
    Selection,
    eastward,
    levels_in,
    members_in,
    places_along,
)
from ..memory import check_bytes, memory_limit
from ..scalars import ATTRIBUTE as SCALARS
from ..scalars import is_pressure, lone_coordinates, record
from ..schema import DIMENSIONS, LEVEL_VARIABLES, STANDARD_UNITS, axes_of, grid_of, nearest
from ..store.names import fault, reserved
from .curvilinear import find_curvilinear_grid
from .layouts import find_layout
from .levels import pressure_levels
from .projections import onto_latlon
from .static import first_of_constant, is_constant
from .times import standard_times
from .versions import drop_superseded, fill_versions
from .vocabulary import DEGREES

_OF_SIMULATIONS = (
    "system",
    "parameters",
    "seed",
    "checkpoint",
)  # attributes that say how a store is to be read

_COORDINATES: dict[str, dict[str, tuple[str, ...]]] = {
    "latitude": {"units": DEGREES["latitude"], "names": ("latitude", "lat")},
    "longitude": {"units": DEGREES["longitude"], "names": ("longitude", "lon")},
    "y": {"units": (), "names": ("y",)},
    "x": {"units": (), "names": ("x",)},
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
    *,
    grid: str | None = None,
    method: str = "conservative",
    rename: Mapping[str, str] | None = None,
    static: Collection[str] = (),
    one_of_several: bool = False,
    beyond: tuple[str, ...] = (),
) -> xr.Dataset:
    """Rename, reorder and convert to the canonical data set; fields that do not change with time become
    coordinates.

    Coordinates of one value, such as a height or a member, become the attribute ``scalar_coordinates`` of the
    variables.

    Args:
        dataset: what ``open_lazily`` or ``open_raw`` gave, or a data set in memory.
        source: named in errors.
        units: units by variable that override the file's.
        select: what to keep. Variables that this source does not hold are passed over, since another may hold
            them.
        layout: name of the layout; recognised by default.
        chunk_bytes: bytes of a variable read at once.
        grid: what to regrid a curvilinear source to, as ``projections.onto_latlon`` takes it; such a source
            is refused by default.
        method: how to regrid it.
        rename: new names by the source's or the canonical name of a variable.
        static: variables that do not change with time although the source gives them times.
        one_of_several: whether other sources may have the times and levels that this one lacks; one without
            time has static fields only.
        beyond: axes to keep that a series of states does not have: ``prediction_timedelta`` and ``number`` of
            a forecast, whose variables may also lack units.

    Returns:
        The data set. Its ``encoding`` has ``names`` and ``axes`` of the source, ``levels`` [hPa] and
        ``members`` in it, ``constants`` (fields of a source with a single time that may be static), and
        ``bytes_of_a_time``.

    Raises:
        NothingSelectedError: no variable, level or member of the selection.
        ValueError: no latitude, longitude or time; no field; missing or wrong units; an extra dimension.
    """
    units, select, rename = units or {}, select or Selection(), rename or {}
    axes = {str(dim) for dim in dataset.dims}
    dataset = dataset.drop_vars(
        [n for n, v in dataset.variables.items() if any(dataset.sizes[d] == 0 for d in v.dims if d != "time")]
    )
    dataset = select.places(dataset, source)
    dataset = find_layout(dataset, layout).read(dataset, source)
    curvilinear = find_curvilinear_grid(dataset, source)
    if curvilinear is not None:
        if grid is None:
            raise curvilinear.refusal(source)
        used = _used(dataset, curvilinear.dims, select)
        dataset = onto_latlon(
            dataset, curvilinear, source, grid=grid, method=method, area=select.area, names=used
        )
    dataset = drop_superseded(_axes(dataset, source, select, timeless=one_of_several, beyond=beyond))
    plane = set(axes_of(dataset))
    on_grid = {str(n): v for n, v in dataset.data_vars.items() if plane <= set(v.dims)}
    known = [n for n, v in on_grid.items() if v.dtype.kind in ("fiu" if "time" in v.dims else "fiub")]
    identities = {n: identity(dataset[n]) for n in known}
    changing = [name for name in known if "time" in dataset[name].dims]
    fixed = [name for name in known if set(dataset[name].dims) == plane]
    called = {n: {*identities[n].names, _canonical_name(n, dataset[n])} for n in known}
    called = {n: {*names, *(rename[name] for name in names if name in rename)} for n, names in called.items()}
    wanted = None if select.variables is None else find_variables(select.variables, called, identities)
    names = [n for n in changing if wanted is None or n in wanted]
    fixed = [n for n in fixed if wanted is None or n in wanted]
    if not (names or fixed) and known and wanted is not None and select.variables:
        lacking = select.variables[0]
        raise NothingSelectedError(
            f"{source} has no variable {lacking!r}; {nearest(lacking, changing or known)}"
        )
    if not names and not ("time" not in dataset.dims and fixed):
        raise ValueError(
            f"{source} has no variable on (time, {axes_of(dataset)[0]}, {axes_of(dataset)[1]}); it holds {', '.join(map(str, known)) or 'none'}"
        )
    whole = dataset[[*names, *fixed]]
    levels, members = levels_in(whole), members_in(whole)
    if not one_of_several and (missing := [level for level in select.levels or () if level not in levels]):
        available = ", ".join(map(str, levels)) or "no pressure levels"
        raise NothingSelectedError(f"{source} has no level {missing[0]} hPa; it holds {available}")
    dataset = select.places_of(whole, source)
    forced = [n for n in names if n in dataset and called[n] & set(static)]
    single = dataset.sizes.get("time") == 1
    constants = [
        n
        for n in names
        if n in dataset and n not in forced and single and not beyond and is_constant(n, identities, changing)
    ]
    first = {n: dataset[n].isel(time=0) for n in constants} | {
        n: first_of_constant(dataset[n], source) for n in forced
    }
    dataset = dataset.drop_vars(forced)
    if "time" in dataset.dims:
        dataset = select.times_of(dataset)
    cost = _bytes_of_a_time(whole, dataset)
    dataset = fill_versions(_chunked(dataset, chunk_bytes), source)
    fields: dict[str, xr.DataArray] = {}
    for name, variable in [*dataset.data_vars.items(), *((n, first[n]) for n in forced)]:
        field = _field(str(name), variable, source, units, rename, beyond=beyond)
        if str(field.name) in fields:
            raise DataError(
                f"{source}: {name!r} and another variable both become {field.name!r}; "
                "select one of them, or rename one",
                option="rename",
            )
        fields[str(field.name)] = field
    attrs = {k: v for k, v in dataset.attrs.items() if k not in _OF_SIMULATIONS}
    result = xr.Dataset({n: v for n, v in fields.items() if "time" in v.dims}, attrs=attrs)
    if "time" in dataset.coords and "time" not in result.coords:
        result = result.assign_coords(time=dataset["time"])
    result = result.drop_vars([c for c in result.coords if c not in DIMENSIONS])
    unchanging = {n: v for n, v in fields.items() if "time" not in v.dims}
    for name, field in unchanging.items():
        check_bytes(f"{source}: the static field {name!r}", 4 * field.nbytes)
    result = result.assign_coords({n: v.reset_coords(drop=True).compute() for n, v in unchanging.items()})
    kept = [
        _field(n, first[n].chunk(), source, units, rename, beyond=beyond).reset_coords(drop=True)
        for n in constants
    ]
    result.encoding = {
        "bytes_of_a_time": cost,
        "names": {*changing, *fixed, *fields, *(name for n in known for name in called[n])},
        "axes": axes,
        "levels": levels,
        "members": members,
        "regridded": curvilinear is not None,
        "constants": {str(field.name): field for field in kept},
    }
    return result


def _bytes_of_a_time(whole: xr.Dataset, kept: xr.Dataset) -> tuple[int, int]:
    """Return the bytes that are read for each time, since chunks are read whole, and those that are kept."""
    read = used = 0
    for name in kept.data_vars:
        if "time" in (variable := whole[name]).dims:
            chunks = variable.encoding.get("preferred_chunks") or {}
            sizes = [
                (size, int(chunks.get(d, 1)), kept[name].sizes.get(d, 1))
                for d, size in variable.sizes.items()
                if d != "time"
            ]
            read += variable.dtype.itemsize * int(
                np.prod([min(size, max(chunk, selected)) for size, chunk, selected in sizes])
            )
            used += variable.dtype.itemsize * int(np.prod([selected for _, _, selected in sizes]))
    return read, used


def _axes(
    dataset: xr.Dataset,
    source: str,
    select: Selection,
    *,
    timeless: bool = False,
    beyond: tuple[str, ...] = (),
) -> xr.Dataset:
    """Return the data set with canonical axes: names, hPa, dates, and longitudes eastward."""
    names = {found: name for name in _COORDINATES if (found := _find(dataset, name)) is not None}
    if {"latitude", "longitude"} & set(names.values()) or not {"y", "x"} <= set(names.values()):
        names = {found: name for found, name in names.items() if name not in ("y", "x")}
    axes = ("y", "x") if "y" in names.values() else ("latitude", "longitude")
    without_time = timeless and "time" not in names.values() and "time" not in dataset.dims
    for name in (*axes, "time"):
        if name not in names.values() and not (name == "time" and without_time):
            if scattered := [
                v
                for v in dataset.variables.values()
                if name == "latitude" and v.ndim and _says(v.attrs, "latitude")
            ]:
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
    if wrong := [str(n) for n in dataset.data_vars if fault(str(n))]:
        raise ValueError(f"{source} holds a variable called {wrong[0][:60]!r}, which {fault(wrong[0])}")
    if not without_time:
        dataset = standard_times(dataset if "time" in dataset.dims else dataset.expand_dims("time"), source)
    kept = (*axes, "time", *(name for name in beyond if name != "number"))
    single = [name for name in lone_coordinates(dataset, kept) if name in dataset.dims]
    if beyond:  # a forecast keeps its axis of levels, however short
        single = [name for name in single if not is_pressure(name, dataset[name])]
        kept = (*kept, "level")
    dataset = pressure_levels(record(dataset, single), source, _used(dataset, axes, select), select.levels)
    dataset = record(dataset, lone_coordinates(dataset, kept))  # terms of formulas are needed before
    return _order_longitudes(dataset, source) if axes[0] == "latitude" else _plane(dataset, source)


def _chunked(dataset: xr.Dataset, chunk_bytes: int) -> xr.Dataset:
    """Return the data set as dask arrays that are read some whole chunks of the source at a time."""
    for name, variable in dataset.data_vars.items():
        if "time" not in variable.dims or variable.chunks is not None:
            continue
        sizes = variable.encoding.get("shards") or variable.encoding.get("preferred_chunks") or {}
        stored = int(
            sizes["time"]
            if isinstance(sizes, dict) and "time" in sizes
            else sizes[0]
            if isinstance(sizes, tuple)
            else 1
        )
        one = max(1, variable.nbytes // max(1, variable.sizes["time"]))
        stored = max(
            1, min(stored, memory_limit() // 8 // one)
        )  # long chunks are read several times rather than beyond memory
        dataset[name] = variable.chunk(
            {"time": max(1, chunk_bytes // (one * stored)) * stored}
            | {d: -1 for d in variable.dims if d != "time"}
        )
    return dataset


def _find(dataset: xr.Dataset, name: str) -> str | None:
    """Return the source's name of a coordinate: by standard name, units, then by name."""
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
        if found := [c for c in candidates if test(c)]:
            return found[0]
    dated = [
        str(c)
        for c, index in dataset.indexes.items()
        if name == "time" and isinstance(index, pd.DatetimeIndex | xr.CFTimeIndex)
    ]
    return dated[0] if len(dated) == 1 else None


def _says(attrs: Mapping[Any, Any], name: str) -> bool:
    return attrs.get("standard_name") == name or attrs.get("units") in _COORDINATES[name]["units"]


def _used(dataset: xr.Dataset, axes: tuple[str, str], select: Selection) -> list[str]:
    """Return the variables along both axes that may be chosen."""
    wanted = None if select.variables is None else set(select.variables)
    return [
        str(n)
        for n, v in dataset.data_vars.items()
        if set(axes) <= set(v.dims) and (wanted is None or _called(str(n), v) & wanted)
    ]


def _called(name: str, variable: xr.DataArray) -> set[str]:
    """Return the names that a variable may be chosen by, before it is known whether it has pressure levels."""
    on_levels = LEVEL_VARIABLES.get(str(variable.attrs.get("standard_name")))
    return identity(variable).aliases | {name} | ({on_levels[0]} if on_levels else set())


def _canonical_name(name: str, variable: xr.DataArray) -> str:
    """Return WeatherBench2's name for a variable on pressure levels, its own name for any other."""
    standard = str(variable.attrs.get("standard_name"))
    return (
        LEVEL_VARIABLES[standard][0]
        if variable.sizes.get("level", 1) > 1 and standard in LEVEL_VARIABLES
        else name
    )


def _field(
    name: str,
    variable: xr.DataArray,
    source: str,
    units: Mapping[str, str],
    rename: Mapping[str, str],
    *,
    beyond: tuple[str, ...] = (),
) -> xr.DataArray:
    extra = [d for d in variable.dims if d not in DIMENSIONS and d not in beyond]
    for dim in extra:
        if variable.sizes[dim] > 1:
            place = places_along(variable[dim].values)[0]
            raise DataError(
                f"{source}: {name!r} has a dimension {dim!r} of size {variable.sizes[dim]}; "
                f"select one position along it, e.g. {dim}={place}",
                option="select",
                example=f"{dim}={place}",
            )
    variable = variable.isel(dict.fromkeys(extra, 0), drop=True)
    if "number" in variable.dims and "number" not in beyond:
        raise DataError(
            f"{source}: {name!r} has {variable.sizes['number']} members; select one, e.g. member 0",
            option="member",
            example="0",
        )
    standard = variable.attrs.get("standard_name")
    standard = None if standard == "unknown" else standard  # as GRIB tables write
    new = _canonical_name(name, variable)
    original = variable.attrs.get("source_name", name)
    called = (name, new, original, str(variable.attrs.get("GRIB_shortName", name)))
    if "level" in variable.dims:
        standard = next((s for s, (wb, _) in LEVEL_VARIABLES.items() if wb == new), standard)
    wanted = STANDARD_UNITS.get(str(standard))
    try:
        said = variable.attrs.get("units") or (None if "time" in variable.dims else "1")
        given = next((units[n] for n in called if n in units), said)
        given = "" if beyond and not given else cf_units.normalise(given)
        target = (wanted if given else "") or ("K" if given == "degC" else given)
        factor, offset = cf_units.conversion(given, target) if given else (1.0, 0.0)
    except ValueError as error:
        hint = f" (its standard name is {standard})" if wanted else ""
        raise DataError(
            f"{source}: {name!r} {error}{hint}; set its attribute units, or override its units",
            option="units",
            example=f"{name}=...",
        ) from error
    attrs = {k: v for k, v in variable.attrs.items() if k in ("long_name", "cell_methods", SCALARS)}
    attrs |= {"units": target, "source_name": original} | ({"standard_name": standard} if standard else {})
    if (factor, offset) != (1.0, 0.0):
        variable = variable * factor + offset
    order = dict.fromkeys(("time", *beyond, *DIMENSIONS))
    variable = variable.astype(np.float32).transpose(*[d for d in order if d in variable.dims])
    variable.attrs = attrs
    variable.encoding = {}
    new = next((rename[n] for n in called if n in rename), new)
    if reserved(new):
        raise DataError(
            f"{source}: {name!r} cannot be the name of a variable in a store; rename it",
            option="rename",
            example=f"{name}=...",
        )
    return variable.rename(new)


def _plane(dataset: xr.Dataset, source: str) -> xr.Dataset:
    for name in ("y", "x"):
        axis = dataset[name]
        kept = {k: v for k, v in axis.attrs.items() if k in ("long_name", "standard_name", "modulo")} | {
            "units": str(axis.attrs.get("units", "1"))
        }
        dataset = dataset.assign_coords({name: (name, axis.values.astype(np.float64), kept)})
    if "time" in dataset.coords:
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
    if "time" in dataset.coords:
        dataset["time"].attrs = {"standard_name": "time"}
        dataset["time"].encoding = {}
    longitude, latitude = dataset["longitude"].values.astype(np.float64), dataset["latitude"].values
    back = np.flatnonzero(np.diff(longitude) <= 0)
    if len(back) > 1 or (len(back) and longitude[-1] >= longitude[0]) or np.isnan(longitude).any():
        raise ValueError(
            f"{source}: longitudes are jumbled ({longitude[:3]} ... {longitude[-1]:g}); they must go eastward, across one seam at most"
        )
    if longitude[-1] - longitude[0] >= 360:
        raise ValueError(
            f"{source}: longitudes {longitude[0]:g} ... {longitude[-1]:g} hold a meridian twice; drop one, e.g. with ds.isel(longitude=slice(-1))"
        )
    if not ((np.diff(latitude) > 0).all() or (np.diff(latitude) < 0).all()):
        raise ValueError(
            f"{source}: latitudes are jumbled ({latitude[:3]} ... {latitude[-1]:g}); sort them, e.g. with ds.sortby('latitude')"
        )
    gaps = np.diff(longitude, append=longitude[0] + 360) % 360
    if len(gaps) > 2 and gaps.max() > 1.5 * np.median(
        gaps
    ):  # a region begins east of the gap, on whichever side of the seam
        first = (int(gaps.argmax()) + 1) % len(gaps)
        dataset = dataset.roll(longitude=-first, roll_coords=True) if first else dataset
        return dataset.assign_coords(
            longitude=("longitude", eastward(dataset["longitude"].values), dataset["longitude"].attrs)
        )
    return dataset.roll(longitude=-(int(back[0]) + 1), roll_coords=True) if len(back) else dataset
