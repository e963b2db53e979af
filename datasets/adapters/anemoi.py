"""Stores of anemoi-datasets: one array ``data`` (time, variable, ensemble, cell), with names, shape and
missing dates in attributes.
"""

import re

import dask.array as da
import numpy as np
import xarray as xr

from ...fno.grids import COORDINATE_TOLERANCE, spacing_at
from .vocabulary import CONSTANT, ECMWF

_ON_LEVEL = re.compile(r"([a-z]+\d?)_(\d+)")
_COMPUTED = re.compile(
    r"(cos|sin)_(latitude|longitude|julian_day|local_time|solar_zenith_angle)|insolation|ecef_[xyz]"
)


def matches(dataset: xr.Dataset) -> bool:
    """Return whether arrays and attributes of anemoi-datasets are there."""
    return {"data", "dates", "latitudes", "longitudes"} <= set(
        dataset.variables
    ) and "variables" in dataset.attrs


def arrange(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return variables on (time, number, [level], latitude, longitude); missing dates are left out.

    Raises:
        ValueError: the cells are no regular latitude-longitude grid, or attributes and arrays do not fit each
            other.
    """
    _check(dataset, source)
    names = [str(name) for name in dataset.attrs["variables"]]
    shape = [int(n) for n in dataset.attrs.get("field_shape", ())]
    latitude, longitude = (
        dataset[name].values.reshape(shape) if len(shape) == 2 else None
        for name in ("latitudes", "longitudes")
    )
    if latitude is None or longitude is None or not (_constant(latitude) and _constant(longitude.T)):
        raise ValueError(
            f"{source}: its {dataset.sizes['cell']} cells are no regular latitude-longitude grid, which is all that is read here"
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
    about = dataset.attrs.get("variables_metadata", {})
    fields: dict[str, tuple[tuple[str, ...], da.Array, dict[str, str]]] = {}
    constant = {*dataset.attrs.get("constant_fields", ()), *CONSTANT}
    levels: dict[str, dict[int, int]] = {}
    for at, name in enumerate(names):
        if found := _ON_LEVEL.fullmatch(name):
            levels.setdefault(found[1], {})[int(found[2])] = at
        elif not (_COMPUTED.fullmatch(name) or about.get(name, {}).get("computed_forcing")):
            units = about.get(name, {}).get("units", "")
            one, dims = _cells(data, at, shape), ("time", "number", "latitude", "longitude")
            new = "geopotential_at_surface" if name == "z" else name
            fields[new] = (
                (dims[2:], one[0, 0], {"units": units}) if name in constant else (dims, one, {"units": units})
            )
    every = sorted({level for held in levels.values() for level in held}, reverse=True)
    for name, held in levels.items():
        if len(held) < len(every):  # not on every level: each under a name of its own
            attrs = {"units": ECMWF[name].units} if name in ECMWF else {}
            fields |= {
                f"{name}{level}": (
                    ("time", "number", "latitude", "longitude"),
                    _cells(data, at, shape),
                    attrs,
                )
                for level, at in held.items()
            }
        else:
            stacked = da.stack([_cells(data, held[level], shape) for level in every], axis=2)
            fields[name] = (("time", "number", "level", "latitude", "longitude"), stacked, {})
    return xr.Dataset(fields, coords | ({"level": ("level", every, {"units": "hPa"})} if every else {}))


def _check(dataset: xr.Dataset, source: str) -> None:
    """Raise ``ValueError`` where attributes and arrays do not fit each other."""
    dims, names = dataset["data"].dims, dataset.attrs["variables"]
    if set(dims) != {"time", "variable", "ensemble", "cell"}:
        raise ValueError(
            f"{source}: its data lie on {', '.join(map(str, dims))}, not on time, variable, ensemble and cell"
        )
    if not isinstance(names, list | tuple) or len(names) != dataset.sizes["variable"]:
        raise ValueError(
            f"{source}: its attribute variables does not name its {dataset.sizes['variable']} variables"
        )
    shape = dataset.attrs.get("field_shape", [])
    if not isinstance(shape, list | tuple) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"{source}: its attribute field_shape {str(shape)[:80]} is no list of sizes")
    if len(shape) == 2 and shape[0] * shape[1] != dataset.sizes["cell"]:
        raise ValueError(
            f"{source}: its attribute field_shape {str(shape)[:80]} does not fit its {dataset.sizes['cell']} cells"
        )
    about = dataset.attrs.get("variables_metadata", {})
    if not isinstance(about, dict) or not all(isinstance(value, dict) for value in about.values()):
        raise ValueError(f"{source}: its attribute variables_metadata is no mapping of names to mappings")


def _constant(rows: np.ndarray) -> bool:
    """Return whether each row is one coordinate, up to rounding."""
    return bool(np.ptp(rows, axis=1).max() <= COORDINATE_TOLERANCE * spacing_at(rows[:, 0]).min())


def _cells(data: xr.DataArray, at: int, shape: list[int]) -> da.Array:
    chosen = data.isel(variable=at)
    lazy = da.asarray(chosen.chunk({"time": 1}).data)
    return lazy.reshape(*lazy.shape[:2], *shape)
