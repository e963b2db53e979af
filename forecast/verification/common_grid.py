"""Forecast and truth on common points: cut where one has the points of the other, or regridded.

Scores weight each point by the area of its cell in the grid of the common points (``LatLon.area_weights``),
so an area of a global truth scores like the same area in a store of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...datasets.errors import DataError
from ...datasets.ingest.regrid import Regridder
from ...datasets.ingest.select import area_positions, eastward
from ...datasets.schema import axes_of, describe_axes, grid_of
from ...fno.grids import LatLon, nearest_points

Transform = Callable[[xr.Dataset], xr.Dataset]
Positions = NDArray[np.int64]

_TOLERANCE = 1e-3  # relative, of cell sizes and of cell bounds in grid spacings


@dataclass(frozen=True)
class CommonGrid:
    """Transforms of forecast and truth to common points.

    Attributes:
        forecast: transform of data sets on the forecast's grid.
        truth: transform of data sets on the truth's grid, including the climatology.
        notes: description of what they do, by attribute name; empty where the grids are equal.
    """

    forecast: Transform
    truth: Transform
    notes: dict[str, str]


def common_grid(
    forecast: xr.Dataset,
    truth: xr.Dataset,
    names: tuple[str, str],
    *,
    area: str | None = None,
    regrid: bool = False,
) -> CommonGrid:
    """Return the transforms of forecast and truth to common points.

    Args:
        forecast: canonical forecast.
        truth: canonical data set.
        names: names of both in errors.
        area: area to keep of both, ``NORTH/WEST/SOUTH/EAST`` [degrees].
        regrid: regrid the finer of both conservatively to the points of the coarser whose cells it covers.

    Raises:
        ValueError: the axes differ in kind; without ``regrid``, one has points within the area of the other
            that the other lacks; or fewer than two points along an axis are common.
    """
    axes = axes_of(forecast)
    if axes != axes_of(truth):
        forecast_axes = " and ".join(axes)
        truth_axes = " and ".join(axes_of(truth))
        raise ValueError(f"{names[0]} is on {forecast_axes}, but the truth {names[1]} on {truth_axes}")
    if (area is not None or regrid) and axes[0] != "latitude":
        raise ValueError(f"area and regridding need latitudes and longitudes; {names[0]} is on {axes[0]}")
    if regrid:
        return _regridded(forecast, truth, names, area=area)
    cut_forecast = _cut_area(forecast, area, names[0])
    cut_truth = _cut_area(truth, area, names[1])
    points = cut_forecast(_coordinates(forecast))
    truth_points = cut_truth(_coordinates(truth))
    positions = {}
    truth_positions = {}
    for axis in axes:
        ours, theirs = _common(points[axis].values, truth_points[axis].values, axis)
        sizes = (points.sizes[axis], truth_points.sizes[axis])
        if len(ours) not in sizes or len(theirs) not in sizes or len(ours) < 2:
            raise DataError(
                f"{names[0]} and the truth {names[1]} are on different points: {describe_axes(points)} and "
                f"{describe_axes(truth_points)}, {len(ours)} common along {axis}; choose an area of common "
                "points, or regrid to the coarser grid of both",
                option="regrid",
            )
        positions[axis] = ours
        truth_positions[axis] = theirs
    common = points.isel(positions)
    coordinates = {axis: (axis, common[axis].values, common[axis].attrs) for axis in axes}
    notes = {} if area is None else {"area": area}
    if any(common.sizes[axis] < max(forecast.sizes[axis], truth.sizes[axis]) for axis in axes):
        notes["points"] = (
            f"{describe_axes(common)}, common to the {_size(forecast)} of the forecast and the "
            f"{_size(truth)} of the truth"
        )
    return CommonGrid(
        lambda d: _take(cut_forecast(d), positions).assign_coords(coordinates),
        lambda d: _take(cut_truth(d), truth_positions).assign_coords(coordinates),
        notes,
    )


def _coordinates(dataset: xr.Dataset) -> xr.Dataset:
    return xr.Dataset(coords={axis: dataset[axis] for axis in axes_of(dataset)})


def _size(dataset: xr.Dataset) -> str:
    return " x ".join(str(dataset.sizes[axis]) for axis in axes_of(dataset))


def _common(
    first: NDArray[np.floating], second: NDArray[np.floating], axis: str
) -> tuple[Positions, Positions]:
    """Return the positions of the common points of two axes in each of them, in the order of the first."""
    positions, _, same = nearest_points(first, second, circular=axis == "longitude")
    return np.flatnonzero(same), positions[same]


def _take(dataset: xr.Dataset, positions: dict[str, Positions]) -> xr.Dataset:
    """Return points of a data set; consecutive ones are taken as slices, which reads less."""
    indexers = {
        axis: slice(int(p[0]), int(p[-1]) + 1) if (np.diff(p) == 1).all() else p
        for axis, p in positions.items()
    }
    return dataset.isel(indexers)


def _cut_area(dataset: xr.Dataset, area: str | None, name: str) -> Transform:
    """Return the transform that cuts an area from data sets on the grid of ``dataset``."""
    if area is None:
        return lambda d: d
    rows, columns = area_positions(dataset["latitude"].values, dataset["longitude"].values, area)
    if min(len(rows), len(columns)) < 2:
        raise ValueError(
            f"{name} has fewer than two points along an axis of the area {area}; write NORTH/WEST/SOUTH/EAST"
        )
    longitude = eastward(dataset["longitude"].values[columns])

    def cut(d: xr.Dataset) -> xr.Dataset:
        part = _take(d, {"latitude": rows, "longitude": columns})
        return part.assign_coords(longitude=("longitude", longitude, d["longitude"].attrs))

    return cut


def _regridded(
    forecast: xr.Dataset, truth: xr.Dataset, names: tuple[str, str], *, area: str | None
) -> CommonGrid:
    """Return the transforms of ``common_grid`` with regridding."""
    grids = (_coordinates(forecast), _coordinates(truth))
    cell_sizes = [np.prod(grid_of(grid).spacing) for grid in grids]
    coarse = 0 if cell_sizes[0] > cell_sizes[1] * (1 + _TOLERANCE) else 1
    fine = 1 - coarse
    cut = _cut_area(grids[coarse], area, names[coarse])
    points = cut(grids[coarse])
    positions = _covered(_latlon(points), _latlon(grids[fine]))
    if min(map(len, positions.values())) < 2:
        raise ValueError(
            f"{names[0]} and the truth {names[1]} have fewer than two grid points in common along an axis: "
            f"{describe_axes(forecast)} and {describe_axes(truth)}"
        )
    target = points.isel(positions)
    regridder = Regridder.between(grids[fine], _latlon(target))
    coordinates = {axis: (axis, target[axis].values, target[axis].attrs) for axis in positions}
    transforms: dict[int, Transform] = {
        coarse: lambda d: _take(cut(d), positions),
        fine: lambda d: regridder.apply(d).assign_coords(coordinates),
    }
    labels = ("forecast", "truth")
    notes = {} if area is None else {"area": area}
    notes["regridding"] = (
        f"the {labels[fine]}, {_size(grids[fine])} points, regridded conservatively to "
        f"{describe_axes(target)} of the {labels[coarse]}'s grid"
    )
    return CommonGrid(transforms[0], transforms[1], notes)


def _latlon(dataset: xr.Dataset) -> LatLon:
    return LatLon(dataset["latitude"].values, dataset["longitude"].values)


def _covered(coarse: LatLon, fine: LatLon) -> dict[str, Positions]:
    """Return the rows and columns of a coarse grid whose cells lie within the area of a fine one."""
    slack = _TOLERANCE * min(fine.spacing)
    low, high = coarse.latitude_bounds.T
    south = fine.latitude_bounds.min()
    north = fine.latitude_bounds.max()
    rows = np.flatnonzero((low >= south - slack) & (high <= north + slack))
    columns = np.arange(len(coarse.longitude))
    if not fine.full_circle:
        west = fine.longitude_bounds.min()
        east = fine.longitude_bounds.max()
        from_west = (coarse.longitude_bounds[:, 0] - west + slack) % 360
        width = np.diff(coarse.longitude_bounds, axis=1)[:, 0]
        columns = np.flatnonzero(from_west + width <= east - west + 2 * slack)
        columns = columns[np.argsort(from_west[columns], kind="stable")]
    return {"latitude": rows, "longitude": columns}
