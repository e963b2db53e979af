"""Sources on a map projection or another curvilinear grid: recognised, and brought to rows and columns of
latitude and longitude.

They have latitudes and longitudes along two axes, or a ``grid_mapping`` that they follow from. Winds along
the axes of such a grid are turned to east and north; one component without the other is refused.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xarray as xr

from ...fno.grids import LatLon, colatitudes
from .. import units as cf_units
from ..errors import DataError, InvalidDataError
from ..ingest.curvilinear import CurvilinearGrid, CurvilinearRegridder, largest_rectangle
from ..ingest.select import area_positions, eastward
from ..memory import check_along, check_bytes, check_points
from ..schema import grid_of
from .vocabulary import DEGREES

log = logging.getLogger(__name__)

_NAMES = {
    "latitude": ("lat", "latitude", "nav_lat", "xlat", "gridlat_0", "tlat", "lat_rho"),
    "longitude": ("lon", "longitude", "nav_lon", "xlong", "gridlon_0", "tlong", "lon_rho"),
}
_STANDARD = {
    "y": ("projection_y_coordinate", "grid_latitude"),
    "x": ("projection_x_coordinate", "grid_longitude"),
}
_AXIS_NAMES = {"y": ("y", "rlat"), "x": ("x", "rlon")}
_WINDS = {"x_wind": "y_wind", "grid_eastward_wind": "grid_northward_wind"}
_BLOCK = 2**25  # bytes of a field that are regridded at once


@dataclass(frozen=True, eq=False)
class Projected:
    """A curvilinear source.

    Attributes:
        dims: its axes, rows first.
        grid: its points.
        described: what it is on, for errors.
        flipped: whether coordinates decrease along rows.
    """

    dims: tuple[str, str]
    grid: CurvilinearGrid
    described: str
    flipped: bool

    def refusal(self, source: str) -> DataError:
        """Return the error of a source on this grid that is not to be regridded."""
        digits = -int(np.floor(np.log10(self.grid.spacing)))
        degrees = f"{round(self.grid.spacing, digits):g}"
        return DataError(
            f"{source} gives its latitudes along ({', '.join(self.dims)}), which are not the rows and columns "
            f"of a latitude-longitude grid{self.described}; regrid it, e.g. with grid={degrees!r}",
            option="grid",
            example=degrees,
        )


def projected(dataset: xr.Dataset, source: str) -> Projected | None:
    """Return the curvilinear grid of a data set; None where it is on latitudes and longitudes, or a flow in a
    box.

    Raises:
        ValueError: axes of a map projection that latitudes and longitudes do not follow from.
    """
    of_fields = {str(d) for v in dataset.data_vars.values() for d in v.dims if v.ndim > 1}
    if all(
        any(v.dims == (n,) and n in of_fields and _is(v, str(n), axis) for n, v in dataset.variables.items())
        for axis in DEGREES
    ):
        return None
    mapping = _mapping(dataset)
    described = f" ({mapping.attrs['grid_mapping_name']})" if mapping is not None else ""
    for latitude, longitude in _pairs(dataset):
        rows, columns = (str(d) for d in latitude.dims)
        flipped = (
            columns in dataset.coords
            and dataset[columns].dtype.kind in "fiu"
            and bool(np.diff(dataset[columns].values[:2]) < 0)
        )
        points = CurvilinearGrid(latitude.values.astype(np.float64), longitude.values.astype(np.float64))
        return Projected((rows, columns), points, described, flipped)
    standards = {
        name: [str(n) for n in dataset.indexes if dataset[n].attrs.get("standard_name") in _STANDARD[name]]
        for name in "yx"
    }
    if mapping is None:
        if axes := [*standards["y"], *standards["x"]]:
            named = dataset[axes[0]].attrs["standard_name"]
            raise ValueError(
                f"{source} has coordinates of a map projection ({named}), and neither latitudes and longitudes of its points nor a "
                "grid_mapping that they follow from; add one of these, or drop the standard names if it is a flow in a box"
            )
        return None
    axes = [
        next(iter(standards[name]), next((n for n in _AXIS_NAMES[name] if n in dataset.dims), ""))
        for name in "yx"
    ]
    if not all(axis in dataset.coords for axis in axes):
        raise ValueError(
            f"{source} has a grid_mapping{described} without coordinates along its axes; add latitudes and longitudes of its points"
        )
    latitude_values, longitude_values = _from_mapping(dataset[axes[0]], dataset[axes[1]], mapping, source)
    flipped = bool(np.diff(dataset[axes[1]].values[:2]) < 0)
    return Projected(
        (axes[0], axes[1]), CurvilinearGrid(latitude_values, longitude_values), described, flipped
    )


def onto_latlon(
    dataset: xr.Dataset,
    old: Projected,
    source: str,
    *,
    grid: str,
    method: str,
    area: str | None,
    names: Sequence[str] | None = None,
) -> xr.Dataset:
    """Return the fields of a curvilinear source on latitudes and longitudes; lazy.

    Args:
        dataset: data set.
        old: its grid.
        source: named in errors.
        grid: degrees between points, ``LATxLON`` points round the globe, of which those within the source are
            kept, or a store.
        method: ``conservative`` or ``bilinear``.
        area: ``NORTH/WEST/SOUTH/EAST`` to keep; the largest rectangle within the source by default.
        names: variables that are used; all by default.

    Raises:
        ValueError: a grid or area that reaches beyond the source, or one component of a wind without the
            other.
    """
    way = _way(old, source, grid, method, area)
    on_grid = [
        str(n) for n, v in dataset.data_vars.items() if set(old.dims) <= set(v.dims) and v.dtype.kind in "fiu"
    ]
    used = [name for name in on_grid if names is None or name in names]
    lazy = {name: _lazy(dataset[name], old.dims) for name in on_grid}
    lazy |= _turned(lazy, used, old, source)
    fields = {name: _regridded(lazy[name], way, old.dims) for name in used}
    others = dataset.drop_dims([d for d in old.dims if d in dataset.dims])
    note = f"regridded ({method}) from {' x '.join(map(str, old.grid.latitude.shape))} points{old.described}"
    result = others.assign(fields).assign_attrs(regridding=note)
    result = result.drop_vars(
        [
            n
            for n in result.variables
            if n not in fields and _is(result[n].variable, str(n), "latitude", "longitude")
        ]
    )
    axes = {
        "latitude": ("latitude", way.grid.latitude, {"units": "degrees_north", "standard_name": "latitude"}),
        "longitude": (
            "longitude",
            way.grid.longitude,
            {"units": "degrees_east", "standard_name": "longitude"},
        ),
    }
    return result.assign_coords(axes)


def _way(old: Projected, source: str, text: str, method: str, area: str | None) -> CurvilinearRegridder:
    """Return the way to the part of a grid that is within the source, or to an area of it."""
    latitude, longitude = _axes(old.grid, text)
    if area is not None:
        rows, columns = area_positions(latitude, longitude, area)
        latitude = latitude[rows]
        longitude = eastward(longitude[columns])
    elif not os.path.isdir(text):
        latitude = latitude[
            (latitude >= np.nanmin(old.grid.latitude)) & (latitude <= np.nanmax(old.grid.latitude))
        ]
        along = (np.asarray(old.grid.longitude) - old.grid.centre + 180) % 360 + old.grid.centre - 180
        longitude = longitude[(longitude >= np.nanmin(along)) & (longitude <= np.nanmax(along))]
    if min(len(latitude), len(longitude)) < 2:
        raise DataError(
            f"{source} spans fewer than two rows or columns of the grid {text!r}; choose a finer one",
            option="grid",
        )
    check_points(text, len(latitude), len(longitude))
    way = _regridder(old.grid, latitude.tobytes(), longitude.tobytes(), method)
    rows_within, columns_within = largest_rectangle(way.covered)
    if (
        way.covered[rows_within, columns_within].size < 4
        or min(way.covered[rows_within, columns_within].shape) < 2
    ):
        raise DataError(
            f"{source} contains fewer than two rows and columns of the grid {text!r}; choose a finer one",
            option="grid",
        )
    within = way.part(rows_within, columns_within).grid
    kept = "/".join(
        f"{v:g}"
        for v in (within.latitude.max(), within.longitude[0], within.latitude.min(), within.longitude[-1])
    )
    if (area is not None or os.path.isdir(text)) and not way.covered.all():
        raise ValueError(
            f"{source} does not cover {area or text}; the largest area of that grid within it is {kept} (NORTH/WEST/SOUTH/EAST)"
        )
    log.warning("%s: regridded to the area %s (NORTH/WEST/SOUTH/EAST)", source, kept)
    return way.part(rows_within, columns_within)


@lru_cache(maxsize=2)
def _regridder(old: CurvilinearGrid, latitude: bytes, longitude: bytes, method: str) -> CurvilinearRegridder:
    """Return the way to a grid, which the files of a series share."""
    return CurvilinearRegridder.between(
        old, LatLon(np.frombuffer(latitude), np.frombuffer(longitude)), method
    )


def _axes(old: CurvilinearGrid, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the latitudes, north first, and longitudes, around the source's middle, of the grid that a text
    names.
    """
    if os.path.isdir(text):
        from .opening import open_raw

        grid = grid_of(open_raw(text))
        if not isinstance(grid, LatLon):
            raise DataError(
                f"grid {text!r} is a Cartesian box; name a store on latitudes and longitudes", option="grid"
            )
        return grid.latitude, grid.longitude
    try:
        if "x" in text:
            rows, columns = (int(n) for n in text.split("x"))
            check_along(text, max(rows, columns))
            latitude = 90 - np.rad2deg(
                colatitudes(rows, "equiangular" if rows % 2 else "equiangular-no-poles")
            )
            step = 360 / columns
        else:
            step = float(text)
            if not 0 < step <= 45:
                raise ValueError("it must lie between 0 and 45 degrees")
            check_along(text, 360 / step)
            latitude = step * np.arange(np.floor(90 / step), -np.floor(90 / step) - 1, -1)
    except InvalidDataError:
        raise
    except ValueError as error:
        raise DataError(
            f"grid {text!r} is not valid ({error}); "
            "expected a spacing in degrees, LATxLON points, or the path of a store",
            option="grid",
        ) from error
    first = np.ceil((old.centre - 180) / step)
    longitude = step * (first + np.arange(int(360 / step + 1e-9)))
    return np.round(latitude, 10), np.round(longitude, 10)


