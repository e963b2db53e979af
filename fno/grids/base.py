"""The interface that all grids share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..quadrature import SphereGrid
from .axes import Array

Edge = Literal["node", "cell"]
AxisEdge = Literal["periodic", "node", "cell"]


@dataclass(frozen=True, eq=False)
class Grid(ABC):
    """A rectangular grid: the product of its axes, slowest first.

    Attributes:
        axes: names of the axes, such as ``("latitude", "longitude")``.
        shape: number of points along each axis.
        lengths: extent of each axis, in the units of its coordinates; the period of a periodic axis.
        periodic: whether each axis is periodic. A periodic axis does not repeat its first point at its end.
    """

    axes: tuple[str, ...] = field(init=False, repr=False)
    shape: tuple[int, ...] = field(init=False, repr=False)
    lengths: tuple[float, ...] = field(init=False, repr=False)
    periodic: tuple[bool, ...] = field(init=False, repr=False)

    @property
    @abstractmethod
    def coordinates(self) -> Mapping[str, Array]:
        """Coordinates of the points along each axis, by name and in the order of ``axes``."""

    @property
    def spacing(self) -> tuple[float, ...]:
        """Mean distance between neighbouring points along each axis, in the units of its coordinates."""
        return tuple(
            length / (n - (not periodic))
            for length, n, periodic in zip(self.lengths, self.shape, self.periodic, strict=True)
        )

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Whether the outer points of each axis lie on the boundary (``node``) or half a cell inside it
        (``cell``).
        """
        return tuple[Edge, ...]("node" for _ in self.axes)

    @property
    def sphere(self) -> SphereGrid | None:
        """Quadrature of the whole sphere that the points belong to; None for any other grid."""
        return None

    @property
    def area_weights(self) -> Array:
        """Relative area of a point in each row (first axis), shape (rows,), mean one."""
        return np.ones(self.shape[0])

    @abstractmethod
    def resampled(self, shape: tuple[int, ...]) -> "Grid":
        """Return the grid of the same kind and extent with another number of points.

        Args:
            shape: number of points along each axis.
        """
