"""Regridding from curvilinear grids, such as map projections, to latitude-longitude grids.

Each new point lies in a cell of four old points, with great circles as sides. In the gnomonic projection
about the new point, where these are straight, the bilinear map of the cell is inverted for the weights of its
corners. This is exact for constants, and of second order in the spacing for fields linear in latitude and
longitude. Method ``conservative`` takes the mean over a new cell from points within it that are at most half
the old spacing apart, so that no cell of a finer source is skipped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from ...fno.grids import LatLon
from ..memory import check_bytes
from .regrid import ignoring_missing

Array = NDArray[np.float64]

# Number of nearest cells to search for a point: two first, more for points that are in neither.
_CANDIDATES = (2, 16)
_TOLERANCE = 1e-6  # distance that a point may lie outside of a cell, relative to its size
_NEWTON_ITERATIONS = 6
_MAX_SUB_POINTS = 10**9  # within all cells of a new grid
_BLOCK = 2**17  # points to locate at once


@dataclass(frozen=True, eq=False)
class CurvilinearGrid:
    """Points in rows and columns, each with its own latitude and longitude.

    Args:
        latitude: latitude [degrees north], shape (row, column); NaN where there is no point.
        longitude: longitude [degrees east], of the same shape.

    Raises:
        ValueError: the shapes differ, or there are fewer than two rows or columns.
    """

    latitude: Array
    longitude: Array

    def __post_init__(self) -> None:
        if (
            self.latitude.ndim != 2
            or self.latitude.shape != self.longitude.shape
            or min(self.latitude.shape) < 2
        ):
            raise ValueError(
                f"latitudes of shape {self.latitude.shape} and longitudes of shape {self.longitude.shape} "
                "do not form rows and columns of points"
            )

    def __eq__(self, other: object) -> bool:
        """Return whether the points are the same."""
        return isinstance(other, CurvilinearGrid) and self._digest == other._digest

    def __hash__(self) -> int:
        """Return the hash of the points."""
        return hash(self._digest)

    @cached_property
    def _digest(self) -> tuple[tuple[int, ...], bytes]:
        return self.latitude.shape, sha256(self.latitude.tobytes() + self.longitude.tobytes()).digest()

    @cached_property
    def nodes(self) -> Array:
        """Points on the unit sphere, shape (row, column, 3)."""
        return on_sphere(self.latitude, self.longitude)

    @cached_property
    def spacing(self) -> float:
        """Median distance between neighbours [degrees]."""
        steps = [np.linalg.norm(np.diff(self.nodes, axis=axis), axis=-1).ravel() for axis in (0, 1)]
        return float(np.rad2deg(np.nanmedian(np.concatenate(steps))))

    @cached_property
    def ring(self) -> bool:
        """Whether the columns are periodic: the last one is next to the first."""
        gap = np.nanmedian(np.linalg.norm(self.nodes[:, 0] - self.nodes[:, -1], axis=-1))
        step = np.nanmedian(np.linalg.norm(np.diff(self.nodes, axis=1), axis=-1))
        return bool(1e-6 * step < gap < 1.5 * step and self.latitude.shape[1] > 3)

    @cached_property
    def centre(self) -> float:
        """Longitude of the centre [degrees east], in the source's range: up to 180 or up to 360."""
        x, y, _ = np.nanmean(self.nodes.reshape(-1, 3), axis=0)
        middle = float(np.rad2deg(np.arctan2(y, x)))
        return middle % 360 if np.nanmax(self.longitude) > 180 else middle

    @cached_property
    def _cells(self) -> tuple[NDArray[np.int64], cKDTree]:
        """Corners of the cells in cyclic order, shape (cell, 4), and a tree of the cell centres."""
        rows, columns = self.latitude.shape
        i, j = np.meshgrid(
            np.arange(rows - 1), np.arange(columns if self.ring else columns - 1), indexing="ij"
        )
        right = (j + 1) % columns
        corners = np.stack(
            [i * columns + j, i * columns + right, (i + 1) * columns + right, (i + 1) * columns + j], axis=-1
        ).reshape(-1, 4)
        centres = self.nodes.reshape(-1, 3)[corners].mean(axis=1)
        complete = np.isfinite(centres).all(axis=1)
        return corners[complete], cKDTree(centres[complete])

    def weights(self, latitude: Array, longitude: Array) -> tuple[NDArray[np.int64], Array]:
        """Return the corners of the cell around each point and their weights, both of shape (point, 4).

        The weights are NaN for points outside the grid.

        Args:
            latitude: latitudes of the points [degrees north], shape (point,).
            longitude: longitudes of the points [degrees east], shape (point,).
        """
        corners, tree = self._cells
        nodes = self.nodes.reshape(-1, 3)
        points = on_sphere(latitude, longitude)
        nodes_of_cell = np.zeros((len(points), 4), dtype=np.int64)
        weights = np.full((len(points), 4), np.nan)
        remaining = np.arange(len(points))
        searched = 0
        for candidates in _CANDIDATES:
            count = min(candidates, len(corners))
            near = np.full((len(points), count), -1)
            near[remaining] = np.reshape(tree.query(points[remaining], k=count)[1], (len(remaining), count))
            for candidate in range(searched, count):
                cell = corners[near[remaining, candidate]]
                s, t = _invert(_gnomonic(nodes[cell], latitude[remaining], longitude[remaining]))
                inside = (np.minimum(s, t) >= -_TOLERANCE) & (np.maximum(s, t) <= 1 + _TOLERANCE)
                s = np.clip(s[inside], 0, 1)
                t = np.clip(t[inside], 0, 1)
                nodes_of_cell[remaining[inside]] = cell[inside]
                weights[remaining[inside]] = np.stack(
                    [(1 - s) * (1 - t), s * (1 - t), s * t, (1 - s) * t], axis=1
                )
                remaining = remaining[~inside]
            searched = count
        return nodes_of_cell, weights

    def angle(self) -> Array:
        """Return the direction of the rows, counter-clockwise from east [rad], shape (row, column)."""
        along = np.gradient(self.nodes, axis=1)
        east, north, _ = _directions(self.latitude, self.longitude)
        return np.asarray(np.arctan2((along * north).sum(axis=-1), (along * east).sum(axis=-1)))


