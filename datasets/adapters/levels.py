"""Vertical axes: which are pressures, which only look like them, and how they become the axis ``level`` in
hPa.

Standard name, formula terms and companions (coefficients ``hyam`` and ``hybm``, for example) decide before
units, and units before names: the levels of hybrid sigma-pressure coordinates often have units of hPa, a
nominal pressure over a surface at 1000 hPa, and are no pressures.
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
from .hybrid import Lacking, PressureFormula, companions, interpolate, pressure_formula

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
_WHOLE = 1e-3  # hPa that a pressure may lie off a whole number
_HIGHEST = 1100.0  # hPa


class Kind(Enum):
    """What a vertical axis counts."""

    PRESSURE = "pressure"
    PARAMETRIC = "parametric"
    OTHER = "other"


def kind_of(dataset: xr.Dataset, dim: str) -> Kind:
    """Return what a dimension coordinate counts.

    Raises:
        ValueError: a name of pressures, units that are none.
    """
    axis = dataset[dim]
    units = str(axis.attrs.get("units", "")).strip()
    standard = str(axis.attrs.get("standard_name", ""))
    physical = "other" if "sea_water" in standard else _measures(units)
    if physical == "other":
        if _PRESSURE_NAME.fullmatch(dim) and axis.size > 1:
            raise DataError(
                f"{dim!r} has units {units[:60]!r}, which do not measure air pressure; "
                f"only pressure levels can be kept together: select one of these, e.g. {dim}={axis.values[0]:g}",
                option="select",
                example=f"{dim}={axis.values[0]:g}",
            )
        return Kind.OTHER
    text = f"{axis.attrs.get('long_name', '')} {axis.attrs.get('description', '')} {axis.attrs.get('GRIB_typeOfLevel', '')}"
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
        return Kind.PARAMETRIC
    if standard == "air_pressure" or physical == "pressure" or (_PRESSURE_NAME.fullmatch(dim) and not units):
        return Kind.PRESSURE
    if _PRESSURE_NAME.fullmatch(dim) and axis.size > 1:
        raise DataError(
            f"{dim!r} has units {units[:60]!r}, which cannot be converted to 'hPa'; "
            f"only pressure levels can be kept together: select one of these, e.g. {dim}={axis.values[0]:g}",
            option="select",
            example=f"{dim}={axis.values[0]:g}",
        )
    return Kind.OTHER


def pressure_levels(
    dataset: xr.Dataset, source: str, names: Sequence[str], levels: Sequence[int] | None = None
) -> xr.Dataset:
    """Return the data set with the pressure levels of some of its variables along one axis ``level``, int32
    hPa.

    Fields on hybrid levels are interpolated to ``levels``, linearly in the logarithm of pressure, where their
    coefficients and the surface pressure are there; below the lowest and above the highest of their levels
    they are missing. Lazy.

    Args:
        dataset: data set whose other axes have their canonical names.
        source: named in errors.
        names: variables that are used; others are left as they are.
        levels: pressures that are wanted, in hPa; all by default.

    Raises:
        ValueError: hybrid levels that cannot be interpolated, pressures that are no whole hPa, or several
            axes of different ones.
    """
    if "level" in dataset.dims:
        original = {"source_level": "level"}
        dataset = dataset.rename(level="source_level")
    else:
        original = {}
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
            kind = kind_of(dataset.rename({dim: called}), called)
            if kind is Kind.PRESSURE:
                vertical[dim] = _whole_pressures(dataset[dim], called, levels)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
        if kind is Kind.PARAMETRIC and dataset.sizes[dim] > 1:
            formula = _formula(dataset, dim, called, source, levels)
            on_axis = [name for name in names if dim in dataset[name].dims]
            try:
                fields |= {name: interpolate(dataset[name], dim, formula, levels or ()) for name in on_axis}
            except Lacking as error:
                raise ValueError(f"{source}: {called!r} cannot be interpolated without {error}") from error
            log.info(
                "%s: %s interpolated from %s to %s hPa",
                source,
                ", ".join(on_axis),
                called,
                ", ".join(map(str, levels or ())),
            )
    several = {dim: found for dim, found in vertical.items() if len(found[1]) > 1}
    if not several and not fields and len({int(pressures[0]) for _, pressures in vertical.values()}) == 1:
        several = vertical
    sets = [found[1] for found in several.values()] + ([np.array(levels, dtype=np.int32)] if fields else [])
    if sets and not all(set(h.tolist()) == set(sets[0].tolist()) for h in sets):
        common = _common(several, original, source, levels)
    else:
        common = sets[0] if sets else np.zeros(0, dtype=np.int32)
    for dim, (positions, pressures) in several.items():
        order = positions[[pressures.tolist().index(level) for level in common.tolist()]]
        whole = len(order) == dataset.sizes[dim] and (np.diff(order) == 1).all()
        for name in names:
            if dim in dataset[name].dims:
                field = dataset[name].drop_vars(
                    [c for c in dataset[name].coords if dim in dataset[name][c].dims]
                )
                fields[name] = (field if whole else field.isel({dim: order})).rename({dim: "level"})
    coordinate = ("level", common, {"standard_name": "air_pressure", "units": "hPa", "positive": "down"})
    return dataset.assign(fields).assign_coords(level=coordinate) if fields else dataset


def _common(
    several: dict[str, tuple[NDArray[np.int64], NDArray[np.int32]]],
    original: dict[str, str],
    source: str,
    levels: Sequence[int] | None,
) -> NDArray[np.int32]:
    """Return the wanted pressures, which each of several axes must hold."""
    first, *others = [set(pressures.tolist()) for _, pressures in several.values()]
    shared = sorted(first.intersection(*others), reverse=True)
    for dim, (_, pressures) in several.items():
        if lacking := [level for level in levels or () if level not in pressures]:
            raise ValueError(
                f"{source} has no level {lacking[0]} hPa along {original.get(dim, dim)}; it has {', '.join(map(str, pressures))}"
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
    dataset: xr.Dataset, dim: str, called: str, source: str, levels: Sequence[int] | None
) -> PressureFormula:
    what = (
        f"{source}: {called!r} counts hybrid or sigma levels, whose pressures depend on the surface pressure, "
        "not pressure levels"
    )
    try:
        formula = pressure_formula(dataset, dim)
    except Lacking as error:
        first = f"{called}={dataset[dim].values[0]:g}"
        raise DataError(
            f"{what}; they cannot be interpolated without {error}: interpolate them first, "
            f"e.g. with cdo ml2pl,85000,50000, select one of them, e.g. {first}, or select variables without levels",
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


def _measures(units: str) -> str:
    """Return ``pressure``, empty where units are none or mere counts of levels, and ``other``; decibars
    measure depth.
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
    """Return the positions of an axis' whole pressures, and these in hPa.

    Raises:
        ValueError: a fraction of a hPa that is not left out by ``levels``, a pressure twice, or numbers
            without units that are none.
    """
    units = str(axis.attrs.get("units", "")).strip()
    values = axis.values.astype(np.float64)
    if not units and called == "isobaricInPa":
        units = "Pa"
    if units:
        factor, offset = cf_units.conversion(units, "hPa")
        values = values * factor + offset
    elif values.max() > _HIGHEST or (len(values) > 2 and set(np.abs(np.diff(values))) == {1.0}):
        kind = "numbers of levels" if values.max() <= _HIGHEST else "pressures in Pa"
        raise ValueError(
            f"{called!r} has no units, and {values[0]:g} ... {values[-1]:g} look like {kind} and not like hPa; set the attribute"
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
        twice = next(level for level in pressures.tolist() if (pressures == level).sum() > 1)
        raise ValueError(f"{called!r} has the level {twice} hPa twice; drop one")
    return positions, pressures