def _turned(
    fields: dict[str, xr.DataArray], used: Sequence[str], old: Projected, source: str
) -> dict[str, xr.DataArray]:
    """Return winds to the east and north, of those along the axes of the grid."""
    turned: dict[str, xr.DataArray] = {}
    for first, second in _wind_pairs(fields):
        if not {first, second} & set(used):
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
            attrs = {k: a for k, a in fields[name].attrs.items() if k != "long_name"} | {
                "standard_name": standard
            }
            turned[name] = (
                field.transpose(*fields[name].dims)
                .assign_coords(_kept(fields[name], old.dims))
                .assign_attrs(attrs)
            )
        log.info("%s: %s and %s turned from the axes of the grid to east and north", source, first, second)
    return turned


def _wind_pairs(fields: dict[str, xr.DataArray]) -> Iterator[tuple[str, str]]:
    """Yield the names of components along both axes of the grid; one may be empty."""
    kinds: dict[str, list[str]] = {}
    for name, field in fields.items():
        standard = str(field.attrs.get("standard_name"))
        on_axes = (
            standard in {*_WINDS, *_WINDS.values()} or int(field.attrs.get("GRIB_uvRelativeToGrid") or 0) == 1
        )
        if on_axes:
            kinds.setdefault(standard, []).append(name)
    for along, across in {**_WINDS, "eastward_wind": "northward_wind"}.items():
        firsts = kinds.get(along, [])
        seconds = list(kinds.get(across, []))
        for first in firsts:
            alike = [second for second in seconds if fields[second].dims == fields[first].dims]
            second = alike[0] if alike else ""
            if second:
                seconds.remove(second)
            yield first, second
        for second in seconds:
            yield "", second


