"""netCDF files that follow the CF conventions (CF-1.11).

Coordinates have no ``_FillValue``, times are integers since 1970, fields are compressed in chunks of whole
fields, every number has units, and variables at a height above ground, such as 2 m temperature, have it as a
scalar coordinate.
"""

import os
import re
import shlex
import sys
from collections.abc import Hashable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ... import __version__
from ..errors import WriteError

CONVENTIONS = "CF-1.11"
PRESSURE_LEVEL = {
    "standard_name": "air_pressure",
    "long_name": "pressure level",
    "units": "hPa",
    "positive": "down",
    "axis": "Z",
}

_CHUNK = 2**16  # largest number of values in a chunk, unless a single field has more
_COMPRESSION = {"zlib": True, "complevel": 4, "shuffle": True}

# Attributes of a source that do not apply to a forecast: they name variables missing from the output, or
# describe values as the source stores them.
_SOURCE_ONLY = (
    "coordinates",
    "grid_mapping",
    "ancillary_variables",
    "cell_measures",
    "bounds",
    "climatology",
    "formula_terms",
    "compress",
    "valid_min",
    "valid_max",
    "valid_range",
    "actual_range",
    "missing_value",
    "_FillValue",
    "scale_factor",
    "add_offset",
    "precision",
    "least_significant_digit",
    "statistic",
    "parent_stat",
    "dataset",
    "history",
)
_AMOUNTS = re.compile(r"^tp_?\d*h?r? |precipitation|rainfall|snowfall|runoff|evaporation|evapotranspiration")
_AMOUNT_UNITS = re.compile(r"(m|cm|mm|inch|in|kg\s?m(\*\*|\^)?-2|kg/m\^?2)")
_ENERGY_UNITS = re.compile(r"(J|W s)\s?(/m\^?2|m(\*\*|\^)?-2)")


def time_encoding(step: np.timedelta64 | None = None) -> dict[str, Any]:
    """Return the encoding of a time coordinate: whole seconds, or nanoseconds for a fractional step.

    Args:
        step: time step; None for whole seconds.
    """
    unit = "seconds" if step is None or float(step / np.timedelta64(1, "s")).is_integer() else "nanoseconds"
    return {"units": f"{unit} since 1970-01-01", "dtype": "int64", "calendar": "proleptic_gregorian"}


