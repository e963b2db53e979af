"""Fields that do not change with time, of any source: which they are, what they are called, and on whose coordinates."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..identity import Identity, identity, same_quantity
from ..schema import axes_of
from .joining import Part, align
from .vocabulary import CONSTANTS

log = logging.getLogger(__name__)


def without_constants(parts: Sequence[Part]) -> list[Part]:
    """Return the sources without those variables that ``static_fields`` takes from them."""
    return [(source, part.drop_vars([n for n in _constants(parts, at) if n in part.data_vars])) for at, (source, part) in enumerate(parts)]


def static_fields(parts: Sequence[Part], series: Sequence[Part], joined: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the static fields of all sources on the coordinates of the joined series.

    A field of the same name as a variable of the series, such as z of the surface and z on levels, gets WeatherBench2's name.

    Raises:
        ValueError: a field on another grid, or a variable of the weather without its time.
    """
    fields: dict[str, xr.DataArray] = {}
    origins: dict[str, str] = {}
    changing = [identity(v) for v in joined.data_vars.values()]
    for at, (source, part) in enumerate(parts):
        axes = axes_of(part) if part.data_vars else axes_of(joined)
        own = {str(n): c for n, c in part.coords.items() if set(c.dims) == set(axes) and c.ndim == 2}
        own |= _constants(parts, at)
        for name, field in own.items():
            named = _name(field.rename(name), source, changing, timeless="time" not in part.coords)
            aligned = align(field.reset_coords(drop=True).to_dataset(name=named), (series[0][0], joined), source)[named]
            if named not in fields:
                fields[named] = aligned.compute()
                origins[named] = source
            elif not _close(aligned.values, fields[named].values):
                log.warning("%s of %s is used, which differs from that of %s", named, origins[named], source)
    return fields


def _constants(parts: Sequence[Part], at: int) -> dict[str, xr.DataArray]:
    """Return the fields of a source with a single time that are static: no other source has them at other times."""
    constants: dict[str, xr.DataArray] = parts[at][1].encoding["constants"]
    others = [identity(v) for i, (_, part) in enumerate(parts) if i != at for n, v in part.data_vars.items() if n not in part.encoding["constants"]]
    again = [name for i, (_, part) in enumerate(parts) if i != at for name in part.encoding["constants"]]
    if len(parts) == 1 or not others:
        return {}
    return {name: field for name, field in constants.items() if name not in again and not any(_same(identity(field.rename(name)), o) for o in others)}


def _same(a: Identity, b: Identity) -> bool:
    return a.on_levels == b.on_levels and (a.name == b.name or same_quantity(a, b))


def _name(field: xr.DataArray, source: str, changing: Sequence[Identity], timeless: bool) -> str:
    """Return what a static field is called; raise ``ValueError`` where it is a variable of the weather without its time."""
    mine = identity(field)
    surface = mine.geopotential or (mine.term is not None and mine.term.name == "geopotential_at_surface")
    name = str(field.name)
    clash = [other for other in changing if other.name == name]
    if surface and (clash or name == "geopotential"):
        return "geopotential_at_surface"
    weather = mine.term is not None and mine.term.name not in CONSTANTS and not surface and not mine.constant
    if clash or (timeless and (weather or any(_same(mine, other) for other in changing))):
        raise ValueError(
            f"{source} holds {name!r} without a time; give it a time coordinate"
            + (f", or rename it, e.g. --rename {name}={name}_static" if clash else f", or pass --static {name} if it never changes")
        )
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
    """Return the first time of a variable that is the same at its first, middle and last time; raise ``ValueError`` where it is not."""
    first = variable.isel(time=0)
    for at in {variable.sizes["time"] // 2, variable.sizes["time"] - 1}:
        if not _close(first.values, variable.isel(time=at).values):
            time = variable["time"].values[at].astype("datetime64[m]")
            raise ValueError(f"{source}: {variable.name!r} changes with time ({time} differs from the first); leave out --static {variable.name}")
    return first


def _close(a: NDArray[np.floating], b: NDArray[np.floating]) -> bool:
    """Return whether two fields agree to a thousandth of their range, as packed copies of one do."""
    return bool(np.allclose(a, b, rtol=0, atol=1e-3 * float(np.nanmax(a) - np.nanmin(a)) + 1e-12, equal_nan=True))