def _lazy(field: xr.DataArray, dims: tuple[str, str]) -> xr.DataArray:
    """Return a field as dask arrays of whole grids."""
    outer = [d for d in field.dims if d not in dims]
    one = max(1, field.nbytes // max(1, field.sizes[outer[0]])) if outer else 1
    blocks = {d: max(1, _BLOCK // one) if d == outer[0] else -1 for d in outer}
    return field.chunk({**blocks, **dict.fromkeys(dims, -1)})


def _kept(field: xr.DataArray, dims: tuple[str, str]) -> dict[str, xr.DataArray]:
    return {str(n): c for n, c in field.coords.items() if not set(dims) & set(c.dims)}


def _regridded(field: xr.DataArray, way: CurvilinearRegridder, dims: tuple[str, str]) -> xr.DataArray:
    bare = field.drop_vars([c for c in field.coords if set(dims) & set(field[c].dims)])
    new = ["latitude", "longitude"]
    result: xr.DataArray = xr.apply_ufunc(
        way.fields,
        bare,
        input_core_dims=[list(dims)],
        output_core_dims=[new],
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": dict(zip(new, way.grid.shape, strict=True))},
    )
    attrs = {k: v for k, v in field.attrs.items() if k not in ("grid_mapping", "coordinates")}
    return result.assign_attrs(attrs)


def _is(variable: xr.Variable, name: str, *axes: str) -> bool:
    """Return whether a variable is a latitude or longitude, and none of a rotated grid."""
    standard = variable.attrs.get("standard_name")
    if standard in (*_STANDARD["y"], *_STANDARD["x"]):
        return False
    units = variable.attrs.get("units")
    return any(
        standard == axis or units in DEGREES[axis] or (standard is None and name.lower() in _NAMES[axis])
        for axis in axes
    )


def _pairs(dataset: xr.Dataset) -> list[tuple[xr.DataArray, xr.DataArray]]:
    """Return latitudes and longitudes along the same two axes, those of most variables first."""
    scattered: dict[str, list[xr.DataArray]] = {"latitude": [], "longitude": []}
    for name, variable in dataset.variables.items():
        for axis, fields in scattered.items():
            if _is(variable, str(name), axis) and variable.ndim in (2, 3):
                field = dataset[name]
                if field.ndim == 3 and str(field.dims[0]).lower().startswith("time"):
                    field = field.isel({field.dims[0]: 0})
                if field.ndim == 2:
                    check_bytes(
                        f"the {axis} {str(name)!r} of {' x '.join(map(str, field.shape))} points",
                        8 * field.nbytes,
                    )
                    fields.append(field)
    pairs = [(a, b) for a in scattered["latitude"] for b in scattered["longitude"] if a.dims == b.dims]
    return sorted(
        pairs, key=lambda pair: -sum(set(pair[0].dims) < set(v.dims) for v in dataset.data_vars.values())
    )


def _mapping(dataset: xr.Dataset) -> xr.DataArray | None:
    """Return the variable that describes a map projection; None where there is none, or it is latitude and
    longitude.
    """
    for variable in dataset.data_vars.values():
        name = (
            str(variable.attrs.get("grid_mapping") or variable.encoding.get("grid_mapping") or "")
            .partition(":")[0]
            .strip()
        )
        if (
            name in dataset.variables
            and dataset[name].attrs.get("grid_mapping_name", "latitude_longitude") != "latitude_longitude"
        ):
            return dataset[name]
    return None


def _from_mapping(
    y: xr.DataArray, x: xr.DataArray, mapping: xr.DataArray, source: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return latitudes and longitudes, each of shape (y, x), of coordinates on a map projection."""
    import pyproj

    rotated = mapping.attrs["grid_mapping_name"] == "rotated_latitude_longitude"
    try:
        crs = pyproj.CRS.from_cf(
            {k: v.tolist() if isinstance(v, np.ndarray | np.generic) else v for k, v in mapping.attrs.items()}
        )
        scale = [
            1.0 if rotated else cf_units.conversion(str(axis.attrs.get("units", "m")), "m")[0]
            for axis in (y, x)
        ]
        xx, yy = np.meshgrid(x.values * scale[1], y.values * scale[0])
        longitude, latitude = pyproj.Transformer.from_crs(
            crs, crs.source_crs or 4326, always_xy=True
        ).transform(xx, yy)
    except Exception as error:  # pyproj raises many types
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"{source}: its grid_mapping is not understood ({reason}); add latitudes and longitudes of its points"
        ) from error
    return np.where(np.isfinite(latitude), latitude, np.nan), np.where(
        np.isfinite(longitude), longitude, np.nan
    )