def history() -> str:
    """Return a line for the attribute ``history``: the time in UTC, and the command.

    Passwords and query strings of URLs are removed. The environment variable ``SOURCE_DATE_EPOCH``, in
    seconds since 1970, sets the time for reproducible outputs (reproducible-builds.org).
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)
    program = Path(sys.argv[0] if sys.argv else "").name
    command = "fourcaster.forecast, from Python"
    if program.startswith("forecast"):
        command = shlex.join([program, *sys.argv[1:]])
    command = re.sub(r"(\w+://[^\s?]*)\?[^\s'\"]*", r"\1?***", command)
    command = re.sub(r"(\w+://)[^/@\s]+@", r"\1***@", command)
    return f"{now:%Y-%m-%dT%H:%M:%SZ}: {command} (fourcaster {__version__})"


def write_netcdf(dataset: xr.Dataset, path: Path, step: np.timedelta64 | None = None) -> None:
    """Write a data set as a netCDF file that follows the conventions of this module.

    Args:
        dataset: data set to write.
        path: file to write.
        step: time step; needed if times are not whole seconds.

    Raises:
        WriteError: the netCDF library failed, most likely because the disk is full.
    """
    dataset = _with_heights(_with_units(dataset))
    dataset.attrs = {"Conventions": CONVENTIONS, "history": history()} | dataset.attrs
    encoding = {name: _encoding(dataset, name, step) for name in dataset.variables}
    try:
        dataset.to_netcdf(path, engine="netcdf4", encoding=encoding)
    except RuntimeError as error:  # the only error type of the library
        raise WriteError(str(error)) from error


def _encoding(dataset: xr.Dataset, name: Hashable, step: np.timedelta64 | None) -> dict[str, Any]:
    variable = dataset[name].variable
    if variable.dtype.kind == "M":
        return time_encoding(step) | {"_FillValue": None}
    if name in dataset.coords:
        return {"_FillValue": None}
    if variable.dtype.kind not in "fiub" or not variable.ndim:
        return {}
    chunks = list(variable.shape[-2:])
    for size in variable.shape[-3::-1]:
        chunks.insert(0, max(1, min(size, _CHUNK // int(np.prod(chunks)))))
    missing = {"_FillValue": np.nan} if variable.dtype.kind == "f" else {}
    return _COMPRESSION | missing | {"chunksizes": tuple(chunks)}


def _with_units(dataset: xr.Dataset) -> xr.Dataset:
    """Return a data set with units of 1 where a number has none, and ``axis: T`` on dates only."""
    dataset = dataset.copy()
    for name, variable in dataset.variables.items():
        if variable.dtype.kind in "fiub":
            attrs = {"units": "1"} | variable.attrs
            if attrs.get("axis") == "T" and "since" not in str(attrs["units"]):
                del attrs["axis"]
            dataset[name].attrs = attrs
    return dataset


def _with_heights(dataset: xr.Dataset) -> xr.Dataset:
    """Return a data set with a scalar coordinate for each height above ground of its variables.

    It is called ``height``, or ``height_2m`` and ``height_10m`` if there are several.
    """
    if any(c.attrs.get("standard_name") == "height" for c in dataset.coords.values()):
        return dataset
    flat = {name: v for name, v in dataset.data_vars.items() if "level" not in v.dims}
    known = {name: height_of(str(name), v.attrs) for name, v in flat.items()}
    heights = {name: height for name, height in known.items() if height is not None}
    if not heights:
        return dataset
    several = len(set(heights.values())) > 1
    names = {height: f"height_{height:g}m" if several else "height" for height in heights.values()}
    others = {name: c.dims for name, c in dataset.coords.items() if name not in dataset.indexes}
    attrs = {
        "standard_name": "height",
        "long_name": "height above ground",
        "units": "m",
        "positive": "up",
        "axis": "Z",
    }
    dataset = dataset.assign_coords({name: ((), height, attrs) for height, name in names.items()})
    for name, v in dataset.data_vars.items():
        own = [str(other) for other, dims in others.items() if set(dims) <= set(v.dims)]
        own += [names[heights[name]]] if name in heights else []
        dataset[name].encoding = {"coordinates": " ".join(own)} if own else {}
    return dataset


def height_of(name: str, attrs: Mapping[str, Any]) -> float | None:
    """Return the height of a variable above ground [m]; None if it is unknown.

    It follows from names such as ``2m_temperature``, ``t2m``, ``10u``, ``u10`` and ``tas``, unless the
    attributes mention a depth or a pressure.

    Args:
        name: name of the variable.
        attrs: its attributes.
    """
    if match := re.search(r"\bheight=([\d.]+) m\b", str(attrs.get("scalar_coordinates", ""))):
        return float(match[1])
    words = str(attrs.get("long_name", "")).lower()
    if re.search(r"hpa|millibar|depth|soil|\bsea\b|ocean", words) or any(
        "pressure" in str(key) for key in attrs
    ):
        return None
    for pattern in (
        r"(\d+)m_[a-z_]+",
        r"(2|10|80|100|200)(?:t|d|q|r|u|v|si|ws|fg)",
        r"(?:t|d|q|r|rh|sh|u|v|ws|si|wspd|gust|temp|wind)_?(2|10|80|100|200)m",
        r"(?:u|v|ws|si|fg)_?(10|80|100)",
    ):
        if match := re.fullmatch(pattern, name.lower()):
            return float(match[1])
    if name.lower() in ("tas", "tasmax", "tasmin", "huss", "hurs"):  # names of CMIP
        return 2.0
    if name.lower() in ("uas", "vas", "sfcwind"):
        return 10.0
    match = re.match(r"(\d+) ?(?:m|metres?|meters?) ", words)
    return float(match[1]) if match else None


def forecast_attributes(name: str, attrs: Mapping[str, Any], units: str) -> dict[str, Any]:
    """Return the attributes of a variable of a forecast: those of its source that apply, and cell methods.

    Times of a source are lead times of a forecast, so ``time: sum`` becomes ``prediction_timedelta: sum``.
    Amounts of precipitation and energies are sums over the preceding step, even if the source does not say
    so.

    Args:
        name: name of the variable.
        attrs: attributes in the source.
        units: units of the forecast.
    """
    result = {key: value for key, value in attrs.items() if key not in _SOURCE_ONLY}
    standard = str(result.get("standard_name", "unknown"))
    if standard == "unknown" or not re.fullmatch(r"[a-z][a-z0-9_]*( [a-z_]+)?", standard):
        result.pop("standard_name", None)
    words = f"{name} {attrs.get('standard_name', '')} {attrs.get('long_name', '')}".lower()
    if "cell_methods" in result:
        result["cell_methods"] = re.sub(r"\btime:", "prediction_timedelta:", str(result["cell_methods"]))
    elif _ENERGY_UNITS.fullmatch(units) or (_AMOUNT_UNITS.fullmatch(units) and _AMOUNTS.search(words)):
        result["cell_methods"] = "prediction_timedelta: sum"
    return result
