"""Rotation of wind components along the axes of a curvilinear grid to eastward and northward winds.

Two components form a wind if they have the same dimensions, do not differ in level, height or member, and
have names that differ only in the direction, such as u10 and v10. Otherwise both must be the only ones left
of their kind.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import xarray as xr

from ..errors import DataError
from ..identity import identity
from ..scalars import differing, record, scalars_of, single_valued_coordinates
from .curvilinear import CurvilinearSource

log = logging.getLogger(__name__)

# Standard names of the components along rows and columns.
_ALONG_AXES = {"x_wind": "y_wind", "grid_eastward_wind": "grid_northward_wind"}
_COMPONENTS = {**_ALONG_AXES, "eastward_wind": "northward_wind"}
# Letters or words of the direction in the names of the two components.
_DIRECTIONS = (("u", "v"), ("x", "y"), ("east", "north"), ("zonal", "meridional"))


def rotate_winds(
    fields: dict[str, xr.DataArray], names: Sequence[str], old: CurvilinearSource, *, source: str
) -> dict[str, xr.DataArray]:
    """Return the eastward and northward winds of all pairs of components along the axes of a grid.

    Components (u, v) along axes that are rotated by the angle a from east and north become
    ``u cos(a) - v sin(a)`` and ``u sin(a) + v cos(a)``.

    Args:
        fields: fields by name.
        names: names of the fields that are used.
        old: grid of the fields.
        source: path, for error messages.

    Raises:
        ValueError: the other component of a wind is missing, or it is not certain which one it is.
    """
    rotated: dict[str, xr.DataArray] = {}
    for first, second, others in _component_pairs(fields):
        if not {first, second} & set(names):
            continue
        if not (first and second):
            single = first or second
            what = f"{source}: {single!r} is a wind along one axis of the grid ({_kind(fields[single])})"
            if others:
                raise DataError(
                    f"{what}, and it is not certain that {' or '.join(map(repr, others))} is the other "
                    "component; give both the same height and names such as u10 and v10, or select other "
                    "variables",
                    option="variables",
                )
            raise DataError(
                f"{what}, and the other component is missing; add it, or select other variables",
                option="variables",
            )
        angle = xr.DataArray(old.grid.angle() + np.pi * old.flipped, dims=old.dims)
        u = fields[first].drop_vars(fields[first].coords)
        v = fields[second].drop_vars(fields[second].coords)
        for name, field, standard in (
            (first, u * np.cos(angle) - v * np.sin(angle), "eastward_wind"),
            (second, u * np.sin(angle) + v * np.cos(angle), "northward_wind"),
        ):
            attrs = {k: a for k, a in fields[name].attrs.items() if k != "long_name"}
            coords = {n: c for n, c in fields[name].coords.items() if not set(old.dims) & set(c.dims)}
            rotated[name] = (
                field.transpose(*fields[name].dims)
                .assign_coords(coords)
                .assign_attrs(attrs | {"standard_name": standard})
            )
        log.info("%s: %s and %s rotated from the axes of the grid to east and north", source, first, second)
    return rotated


def _component_pairs(fields: Mapping[str, xr.DataArray]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the names of wind components along the rows and columns of the grid.

    Yields:
        (component along rows, component along columns, none), or with one of the two empty, the components
        in the other direction that may or may not belong to it.
    """
    kinds = {name: _kind(field) for name, field in fields.items()}
    places = _places(fields)

    def compatible(first: str, second: str) -> bool:
        same_dims = fields[first].dims == fields[second].dims
        return same_dims and differing(places[first], places[second]) is None

    def named_alike(first: str, second: str) -> bool:
        return compatible(first, second) and second.lower() in _counterparts(first)

    def known_alike(first: str, second: str) -> bool:
        counterparts = {other for name in _known_names(fields[first]) for other in _counterparts(name)}
        return compatible(first, second) and not counterparts.isdisjoint(_known_names(fields[second]))

    def same_numbers(first: str, second: str) -> bool:
        return compatible(first, second) and re.findall(r"\d+", first) == re.findall(r"\d+", second)

    for first_kind, second_kind in _COMPONENTS.items():
        firsts = [name for name, kind in kinds.items() if kind == first_kind]
        seconds = [name for name, kind in kinds.items() if kind == second_kind]
        for test in (named_alike, known_alike, same_numbers):
            for first, second in _certain_pairs(firsts, seconds, test):
                firsts.remove(first)
                seconds.remove(second)
                yield first, second, []
        for first in firsts:
            yield first, "", seconds
        for second in seconds:
            yield "", second, firsts


def _certain_pairs(
    firsts: Sequence[str], seconds: Sequence[str], test: Callable[[str, str], bool]
) -> list[tuple[str, str]]:
    """Return the pairs that pass a test, if neither component passes it with another one."""
    partners = {first: [second for second in seconds if test(first, second)] for first in firsts}
    uses = Counter(second for candidates in partners.values() for second in candidates)
    return [
        (first, candidates[0])
        for first, candidates in partners.items()
        if len(candidates) == 1 and uses[candidates[0]] == 1
    ]


def _kind(field: xr.DataArray) -> str:
    """Return the standard name of a component along an axis of the grid, or an empty text.

    Fields of GRIB with the flag of such components may have no standard name; the name identifies them.
    """
    standard = str(field.attrs.get("standard_name"))
    if standard in {*_ALONG_AXES, *_ALONG_AXES.values()}:
        return standard
    if int(field.attrs.get("GRIB_uvRelativeToGrid") or 0) != 1:
        return ""
    components = {*_COMPONENTS, *_COMPONENTS.values()}
    term = identity(field).term
    known = "" if term is None else term.standard_name
    return next((name for name in (standard, known) if name in components), "")


def _places(fields: Mapping[str, xr.DataArray]) -> dict[str, dict[str, str]]:
    """Return the level, height and other scalar coordinates of each field."""
    dataset = xr.Dataset(dict(fields))
    recorded = record(dataset, single_valued_coordinates(dataset))
    return {name: scalars_of(recorded[name].attrs) for name in fields}


def _known_names(field: xr.DataArray) -> set[str]:
    """Return the names of a field in its source and in the vocabulary, in lower case."""
    quantity = identity(field)
    term = quantity.term
    return {name.lower() for name in (*quantity.names, *((term.name,) if term else ()))}


def _counterparts(name: str) -> set[str]:
    """Return the names of the second component that correspond to a name of the first, in lower case."""
    name = name.lower()
    counterparts: set[str] = set()
    for first, second in _DIRECTIONS:
        starts = [match.start() for match in re.finditer(first, name)]
        counterparts |= {name[:start] + second + name[start + len(first) :] for start in starts}
        counterparts |= {name.replace(first, second)} if starts else set()
    return counterparts
