"""Recognition of sources on a map projection or another curvilinear grid.

Such sources have latitudes and longitudes along two axes, or a ``grid_mapping`` to compute them from.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from .. import units as cf_units
from ..errors import DataError
from ..ingest.curvilinear import CurvilinearGrid
from ..memory import check_bytes
from .vocabulary import DEGREES

_NAMES = {
    "latitude": ("lat", "latitude", "nav_lat", "xlat", "gridlat_0", "tlat", "lat_rho"),
    "longitude": ("lon", "longitude", "nav_lon", "xlong", "gridlon_0", "tlong", "lon_rho"),
}
_PROJECTION_NAMES = {
    "y": ("projection_y_coordinate", "grid_latitude"),
    "x": ("projection_x_coordinate", "grid_longitude"),
}
_AXIS_NAMES = {"y": ("y", "rlat"), "x": ("x", "rlon")}


@dataclass(frozen=True, eq=False)
class CurvilinearSource:
    """Grid of a curvilinear source.

    Attributes:
        dims: dimensions of rows and columns.
        grid: latitudes and longitudes of the points.
        description: name of the projection in parentheses, for error messages; empty if unknown.
        flipped: whether the coordinate along columns decreases.
    """

    dims: tuple[str, str]
    grid: CurvilinearGrid
    description: str
    flipped: bool

    def regridding_error(self, source: str) -> DataError:
        """Return the error for a source that needs a target grid."""
        digits = -int(np.floor(np.log10(self.grid.spacing)))
        degrees = f"{round(self.grid.spacing, digits):g}"
        return DataError(
            f"{source} gives its latitudes along ({', '.join(self.dims)}), which are not the rows and "
            f"columns of a latitude-longitude grid{self.description}; regrid it, e.g. with grid={degrees!r}",
            option="grid",
            example=degrees,
        )


def find_curvilinear_grid(dataset: xr.Dataset, source: str) -> CurvilinearSource | None:
    """Return the curvilinear grid of a data set, or None on a latitude-longitude grid or a Cartesian box.

    Args:
        dataset: data set.
        source: path, for error messages.

    Raises:
        ValueError: latitudes and longitudes cannot be computed from the axes of a map projection.
    """
    field_dims = {str(d) for v in dataset.data_vars.values() for d in v.dims if v.ndim > 1}
    if all(
        any(
            v.dims == (n,) and n in field_dims and is_coordinate(v, str(n), axis)
            for n, v in dataset.variables.items()
        )
        for axis in DEGREES
    ):
        return None
    mapping = _grid_mapping(dataset)
    description = f" ({mapping.attrs['grid_mapping_name']})" if mapping is not None else ""
    for latitude, longitude in _coordinate_pairs(dataset):
        rows, columns = (str(d) for d in latitude.dims)
        flipped = (
            columns in dataset.coords
            and dataset[columns].dtype.kind in "fiu"
            and bool(np.diff(dataset[columns].values[:2]) < 0)
        )
        points = CurvilinearGrid(latitude.values.astype(np.float64), longitude.values.astype(np.float64))
        return CurvilinearSource((rows, columns), points, description, flipped)
    return _from_projection_axes(dataset, mapping, description=description, source=source)


def is_coordinate(variable: xr.Variable, name: str, *axes: str) -> bool:
    """Return whether a variable is a geographical latitude or longitude, and not one of a rotated grid.

    Args:
        variable: variable.
        name: its name.
        *axes: ``latitude``, ``longitude`` or both.
    """
    standard = variable.attrs.get("standard_name")
    if standard in (*_PROJECTION_NAMES["y"], *_PROJECTION_NAMES["x"]):
        return False
    units = variable.attrs.get("units")
    return any(
        standard == axis or units in DEGREES[axis] or (standard is None and name.lower() in _NAMES[axis])
        for axis in axes
    )


def _from_projection_axes(
    dataset: xr.Dataset, mapping: xr.DataArray | None, *, description: str, source: str
) -> CurvilinearSource | None:
    """Return the grid that follows from the axes of a map projection, or None without such axes."""
    named_axes = {
        name: [str(n) for n in dataset.indexes if dataset[n].attrs.get("standard_name") in standard_names]
        for name, standard_names in _PROJECTION_NAMES.items()
    }
    if mapping is None:
        if axes := [*named_axes["y"], *named_axes["x"]]:
            standard = dataset[axes[0]].attrs["standard_name"]
            raise ValueError(
                f"{source} has coordinates of a map projection ({standard}), and neither latitudes and "
                "longitudes of its points nor a grid_mapping to compute them from; "
                "add one of these, or drop the standard names if it is a Cartesian box"
            )
        return None
    axes = [
        next(iter(named_axes[name]), next((n for n in _AXIS_NAMES[name] if n in dataset.dims), ""))
        for name in "yx"
    ]
    if not all(axis in dataset.coords for axis in axes):
        raise ValueError(
            f"{source} has a grid_mapping{description} without coordinates along its axes; "
            "add latitudes and longitudes of its points"
        )
    latitude, longitude = _project(dataset[axes[0]], dataset[axes[1]], mapping, source=source)
    flipped = bool(np.diff(dataset[axes[1]].values[:2]) < 0)
    return CurvilinearSource((axes[0], axes[1]), CurvilinearGrid(latitude, longitude), description, flipped)


def _coordinate_pairs(dataset: xr.Dataset) -> list[tuple[xr.DataArray, xr.DataArray]]:
    """Return pairs of latitudes and longitudes along the same two axes, those of most variables first."""
    candidates: dict[str, list[xr.DataArray]] = {"latitude": [], "longitude": []}
    for name, variable in dataset.variables.items():
        for axis, fields in candidates.items():
            if is_coordinate(variable, str(name), axis) and variable.ndim in (2, 3):
                field = dataset[name]
                if field.ndim == 3 and str(field.dims[0]).lower().startswith("time"):
                    field = field.isel({field.dims[0]: 0})
                if field.ndim == 2:
                    shape = " x ".join(map(str, field.shape))
                    check_bytes(f"the {axis} {str(name)!r} of {shape} points", 8 * field.nbytes)
                    fields.append(field)
    pairs = [(a, b) for a in candidates["latitude"] for b in candidates["longitude"] if a.dims == b.dims]
    return sorted(
        pairs, key=lambda pair: -sum(set(pair[0].dims) < set(v.dims) for v in dataset.data_vars.values())
    )


def _grid_mapping(dataset: xr.Dataset) -> xr.DataArray | None:
    """Return the grid mapping variable of a map projection, or None if there is none."""
    for variable in dataset.data_vars.values():
        reference = str(variable.attrs.get("grid_mapping") or variable.encoding.get("grid_mapping") or "")
        name = reference.partition(":")[0].strip()
        if (
            name in dataset.variables
            and dataset[name].attrs.get("grid_mapping_name", "latitude_longitude") != "latitude_longitude"
        ):
            return dataset[name]
    return None


def _project(
    y: xr.DataArray, x: xr.DataArray, mapping: xr.DataArray, *, source: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return latitudes and longitudes [degrees], shape (y, x), of points on a map projection."""
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
        transformer = pyproj.Transformer.from_crs(crs, crs.source_crs or 4326, always_xy=True)
        longitude, latitude = transformer.transform(xx, yy)
    except Exception as error:  # pyproj raises many types
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"{source}: its grid_mapping is not valid ({reason}); add latitudes and longitudes of its points"
        ) from error
    latitude = np.where(np.isfinite(latitude), latitude, np.nan)
    longitude = np.where(np.isfinite(longitude), longitude, np.nan)
    return latitude, longitude
