"""Forecast and truth on common points: cut where the points of one are among those of the other, or
regridded.

Scores weight each point by the area of its cell in the grid of the common points themselves
(``LatLon.area_weights``), so that an area of a global truth scores as the same area ingested alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...datasets.ingest.regrid import Regridder
from ...datasets.ingest.select import area_positions, eastward
from ...datasets.schema import axes_of, describe_axes, grid_of
from ...fno.grids import LatLon, nearest_points

Change = Callable[[xr.Dataset], xr.Dataset]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class CommonGrid:
    """How forecast and truth come to common points.

    Attributes:
        forecast: change of data sets on the forecast's grid.
        truth: change of data sets on the truth's grid, the climatology among them.
        notes: what was done, by attribute name; empty where the grids are equal.
    """

    forecast: Change
    truth: Change
    notes: dict[str, str]


def common_grid(
    forecast: xr.Dataset,
    truth: xr.Dataset,
    names: tuple[str, str],
    *,
    area: str | None = None,
    regrid: bool = False,
) -> CommonGrid:
    """Return how forecast and truth come to common points.

    Args:
        forecast: canonical forecast.
        truth: canonical data set.
        names: what errors call them.
        area: ``NORTH/WEST/SOUTH/EAST`` in degrees that is kept of both.
        regrid: regrid the finer of both, by shares of area, to those points of the coarser whose cells it
            covers.

    Raises:
        ValueError: the axes differ in kind; neither's points are all among the other's, and ``regrid`` is
            false; fewer than two points along an axis are common.
    """
    if axes_of(forecast) != axes_of(truth):
        on = [" and ".join(axes_of(d)) for d in (forecast, truth)]
        raise ValueError(f"{names[0]} is on {on[0]}, but the truth {names[1]} on {on[1]}")
    if (area is not None or regrid) and axes_of(forecast)[0] != "latitude":
        raise ValueError("areas and regridding need latitudes and longitudes; leave out --area and --regrid")
    if regrid:
        return _regridded(forecast, truth, names, area)
    cuts = [_cut_area(d, area, name) for d, name in zip((forecast, truth), names, strict=True)]
    parts = cuts[0](_coordinates(forecast)), cuts[1](_coordinates(truth))
    places = {axis: _common(parts[0][axis].values, parts[1][axis].values, axis) for axis in axes_of(forecast)}
    for axis, (here, there) in places.items():
        sizes = parts[0].sizes[axis], parts[1].sizes[axis]
        if len(here) not in sizes or len(there) not in sizes or len(here) < 2:
            raise ValueError(
                f"{names[0]} and the truth {names[1]} are on different points: {describe_axes(parts[0])} and "
                f"{describe_axes(parts[1])}, {len(here)} common along {axis}; verify an area of common points with "
                "--area NORTH/WEST/SOUTH/EAST, or on the coarser grid of both with --regrid"
            )
    ours = {axis: here for axis, (here, _) in places.items()}
    theirs = {axis: there for axis, (_, there) in places.items()}
    coordinates = parts[0].isel(ours).coords
    kept = {axis: (axis, coordinates[axis].values, coordinates[axis].attrs) for axis in places}
    notes = {} if area is None else {"area": area}
    if any(len(here) < max(forecast.sizes[a], truth.sizes[a]) for a, (here, _) in places.items()):
        common = describe_axes(parts[0].isel(ours))
        notes["points"] = (
            f"{common}, common to the {_size(forecast)} of the forecast and the {_size(truth)} of the truth"
        )
    return CommonGrid(
        lambda d: _take(cuts[0](d), ours).assign_coords(kept),
        lambda d: _take(cuts[1](d), theirs).assign_coords(kept),
        notes,
    )


def _coordinates(dataset: xr.Dataset) -> xr.Dataset:
    return xr.Dataset(coords={axis: dataset[axis] for axis in axes_of(dataset)})


def _size(dataset: xr.Dataset) -> str:
    return " x ".join(str(dataset.sizes[axis]) for axis in axes_of(dataset))


def _common(
    ours: NDArray[np.floating], theirs: NDArray[np.floating], axis: str
) -> tuple[Positions, Positions]:
    """Return the positions of the common points of two axes in each of them, in the order of the first."""
    positions, _, same = nearest_points(ours, theirs, circular=axis == "longitude")
    return np.flatnonzero(same), positions[same]


def _take(dataset: xr.Dataset, places: dict[str, Positions]) -> xr.Dataset:
    """Return points of a data set, as slices where they follow one another, which reads less."""
    slices = {
        a: slice(int(p[0]), int(p[-1]) + 1) if (np.diff(p) == 1).all() else p for a, p in places.items()
    }
    return dataset.isel(slices)


def _cut_area(dataset: xr.Dataset, area: str | None, name: str) -> Change:
    if area is None:
        return lambda d: d
    rows, columns = area_positions(dataset["latitude"].values, dataset["longitude"].values, area)[:2]
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
    forecast: xr.Dataset, truth: xr.Dataset, names: tuple[str, str], area: str | None
) -> CommonGrid:
    both = _coordinates(forecast), _coordinates(truth)
    cells = [np.prod(grid_of(d).spacing) for d in both]
    coarse = 0 if cells[0] > cells[1] * (1 + 1e-3) else 1
    fine = 1 - coarse
    cut = _cut_area(both[coarse], area, names[coarse])
    part = cut(both[coarse])
    places = _covered(_earth(part), _earth(both[fine]))
    if min(map(len, places.values())) < 2:
        raise ValueError(
            f"{names[0]} and the truth {names[1]} have fewer than two grid points in common along an axis: "
            f"{describe_axes(forecast)} and {describe_axes(truth)}"
        )
    target = part.isel(places)
    way = Regridder.between(both[fine], _earth(target))
    kept = {axis: (axis, target[axis].values, target[axis].attrs) for axis in places}
    changes: dict[int, Change] = {
        coarse: lambda d: _take(cut(d), places),
        fine: lambda d: way.apply(d).assign_coords(kept),
    }
    which = ("forecast", "truth")
    notes = {} if area is None else {"area": area}
    notes["regridding"] = (
        f"the {which[fine]}, {_size(both[fine])} points, regridded conservatively to {describe_axes(target)} of the {which[coarse]}'s grid"
    )
    return CommonGrid(changes[0], changes[1], notes)


def _earth(dataset: xr.Dataset) -> LatLon:
    return LatLon(dataset["latitude"].values, dataset["longitude"].values)


def _covered(coarse: LatLon, fine: LatLon) -> dict[str, Positions]:
    """Return the rows and columns of a coarse grid whose cells lie within the area of a fine one."""
    slack = 1e-3 * min(fine.spacing)
    low, high = coarse.latitude_bounds.T
    rows = np.flatnonzero(
        (low >= fine.latitude_bounds.min() - slack) & (high <= fine.latitude_bounds.max() + slack)
    )
    columns = np.arange(len(coarse.longitude))
    if not fine.full_circle:
        west, east = fine.longitude_bounds.min(), fine.longitude_bounds.max()
        from_west = (coarse.longitude_bounds[:, 0] - west + slack) % 360
        columns = np.flatnonzero(
            from_west + np.diff(coarse.longitude_bounds, axis=1)[:, 0] <= east - west + 2 * slack
        )
        columns = columns[np.argsort(from_west[columns], kind="stable")]
    return {"latitude": rows, "longitude": columns}
