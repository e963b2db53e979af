"""CF and COARDS data, netCDF or zarr, as the canonical data set. Lazy: values are read when they are computed."""

import glob
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from .. import units as cf_units
from ..schema import DIMENSIONS, LEVEL_VARIABLES, STANDARD_UNITS, nearest

_COORDINATES: dict[str, dict[str, tuple[str, ...]]] = {
    "latitude": {"units": ("degrees_north", "degree_north", "degrees_N", "degree_N"), "names": ("latitude", "lat")},
    "longitude": {"units": ("degrees_east", "degree_east", "degrees_E", "degree_E"), "names": ("longitude", "lon")},
    "level": {"units": (), "names": ("level", "lev", "plev", "pressure_level", "isobaricInhPa", "pressure")},
    "number": {"units": (), "names": ("number", "member", "ensemble", "realization")},
    "time": {"units": (), "names": ("time", "valid_time")},
}


def open_sources(
    sources: Sequence[str | Path],
    variables: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    chunk_bytes: int = 2**25,
) -> xr.Dataset:
    """Open files or zarr stores as one canonical data set.

    Sources with the same variables follow one another in time; others are merged, and must agree in their coordinates.

    Args:
        sources: paths, patterns with ``*``, or URLs of zarr stores.
        variables: names to keep, the source's own or the canonical ones; None keeps all fields.
        units: units to set on variables whose files have none or wrong ones.
        chunk_bytes: bytes of a variable read at once.

    Raises:
        FileNotFoundError: a source does not exist.
        ValueError: a source cannot be read or does not fit; the message says which, where and how to mend it.
    """
    paths = [path for source in sources for path in _expand(str(source))]
    series: dict[frozenset[str], list[tuple[str, xr.Dataset]]] = {}
    for path in paths:
        dataset = canonical(open_raw(path), path, units, variables)
        series.setdefault(frozenset(map(str, dataset.data_vars)), []).append((path, dataset))
    parts = []
    for members in series.values():
        members.sort(key=lambda member: member[1]["time"].values[0])
        first = members[0]
        for path, dataset in members[1:]:
            _same_coordinates(first, (path, dataset), ("latitude", "longitude", "level", "number"))
        parts.append((first[0], xr.concat([d for _, d in members], "time", data_vars="minimal", coords="minimal", compat="override")))
    for other in parts[1:]:
        _same_coordinates(parts[0], other, ("time", "latitude", "longitude"), optional=("level", "number"))
    dataset = xr.merge([d for _, d in parts], compat="override", join="outer", combine_attrs="override")
    dataset = dataset[[name for _, d in parts for name in d.data_vars]]  # merging sorts them
    held = {name for d in dataset.data_vars.values() for name in (d.name, d.attrs["source_name"])}
    if missing := [name for name in variables or () if name not in held]:
        raise ValueError(f"{', '.join(paths[:3])} has no variable {missing[0]!r}; {nearest(missing[0], dataset.data_vars)}")
    largest = max(v.nbytes // v.sizes["time"] for v in dataset.data_vars.values())
    return dataset.chunk({"time": max(1, chunk_bytes // largest)} | {d: -1 for d in dataset.dims if d != "time"})


def open_raw(path: str, whole_shards: bool = True) -> xr.Dataset:
    """Open one file or store as it is, with an error that says what is wrong with it.

    Args:
        path: file, folder or URL.
        whole_shards: as in ``open_zarr``.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it cannot be read.
    """
    if "://" not in path and not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist; check the path")
    try:
        if Path(path).is_dir() or "://" in path:
            return open_zarr(path, whole_shards)
        _refuse_short_classic(path)
        return xr.open_dataset(path, chunks={})
    except Exception as error:  # engines raise many types
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read as netCDF or zarr ({reason[:160]}); it may be cut short: fetch it again") from error


def _refuse_short_classic(path: str) -> None:
    """Raise if a classic netCDF file is shorter than its header says: the library would read the rest as zeros."""
    with open(path, "rb") as file:
        if file.read(4) in (b"CDF\x01", b"CDF\x02"):
            from scipy.io import netcdf_file

            with warnings.catch_warnings():  # of closing while mapped, which is the point
                warnings.simplefilter("ignore", RuntimeWarning)
                netcdf_file(path, "r", mmap=True).close()


def open_zarr(path: str | Path, whole_shards: bool = True, group: str | None = None) -> xr.Dataset:
    """Open a zarr store lazily.

    Args:
        path: folder or URL.
        whole_shards: read a shard at a time, many times faster than its chunks one by one where all are wanted.
        group: group within the store.
    """
    with warnings.catch_warnings():  # a store without consolidated metadata is not worth a warning
        warnings.filterwarnings("ignore", message="Failed to open Zarr store with consolidated")
        dataset: xr.Dataset = xr.open_zarr(path, chunks=None, group=group)
    for name, variable in dataset.data_vars.items():
        sizes = (variable.encoding.get("shards") if whole_shards else None) or variable.encoding.get("chunks")
        dataset[name] = variable.chunk(dict(zip(variable.dims, sizes, strict=True)) if sizes else {})
    return dataset


def canonical(dataset: xr.Dataset, source: str, units: Mapping[str, str] | None = None, variables: Sequence[str] | None = None) -> xr.Dataset:
    """Rename, reorder and convert to the canonical data set.

    Args:
        dataset: CF or COARDS data.
        source: named in errors.
        units: units by variable that override the file's.
        variables: names to keep, the source's own or the canonical ones; None keeps all fields. Names that this
            source does not hold are passed over, since another may hold them.

    Raises:
        ValueError: no latitude, longitude or time; no field; missing or wrong units; an extra dimension.
    """
    names = {found: name for name in _COORDINATES if (found := _find(dataset, name)) is not None}
    for name in ("time", "latitude", "longitude"):
        if name not in names.values():
            raise ValueError(
                f"{source} has no {name} coordinate (dimensions: {', '.join(map(str, dataset.sizes))}); "
                f"give it one with CF attributes, e.g. units {_COORDINATES[name]['units'][:1] or 'hours since ...'}"
            )
    dataset = dataset.rename({found: name for found, name in names.items() if found != name})
    if "time" not in dataset.dims:
        dataset = dataset.expand_dims("time")
    dataset = _standard_times(dataset, source)
    fields: dict[str, xr.DataArray] = {}
    known = [str(n) for n, v in dataset.data_vars.items() if {"time", "latitude", "longitude"} <= set(v.dims) and v.dtype.kind in "fiu"]
    for name in known:
        if variables is None or {name, _canonical_name(name, dataset[name])} & set(variables):
            field = _field(name, dataset[name], source, units or {})
            if str(field.name) in fields:
                raise ValueError(f"{source}: {name!r} and another variable are both {field.name!r}; ingest one of them")
            fields[str(field.name)] = field
    if unknown := set(units or {}) - set(known) - set(fields):
        raise ValueError(f"--units names {sorted(unknown)[0]!r}, which {source} does not hold; {nearest(sorted(unknown)[0], fields)}")
    if not fields and known:
        raise ValueError(f"{source} has no variable {next(iter(variables or ()))!r}; {nearest(next(iter(variables or ())), known)}")
    if not fields:
        raise ValueError(f"{source} has no variable on (time, latitude, longitude); it holds {', '.join(map(str, dataset.data_vars)) or 'none'}")
    result = xr.Dataset(fields, attrs=dataset.attrs)
    result = result.drop_vars([c for c in result.coords if c not in DIMENSIONS])
    return _order_longitudes(_pressure_in_hpa(result, source))


def _expand(source: str) -> list[str]:
    if "*" not in source:
        return [source]
    found = sorted(glob.glob(source))
    if not found:
        raise FileNotFoundError(f"no file matches {source}; check the pattern")
    return found


def _find(dataset: xr.Dataset, name: str) -> str | None:
    """Return the source's name of a coordinate: by standard name, units, then by name."""
    rules = _COORDINATES[name]
    candidates = [str(c) for c in dataset.variables if dataset[c].ndim == 1 and dataset[c].dims == (c,)]
    if name == "time":
        candidates += [str(c) for c in dataset.coords if dataset[c].ndim == 0]
    standard = {"level": "air_pressure", "number": "realization"}.get(name, name)
    tests: list[Any] = [
        lambda c: dataset[c].attrs.get("standard_name") == standard,
        lambda c: dataset[c].attrs.get("units") in rules["units"],
        lambda c: c.lower() in rules["names"] or c in rules["names"],
    ]
    for test in tests:
        if found := [c for c in candidates if test(c)]:
            return found[0]
    return None


def _standard_times(dataset: xr.Dataset, source: str) -> xr.Dataset:
    times = dataset["time"]
    if times.dtype == object:  # cftime: another calendar
        calendar = times.dt.calendar
        try:
            dataset = dataset.convert_calendar("standard", use_cftime=False)
        except ValueError as error:
            raise ValueError(f"{source} uses the calendar {calendar!r}; convert it with ds.convert_calendar('standard', align_on='date')") from error
    elif not np.issubdtype(times.dtype, np.datetime64):
        raise ValueError(f"{source}: time has no CF units (dtype {times.dtype}); set e.g. 'hours since 2000-01-01'")
    if np.isnat(dataset["time"].values).any():
        raise ValueError(f"{source}: {int(np.isnat(dataset['time'].values).sum())} time(s) are missing; drop those records")
    return dataset.assign_coords(time=dataset["time"].astype("datetime64[ns]"))


def _canonical_name(name: str, variable: xr.DataArray) -> str:
    """Return WeatherBench2's name for a variable on pressure levels, its own name for any other."""
    standard = str(variable.attrs.get("standard_name"))
    return LEVEL_VARIABLES[standard][0] if variable.sizes.get("level", 1) > 1 and standard in LEVEL_VARIABLES else name


def _field(name: str, variable: xr.DataArray, source: str, units: Mapping[str, str]) -> xr.DataArray:
    extra = [d for d in variable.dims if d not in DIMENSIONS]
    for dim in extra:
        if variable.sizes[dim] > 1:
            raise ValueError(f"{source}: {name!r} has a dimension {dim!r} of {variable.sizes[dim]}; select one, e.g. ds.isel({dim}=0)")
    variable = variable.isel(dict.fromkeys(extra, 0), drop=True)
    if variable.sizes.get("level") == 1:
        variable = variable.isel(level=0, drop=True)
    if variable.sizes.get("number") == 1:
        variable = variable.isel(number=0, drop=True)
    elif "number" in variable.dims:
        raise ValueError(f"{source}: {name!r} holds {variable.sizes['number']} members; select one, e.g. ds.isel(number=0)")
    standard = variable.attrs.get("standard_name")
    new = _canonical_name(name, variable)
    if "level" in variable.dims:
        standard = next((s for s, (wb, _) in LEVEL_VARIABLES.items() if wb == new), standard)
    wanted = STANDARD_UNITS.get(str(standard))
    try:
        given = cf_units.normalise(units.get(name, units.get(new, variable.attrs.get("units"))))
        target = wanted or ("K" if given == "degC" else given)
        factor, offset = cf_units.conversion(given, target)
    except ValueError as error:
        hint = f" (its standard name is {standard})" if wanted else ""
        raise ValueError(f"{source}: {name!r} {error}{hint}; set the attribute, or pass --units {name}=...") from error
    attrs = {k: v for k, v in variable.attrs.items() if k in ("long_name", "standard_name", "cell_methods")}
    attrs |= {"units": target, "source_name": name} | ({"standard_name": standard} if standard else {})
    if (factor, offset) != (1.0, 0.0):
        variable = variable * factor + offset
    variable = variable.astype(np.float32).transpose(*[d for d in DIMENSIONS if d in variable.dims])
    variable.attrs = attrs
    variable.encoding = {}
    return variable.rename(new)


def _pressure_in_hpa(dataset: xr.Dataset, source: str) -> xr.Dataset:
    if "level" not in dataset.dims:
        return dataset
    level = dataset["level"]
    try:
        factor, offset = cf_units.conversion(level.attrs.get("units", "hPa"), "hPa")
    except ValueError as error:
        raise ValueError(f"{source}: level {error}; only pressure levels are known") from error
    values = np.round(level.values * factor + offset).astype(np.int32)
    attrs = {"standard_name": "air_pressure", "units": "hPa", "positive": "down"}
    return dataset.assign_coords(level=("level", values, attrs))


def _order_longitudes(dataset: xr.Dataset) -> xr.Dataset:
    for name, units in (("latitude", "degrees_north"), ("longitude", "degrees_east")):
        dataset[name].attrs = {"standard_name": name, "units": units}
        dataset[name].encoding = {}
    dataset["time"].attrs = {"standard_name": "time"}
    dataset["time"].encoding = {}
    if (np.diff(dataset["longitude"].values) <= 0).any():
        dataset = dataset.sortby("longitude")
    return dataset


def _same_coordinates(a: tuple[str, xr.Dataset], b: tuple[str, xr.Dataset], names: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Raise unless both have the same of each coordinate; an optional one may be missing from either."""
    for name in [*names, *optional]:
        if (name in a[1].coords) != (name in b[1].coords):
            if name in optional:
                continue
            raise ValueError(f"{a[0]} and {b[0]} differ: only one has {name}")
        if name in a[1].coords and not np.array_equal(a[1][name].values, b[1][name].values):
            raise ValueError(f"{a[0]} and {b[0]} differ in {name}; ingest them apart, or put them on one grid first")
