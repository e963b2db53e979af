"""Scalar coordinates: level, height, depth, member or threshold of a field without such a dimension.

The canonical data set stores them as text in the attribute ``scalar_coordinates`` of each variable, e.g.
``level=500 hPa``, since variables of one data set can be at different heights.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from .units import conversion, conversion_or_none

ATTRIBUTE = "scalar_coordinates"
VERTICAL = ("level", "height", "depth")
_TOLERANCE = 1e-4  # relative; values in files are rounded
_UNITS = {"level": "hPa", "height": "m", "depth": "m", "number": ""}
_NAMES = {
    "level": (
        "level",
        "lev",
        "plev",
        "pressure",
        "pressure_level",
        "isobaricInhPa",
        "isobaricInPa",
        "air_pressure",
        "levelist",
    ),
    "height": ("height", "heightAboveGround", "height_above_ground", "heightAboveSea", "altitude"),
    "depth": ("depth", "depthBelowLand", "depth_below_surface"),
    "number": (
        "number",
        "member",
        "ensemble",
        "ens",
        "realization",
        "realisation",
        "ensemble_member",
        "member_id",
        "variant_label",
    ),
}
_STANDARD_NAMES = {
    "air_pressure": "level",
    "height": "height",
    "altitude": "height",
    "depth": "depth",
    "realization": "number",
}
# Scalar coordinates that do not distinguish fields.
_TIMES = ("time", "forecast_reference_time", "forecast_period")
_IGNORED = (
    "step",
    "valid_time",
    "expver",
    "crs",
    "spatial_ref",
    "surface",
    "meanSea",
    "nominalTop",
    "entireAtmosphere",
    "atmosphere",
    "latitude",
    "longitude",
    "lat",
    "lon",
    "P0",
    "p0",
    "ptop",
    "PTOP",
)


def scalars_of(attrs: Mapping[Any, Any]) -> dict[str, str]:
    """Return the scalar coordinates in the attributes of a variable, e.g. ``{"level": "500 hPa"}``."""
    return dict(part.split("=", 1) for part in str(attrs.get(ATTRIBUTE, "")).split("; ") if "=" in part)


def with_scalars(attrs: Mapping[Any, Any], scalars: Mapping[str, str]) -> dict[Any, Any]:
    """Return attributes with exactly these scalar coordinates."""
    result = {key: value for key, value in attrs.items() if key != ATTRIBUTE}
    if scalars:
        result[ATTRIBUTE] = "; ".join(f"{name}={scalars[name]}" for name in sorted(scalars))
    return result


def describe_scalars(scalars: Mapping[str, str]) -> str:
    """Return scalar coordinates as a phrase, e.g. ``level 500 hPa, member 3``."""
    return ", ".join(
        f"{'member' if name == 'number' else name} {value}" for name, value in sorted(scalars.items())
    )


def level_of(attrs: Mapping[Any, Any]) -> int | None:
    """Return the pressure [hPa] of a variable on a single level, or None if it is unknown."""
    level = scalars_of(attrs).get("level")
    return None if level is None else round(float(level.split()[0]))


def differing(a: Mapping[str, str], b: Mapping[str, str]) -> str | None:
    """Return the first scalar coordinate whose values differ, or None; only those in both are compared."""
    return next((name for name in sorted(set(a) & set(b)) if not _same_value(a[name], b[name])), None)


def check_same_place(
    name: str, scalars: Mapping[str, str], expected: Mapping[str, str], *, source: str, owner: str
) -> None:
    """Check that a variable of a source has the scalar coordinates that a store or model expects.

    Args:
        name: name of the variable.
        scalars: scalar coordinates in the source.
        expected: scalar coordinates in the store or model.
        source: name of the source for the message.
        owner: name of the store or model for the message.

    Raises:
        ValueError: a scalar coordinate differs.
    """
    key = differing(scalars, expected)
    if key is not None:
        actual, required = (describe_scalars({key: values[key]}) for values in (scalars, expected))
        raise ValueError(
            f"{source}: {name!r} is at {actual}, that of {owner} at {required}; these are different fields"
        )


def single_valued_coordinates(dataset: xr.Dataset, skip: Iterable[str] = ()) -> list[str]:
    """Return the names of coordinates with a single value.

    These are scalar coordinates, axes of length one, and scalar variables of a known kind, except terms of
    the formula of a vertical axis.

    Args:
        dataset: data set with the names of its source.
        skip: names to leave out.
    """
    terms = {word for v in dataset.variables.values() for word in _formula_terms(v)}
    coordinates = [
        str(n) for n, c in dataset.coords.items() if c.ndim == 0 or (c.size == 1 and c.dims == (n,))
    ]
    scalars = {str(n): v for n, v in dataset.data_vars.items() if v.ndim == 0 and v.dtype.kind in "fiu"}
    variables = [name for name, variable in scalars.items() if _kind(name, variable) is not None]
    return [name for name in (*coordinates, *variables) if name not in terms.union(skip)]


def is_pressure(name: str, coordinate: xr.DataArray) -> bool:
    """Return whether a vertical coordinate is a pressure."""
    return _kind(name, coordinate) == "level"


def record(dataset: xr.Dataset, names: Iterable[str]) -> xr.Dataset:
    """Move coordinates with a single value into the attributes of the variables that they belong to.

    A scalar coordinate belongs to the variables whose CF attribute ``coordinates`` lists it, otherwise to
    all; levels, heights and depths never belong to a variable with a vertical axis.

    Args:
        dataset: data set with the names of its source.
        names: names of the coordinates, see ``single_valued_coordinates``.
    """
    names = list(names)
    result = dataset.copy()
    for name in names:
        entry = _entry(name, dataset[name])
        for variable in _variables_of(dataset, name, entry[0]) if entry else ():
            assert entry is not None
            known = scalars_of(result[variable].attrs)
            result[variable].attrs = with_scalars(result[variable].attrs, known | {entry[0]: entry[1]})
    return result.isel({name: 0 for name in names if name in dataset.dims}).drop_vars(names)


def _variables_of(dataset: xr.Dataset, name: str, key: str) -> list[str]:
    """Return the variables that a coordinate belongs to."""
    fields = {str(n): v for n, v in dataset.data_vars.items() if v.ndim >= 2}
    if name in dataset.dims:
        return [n for n, v in fields.items() if name in v.dims]
    listed = [n for n, v in fields.items() if name in str(v.encoding.get("coordinates", "")).split()]
    if key in VERTICAL:
        vertical = {
            d for d in map(str, dataset.dims) if d in dataset.coords and _kind(d, dataset[d]) in VERTICAL
        }
        fields = {n: v for n, v in fields.items() if not vertical & set(v.dims)}
    return [n for n in listed or fields if n in fields]


def _formula_terms(variable: xr.Variable) -> list[str]:
    """Return the variables in the formula of a vertical axis, such as a reference pressure."""
    terms = variable.attrs.get("formula_terms") or variable.encoding.get("formula_terms") or ""
    return [word for word in str(terms).split() if not word.endswith(":")]


def _kind(name: str, coordinate: xr.DataArray) -> str | None:
    """Return ``level``, ``height``, ``depth`` or ``number`` by standard name, units or name, or None."""
    text = f"{name} {coordinate.attrs.get('standard_name')} {coordinate.attrs.get('long_name')}".lower()
    # Not the pressure of a level, whatever the units.
    if re.search(r"hybrid|sigma|model.?level|reference|at.top|\bp0\b", text):
        return None
    units = str(coordinate.attrs.get("units", "")).strip()
    kind = _STANDARD_NAMES.get(str(coordinate.attrs.get("standard_name")))
    kind = kind or next(
        (kind for kind, names in _NAMES.items() if name in names or name.lower() in names), None
    )
    if units and conversion_or_none(units, "hPa"):
        return "level"
    if kind in VERTICAL and units and not conversion_or_none(units, _UNITS[kind]):
        return next(
            (other for other in ("height", "depth") if kind == "level" and other in name.lower()), None
        )
    return kind


def _entry(name: str, coordinate: xr.DataArray) -> tuple[str, str] | None:
    """Return name and text of a scalar coordinate, or None if it does not distinguish fields."""
    attrs = coordinate.attrs
    if coordinate.dtype.kind in "mM" or attrs.get("standard_name") in _TIMES or name in (*_TIMES, *_IGNORED):
        return None
    if "grid_mapping_name" in attrs:
        return None
    value = coordinate.values.reshape(-1)[0]
    if isinstance(value, str | bytes):
        text = value.decode(errors="replace") if isinstance(value, bytes) else value
        if not text.strip():
            return None
        return _kind(name, coordinate) or name, " ".join(text.replace(";", ",").split())
    if coordinate.dtype.kind not in "fiu" or not np.isfinite(value):
        return None
    units = str(attrs.get("units", "")).strip()
    kind = _kind(name, coordinate)
    # Files use level 0 or 1 for the surface, which is not a pressure.
    if kind == "level" and not units and not 1 < value <= 1100:
        return name, f"{value:.6g}"
    if kind is None:
        return name, f"{value:.6g} {units}".strip().replace(";", ",")
    factor, offset = conversion(units, _UNITS[kind]) if units and _UNITS[kind] else (1.0, 0.0)
    return kind, f"{value * factor + offset:.6g} {_UNITS[kind]}".strip()


def _same_value(a: str, b: str) -> bool:
    """Return whether two values with units are equal; numbers that are not integers up to rounding."""
    if a == b:
        return True
    number_a, *units_a = a.split(" ", 1)
    number_b, *units_b = b.split(" ", 1)
    try:
        x, y = float(number_a), float(number_b)
    except ValueError:
        return False
    return (
        units_a == units_b
        and not (x.is_integer() and y.is_integer())
        and bool(np.isclose(x, y, rtol=_TOLERANCE, atol=0))
    )
