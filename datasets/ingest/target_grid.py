"""Target grids of regridding, described by a spacing, by numbers of points, or by a store."""

import numpy as np

from ...fno.grids import LatLon, SphereGrid, colatitudes
from ..errors import DataError
from ..memory import check_along
from ..schema import grid_of


def stored_grid(path: str) -> LatLon:
    """Return the grid of a store.

    Raises:
        ValueError: it cannot be read, or is not on latitudes and longitudes.
    """
    from ..adapters.opening import open_raw

    grid = grid_of(open_raw(path))
    if not isinstance(grid, LatLon):
        raise DataError(
            f"grid {path!r} is a Cartesian box; name a store on latitudes and longitudes", option="grid"
        )
    return grid


def parse_target(text: str) -> LatLon | float:
    """Return the global grid or the spacing [degrees] that a text describes.

    Args:
        text: ``LATxLON`` points, from north to south and with rows on the poles if LAT is odd, or a spacing
            in degrees.

    Raises:
        InvalidDataError: there are too many points along an axis.
        ValueError: the text is neither; the message states only the reason.
    """
    if "x" not in text:
        step = float(text)
        if not 0 < step <= 45:
            raise ValueError("it must be between 0 and 45 degrees")
        return step
    rows, columns = (int(count) for count in text.split("x"))
    check_along(text[:60], max(float(count) for count in text.split("x")))
    kind: SphereGrid = "equiangular" if rows % 2 else "equiangular-no-poles"
    return LatLon(90 - np.rad2deg(colatitudes(rows, kind)), np.arange(columns) * 360 / columns)


def grid_with_spacing(grid: LatLon, step: float, text: str) -> LatLon:
    """Return the grid of the same kind and extent with another spacing, see ``LatLon.with_spacing``.

    Args:
        grid: grid whose kind and extent to keep.
        step: distance between points [degrees].
        text: description of the new grid, for the message.

    Raises:
        InvalidDataError: there are too many points along an axis.
        ValueError: ``step`` lies outside (0, 45] degrees, or does not divide the globe.
    """
    if step > 0:
        extent = 360.0 if grid.full_circle else float(max(np.ptp(grid.latitude), np.ptp(grid.longitude)))
        check_along(text, extent / step)
    return grid.with_spacing(step)
