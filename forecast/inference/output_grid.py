"""The grid that a forecast is written on: the model's, an area of it, or another one by interpolation."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...datasets.errors import DataError
from ...datasets.ingest.regrid import linear
from ...datasets.ingest.select import area_positions, parse_area
from ...datasets.ingest.target_grid import grid_with_spacing
from ...datasets.memory import check_along, check_points
from ...fno.grids import Grid, LatLon

Float = NDArray[np.float32]


@dataclass(frozen=True)
class OutputGrid:
    """Grid that forecasts are written on, and the interpolation from the model's grid.

    Attributes:
        axes: names of the axes of rows and columns.
        along_rows: coordinates of the rows, in the data type of the training data.
        along_columns: coordinates of the columns, likewise.
        rows: interpolation weights of the model's rows, shape (new, old); None keeps the rows.
        columns: interpolation weights of the model's columns, likewise.
        note: description of the interpolation for the attributes of the forecast; empty without one.
    """

    axes: tuple[str, ...]
    along_rows: NDArray[np.floating]
    along_columns: NDArray[np.floating]
    rows: Float | None = None
    columns: Float | None = None
    note: str = ""

    def apply(self, fields: Float) -> Float:
        """Return fields of shape (..., y, x) on this grid.

        A point is missing if any of the points that it is interpolated from is missing.
        """
        if self.rows is None or self.columns is None:
            return fields
        missing = np.isnan(fields)
        filled = np.where(missing, 0, fields) if missing.any() else fields
        result = np.asarray(self.rows @ filled @ self.columns.T, dtype=np.float32)
        if missing.any():
            rows, columns = ((weights != 0).astype(np.float32) for weights in (self.rows, self.columns))
            result[rows @ missing.astype(np.float32) @ columns.T > 0] = np.nan
        return result


def output_grid(
    grid: Grid, dtypes: tuple[str, str], spacing: float | str | None = None, *, area: str | None = None
) -> OutputGrid:
    """Return the grid to write on.

    Args:
        grid: the model's grid.
        dtypes: data types of its rows and columns in the training data.
        spacing: degrees between points, on a grid of the model's kind (see ``LatLon.with_spacing``), or
            numbers of points such as ``"32x64"`` (see ``LatLon.resampled``), over the model's whole domain.
            The forecast is interpolated linearly along both axes, which adds points but no detail. None keeps
            the model's points.
        area: ``NORTH/WEST/SOUTH/EAST`` in degrees, in whose convention longitudes are written; None keeps the
            whole domain.

    Raises:
        ValueError: spacing or area are malformed, or fewer than two points along an axis remain.
    """
    if not isinstance(grid, LatLon):
        if spacing is not None or area is not None:
            raise ValueError(
                "only forecasts on latitudes and longitudes can be written on another grid or area; leave "
                "both out"
            )
        y, x = grid.coordinates.values()
        return OutputGrid(grid.axes, y.astype(dtypes[0]), x.astype(dtypes[1]))
    new = grid if spacing is None else _resampled(grid, spacing)
    latitude = new.latitude.astype(dtypes[0])
    longitude = new.longitude.astype(dtypes[1])
    if new is grid and area is None:
        return OutputGrid(grid.axes, latitude, longitude)
    along_rows = new.latitude
    along_columns = new.longitude
    if area is not None:
        keep_rows, keep_columns = area_positions(latitude, longitude, area)
        if len(keep_rows) < 2 or len(keep_columns) < 2:
            raise ValueError(
                f"area {area} contains fewer than two points along an axis of the grid {_corners(grid)}; "
                "write NORTH/WEST/SOUTH/EAST"
            )
        latitude = latitude[keep_rows]
        along_rows = along_rows[keep_rows]
        west = parse_area(area)[1] - 1e-3 * new.spacing[1]
        longitude = _eastward(longitude[keep_columns], west)
        along_columns = along_columns[keep_columns]
    note = ""
    if new is not grid:
        note = (
            f"interpolated linearly to {new.spacing[0]:g} x {new.spacing[1]:g} degrees from the model's "
            f"{grid.spacing[0]:g} x {grid.spacing[1]:g}; it has no finer detail"
        )
        check_points(f"{spacing}{'' if area is None else f' area {area}'}", len(latitude), len(longitude))
    rows = linear(grid.latitude, along_rows).astype(np.float32)
    columns = linear(grid.longitude, along_columns, grid.full_circle).astype(np.float32)
    return OutputGrid(grid.axes, latitude, longitude, rows, columns, note)


def _resampled(grid: LatLon, spacing: float | str) -> LatLon:
    """Return a grid of the same domain with a spacing in degrees, or with HxW points."""
    if points := re.fullmatch(r"\s*(\d+)\s*x\s*(\d+)\s*", str(spacing), re.IGNORECASE):
        counts = (float(points[1]), float(points[2]))
        check_along(str(spacing), max(counts))
        return grid.resampled((int(counts[0]), int(counts[1])))
    try:
        degrees = float(spacing)
    except ValueError:
        raise DataError(
            f"grid {spacing} is not understood; write the degrees between points, e.g. 1.25, or points, e.g. "
            "181x360",
            option="grid",
            example="1.25",
        ) from None
    return grid_with_spacing(grid, degrees, str(spacing))


def _eastward(longitude: NDArray[np.floating], west: float) -> NDArray[np.floating]:
    """Return longitudes shifted by whole turns to lie east of ``west``, bit for bit where they already do."""
    turns = np.ceil((west - longitude.astype(np.float64)) / 360)
    return np.asarray(longitude + 360 * turns, dtype=longitude.dtype)


def _corners(grid: LatLon) -> str:
    return f"{grid.latitude.max():g}/{grid.longitude[0]:g}/{grid.latitude.min():g}/{grid.longitude[-1]:g}"
