"""Latitude-longitude grids, global and regional."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..quadrature import MOST_ROWS, SphereGrid, colatitudes, recognised
from .axes import COORDINATE_TOLERANCE, Array, cell_edges, check_axis, same_axis
from .base import Edge, Grid


@dataclass(frozen=True, eq=False)
class LatLon(Grid):
    """Latitude-longitude grid, global (``is_global``) or regional.

    Args:
        latitude: degrees north, strictly monotonic, within [-90, 90], shape (rows,).
        longitude: degrees east, strictly increasing, spanning less than 360, shape (columns,).

    Raises:
        ValueError: fewer than two points along an axis, not monotonic, or out of range.

    Example:
        >>> import numpy as np
        >>> europe = LatLon(np.linspace(75, 35, 17), np.linspace(-10, 40, 21))
        >>> europe.shape, europe.spacing, europe.is_global
        ((17, 21), (2.5, 2.5), False)
    """

    latitude: Array
    longitude: Array
    axes: tuple[str, str] = field(default=("latitude", "longitude"), init=False, repr=False)
    shape: tuple[int, int] = field(init=False, repr=False)
    lengths: tuple[float, float] = field(init=False, repr=False)
    periodic: tuple[bool, bool] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("latitude", "longitude"):
            values = check_axis(name, getattr(self, name))
            object.__setattr__(self, name, values)
            steps = np.diff(values)
            if not ((steps > 0).all() or (name == "latitude" and (steps < 0).all())):
                raise ValueError(f"{name} must be strictly monotonic, got {values[:3]} ... {values[-1]}")
        latitude = self.latitude
        longitude = self.longitude
        if np.abs(latitude).max() > 90 + COORDINATE_TOLERANCE * np.abs(np.diff(latitude)).min():
            raise ValueError(
                f"latitude must lie within [-90, 90] degrees, got up to {np.abs(latitude).max()}"
            )
        if longitude[-1] - longitude[0] >= 360:
            raise ValueError(f"longitude must span less than 360 degrees, got {longitude[[0, -1]]}")
        step = self.spacing[1]
        circle = bool(abs(longitude[-1] + step - longitude[0] - 360) < 0.51 * step)
        extent = 360.0 if circle else float(np.ptp(longitude))
        object.__setattr__(self, "shape", (len(latitude), len(longitude)))
        object.__setattr__(self, "lengths", (float(np.ptp(latitude)), extent))
        object.__setattr__(self, "periodic", (False, circle))

    @property
    def coordinates(self) -> Mapping[str, Array]:
        """Latitude [degrees north] and longitude [degrees east]."""
        return {"latitude": self.latitude, "longitude": self.longitude}

    @cached_property
    def spacing(self) -> tuple[float, float]:
        """Mean spacing [degrees] along (latitude, longitude)."""
        return float(np.abs(np.diff(self.latitude)).mean()), float(np.abs(np.diff(self.longitude)).mean())

    @property
    def edges(self) -> tuple[Edge, Edge]:
        """``cell`` for the rows of a global grid without poles, otherwise ``node``."""
        without_poles = self.sphere is not None and max(abs(self.latitude)) < 90 - 1e-6
        return "cell" if without_poles else "node", "node"

    @property
    def full_circle(self) -> bool:
        """Whether the longitudes span the full circle."""
        return self.periodic[1]

    @property
    def includes_poles(self) -> bool:
        """Whether the latitudes extend to both poles, with rows on them or half a spacing away."""
        return bool(np.sort(self.latitude)[[0, -1]] @ [-1, 1] >= 180 - 1.01 * self.spacing[0])

    @property
    def is_global(self) -> bool:
        """Whether the grid covers the whole sphere."""
        return self.full_circle and (self.includes_poles or self.sphere is not None)

    @cached_property
    def sphere(self) -> SphereGrid | None:
        """Quadrature of the whole sphere that the points belong to, see ``sphere_nodes``, or None."""
        if self.full_circle and len(self.latitude) <= MOST_ROWS:
            return recognised(-np.sort(-self.latitude))
        return None

    @cached_property
    def latitude_bounds(self) -> Array:
        """Southern and northern edge of each row [degrees north], shape (rows, 2).

        Edges lie midway between rows. The outer ones lie half a spacing beyond the outer rows, or on the pole
        if the grid extends to it.
        """
        bounds = cell_edges(self.latitude)
        if self.includes_poles or self.sphere:
            bounds[[0, -1]] = 90 * np.sign(bounds[[0, -1]])
        bounds = np.clip(bounds, -90, 90)
        return np.sort(np.stack([bounds[:-1], bounds[1:]], axis=1), axis=1)

    @cached_property
    def longitude_bounds(self) -> Array:
        """Western and eastern edge of each column [degrees east], shape (columns, 2)."""
        if self.full_circle:
            around = np.concatenate([self.longitude[-1:] - 360, self.longitude, self.longitude[:1] + 360])
            edges = (around[1:] + around[:-1]) / 2
        else:
            edges = cell_edges(self.longitude)
        return np.stack([edges[:-1], edges[1:]], axis=1)

    @cached_property
    def area_weights(self) -> Array:
        """Relative area of a point in each row, shape (rows,), mean one.

        The area between the edges of a row is ``sin(north) - sin(south)`` on the unit sphere, up to a factor.
        On evenly spaced rows away from the poles it is proportional to cos(latitude).
        """
        area = np.diff(np.sin(np.deg2rad(self.latitude_bounds)), axis=1)[:, 0]
        return np.asarray(area / area.mean())

    def resampled(self, shape: tuple[int, ...]) -> "LatLon":
        """Return the grid of the same extent and order of rows with another number of points.

        On a global grid an odd number of rows puts rows on both poles, an even number puts them half a
        spacing off. A regional grid keeps its outermost rows and columns.

        Args:
            shape: number of rows and columns.

        Raises:
            ValueError: fewer than two points along an axis.
        """
        rows, columns = shape
        if min(rows, columns) < 2:
            raise ValueError(f"a grid needs at least 2 points along each axis, got {rows}x{columns}")
        if self.is_global:
            kind: SphereGrid = "equiangular" if rows % 2 else "equiangular-no-poles"
            latitude = 90 - np.rad2deg(colatitudes(rows, kind))
        else:
            latitude = np.linspace(self.latitude.max(), self.latitude.min(), rows)
        if self.full_circle:
            return self._with(latitude, self._meridians(columns))
        return self._with(latitude, np.linspace(self.longitude[0], self.longitude[-1], columns))

    def with_spacing(self, step: float) -> "LatLon":
        """Return the grid of the same kind and extent with another spacing.

        A global grid keeps its rows on the poles, half a spacing off the poles, or its Gauss-Legendre rows
        (``180 / step`` of them), and the meridian of its first column. A regional grid keeps its northernmost
        row and westernmost column; its last ones are the last within the extent.

        Args:
            step: distance between points [degrees].

        Raises:
            ValueError: ``step`` lies outside (0, 45] degrees, or does not divide the globe.
        """
        count = divisions(step) if self.full_circle else 0
        if not 0 < step <= 45:
            raise ValueError(f"grid spacing must lie between 0 and 45 degrees, got {step:g}")
        step = 180 / count if count else step
        if self.is_global and self.sphere == "legendre-gauss":
            latitude = 90 - np.rad2deg(colatitudes(count, "legendre-gauss"))
        elif self.is_global:  # the outer rows lie as many half spacings off the poles as before
            ends = (self.latitude.max(), -self.latitude.min())
            north, south = (round(2 * (90 - end) / self.spacing[0]) / 2 for end in ends)
            latitude = 90 - step * (north + np.arange(round(count - north - south) + 1))
        else:
            latitude = self.latitude.max() - _multiples(np.ptp(self.latitude), step)
        if self.full_circle:
            return self._with(latitude, self._meridians(round(360 / step)))
        return self._with(latitude, self.longitude[0] + _multiples(np.ptp(self.longitude), step))

    def _meridians(self, count: int) -> Array:
        """Return evenly spaced longitudes around the globe, at cell centres if the grid's longitudes are."""
        old = 360 / self.shape[1]
        new = 360 / count
        first = self.longitude[0]
        on_meridian = min(abs(first - start) for start in (-180, 0, 180)) < 1e-3 * old
        centres = not on_meridian and abs(first % old - old / 2) < 1e-3 * old
        return np.asarray(first + (new - old) / 2 * centres + new * np.arange(count))

    def _with(self, latitude: Array, longitude: Array) -> "LatLon":
        """Return a grid of these points, rows in the order of this one; this grid itself if unchanged."""
        latitude = latitude[::-1] if self.latitude[0] < self.latitude[-1] else latitude
        new = LatLon(latitude, longitude)
        unchanged = same_axis(new.latitude, self.latitude) and same_axis(new.longitude, self.longitude)
        return self if unchanged else new


def divisions(step: float) -> int:
    """Return the number of spacings of ``step`` degrees from pole to pole.

    Raises:
        ValueError: ``step`` lies outside (0, 45] degrees, does not divide 180 degrees, or gives more than
            ``MOST_ROWS`` rows.
    """
    if not 0 < step <= 45:
        raise ValueError(f"grid spacing must lie between 0 and 45 degrees, got {step:g}")
    count = 180 / step
    if count > MOST_ROWS:
        raise ValueError(f"a spacing of {step:g} degrees gives {count:.6g} rows, more than {MOST_ROWS}")
    if abs(count - round(count)) > 0.01:
        finer = 180 / np.ceil(count)
        coarser = 180 / np.floor(count)
        raise ValueError(
            f"a spacing of {step:g} degrees does not divide the 180 degrees from pole to pole; "
            f"use {finer:g} or {coarser:g} degrees, or the number of points, "
            f"e.g. {round(count)}x{2 * round(count)}"
        )
    return round(count)


def _multiples(extent: float, step: float) -> Array:
    """Return the multiples of ``step`` from zero up to ``extent``, up to rounding."""
    return np.asarray(step * np.arange(int(extent / step + COORDINATE_TOLERANCE) + 1))
