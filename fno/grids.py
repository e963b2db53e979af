"""Grids: where the points lie and how much area each one stands for."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .quadrature import MOST_ROWS, SphereGrid, colatitudes, recognised, sphere_nodes

__all__ = [
    "COORDINATE_TOLERANCE",
    "Array",
    "Box",
    "Grid",
    "LatLon",
    "Plane",
    "SphereGrid",
    "colatitudes",
    "match_axis",
    "nearest_points",
    "same_axis",
    "spacing_at",
    "sphere_nodes",
]

Array = NDArray[np.float64]

COORDINATE_TOLERANCE = (
    1e-3  # share of the spacing by which two lists of coordinates of the same points may differ
)


def spacing_at(points: NDArray[np.floating]) -> Array:
    """Return the distance of each point of an axis to its nearest neighbour, in float64; infinite for a
    single point.
    """
    values = np.asarray(points, dtype=np.float64)
    steps = np.concatenate([[np.inf], np.abs(np.diff(values)), [np.inf]])
    return np.asarray(np.minimum(steps[:-1], steps[1:]))


def nearest_points(
    wanted: NDArray[np.floating], given: NDArray[np.floating], *, circular: bool = False
) -> tuple[NDArray[np.int64], Array, NDArray[np.bool_]]:
    """Find the points of one axis among those of another.

    Two coordinates are the same point where they differ by less than ``COORDINATE_TOLERANCE`` of the local
    spacing, or by one rounding of float32 where that is larger.

    Args:
        wanted: points to find, shape (n,).
        given: points to search, in any order, shape (m,).
        circular: compare modulo 360 degrees, as longitudes.

    Returns:
        Position in ``given`` of the point nearest to each wanted one, its distance, and whether it is the
        same point; each of shape (n,).
    """
    target = np.asarray(wanted, dtype=np.float64)
    source = np.asarray(given, dtype=np.float64)
    if circular:
        source = target[0] + (source - target[0]) % 360
        target = target[0] + (target - target[0]) % 360
    order = np.argsort(source, kind="stable")
    line = source[order]
    if circular:
        line = np.concatenate([line[-1:] - 360, line, line[:1] + 360])
        order = np.concatenate([order[-1:], order, order[:1]])
    right = np.searchsorted(line, target).clip(1, max(1, len(line) - 1))
    left = right - 1
    right = right.clip(max=len(line) - 1)
    at = np.where(np.abs(line[left] - target) <= np.abs(line[right] - target), left, right)
    distance = np.abs(line[at] - target)
    spacing = np.minimum(spacing_at(wanted), spacing_at(line)[at])
    rounding = np.finfo(np.float32).eps * np.maximum(
        np.abs(target), np.abs(np.asarray(wanted, dtype=np.float64))
    )
    tolerance = np.maximum(COORDINATE_TOLERANCE * np.where(np.isfinite(spacing), spacing, 0.0), rounding)
    return order[at], distance, distance <= tolerance


def match_axis(
    wanted: NDArray[np.floating], given: NDArray[np.floating], name: str = ""
) -> NDArray[np.int64] | None:
    """Return where the points of one axis lie on another, see ``nearest_points``; None where one is not
    there.

    Args:
        wanted: points to find.
        given: points to search.
        name: name of the axis; a ``longitude`` is compared modulo 360 degrees.
    """
    if not len(wanted) or not len(given):
        return None
    positions, _, same = nearest_points(wanted, given, circular=name == "longitude")
    return positions if same.all() else None


def same_axis(a: NDArray[np.floating], b: NDArray[np.floating], name: str = "") -> bool:
    """Return whether two axes are the same points in the same order, up to rounding."""
    if len(a) != len(b):
        return False
    positions = match_axis(a, b, name)
    return positions is not None and bool((positions == np.arange(len(a))).all())


@dataclass(frozen=True, eq=False)
class LatLon:
    """Latitude-longitude grid, global or a box.

    Args:
        latitude: degrees north, strictly monotonic, within [-90, 90].
        longitude: degrees east, strictly increasing, spanning less than 360.

    Raises:
        ValueError: fewer than two points, not monotonic, or out of range.
    """

    latitude: Array
    longitude: Array

    def __post_init__(self) -> None:
        for name in ("latitude", "longitude"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            object.__setattr__(self, name, values)
            if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
                raise ValueError(
                    f"{name} must be a list of at least two finite numbers, got shape {values.shape}"
                )
            steps = np.diff(values)
            if not ((steps > 0).all() or (name == "latitude" and (steps < 0).all())):
                raise ValueError(f"{name} must be strictly monotonic, got {values[:3]} ... {values[-1]}")
        if np.abs(self.latitude).max() > 90 + COORDINATE_TOLERANCE * np.abs(np.diff(self.latitude)).min():
            raise ValueError(
                f"latitude must lie within [-90, 90] degrees, got up to {np.abs(self.latitude).max()}"
            )
        if self.longitude[-1] - self.longitude[0] >= 360:
            raise ValueError(f"longitude must span less than 360 degrees, got {self.longitude[[0, -1]]}")

    @property
    def axes(self) -> tuple[str, str]:
        """Names of rows and columns."""
        return "latitude", "longitude"

    @property
    def shape(self) -> tuple[int, int]:
        """Points along (latitude, longitude)."""
        return len(self.latitude), len(self.longitude)

    @property
    def wraps(self) -> tuple[bool, bool]:
        """Whether rows and columns go all the way round."""
        return False, self.periodic

    @property
    def edges(self) -> tuple[Literal["node", "cell"], Literal["node", "cell"]]:
        """Whether the outer points lie on the edges of the domain, or are centres of cells: global latitudes
        without poles.
        """
        without_poles = self.sphere is not None and max(abs(self.latitude)) < 90 - 1e-6
        return "cell" if without_poles else "node", "node"

    @cached_property
    def spacing(self) -> tuple[float, float]:
        """Mean spacing in degrees along (latitude, longitude)."""
        return float(np.abs(np.diff(self.latitude)).mean()), float(np.abs(np.diff(self.longitude)).mean())

    @property
    def periodic(self) -> bool:
        """Whether the longitudes go all the way round."""
        return bool(
            abs(self.longitude[-1] + self.spacing[1] - self.longitude[0] - 360) < 0.51 * self.spacing[1]
        )

    @property
    def includes_poles(self) -> bool:
        """Whether the latitudes reach both poles, with rows on them or half a spacing away."""
        return bool(np.sort(self.latitude)[[0, -1]] @ [-1, 1] >= 180 - 1.01 * self.spacing[0])

    @cached_property
    def sphere(self) -> SphereGrid | None:
        """Which grid of the whole sphere this is, see ``quadrature.sphere_nodes``; None where it is none."""
        if self.periodic and len(self.latitude) <= MOST_ROWS:
            return recognised(-np.sort(-self.latitude))
        return None

    @cached_property
    def latitude_bounds(self) -> Array:
        """Southern and northern edge of each row in degrees, shape (latitude, 2).

        Midway between the rows; the outer ones half a spacing beyond the outer rows, on the pole where these
        reach it.
        """
        bounds = _edges(self.latitude)
        if self.includes_poles or self.sphere:
            bounds[[0, -1]] = 90 * np.sign(bounds[[0, -1]])
        bounds = np.clip(bounds, -90, 90)
        return np.sort(np.stack([bounds[:-1], bounds[1:]], axis=1), axis=1)

    @cached_property
    def longitude_bounds(self) -> Array:
        """Western and eastern edge of each column in degrees, shape (longitude, 2), midway between the
        columns.
        """
        if self.periodic:
            around = np.concatenate([self.longitude[-1:] - 360, self.longitude, self.longitude[:1] + 360])
            edges = (around[1:] + around[:-1]) / 2
        else:
            edges = _edges(self.longitude)
        return np.stack([edges[:-1], edges[1:]], axis=1)

    @cached_property
    def area_weights(self) -> Array:
        """Share of the area that a row's points stand for, shape (latitude,), mean one.

        ``sin(upper) - sin(lower)`` of the rows' edges. On evenly spaced rows away from the poles this is
        proportional to cos(latitude).
        """
        area = np.diff(np.sin(np.deg2rad(self.latitude_bounds)), axis=1)[:, 0]
        return np.asarray(area / area.mean())


@dataclass(frozen=True, eq=False)
class Plane:
    """Evenly spaced Cartesian grid of a flow. An axis that wraps does not hold its far end.

    Args:
        y: places of the rows, strictly monotonic, in metres or without unit.
        x: places of the columns, strictly increasing.
        wraps: whether rows and columns are periodic.

    Raises:
        ValueError: fewer than two points, or not evenly spaced.
    """

    y: Array
    x: Array
    wraps: tuple[bool, bool] = (False, False)

    def __post_init__(self) -> None:
        for name in self.axes:
            values = np.asarray(getattr(self, name), dtype=np.float64)
            object.__setattr__(self, name, values)
            if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
                raise ValueError(
                    f"{name} must be a list of at least two finite numbers, got shape {values.shape}"
                )
            steps = np.diff(values)
            if (
                not np.allclose(steps, steps.mean(), rtol=1e-3, atol=0)
                or steps[0] == 0
                or (name == "x" and steps[0] < 0)
            ):
                raise ValueError(
                    f"{name} must be evenly spaced, got {values[:3]} ... {values[-1]}; interpolate it first"
                )

    @property
    def axes(self) -> tuple[str, str]:
        """Names of rows and columns."""
        return "y", "x"

    @property
    def shape(self) -> tuple[int, int]:
        """Points along (y, x)."""
        return len(self.y), len(self.x)

    @cached_property
    def spacing(self) -> tuple[float, float]:
        """Distance between points along (y, x)."""
        return float(np.abs(np.diff(self.y)).mean()), float(np.diff(self.x).mean())

    @property
    def periodic(self) -> bool:
        """Whether the columns wrap."""
        return self.wraps[1]

    @property
    def edges(self) -> tuple[Literal["node", "cell"], Literal["node", "cell"]]:
        """The outer points lie on the edges of the domain."""
        return "node", "node"

    @property
    def sphere(self) -> None:
        """It is no grid of the sphere."""

    @property
    def area_weights(self) -> Array:
        """All points stand for the same area, shape (y,)."""
        return np.ones(len(self.y))


Grid = LatLon | Plane


def _edges(points: Array) -> Array:
    middle = (points[1:] + points[:-1]) / 2
    return np.concatenate([[2 * points[0] - middle[0]], middle, [2 * points[-1] - middle[-1]]])


@dataclass(frozen=True)
class Box:
    """Regular Cartesian grid. An axis that wraps does not hold its far end, another holds both.

    Args:
        axes: names, such as ``("t", "y", "x")``.
        points: number of points along each.
        lengths: length of each.
        periodic: whether each wraps.

    Raises:
        ValueError: numbers of entries differ, fewer than two points, or a length that is not positive.
    """

    axes: tuple[str, ...]
    points: tuple[int, ...]
    lengths: tuple[float, ...]
    periodic: tuple[bool, ...]

    def __post_init__(self) -> None:
        if len({len(self.axes), len(self.points), len(self.lengths), len(self.periodic)}) > 1:
            raise ValueError(f"a box needs points, length and periodicity of each axis, got {self}")
        for axis, n, length in zip(self.axes, self.points, self.lengths, strict=True):
            if n < 2 or not 0 < length < np.inf:
                raise ValueError(
                    f"axis {axis} needs at least two points and a positive length, got {n} and {length}"
                )

    def spacing(self, axis: str) -> float:
        """Return the distance between points along an axis."""
        at = self.axes.index(axis)
        return self.lengths[at] / (self.points[at] - (not self.periodic[at]))
