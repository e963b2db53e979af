"""Fields that do not change with time, of any source: which they are, what they are called, and on whose
coordinates.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..errors import DataError
from ..identity import Identity, identity, same_quantity
from ..schema import axes_of
from .joining import Part, align
from .vocabulary import CONSTANTS

log = logging.getLogger(__name__)


def split_constants(parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """Return the sources without their static fields, and the static fields of each source as a data set.

    A field of a source with a single time is static where it is one that never changes, such as a land-sea
    mask, and no other source has it: where each of many files has a time and a mask, the mask is a series
    like the rest.
    """
    series: dict[str, Identity] = {}
    counts: Counter[str] = Counter()
    for _, part in parts:
        constants = part.encoding["constants"]
        counts.update(list(constants))
        series |= {
            str(n): identity(v) for n, v in part.data_vars.items() if n not in constants and n not in series
        }
    changing: list[Part] = []
    static: list[Part] = []
    for source, part in parts:
        axes = {*axes_of(part)}
        own = {str(n): c for n, c in part.coords.items() if c.ndim == 2 and set(c.dims) == axes}
        for name, field in part.encoding["constants"].items():
            mine = identity(field.rename(name))
            if (
                series
                and len(parts) > 1
                and counts[name] == 1
                and not any(_same(mine, other) for other in series.values())
            ):
                own[name] = field
        changing.append((source, part.drop_vars([n for n in own if n in part.data_vars])))
        timed = {"time": part["time"]} if "time" in part.coords else {}
        static.append(
            (source, xr.Dataset({n: f.reset_coords(drop=True) for n, f in own.items()}).assign_coords(timed))
        )
    return changing, static


def static_fields(static: Sequence[Part], joined: xr.Dataset, reference: str) -> dict[str, xr.DataArray]:
    """Return the static fields of all sources on the coordinates of the joined series.

    A field of the same name as a variable of the series, such as z of the surface and z on levels, gets
    WeatherBench2's name.

    Args:
        static: sources and their static fields, see ``split_constants``.
        joined: variables that change with time.
        reference: source whose coordinates those are, for errors.

    Raises:
        ValueError: a field on another grid, or a variable of the weather without its time.
    """
    fields: dict[str, xr.DataArray] = {}
    origins: dict[str, str] = {}
    changing = [identity(v) for v in joined.data_vars.values()]
    for source, dataset in static:
        if not dataset.data_vars:
            continue
        aligned = align(dataset, (reference, joined), source, cut=True)
        for variable in aligned.data_vars.values():
            name = _name(variable, source, changing, timeless="time" not in dataset.coords)
            if name not in fields:
                fields[name] = variable.drop_vars("time", errors="ignore").compute()
                origins[name] = source
            elif not _close(variable.values, fields[name].values):
                log.warning("%s of %s is used, which differs from that of %s", name, origins[name], source)
    return fields


def _same(a: Identity, b: Identity) -> bool:
    return a.on_levels == b.on_levels and (a.name == b.name or same_quantity(a, b))


def _name(field: xr.DataArray, source: str, changing: Sequence[Identity], timeless: bool) -> str:
    """Return what a static field is called; raise ``ValueError`` where it is a variable of the weather
    without its time.
    """
    mine = identity(field)
    surface = mine.geopotential or (mine.term is not None and mine.term.name == "geopotential_at_surface")
    name = str(field.name)
    clash = [other for other in changing if other.name == name]
    if surface and (clash or name == "geopotential"):
        return "geopotential_at_surface"
    weather = mine.term is not None and mine.term.name not in CONSTANTS and not surface and not mine.constant
    if clash or (timeless and (weather or any(_same(mine, other) for other in changing))):
        what = f"{source} contains {name!r} without a time; give it a time coordinate"
        if clash:
            raise DataError(f"{what}, or rename it", option="rename", example=f"{name}={name}_static")
        raise DataError(f"{what}, or declare it as static if it never changes", option="static", example=name)
    return name


def is_constant(name: str, identities: Mapping[str, Identity], changing: Sequence[str]) -> bool:
    """Return whether a field of a source with a single time is one that never changes.

    A geopotential without a level is that of the surface where all the rest of its source is constant.
    """
    if identities[name].constant:
        return True
    rest = [identities[other].constant for other in changing if other != name]
    return identities[name].geopotential and bool(rest) and all(rest)


def first_of_constant(variable: xr.DataArray, source: str) -> xr.DataArray:
    """Return the first time of a variable; raise ``ValueError`` where its middle or last time differs."""
    first = variable.isel(time=0)
    for at in {variable.sizes["time"] // 2, variable.sizes["time"] - 1}:
        if not _close(first.values, variable.isel(time=at).values):
            time = variable["time"].values[at].astype("datetime64[m]")
            raise DataError(
                f"{source}: {variable.name!r} changes with time ({time} differs from the first time), "
                f"so it is not static; leave {variable.name!r} out of static",
                option="static",
            )
    return first


def _close(a: NDArray[np.floating], b: NDArray[np.floating]) -> bool:
    """Return whether two fields agree to a thousandth of their range, as packed copies of one do."""
    return bool(
        np.allclose(a, b, rtol=0, atol=1e-3 * float(np.nanmax(a) - np.nanmin(a)) + 1e-12, equal_nan=True)
    )
