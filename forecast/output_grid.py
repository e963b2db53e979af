"""The grid a forecast is written on: the model's, a part of it, or a finer or coarser one by interpolation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..datasets.regrid import linear
from ..datasets.selection import area_positions, eastward
from ..fno.grids import Grid, LatLon

Float = NDArray[np.float32]


@dataclass(frozen=True)
class OutputGrid:
    """Where forecasts are written and how they get there from the model's grid.

    Attributes:
        axes: names of rows and columns.
        along_rows: where the rows lie, in the type of the training data where they are the model's own.
        along_columns: the same of the columns.
        rows: weights of the model's rows, shape (new, old); None keeps them.
        columns: the same for columns.
        note: what was done, for the attributes of the forecast; empty if nothing was.
    """

    axes: tuple[str, str]
    along_rows: NDArray[np.floating]
    along_columns: NDArray[np.floating]
    rows: Float | None = None
    columns: Float | None = None
    note: str = ""

    def apply(self, fields: Float) -> Float:
        """Return fields of shape (..., latitude, longitude) on this grid."""
        if self.rows is None or self.columns is None:
            return fields
        missing = np.isnan(fields)
        filled = np.where(missing, 0, fields) if missing.any() else fields
        made = np.asarray(self.rows @ filled @ self.columns.T, dtype=np.float32)
        if missing.any():  # a point is missing if any that it is made from is
            made[(self.rows != 0).astype(np.float32) @ missing.astype(np.float32) @ (self.columns != 0).astype(np.float32).T > 0] = np.nan
        return made


def output_grid(grid: Grid, dtypes: tuple[str, str], spacing: float | None = None, area: str | None = None) -> OutputGrid:
    """Return the grid to write on.

    Args:
        grid: the model's grid.
        dtypes: types of its rows and columns in the training data.
        spacing: degrees between points; the forecast is interpolated linearly along both axes, which adds points but
            no detail. None keeps the model's points.
        area: ``NORTH/WEST/SOUTH/EAST`` in degrees; None keeps all.

    Raises:
        ValueError: no such area or spacing, or fewer than two points along an axis remain.
    """
    if not isinstance(grid, LatLon):
        if spacing is not None or area is not None:
            raise ValueError("only forecasts on latitudes and longitudes are put on another grid or area; leave out --grid and --area")
        return OutputGrid(grid.axes, grid.y.astype(dtypes[0]), grid.x.astype(dtypes[1]))
    latitude, longitude = grid.latitude.astype(dtypes[0]), grid.longitude.astype(dtypes[1])
    rows, columns = (np.eye(n, dtype=np.float32) for n in grid.shape)
    note = ""
    if spacing is not None:
        if not 0 < spacing <= 45:
            raise ValueError(f"grid spacing must lie between 0 and 45 degrees, got {spacing}")
        sign = 1 if grid.latitude[-1] > grid.latitude[0] else -1
        latitude = _steps(grid.latitude[0], grid.latitude[-1], sign * spacing)
        span = 360 - spacing if grid.periodic else grid.longitude[-1] - grid.longitude[0]
        longitude = grid.longitude[0] + _steps(0.0, span, spacing)
        rows = linear(grid.latitude, latitude).astype(np.float32)
        columns = linear(grid.longitude, longitude, grid.periodic).astype(np.float32)
        note = f"interpolated linearly to {spacing:g} degrees from the model's {grid.spacing[0]:g} x {grid.spacing[1]:g}; it holds no finer detail"
    if area is not None:
        keep_rows, keep_columns = area_positions(latitude, longitude, area)
        if len(keep_rows) < 2 or len(keep_columns) < 2:
            raise ValueError(f"area {area} holds fewer than two points along an axis of the grid {_corners(grid)}; write NORTH/WEST/SOUTH/EAST")
        latitude, rows = latitude[keep_rows], rows[keep_rows]
        longitude, columns = eastward(longitude[keep_columns]), columns[keep_columns]
    whole = spacing is None and area is None
    return OutputGrid(grid.axes, latitude, longitude, None if whole else rows, None if whole else columns, note)


def _steps(first: float, last: float, step: float) -> NDArray[np.float64]:
    return np.asarray(first + step * np.arange(int(abs(last - first) / abs(step) + 1e-6) + 1))


def _corners(grid: LatLon) -> str:
    return f"{grid.latitude.max():g}/{grid.longitude[0]:g}/{grid.latitude.min():g}/{grid.longitude[-1]:g}"
