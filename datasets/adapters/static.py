"""Static fields: recognition, names, and alignment with the coordinates of the time series."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..errors import DataError
from ..identity import Identity, identity, same_quantity
from ..schema import axes_of
from ..source import Source
from .joining import Part, align
from .vocabulary import CONSTANT_TERMS

log = logging.getLogger(__name__)


def split_constants(parts: Sequence[Source]) -> tuple[list[Part], list[Part]]:
    """Return the sources without their static fields, and the static fields of each source as a data set.

    A constant field of a source with a single time, such as a land-sea mask, is static if no other source
    has it. If each of many files has a time and a mask, the mask is a time series like the other variables.
    """
    series: dict[str, Identity] = {}
    counts: Counter[str] = Counter()
    for source in parts:
        counts.update(list(source.constants))
        series |= {
            str(n): identity(v)
            for n, v in source.dataset.data_vars.items()
            if n not in source.constants and n not in series
        }
    changing: list[Part] = []
    static: list[Part] = []
    for source in parts:
        part = source.dataset
        axes = {*axes_of(part)}
        own = {str(n): c for n, c in part.coords.items() if c.ndim == 2 and set(c.dims) == axes}
        for name, field in source.constants.items():
            own_identity = identity(field.rename(name))
            if (
                series
                and len(parts) > 1
                and counts[name] == 1
                and not any(_is_same(own_identity, other) for other in series.values())
            ):
                own[name] = field
        changing.append((source.path, part.drop_vars([n for n in own if n in part.data_vars])))
        timed = {"time": part["time"]} if "time" in part.coords else {}
        fields = xr.Dataset({n: f.reset_coords(drop=True) for n, f in own.items()})
        static.append((source.path, fields.assign_coords(timed)))
    return changing, static


def static_fields(static: Sequence[Part], joined: xr.Dataset, reference: str) -> dict[str, xr.DataArray]:
    """Return the static fields of all sources on the coordinates of the joined time series.

    A field with the name of a variable of the series, such as z of the surface and z on levels, is renamed to
    its WeatherBench2 name.

    Args:
        static: sources and their static fields, see ``split_constants``.
        joined: variables that change with time.
        reference: source of the coordinates, for error messages.

    Raises:
        ValueError: a field is on another grid, or a time-dependent variable has no time.
    """
    fields: dict[str, xr.DataArray] = {}
    origins: dict[str, str] = {}
    changing = [identity(v) for v in joined.data_vars.values()]
    for source, dataset in static:
        if not dataset.data_vars:
            continue
        aligned = align(dataset, (reference, joined), source, cut=True)
        for variable in aligned.data_vars.values():
            name = _static_name(variable, source, changing, timeless="time" not in dataset.coords)
            if name not in fields:
                fields[name] = variable.drop_vars("time", errors="ignore").compute()
                origins[name] = source
            elif not _is_close(variable.values, fields[name].values):
                log.warning("%s of %s is used; that of %s differs", name, origins[name], source)
    return fields


def _is_same(a: Identity, b: Identity) -> bool:
    return a.on_levels == b.on_levels and (a.name == b.name or same_quantity(a, b))


def _static_name(field: xr.DataArray, source: str, changing: Sequence[Identity], *, timeless: bool) -> str:
    """Return the name of a static field; raise ``ValueError`` for a time-dependent variable without time."""
    own = identity(field)
    surface = own.geopotential or (own.term is not None and own.term.name == "geopotential_at_surface")
    name = str(field.name)
    clash = [other for other in changing if other.name == name]
    if surface and (clash or name == "geopotential"):
        return "geopotential_at_surface"
    time_dependent = (
        own.term is not None and own.term.name not in CONSTANT_TERMS and not surface and not own.constant
    )
    if clash or (timeless and (time_dependent or any(_is_same(own, other) for other in changing))):
        what = f"{source} contains {name!r} without a time; give it a time coordinate"
        if clash:
            raise DataError(f"{what}, or rename it", option="rename", example=f"{name}={name}_static")
        raise DataError(f"{what}, or declare it as static if it never changes", option="static", example=name)
    return name


def is_constant(name: str, identities: Mapping[str, Identity], changing: Sequence[str]) -> bool:
    """Return whether a field of a source with a single time is constant.

    A geopotential without a level is that of the surface if all other fields of the source are constant.

    Args:
        name: name of the field.
        identities: identities of the fields of the source by name.
        changing: names of its fields with a time.
    """
    if identities[name].constant:
        return True
    others = [identities[other].constant for other in changing if other != name]
    return identities[name].geopotential and bool(others) and all(others)


def first_of_constant(variable: xr.DataArray, source: str) -> xr.DataArray:
    """Return the first time of a variable that does not change.

    Args:
        variable: variable with times.
        source: path, for error messages.

    Raises:
        ValueError: the middle or the last time differs.
    """
    first = variable.isel(time=0)
    for index in {variable.sizes["time"] // 2, variable.sizes["time"] - 1}:
        if not _is_close(first.values, variable.isel(time=index).values):
            time = variable["time"].values[index].astype("datetime64[m]")
            raise DataError(
                f"{source}: {variable.name!r} changes with time ({time} differs from the first time), "
                f"so it is not static; leave {variable.name!r} out of static",
                option="static",
            )
    return first


def _is_close(a: NDArray[np.floating], b: NDArray[np.floating]) -> bool:
    """Return whether two fields agree to a thousandth of their range, as packed copies of a field do."""
    tolerance = 1e-3 * float(np.nanmax(a) - np.nanmin(a)) + 1e-12
    return bool(np.allclose(a, b, rtol=0, atol=tolerance, equal_nan=True))
