"""Recognition of pressure axes, and their conversion to the canonical axis ``level`` in hPa.

Standard name, formula terms and coefficients such as ``hyam`` and ``hybm`` take precedence over units, and
units over names: the levels of hybrid sigma-pressure coordinates often have units of hPa, for a nominal
surface pressure of 1000 hPa, but are not pressures.
"""

import logging
import re
from collections.abc import Sequence
from enum import Enum

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .. import units as cf_units
from ..errors import DataError, UnknownUnitsError
from ..schema import DIMENSIONS
from .hybrid import MissingTermError, PressureFormula, companions, interpolate, pressure_formula

log = logging.getLogger(__name__)

_PRESSURE_NAME = re.compile(
    r"(level|lev|levelist|plevs?\d*|pres(sure)?|pressure_levels?|isobaric\d*|isobaricIn(h?Pa)|lv_ISBL\d+)",
    re.IGNORECASE,
)
_PARAMETRIC = re.compile(
    r"(atmosphere|ocean)_(hybrid_\w+|sigma|ln_pressure|sleve|s|sigma_z|double_sigma\w*)_?coordinate|model_level_number"
)
_PARAMETRIC_TEXT = re.compile(r"hybrid|sigma|\bmodel[ _]?levels?\b|model_level_number|\beta\b", re.IGNORECASE)
_PARAMETRIC_NAME = re.compile(r"hybrid(Pressure)?|mlev|model_?level|sigma(Layer)?", re.IGNORECASE)
_WHOLE = 1e-3  # hPa by which a pressure may deviate from a whole number
_HIGHEST = 1100.0  # hPa


class AxisKind(Enum):
    """Kind of a vertical axis."""

    PRESSURE = "pressure"
    PARAMETRIC = "parametric"
    OTHER = "other"


def axis_kind(dataset: xr.Dataset, dim: str) -> AxisKind:
    """Return the kind of a dimension coordinate.

    Args:
        dataset: data set.
        dim: name of the dimension.

    Raises:
        ValueError: the coordinate has a name of pressures, but units that are not.
    """
    axis = dataset[dim]
    units = str(axis.attrs.get("units", "")).strip()
    standard = str(axis.attrs.get("standard_name", ""))
    physical = "other" if "sea_water" in standard else _measured_quantity(units)
    if physical == "other":
        if _PRESSURE_NAME.fullmatch(dim) and axis.size > 1:
            raise DataError(
                f"{dim!r} has units {units[:60]!r}, which do not measure air pressure; only pressure "
                f"levels can be kept together: select one of these, e.g. {dim}={axis.values[0]:g}",
                option="select",
                example=f"{dim}={axis.values[0]:g}",
            )
        return AxisKind.OTHER
    text = " ".join(str(axis.attrs.get(key, "")) for key in ("long_name", "description", "GRIB_typeOfLevel"))
    bounds = str(axis.attrs.get("bounds") or axis.encoding.get("bounds") or "")
    terms = any(
        "formula_terms" in v.attrs or "formula_terms" in v.encoding
        for v in (axis, *([dataset[bounds]] if bounds in dataset else []))
    )
    parametric = (
        _PARAMETRIC.fullmatch(standard)
        or terms
        or _PARAMETRIC_TEXT.search(text)
        or _PARAMETRIC_NAME.fullmatch(dim)
    )
    if parametric or (standard != "air_pressure" and companions(dataset, dim) is not None):
        return AxisKind.PARAMETRIC
    if standard == "air_pressure" or physical == "pressure" or (_PRESSURE_NAME.fullmatch(dim) and not units):
        return AxisKind.PRESSURE
    if _PRESSURE_NAME.fullmatch(dim) and axis.size > 1:
        raise DataError(
            f"{dim!r} has units {units[:60]!r}, which cannot be converted to 'hPa'; "
            f"only pressure levels can be kept together: select one of these, e.g. {dim}={axis.values[0]:g}",
            option="select",
            example=f"{dim}={axis.values[0]:g}",
        )
    return AxisKind.OTHER


