"""Regridding between latitude-longitude grids, separately along each axis.

Conservative weights are fractions of area, in the sine of latitude and in longitude, and preserve the global
mean; a cell that extends beyond the edge of a regional source takes the mean of the part within. Bilinear
weights interpolate between rows and between columns, and extrapolate with a constant beyond the outermost
rows. Spectral regridding transforms to spherical harmonics and back, and is exact for fields up to the
truncation that the source's rows resolve.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...fno.grids import LatLon, same_axis, sphere_nodes
from ...fno.transforms.legendre import legendre
from ..errors import DataError
from ..memory import check_bytes, check_points
from ..schema import grid_of
from .target_grid import grid_with_spacing, parse_target, stored_grid

Array = NDArray[np.float64]
Method = Literal["conservative", "bilinear", "spectral"]
MINIMUM_WEIGHT = 0.5  # fraction of a point's weight that must not be missing


@dataclass(frozen=True, eq=False)
class Regridder:
    """Linear map of fields from one latitude-longitude grid to another.

    Attributes:
        grid: new grid.
        rows: weights of the old rows, shape (new, old); for spectral regridding one matrix for each zonal
            wave number, shape (m, new, old).
        columns: weights of the old columns, shape (new, old); None for spectral regridding.
        shift: eastward shift of the first column [degrees], used by spectral regridding.
        method: name of the method.
    """

    grid: LatLon
    rows: Array
    columns: Array | None
    shift: float
    method: str

    @classmethod
    def between(cls, dataset: xr.Dataset, grid: LatLon, method: str = "conservative") -> "Regridder":
        """Return the regridder from the grid of a canonical data set to another grid.

        Args:
            dataset: canonical data set.
            grid: new grid.
            method: ``conservative``, ``bilinear`` or ``spectral``.

        Raises:
            ValueError: the method is unknown, the new grid extends beyond the old one, or a grid is not
                supported by spectral regridding.
        """
        old = _earth_grid(dataset)
        if method not in get_args(Method):
            raise ValueError(f"unknown method {method!r}; use conservative, bilinear or spectral")
        if method == "spectral":
            return cls(grid, _spectral_rows(old, grid), None, grid.longitude[0] - old.longitude[0], method)
        for axis, step in zip(("latitude", "longitude"), old.spacing, strict=True):
            a = old.coordinates[axis]
            b = grid.coordinates[axis]
            unbounded = (old.includes_poles or old.sphere) if axis == "latitude" else old.full_circle
            if not unbounded and (b.min() < a.min() - 0.51 * step or b.max() > a.max() + 0.51 * step):
                raise ValueError(
                    f"the new grid extends over {axis} {b.min():g} ... {b.max():g}, beyond "
                    f"{a.min():g} ... {a.max():g} of the source"
                )
        if method == "bilinear":
            return cls(
                grid,
                linear(old.latitude, grid.latitude),
                linear(old.longitude, grid.longitude, old.full_circle),
                0.0,
                method,
            )
        for axis in ("latitude", "longitude"):
            sizes = len(old.coordinates[axis]), len(grid.coordinates[axis])
            check_bytes(f"regridding from {sizes[0]} to {sizes[1]} {axis}s", 64 * sizes[0] * sizes[1])
        rows = _overlap(np.sin(np.deg2rad(old.latitude_bounds)), np.sin(np.deg2rad(grid.latitude_bounds)))
        turns = (-720.0, -360.0, 0.0, 360.0, 720.0)
        columns = np.sum(
            [_overlap(old.longitude_bounds + turn, grid.longitude_bounds) for turn in turns], axis=0
        )
        return cls(grid, _normalise_rows(rows), _normalise_rows(columns), 0.0, method)

    def apply(self, dataset: xr.Dataset) -> xr.Dataset:
        """Return a canonical data set on the new grid; lazy variables stay lazy."""
        coords = {n: (n, self.grid.coordinates[n], dataset[n].attrs) for n in ("latitude", "longitude")}
        fields = {n: self._field(v) for n, v in dataset.data_vars.items()}
        static = {
            n: self._field(c.reset_coords(drop=True))
            for n, c in dataset.coords.items()
            if c.dims == ("latitude", "longitude")
        }
        shape = f"{dataset.sizes['latitude']} x {dataset.sizes['longitude']}"
        note = f"regridded ({self.method}) from {shape} points"
        regridded = xr.Dataset(fields, attrs=dataset.attrs | {"regridding": note})
        return regridded.assign_coords(coords).assign_coords(
            {n: v.assign_coords(coords) for n, v in static.items()}
        )

    def _field(self, field: xr.DataArray) -> xr.DataArray:
        bare = field.drop_vars([c for c in field.coords if {"latitude", "longitude"} & set(field[c].dims)])
        lazy = bare.chunk({"latitude": -1, "longitude": -1}) if bare.chunks is not None else bare
        regridded: xr.DataArray = xr.apply_ufunc(
            self.fields,
            lazy,
            input_core_dims=[["latitude", "longitude"]],
            output_core_dims=[["latitude", "longitude"]],
            exclude_dims={"latitude", "longitude"},
            dask="parallelized",
            output_dtypes=[np.float32],
            dask_gufunc_kwargs={
                "output_sizes": dict(zip(("latitude", "longitude"), self.grid.shape, strict=True))
            },
        )
        regridded.attrs = field.attrs
        return regridded

    def fields(self, x: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return fields on the new grid, of shape (..., latitude, longitude).

        Missing values are ignored and the weights of the others normalised; a point is missing if more than
        half of its weight is.

        Args:
            x: fields on the old grid, shape (..., latitude, longitude).

        Raises:
            ValueError: the method is spectral and a value is missing.
        """
        missing = np.isnan(x)
        if self.columns is None:
            if missing.any():
                raise DataError(
                    "spectral regridding does not support missing values; use conservative or bilinear",
                    option="method",
                )
            return self._spectral(x.astype(np.float64))
        rows = self.rows
        columns = self.columns
        return ignoring_missing(lambda fields: np.asarray(rows @ fields @ columns.T), x)

    def _spectral(self, x: Array) -> NDArray[np.float32]:
        orders, _, _ = self.rows.shape
        waves = np.fft.rfft(x, axis=-1, norm="forward")[..., :orders]
        waves = np.einsum("mij,...jm->...im", self.rows, waves) * np.exp(
            1j * np.arange(orders) * np.deg2rad(self.shift)
        )
        return np.asarray(
            np.fft.irfft(waves, n=self.grid.shape[1], axis=-1, norm="forward"), dtype=np.float32
        )