@dataclass(frozen=True, eq=False)
class CurvilinearRegridder:
    """Linear map of fields from a curvilinear grid to a latitude-longitude grid.

    Attributes:
        grid: new grid.
        matrix: sparse weights of the old points, shape (new points, old points); rows sum to one.
        covered: new points within the old grid, for conservative regridding with their whole cells, shape
            (latitude, longitude).
    """

    grid: LatLon
    matrix: Any
    covered: NDArray[np.bool_]

    @classmethod
    def between(cls, old: CurvilinearGrid, grid: LatLon, method: str) -> "CurvilinearRegridder":
        """Return the regridder from one grid to another.

        Args:
            old: grid of the source.
            grid: new grid.
            method: ``conservative`` or ``bilinear``.

        Raises:
            ValueError: the method is another, or the grids need too many points.
        """
        if method not in ("conservative", "bilinear"):
            raise ValueError(
                f"method {method} does not support curvilinear grids; use conservative or bilinear"
            )
        size = int(np.prod(grid.shape))
        per_side = 1.0 if method == "bilinear" else np.ceil(2 * max(grid.spacing) / max(old.spacing, 1e-9))
        if size * per_side**2 > _MAX_SUB_POINTS:
            raise ValueError(
                f"regridding needs {size * per_side**2:.3g} points within the cells of the new grid, more "
                f"than {_MAX_SUB_POINTS:.3g}; select a smaller area, or the method bilinear"
            )
        points = max(1, int(per_side))
        check_bytes(f"regridding from {old.latitude.size} to {size} points", 100 * (size + old.latitude.size))
        matrix = sparse.csr_matrix((size, old.latitude.size))
        covered = np.ones(size, dtype=bool)
        for target, latitude, longitude, fraction in _sub_points(grid, points):
            corners, weights = old.weights(latitude, longitude)
            inside = np.isfinite(weights).all(axis=1)
            covered[target[~inside]] = False
            data = (weights * fraction[:, None])[inside].ravel()
            entries = (data, (np.repeat(target[inside], 4), corners[inside].ravel()))
            matrix = matrix + sparse.csr_matrix(entries, shape=matrix.shape)
        return cls(grid, matrix, covered.reshape(grid.shape))

    def part(self, rows: slice, columns: slice) -> "CurvilinearRegridder":
        """Return the regridder to some rows and columns of the new grid."""
        keep = np.arange(self.covered.size).reshape(self.covered.shape)[rows, columns].ravel()
        grid = LatLon(self.grid.latitude[rows], self.grid.longitude[columns])
        return CurvilinearRegridder(grid, self.matrix[keep], self.covered[rows, columns])

    def fields(self, x: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return fields on the new grid, shape (..., latitude, longitude).

        Missing values are treated as in ``Regridder.fields``.

        Args:
            x: fields on the old grid, shape (..., row, column).
        """
        flat = x.reshape(-1, self.matrix.shape[1])
        values = ignoring_missing(lambda fields: (self.matrix @ fields.T).T, flat)
        return values.reshape(*x.shape[:-2], *self.grid.shape)


def on_sphere(latitude: Array, longitude: Array) -> Array:
    """Return points as unit vectors, shape (..., 3).

    Args:
        latitude: latitudes [degrees north], shape (...).
        longitude: longitudes [degrees east], shape (...).
    """
    return _directions(latitude, longitude)[2]


def largest_rectangle(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the rows and columns of the largest all-true rectangle; empty slices if there is none."""
    best = (0, slice(0, 0), slice(0, 0))
    heights = np.zeros(mask.shape[1] + 1, dtype=int)
    for row in range(mask.shape[0]):
        heights[:-1] = np.where(mask[row], heights[:-1] + 1, 0)
        stack: list[tuple[int, int]] = []
        for column, height in enumerate(heights.tolist()):
            start = column
            while stack and stack[-1][1] >= height:
                start, high = stack.pop()
                if high * (column - start) > best[0]:
                    best = (high * (column - start), slice(row - high + 1, row + 1), slice(start, column))
            stack.append((start, height))
    return best[1], best[2]


def _sub_points(grid: LatLon, points: int) -> Iterator[tuple[NDArray[np.int64], Array, Array, Array]]:
    """Yield blocks of points within the cells of a grid, ``points`` of them along each side of a cell.

    Yields:
        (cell, latitude [degrees], longitude [degrees], fraction of the cell's area) of each point.
    """
    offsets = (np.arange(points) + 0.5) / points
    south, north = (grid.latitude_bounds[:, i, None] for i in (0, 1))
    west, east = (grid.longitude_bounds[:, i, None] for i in (0, 1))
    latitude = south + (north - south) * offsets if points > 1 else grid.latitude[:, None]
    longitude = west + (east - west) * offsets if points > 1 else grid.longitude[:, None]
    area = np.cos(np.deg2rad(latitude))
    fraction = area / area.sum(axis=1, keepdims=True) / points if points > 1 else np.ones_like(area)
    columns = len(grid.longitude)
    block = max(1, _BLOCK // (columns * points))
    for rows in np.array_split(np.arange(latitude.size), max(1, latitude.size // block)):
        i, j = np.meshgrid(rows, np.arange(longitude.size), indexing="ij")
        target = (i // points) * columns + j // points
        yield (
            target.ravel(),
            latitude.ravel()[i].ravel(),
            longitude.ravel()[j].ravel(),
            fraction.ravel()[i].ravel(),
        )


def _directions(latitude: Array, longitude: Array) -> tuple[Array, Array, Array]:
    """Return the unit vectors east, north and up, each of shape (..., 3)."""
    lat = np.deg2rad(latitude)
    lon = np.deg2rad(longitude)
    zero = np.zeros_like(lat)
    east = np.stack([-np.sin(lon), np.cos(lon), zero], axis=-1)
    north = np.stack([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)], axis=-1)
    up = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
    return east, north, up


def _gnomonic(corners: Array, latitude: Array, longitude: Array) -> Array:
    """Return the gnomonic projection of corners of shape (point, 4, 3) about each point, shape (point, 4, 2).

    Corners beyond the horizon are NaN.
    """
    east, north, up = _directions(latitude, longitude)
    height = np.einsum("pci,pi->pc", corners, up)
    height = np.where(height > 1e-3, height, np.nan)
    return np.stack([np.einsum("pci,pi->pc", corners, axis) / height for axis in (east, north)], axis=-1)


def _invert(corners: Array) -> tuple[Array, Array]:
    """Solve for the coordinates (s, t) of the origin in the bilinear map from the unit square to each cell.

    Newton's method; coordinates are -1 where it diverges, which is outside of the cell.

    Args:
        corners: corners of the cells on the plane, shape (point, 4, 2).
    """
    origin = corners[:, 0]
    a = corners[:, 1] - origin
    b = corners[:, 3] - origin
    c = corners[:, 2] - corners[:, 1] - b
    s = np.full(len(corners), 0.5)
    t = np.full(len(corners), 0.5)
    with np.errstate(all="ignore"):  # the iteration may diverge for cells that do not contain the point
        for _ in range(_NEWTON_ITERATIONS):
            residual = origin + s[:, None] * a + t[:, None] * b + (s * t)[:, None] * c
            along_s = a + t[:, None] * c
            along_t = b + s[:, None] * c
            determinant = along_s[:, 0] * along_t[:, 1] - along_s[:, 1] * along_t[:, 0]
            s = s - (residual[:, 0] * along_t[:, 1] - residual[:, 1] * along_t[:, 0]) / determinant
            t = t - (along_s[:, 0] * residual[:, 1] - along_s[:, 1] * residual[:, 0]) / determinant
    finite = np.isfinite(s) & np.isfinite(t)
    return np.where(finite, s, -1.0), np.where(finite, t, -1.0)
