"""Regridding of curvilinear sources to rows and columns of latitude and longitude."""

import logging
import os
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import xarray as xr

from ...fno.grids import COORDINATE_TOLERANCE, LatLon
from ..errors import DataError
from ..ingest.curvilinear import CurvilinearGrid, CurvilinearRegridder, largest_rectangle
from ..ingest.select import area_positions, eastward
from ..ingest.target_grid import parse_target, stored_grid
from ..memory import check_along, check_points
from .curvilinear import CurvilinearSource, is_coordinate
from .winds import rotate_winds

log = logging.getLogger(__name__)

_BLOCK = 2**25  # bytes of a field that are regridded together


def onto_latlon(
    dataset: xr.Dataset,
    old: CurvilinearSource,
    source: str,
    *,
    grid: str,
    method: str,
    area: str | None,
    names: Sequence[str] | None = None,
) -> xr.Dataset:
    """Regrid the fields of a curvilinear source lazily to latitudes and longitudes.

    Args:
        dataset: data set.
        old: grid of the data set.
        source: path, for error messages.
        grid: spacing in degrees, ``LATxLON`` points of a global grid, or path of a store. Points outside of
            the source are dropped, except for those of a store.
        method: ``conservative`` or ``bilinear``.
        area: ``NORTH/WEST/SOUTH/EAST`` to keep; by default the largest rectangle within the source.
        names: variables that are used; all by default.

    Raises:
        ValueError: grid or area extend beyond the source, or the other component of a wind is missing.
    """
    regridder = _covered_regridder(old, source, grid=grid, method=method, area=area)
    on_grid = [
        str(n) for n, v in dataset.data_vars.items() if set(old.dims) <= set(v.dims) and v.dtype.kind in "fiu"
    ]
    used = [name for name in on_grid if names is None or name in names]
    lazy = {name: _chunk(dataset[name], old.dims) for name in on_grid}
    lazy |= rotate_winds(lazy, used, old, source=source)
    fields = {name: _regrid(lazy[name], regridder, old.dims) for name in used}
    others = dataset.drop_dims([d for d in old.dims if d in dataset.dims])
    shape = " x ".join(map(str, old.grid.latitude.shape))
    note = f"regridded ({method}) from {shape} points{old.description}"
    result = others.assign(fields).assign_attrs(regridding=note)
    result = result.drop_vars(
        [
            n
            for n in result.variables
            if n not in fields and is_coordinate(result[n].variable, str(n), "latitude", "longitude")
        ]
    )
    latitude = regridder.grid.latitude
    longitude = regridder.grid.longitude
    return result.assign_coords(
        latitude=("latitude", latitude, {"units": "degrees_north", "standard_name": "latitude"}),
        longitude=("longitude", longitude, {"units": "degrees_east", "standard_name": "longitude"}),
    )


def _covered_regridder(
    old: CurvilinearSource, source: str, *, grid: str, method: str, area: str | None
) -> CurvilinearRegridder:
    """Return the regridder to the part of a grid within the source, or to an area of it."""
    latitude, longitude = _target_axes(old.grid, grid)
    is_store = os.path.isdir(grid)
    if area is not None:
        rows, columns = area_positions(latitude, longitude, area)
        latitude = latitude[rows]
        longitude = eastward(longitude[columns])
    elif not is_store:
        south = np.nanmin(old.grid.latitude)
        north = np.nanmax(old.grid.latitude)
        latitude = latitude[(latitude >= south) & (latitude <= north)]
        own = (np.asarray(old.grid.longitude) - old.grid.centre + 180) % 360 + old.grid.centre - 180
        longitude = longitude[(longitude >= np.nanmin(own)) & (longitude <= np.nanmax(own))]
    if min(len(latitude), len(longitude)) < 2:
        raise DataError(
            f"{source} spans fewer than two rows or columns of the grid {grid!r}; choose a finer one",
            option="grid",
        )
    check_points(grid, len(latitude), len(longitude))
    regridder = _regridder(old.grid, latitude.tobytes(), longitude.tobytes(), method=method)
    rows_within, columns_within = largest_rectangle(regridder.covered)
    within = regridder.covered[rows_within, columns_within]
    if within.size < 4 or min(within.shape) < 2:
        raise DataError(
            f"{source} contains fewer than two rows and columns of the grid {grid!r}; choose a finer one",
            option="grid",
        )
    covered = regridder.part(rows_within, columns_within)
    latitude = covered.grid.latitude
    longitude = covered.grid.longitude
    seam = longitude[0] + 360 - longitude[-1]
    step = covered.grid.spacing[1]
    if covered.grid.full_circle and abs(seam - step) > COORDINATE_TOLERANCE * step and not is_store:
        raise DataError(
            f"the spacing of the grid {grid!r} does not divide the 360 degrees of longitude that {source} "
            "spans; choose one that does",
            option="grid",
        )
    edges = (latitude.max(), longitude[0], latitude.min(), longitude[-1])
    covered_area = "/".join(f"{edge:g}" for edge in edges)
    if (area is not None or is_store) and not regridder.covered.all():
        raise ValueError(
            f"{source} does not cover {area or grid}; "
            f"the largest area of that grid within it is {covered_area} (NORTH/WEST/SOUTH/EAST)"
        )
    log.warning("%s: regridded to the area %s (NORTH/WEST/SOUTH/EAST)", source, covered_area)
    return covered