def pressure_levels(
    dataset: xr.Dataset, source: str, names: Sequence[str], *, levels: Sequence[int] | None = None
) -> xr.Dataset:
    """Bring the pressure levels of some variables lazily onto one axis ``level``, int32 [hPa].

    Fields on hybrid levels are interpolated to ``levels``, linearly in the logarithm of pressure, if the data
    set has their coefficients and the surface pressure; outside the range of their levels they are missing.

    Args:
        dataset: data set whose other axes have canonical names.
        source: path, for error messages.
        names: variables to convert; others are left unchanged.
        levels: pressures [hPa] to keep or to interpolate to; all by default.

    Raises:
        ValueError: hybrid levels cannot be interpolated, a pressure is not a whole number of hPa, or several
            axes have different pressures.
    """
    original: dict[str, str] = {}  # names in the source of axes renamed here
    if "level" in dataset.dims:
        original = {"source_level": "level"}
        dataset = dataset.rename(level="source_level")
    dims = dict.fromkeys(str(d) for name in names for d in dataset[name].dims if d not in DIMENSIONS)
    vertical: dict[str, tuple[NDArray[np.int64], NDArray[np.int32]]] = {}
    fields: dict[str, xr.DataArray] = {}
    for dim in dims:
        called = original.get(dim, dim)
        if dim not in dataset.coords and _PRESSURE_NAME.fullmatch(called) and dataset.sizes[dim] > 1:
            raise DataError(
                f"{source}: {called!r} has no coordinate values, so its pressures are unknown; "
                f"add them, or select one position, e.g. {called}=0",
                option="select",
                example=f"{called}=0",
            )
        if dim not in dataset.coords or dataset[dim].dims != (dim,) or dataset[dim].dtype.kind not in "fiu":
            continue
        try:
            kind = axis_kind(dataset.rename({dim: called}), called)
            if kind is AxisKind.PRESSURE:
                vertical[dim] = _whole_pressures(dataset[dim], called, levels)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
        if kind is AxisKind.PARAMETRIC and dataset.sizes[dim] > 1:
            formula = _formula(dataset, dim, called=called, source=source, levels=levels)
            on_axis = [name for name in names if dim in dataset[name].dims]
            try:
                fields |= {
                    name: interpolate(dataset[name], dim, formula=formula, levels=levels or ())
                    for name in on_axis
                }
            except MissingTermError as error:
                raise ValueError(f"{source}: {called!r} cannot be interpolated without {error}") from error
            log.info(
                "%s: %s interpolated from %s to %s hPa",
                source,
                ", ".join(on_axis),
                called,
                ", ".join(map(str, levels or ())),
            )
    several = {dim: axis for dim, axis in vertical.items() if len(axis[1]) > 1}
    if not several and not fields and len({int(pressures[0]) for _, pressures in vertical.values()}) == 1:
        several = vertical
    candidates = [pressures for _, pressures in several.values()]
    candidates += [np.array(levels, dtype=np.int32)] if fields else []
    if candidates and not all(set(c.tolist()) == set(candidates[0].tolist()) for c in candidates):
        common = _common_levels(several, original, source=source, levels=levels)
    else:
        common = candidates[0] if candidates else np.zeros(0, dtype=np.int32)
    for dim, (positions, pressures) in several.items():
        order = positions[[pressures.tolist().index(level) for level in common.tolist()]]
        keeps_all = len(order) == dataset.sizes[dim] and (np.diff(order) == 1).all()
        for name in names:
            if dim in dataset[name].dims:
                field = dataset[name].drop_vars(
                    [c for c in dataset[name].coords if dim in dataset[name][c].dims]
                )
                fields[name] = (field if keeps_all else field.isel({dim: order})).rename({dim: "level"})
    coordinate = ("level", common, {"standard_name": "air_pressure", "units": "hPa", "positive": "down"})
    return dataset.assign(fields).assign_coords(level=coordinate) if fields else dataset


