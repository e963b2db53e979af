"""Evenly spaced Cartesian grids."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from .axes import Array, check_axis
from .base import Grid


@dataclass(frozen=True)
class Box(Grid):
    """Evenly spaced Cartesian grid in any number of dimensions.

    A periodic axis of length L has the points 0, L/n, ..., L - L/n; any other axis has points on both ends.

    Args:
        axes: names, such as ``("t", "y", "x")``.
        shape: number of points along each axis.
        lengths: length of each axis, in metres or dimensionless.
        periodic: whether each axis is periodic.
        origin: first coordinate of each axis, in the same unit; zeros by default.

    Raises:
        ValueError: numbers of entries differ, fewer than two points, or a length that is not positive.

    Example:
        >>> channel = Box(("y", "x"), (65, 128), lengths=(1.0, 4.0), periodic=(False, True))
        >>> channel.spacing
        (0.015625, 0.03125)
    """

    axes: tuple[str, ...]
    shape: tuple[int, ...]
    lengths: tuple[float, ...]
    periodic: tuple[bool, ...]
    origin: tuple[float, ...] = ()
    _points: tuple[Array, ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.origin:
            object.__setattr__(self, "origin", (0.0,) * len(self.axes))
        entries = (self.axes, self.shape, self.lengths, self.periodic, self.origin)
        if len({len(entry) for entry in entries}) > 1:
            raise ValueError(f"a box needs points, length and periodicity of each axis, got {self}")
        for axis, n, length in zip(self.axes, self.shape, self.lengths, strict=True):
            if n < 2 or not 0 < length < np.inf:
                raise ValueError(
                    f"axis {axis} needs at least two points and a positive length, got {n} and {length}"
                )

    @classmethod
    def from_coordinates(
        cls, coordinates: Mapping[str, NDArray[np.floating]], periodic: tuple[bool, ...] | None = None
    ) -> "Box":
        """Return the grid with exactly these coordinates, such as those of a data set.

        Args:
            coordinates: points of each axis, evenly spaced up to rounding, the last axis increasing.
            periodic: whether each axis is periodic; by default none is.

        Raises:
            ValueError: fewer than two points along an axis, or not evenly spaced.
        """
        points = [check_axis(name, values) for name, values in coordinates.items()]
        periodic = periodic or (False,) * len(points)
        for i, (name, values) in enumerate(zip(coordinates, points, strict=True)):
            steps = np.diff(values)
            even = np.allclose(steps, steps.mean(), rtol=1e-3, atol=0) and steps[0] != 0
            if not even or (i == len(points) - 1 and steps[0] < 0):
                raise ValueError(
                    f"{name} must be evenly spaced, got {values[:3]} ... {values[-1]}; interpolate it first"
                )
        lengths = tuple(
            float(np.abs(np.diff(values)).mean() * (len(values) - (not around)))
            for values, around in zip(points, periodic, strict=True)
        )
        origin = tuple(float(values[0]) for values in points)
        box = cls(tuple(coordinates), tuple(map(len, points)), lengths, periodic, origin)
        object.__setattr__(box, "_points", tuple(points))
        return box

    @property
    def coordinates(self) -> Mapping[str, Array]:
        """Coordinates along each axis, exact if the grid was built from coordinates."""
        points = self._points or tuple(
            np.asarray(first + step * np.arange(n), dtype=np.float64)
            for first, step, n in zip(self.origin, self.spacing, self.shape, strict=True)
        )
        return dict(zip(self.axes, points, strict=True))

    def resampled(self, shape: tuple[int, ...]) -> "Box":
        """Return the box of the same extent with another number of points, in increasing order.

        Raises:
            ValueError: another number of axes, or fewer than two points along one.
        """
        origin = tuple(float(values.min()) for values in self.coordinates.values())
        return replace(self, shape=tuple(shape), origin=origin)
