"""Grids of the same extent and kind as another one, with other points."""

import numpy as np

from ...fno.grids import COORDINATE_TOLERANCE, Array, LatLon, SphereGrid, colatitudes, same_axis
from ..memory import check_along


def divisions(step: float) -> int:
    """Return the number of spacings of ``step`` degrees from pole to pole.

    Raises:
        ValueError: ``step`` lies outside 0 ... 45 degrees, or does not divide 180 degrees.
    """
    if not 0 < step <= 45:
        raise ValueError(f"grid spacing must lie between 0 and 45 degrees, got {step:g}")
    check_along(f"{step:g}", 360 / float(step))
    count = 180 / step
    if abs(count - round(count)) > 0.01:
        finer, coarser = 180 / np.ceil(count), 180 / np.floor(count)
        raise ValueError(
            f"a spacing of {step:g} degrees does not divide the 180 degrees from pole to pole; "
            f"take {finer:g} or {coarser:g} degrees, or the number of points, e.g. {round(count)}x{2 * round(count)}"
        )
    return round(count)


def with_spacing(grid: LatLon, step: float) -> LatLon:
    """Return a grid of the same kind and extent with ``step`` degrees between points.

    A global grid keeps its rows on the poles, its rows half a spacing off the poles, or its Gauss-Legendre
    rows (``180 / step`` of them), and its longitudes the meridian they start from. A regional grid keeps its
    northernmost row and westernmost column; its last ones are the last within the old extent.

    Raises:
        ValueError: ``step`` lies outside 0 ... 45 degrees, or does not divide the globe.
    """
    if grid.periodic:
        count = divisions(step)
        step = 180 / count
    elif not 0 < step <= 45:
        raise ValueError(f"grid spacing must lie between 0 and 45 degrees, got {step:g}")
    if _global(grid):
        if grid.sphere == "legendre-gauss":
            latitude = 90 - np.rad2deg(colatitudes(count, "legendre-gauss"))
        else:  # the first and last row lie as many half spacings off the poles as in the old grid
            ends = (grid.latitude.max(), -grid.latitude.min())
            north, south = (round(2 * (90 - end) / grid.spacing[0]) / 2 for end in ends)
            latitude = 90 - step * (north + np.arange(round(count - north - south) + 1))
    else:
        latitude = grid.latitude.max() - _multiples(np.ptp(grid.latitude), step)
    if grid.periodic:
        return _like(grid, latitude, _meridians(grid, round(360 / step)))
    return _like(grid, latitude, grid.longitude[0] + _multiples(np.ptp(grid.longitude), step))


def with_points(grid: LatLon, rows: int, columns: int) -> LatLon:
    """Return a grid of the same extent with a number of points.

    On a global grid an odd number of rows has rows on both poles, an even number has rows half a spacing off
    them. A regional grid keeps its outermost rows and columns.

    Raises:
        ValueError: fewer than two points along an axis.
    """
    if min(rows, columns) < 2:
        raise ValueError(f"a grid needs at least 2 points along each axis, got {rows}x{columns}")
    if _global(grid):
        kind: SphereGrid = "equiangular" if rows % 2 else "equiangular-no-poles"
        latitude = 90 - np.rad2deg(colatitudes(rows, kind))
    else:
        latitude = np.linspace(grid.latitude.max(), grid.latitude.min(), rows)
    if grid.periodic:
        return _like(grid, latitude, _meridians(grid, columns))
    return _like(grid, latitude, np.linspace(grid.longitude[0], grid.longitude[-1], columns))


def _global(grid: LatLon) -> bool:
    return grid.periodic and (grid.includes_poles or grid.sphere is not None)


def _meridians(grid: LatLon, count: int) -> Array:
    """Return evenly spaced longitudes round the globe, cell centres where the grid's longitudes are."""
    old, new, first = 360 / grid.shape[1], 360 / count, grid.longitude[0]
    on_meridian = min(abs(first - start) for start in (-180, 0, 180)) < 1e-3 * old
    centres = not on_meridian and abs(first % old - old / 2) < 1e-3 * old
    return np.asarray(first + (new - old) / 2 * centres + new * np.arange(count))


def _multiples(extent: float, step: float) -> Array:
    return np.asarray(step * np.arange(int(extent / step + COORDINATE_TOLERANCE) + 1))


def _like(grid: LatLon, latitude: Array, longitude: Array) -> LatLon:
    """Return the points in the grid's order of rows, and the grid itself where they are its own."""
    latitude = latitude[::-1] if grid.latitude[0] < grid.latitude[-1] else latitude
    new = LatLon(latitude, longitude)
    own = same_axis(new.latitude, grid.latitude) and same_axis(new.longitude, grid.longitude)
    return grid if own else new