@lru_cache(maxsize=2)
def _regridder(
    old: CurvilinearGrid, latitude: bytes, longitude: bytes, *, method: str
) -> CurvilinearRegridder:
    """Return the regridder to a grid, cached since the files of a series share it."""
    return CurvilinearRegridder.between(
        old, LatLon(np.frombuffer(latitude), np.frombuffer(longitude)), method
    )


def _target_axes(old: CurvilinearGrid, grid: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the latitudes and longitudes of a grid.

    Latitudes go from north to south, and longitudes are centred on the source, unless the grid is that of a
    store.

    Args:
        old: grid of the source.
        grid: spacing in degrees, ``LATxLON`` points, or path of a store.
    """
    if os.path.isdir(grid):
        stored = stored_grid(grid)
        return stored.latitude, stored.longitude
    try:
        target = parse_target(grid)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(
            f"grid {grid!r} is not valid ({error}); "
            "expected a spacing in degrees, LATxLON points, or the path of a store",
            option="grid",
        ) from error
    west = old.centre - 180
    if isinstance(target, LatLon):
        longitude = np.sort((target.longitude - west) % 360 + west)
    else:
        check_along(grid, 360 / target)
        target = _multiples(west, target).with_spacing(target)
        longitude = target.longitude
    return np.round(target.latitude, 10), np.round(longitude, 10)


def _multiples(west: float, step: float) -> LatLon:
    """Return the outermost rows and columns with multiples of a spacing as latitudes and longitudes.

    Args:
        west: lower limit of the longitudes, which span less than 360 degrees [degrees east].
        step: spacing [degrees].
    """
    north = step * np.floor(90 / step)
    first = step * np.ceil(west / step)
    width = step * (int(360 / step + COORDINATE_TOLERANCE) - 1)
    return LatLon(np.array([north, -north]), np.array([first, first + width]))


def _chunk(field: xr.DataArray, dims: tuple[str, str]) -> xr.DataArray:
    """Return a field as dask arrays whose chunks are whole grids."""
    outer = [d for d in field.dims if d not in dims]
    one = max(1, field.nbytes // max(1, field.sizes[outer[0]])) if outer else 1
    blocks = {d: max(1, _BLOCK // one) if d == outer[0] else -1 for d in outer}
    return field.chunk({**blocks, **dict.fromkeys(dims, -1)})


def _regrid(field: xr.DataArray, regridder: CurvilinearRegridder, dims: tuple[str, str]) -> xr.DataArray:
    bare = field.drop_vars([c for c in field.coords if set(dims) & set(field[c].dims)])
    target_dims = ["latitude", "longitude"]
    result: xr.DataArray = xr.apply_ufunc(
        regridder.fields,
        bare,
        input_core_dims=[list(dims)],
        output_core_dims=[target_dims],
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": dict(zip(target_dims, regridder.grid.shape, strict=True))},
    )
    attrs = {k: v for k, v in field.attrs.items() if k not in ("grid_mapping", "coordinates")}
    return result.assign_attrs(attrs)