def regrid(dataset: xr.Dataset, grid: LatLon, method: str = "conservative") -> xr.Dataset:
    """Return a canonical data set on another grid.

    If the grids agree up to rounding, only the coordinates are replaced.

    Args:
        dataset: canonical data set.
        grid: new grid.
        method: ``conservative``, ``bilinear`` or ``spectral``.

    Raises:
        ValueError: see ``Regridder.between``.
    """
    regridder = Regridder.between(dataset, grid, method)
    if all(same_axis(points, dataset[name].values, name) for name, points in grid.coordinates.items()):
        return dataset.assign_coords(
            {name: (name, points, dataset[name].attrs) for name, points in grid.coordinates.items()}
        )
    return regridder.apply(dataset)


def ignoring_missing(average: Callable[[Array], Array], x: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return weighted averages of fields over their valid values; NaN where most of the weight is missing.

    Args:
        average: linear map of fields with weights that sum to one.
        x: fields, with NaN for missing values.
    """
    missing = np.isnan(x)
    if not missing.any():
        return np.asarray(average(x.astype(np.float64)), dtype=np.float32)
    valid_weight = average((~missing).astype(np.float64))
    sums = average(np.where(missing, 0.0, x).astype(np.float64))
    return np.asarray(
        np.where(valid_weight >= MINIMUM_WEIGHT - 1e-9, sums / np.maximum(valid_weight, 1e-9), np.nan),
        dtype=np.float32,
    )


def linear(old: Array, new: Array, periodic: bool = False) -> Array:
    """Return the matrix of linear interpolation along an axis, shape (new, old).

    Args:
        old: coordinates of the old points, in either order.
        new: coordinates of the new points.
        periodic: whether the axis has a period of 360 degrees.
    """
    n = len(old)
    check_bytes(f"interpolating from {n} to {len(new)} points of an axis", 16 * n * len(new))
    points = np.append(old, old[0] + 360) if periodic else old
    order = np.argsort(points)
    nodes = points[order]
    x = np.clip(points.min() + (new - points.min()) % 360 if periodic else new, nodes[0], nodes[-1])
    left = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, len(nodes) - 2)
    slope = 1 / (nodes[left + 1] - nodes[left])
    weights = np.zeros((len(new), n))
    rows = np.arange(len(new))
    weights[rows, order[left] % n] = 1 - slope * (x - nodes[left])
    weights[rows, order[left + 1] % n] += slope * (x - nodes[left])
    last = x == nodes[-1]
    weights[last] = 0.0
    weights[last, order[-1] % n] = 1.0
    return weights


def _overlap(old: Array, new: Array) -> Array:
    """Return the fraction of each new cell that each old cell covers, shape (new, old).

    Args:
        old: bounds of the old cells, shape (cell, 2).
        new: bounds of the new cells, shape (cell, 2).
    """
    low = np.maximum(old[None, :, 0], new[:, None, 0])
    high = np.minimum(old[None, :, 1], new[:, None, 1])
    return np.asarray(np.maximum(high - low, 0) / (new[:, 1] - new[:, 0])[:, None])


def _normalise_rows(fractions: Array) -> Array:
    """Return weights that sum to one also for cells that the source covers in part."""
    total = fractions.sum(axis=1, keepdims=True)
    return np.where(total < 1 - 1e-9, fractions / total, fractions)


def _spectral_rows(old: LatLon, new: LatLon) -> Array:
    """Return the weights of the old rows for each zonal wave number, shape (m, new, old)."""
    if old.sphere is None or not new.is_global:
        raise DataError(
            "spectral regridding requires a global equiangular or Gaussian source grid and a global target "
            "grid; use conservative or bilinear",
            option="method",
        )
    count = len(old.latitude)
    exact_degree = count - 1 if old.sphere == "legendre-gauss" else (count - 1) // 2
    truncation = min(exact_degree, len(new.latitude) - 1, (old.shape[1] - 1) // 2, (new.shape[1] - 1) // 2)
    rows = max(count, len(new.latitude))
    check_bytes(
        f"spectral regridding from {count} to {len(new.latitude)} latitudes",
        8 * (truncation + 1) * (2 * (truncation + 1) * rows + count * len(new.latitude)),
    )
    theta, weights = sphere_nodes(count, old.sphere)
    analysis = legendre(truncation + 1, truncation + 1, theta) * weights
    if old.latitude[0] < old.latitude[-1]:
        analysis = analysis[..., ::-1]
    synthesis = legendre(truncation + 1, truncation + 1, np.deg2rad(90 - new.latitude))
    return np.asarray(2 * np.pi * np.einsum("mli,mlj->mij", synthesis, analysis))


def _earth_grid(dataset: xr.Dataset) -> LatLon:
    grid = grid_of(dataset)
    if not isinstance(grid, LatLon):
        raise DataError("only latitude-longitude grids can be regridded; leave out the grid", option="grid")
    return grid


def parse_grid(text: str, dataset: xr.Dataset) -> LatLon:
    """Parse the description of a target grid for a canonical data set.

    Args:
        text: spacing [degrees] of a grid of the same kind and extent, see ``LatLon.with_spacing``,
            ``LATxLON`` points of a global grid (with rows on the poles if LAT is odd), or the path of a
            store.
        dataset: data set that determines the kind, the extent and the order of rows.

    Raises:
        ValueError: the text is none of these, or the grid is too large.
    """
    old = _earth_grid(dataset)
    if os.path.isdir(text):  # false, not an error, for a text of any length
        return stored_grid(text)
    try:
        target = parse_target(text)
    except DataError:
        raise
    except ValueError as error:
        raise ValueError(
            f"invalid grid {text[:60]} ({error}); write degrees, LATxLON points, or a store"
        ) from error
    if isinstance(target, float):
        target = grid_with_spacing(old, target, text)
    elif old.latitude[0] < old.latitude[-1]:
        target = LatLon(target.latitude[::-1], target.longitude)
    check_points(text, *target.shape)
    return target
