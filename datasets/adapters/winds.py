"""Rotation of wind components along the axes of a curvilinear grid to eastward and northward winds."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from ..errors import DataError
from .curvilinear import CurvilinearSource

log = logging.getLogger(__name__)

_COMPONENTS = {"x_wind": "y_wind", "grid_eastward_wind": "grid_northward_wind"}


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
        ValueError: the other component of a wind is missing.
    """
    rotated: dict[str, xr.DataArray] = {}
    for first, second in _component_pairs(fields):
        if not {first, second} & set(names):
            continue
        if not (first and second):
            standard_name = fields[first or second].attrs["standard_name"]
            raise DataError(
                f"{source}: {first or second!r} is a wind along one axis of the grid ({standard_name}), "
                "and the other component is missing; add it, or select other variables",
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


def _component_pairs(fields: dict[str, xr.DataArray]) -> Iterator[tuple[str, str]]:
    """Yield the names of wind components along the rows and columns of the grid, empty if one is missing."""
    names: dict[str, list[str]] = {}
    for name, field in fields.items():
        standard = str(field.attrs.get("standard_name"))
        along_axes = standard in {*_COMPONENTS, *_COMPONENTS.values()}
        if along_axes or int(field.attrs.get("GRIB_uvRelativeToGrid") or 0) == 1:
            names.setdefault(standard, []).append(name)
    for first_standard, second_standard in {**_COMPONENTS, "eastward_wind": "northward_wind"}.items():
        seconds = list(names.get(second_standard, []))
        for first in names.get(first_standard, []):
            candidates = [second for second in seconds if fields[second].dims == fields[first].dims]
            second = candidates[0] if candidates else ""
            if second:
                seconds.remove(second)
            yield first, second
        for second in seconds:
            yield "", second