def _common_levels(
    several: dict[str, tuple[NDArray[np.int64], NDArray[np.int32]]],
    original: dict[str, str],
    *,
    source: str,
    levels: Sequence[int] | None,
) -> NDArray[np.int32]:
    """Return the requested pressures, which each of several axes must have."""
    first, *others = [set(pressures.tolist()) for _, pressures in several.values()]
    shared = sorted(first.intersection(*others), reverse=True)
    for dim, (_, pressures) in several.items():
        if missing := [level for level in levels or () if level not in pressures]:
            raise ValueError(
                f"{source} has no level {missing[0]} hPa along {original.get(dim, dim)}; "
                f"it has {', '.join(map(str, pressures))}"
            )
    if levels is None:
        axes = ", ".join(
            f"{original.get(dim, dim)} of {len(pressures)}" for dim, (_, pressures) in several.items()
        )
        what = f"{source} has several axes of different pressures ({axes})"
        if not shared:
            raise DataError(f"{what} without a common one; select some of the variables", option="variables")
        some = ",".join(map(str, shared[:3]))
        raise DataError(
            f"{what}; select levels that all of them have, e.g. {some}", option="levels", example=some
        )
    return np.array(levels, dtype=np.int32)


def _formula(
    dataset: xr.Dataset, dim: str, *, called: str, source: str, levels: Sequence[int] | None
) -> PressureFormula:
    """Return the pressures of hybrid levels; raise ``ValueError`` without their terms or target pressures."""
    what = (
        f"{source}: {called!r} counts hybrid or sigma levels and not pressure levels; "
        "their pressures depend on the surface pressure"
    )
    try:
        formula = pressure_formula(dataset, dim)
    except MissingTermError as error:
        first = f"{called}={dataset[dim].values[0]:g}"
        raise DataError(
            f"{what}; they cannot be interpolated without {error}: interpolate them first, e.g. with "
            f"cdo ml2pl,85000,50000, select one of them, e.g. {first}, or select variables without levels",
            option="select",
            example=first,
        ) from error
    if not levels:
        raise DataError(
            f"{what}; name the pressures to interpolate them to, e.g. 850 and 500 hPa",
            option="levels",
            example="850,500",
        )
    return formula


def _measured_quantity(units: str) -> str:
    """Return ``pressure`` or ``other``, or an empty string for missing units and counts of levels.

    Decibars measure depth.
    """
    if units.lower() in ("dbar", "decibar", "decibars", "db"):
        return "other"
    try:
        cf_units.conversion(units, "hPa")
    except ValueError:
        pass
    else:
        return "pressure"
    try:
        cf_units.conversion(units, "1")
    except ValueError as error:
        return "" if isinstance(error, UnknownUnitsError) or units == "1" else "other"
    return ""


def _whole_pressures(
    axis: xr.DataArray, called: str, levels: Sequence[int] | None
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the positions and values [hPa] of the whole-numbered pressures of an axis.

    Raises:
        ValueError: ``levels`` does not exclude a fractional pressure, a pressure occurs twice, or numbers
            without units do not look like pressures in hPa.
    """
    units = str(axis.attrs.get("units", "")).strip()
    values = axis.values.astype(np.float64)
    if not units and called == "isobaricInPa":
        units = "Pa"
    if units:
        factor, offset = cf_units.conversion(units, "hPa")
        values = values * factor + offset
    elif values.max() > _HIGHEST or (len(values) > 2 and set(np.abs(np.diff(values))) == {1.0}):
        kind = "level numbers" if values.max() <= _HIGHEST else "pressures in Pa"
        raise ValueError(
            f"{called!r} has no units, and {values[0]:g} ... {values[-1]:g} look like {kind} and not hPa; "
            "set its attribute units"
        )
    nearest = np.round(values)
    whole = np.abs(values - nearest) <= _WHOLE
    if not whole.all() and (levels is None or not whole.any()):
        known = ",".join(f"{value:g}" for value in nearest[whole][:4])
        what = f"{called!r} has a level of {values[~whole][0]:g} hPa, and levels are stored as whole hPa"
        if known:
            raise DataError(f"{what}; select others, e.g. {known} hPa", option="levels", example=known)
        first = f"{called}={axis.values[0]:g}"
        raise DataError(f"{what}; select one position, e.g. {first}", option="select", example=first)
    positions = np.flatnonzero(whole)
    pressures = nearest[whole].astype(np.int32)
    if len(set(pressures.tolist())) < len(pressures):
        repeated = next(level for level in pressures.tolist() if (pressures == level).sum() > 1)
        raise ValueError(f"{called!r} has the level {repeated} hPa twice; drop one")
    return positions, pressures
