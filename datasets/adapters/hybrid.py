"""Interpolation of fields on hybrid sigma-pressure levels to pressure levels.

The pressure of level k above a surface pressure ``ps`` is ``p_k = a_k + b_k ps`` (CF conventions, appendix
D), with ``a_k`` in Pa, or as a fraction of ``p0``. Fields are interpolated linearly in ``ln p``; below the
lowest level, which includes points below ground, and above the highest one they are missing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .. import units as cf_units
from ..schema import DIMENSIONS

Array = NDArray[np.float64]

_PAIRS = (
    ("hyam", "hybm"),
    ("ap", "b"),
    ("a", "b"),
    ("ak", "bk"),
    ("hyai", "hybi"),
    ("ap_bnds", "b_bnds"),
    ("a_bnds", "b_bnds"),
)
_SURFACE = ("PS", "ps", "sp", "aps", "surface_pressure", "pressfc", "PSFC")
_LOG_SURFACE = ("lnsp", "lnps", "LNSP", "LNPS")
_REFERENCE = ("P0", "p0", "P00")
_BLOCK = 2**25  # bytes of a field that are interpolated together


class MissingTermError(ValueError):
    """A term that is necessary to compute the pressures of levels is missing; the message names it."""


@dataclass(frozen=True, eq=False)
class PressureFormula:
    """Pressures of levels, ``p = a + b ps``.

    Attributes:
        a: coefficients [Pa], shape (level,).
        b: coefficients [1], shape (level,).
        surface: surface pressure ``ps`` [Pa].
    """

    a: Array
    b: Array
    surface: xr.DataArray


def companions(dataset: xr.Dataset, dim: str) -> tuple[str, str] | None:
    """Return the names of the coefficients a and b of the levels or layer edges of a dimension, or None.

    Args:
        dataset: data set.
        dim: name of the dimension.
    """
    size = dataset.sizes[dim]
    for pair in _PAIRS:
        if all(name in dataset.variables for name in pair):
            a, b = (dataset[name] for name in pair)
            is_list = a.ndim == 1 and a.dims == b.dims
            is_bounds = a.ndim == 2 and a.dims == b.dims and a.shape[1] == 2
            along_dim = a.dims[:1] == (dim,) or (is_list and a.dims[0] not in dataset.indexes)
            if (
                (is_list or is_bounds)
                and along_dim
                and (a.shape[0] in (size, size + 1) or _are_level_numbers(dataset[dim], a.shape[0]))
            ):
                return pair
    return None


def pressure_formula(dataset: xr.Dataset, dim: str) -> PressureFormula:
    """Return the pressure formula of the levels of a dimension, from its formula terms or from common names.

    Args:
        dataset: data set.
        dim: name of the dimension.

    Raises:
        MissingTermError: the data set lacks a term.
    """
    axis = dataset[dim]
    terms = _terms(dataset, axis)
    if re.search("height|sleve|ocean|ln_pressure", str(axis.attrs.get("standard_name", ""))):
        raise MissingTermError(f"a formula for {axis.attrs['standard_name']}")
    pair = companions(dataset, dim)
    if "sigma" in terms or (
        not terms and pair is None and axis.attrs.get("standard_name") == "atmosphere_sigma_coordinate"
    ):
        sigma = axis.values.astype(np.float64)
        top = _scalar(dataset, terms.get("ptop", "ptop"))
        a = top * (1 - sigma)
        b = sigma
    else:
        named = (terms.get("ap") or terms.get("a", ""), terms.get("b", ""))
        pair = named if all(name in dataset.variables for name in named) else pair
        if pair is None:
            raise MissingTermError(f"the coefficients {' and '.join(filter(None, named)) or 'hyam and hybm'}")
        a, b = (_at_levels(dataset[name].values.astype(np.float64), axis) for name in pair)
        units = str(dataset[pair[0]].attrs.get("units", ""))
        try:
            a = a * cf_units.conversion(units, "Pa")[0]
        except ValueError:  # a fraction of the reference pressure, or Pa without the right units
            if np.abs(a).max() <= 2:
                a = a * _scalar(dataset, terms.get("p0", ""), *_REFERENCE)
    return PressureFormula(a, b, _surface_pressure(dataset, terms.get("ps", "")))


def interpolate(
    field: xr.DataArray, dim: str, *, formula: PressureFormula, levels: Sequence[int]
) -> xr.DataArray:
    """Interpolate a field lazily to pressures along a new dimension ``level``, in float32.

    Args:
        field: field on hybrid levels.
        dim: dimension of the levels.
        formula: pressures of the levels.
        levels: target pressures [hPa].

    Raises:
        MissingTermError: the surface pressure has axes that the field lacks.
    """
    surface = formula.surface
    if not set(surface.dims) <= set(field.dims):
        raise MissingTermError(f"the surface pressure on {', '.join(map(str, field.dims))}")
    bare = field.drop_vars([c for c in field.coords if dim in field[c].dims])
    one = max(1, field.nbytes // max(1, field.sizes.get("time", 1)))
    blocks = {d: max(1, _BLOCK // one) if d == "time" else -1 for d in field.dims}
    result: xr.DataArray = xr.apply_ufunc(
        at_pressures,
        bare.chunk(blocks),
        surface.chunk({d: blocks[d] for d in surface.dims}),
        input_core_dims=[[dim], []],
        output_core_dims=[["level"]],
        kwargs={"a": formula.a, "b": formula.b, "pressures": 100.0 * np.asarray(levels)},
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": {"level": len(levels)}},
    )
    return result.assign_attrs(field.attrs)


def at_pressures(
    values: NDArray[np.floating], surface: NDArray[np.floating], *, a: Array, b: Array, pressures: Array
) -> NDArray[np.float32]:
    """Interpolate fields linearly in the logarithm of pressure.

    Args:
        values: fields, shape (..., level).
        surface: surface pressure [Pa], shape (...).
        a: coefficients [Pa], shape (level,).
        b: coefficients [1], shape (level,).
        pressures: target pressures [Pa], shape (pressure,).

    Returns:
        Interpolated fields, shape (..., pressure); NaN outside the range of the levels.
    """
    if a[0] + b[0] * 1e5 > a[-1] + b[-1] * 1e5:
        values = values[..., ::-1]
        a = a[::-1]
        b = b[::-1]
    with np.errstate(divide="ignore"):  # a level at zero pressure
        x = np.log(a + b * surface[..., None].astype(np.float64))
    x = np.broadcast_to(x, values.shape)
    result = np.full((*values.shape[:-1], len(pressures)), np.nan, dtype=np.float32)
    for k, target in enumerate(np.log(pressures)):
        lower = np.clip((x <= target).sum(axis=-1, keepdims=True) - 1, 0, len(a) - 2)
        x0, x1 = (np.take_along_axis(x, lower + i, axis=-1)[..., 0] for i in (0, 1))
        y0, y1 = (np.take_along_axis(values, lower + i, axis=-1)[..., 0].astype(np.float64) for i in (0, 1))
        inside = (target >= x[..., 0]) & (target <= x[..., -1])
        result[..., k] = np.where(inside, y0 + (target - x0) / (x1 - x0) * (y1 - y0), np.nan)
    return result


def _terms(dataset: xr.Dataset, axis: xr.DataArray) -> dict[str, str]:
    """Return variables by formula term, of the levels or else of their bounds."""
    bounds = str(axis.attrs.get("bounds") or axis.encoding.get("bounds") or "")
    for variable in (axis, *([dataset[bounds]] if bounds in dataset else [])):
        if text := variable.attrs.get("formula_terms") or variable.encoding.get("formula_terms"):
            return dict(re.findall(r"(\w+)\s*:\s*(\S+)", str(text)))
    return {}


def _are_level_numbers(axis: xr.DataArray, size: int) -> bool:
    """Return whether the values of an axis are level numbers between 1 and ``size``."""
    values = axis.values
    return bool(
        (values == np.round(values)).all()
        and values.min() >= 1
        and values.max() <= size
        and len(values) <= size
    )


def _at_levels(coefficients: Array, axis: xr.DataArray) -> Array:
    """Return the coefficients of the levels of an axis.

    Bounds or layer edges are averaged; from a longer list, those of the level numbers are taken.
    """
    size = axis.size
    if coefficients.ndim == 2:
        return np.asarray(coefficients.mean(axis=1))
    has_numbers = _are_level_numbers(axis, len(coefficients))
    if len(coefficients) == size + 1 and not (has_numbers and axis.values[0] != 1):
        return np.asarray((coefficients[1:] + coefficients[:-1]) / 2)
    return (
        coefficients if len(coefficients) == size else np.asarray(coefficients[axis.values.astype(int) - 1])
    )


def _scalar(dataset: xr.Dataset, *names: str) -> float:
    """Return a constant pressure [Pa], the first available one of some variables."""
    for name in names:
        if name in dataset.variables and dataset[name].size == 1:
            factor, _ = cf_units.conversion(str(dataset[name].attrs.get("units", "Pa")), "Pa")
            return float(dataset[name].values.item()) * factor
    raise MissingTermError(f"the pressure {next(filter(None, names))}")


def _surface_pressure(dataset: xr.Dataset, name: str) -> xr.DataArray:
    """Return the surface pressure [Pa], which some files store as its logarithm on a level of its own."""
    standard = [
        str(n) for n, v in dataset.data_vars.items() if v.attrs.get("standard_name") == "surface_air_pressure"
    ]
    candidates = [n for n in (name, *standard, *_SURFACE, *_LOG_SURFACE) if n in dataset.data_vars]
    if not candidates:
        raise MissingTermError(f"the surface pressure {name or 'PS'}")
    surface = dataset[candidates[0]]
    surface = surface.isel(
        {d: 0 for d, size in surface.sizes.items() if size == 1 and d not in DIMENSIONS}, drop=True
    )
    lazy = surface.chunk({"time": 1} if "time" in surface.dims else {})
    if candidates[0] in _LOG_SURFACE:
        return lazy.copy(data=np.exp(lazy.data))
    try:
        factor, _ = cf_units.conversion(str(surface.attrs.get("units", "")), "Pa")
    except ValueError as error:
        raise MissingTermError(f"the surface pressure's units ({candidates[0]!r} {error})") from error
    return surface if factor == 1 else lazy * factor
