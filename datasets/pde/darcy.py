"""Steady flow through a porous medium, which is also the conduction of heat: ``-div(a grad u) = f`` on a
square, u = 0 on its edge.

Finite volumes of second order around the nodes of a regular grid, with the harmonic mean of ``a`` between
neighbours, which keeps the flux continuous where ``a`` jumps; solved directly.

The coefficient is drawn at the nodes of the stored grid, and its value everywhere follows from these:
``threshold`` is constant in the cell around each node, ``lognormal`` is bilinear in its logarithm between
nodes. A finer grid of the solver then lowers the error of the solution and leaves the problem as it is, so
the stored coefficient determines the stored solution. The solution is stored at the nodes, those on the edge
among them: it is not periodic, and a filter over its waves would move the values on the edge.
"""

from typing import ClassVar, Literal

import numpy as np
import xarray as xr
from scipy.sparse import csc_matrix, diags_array
from scipy.sparse.linalg import spsolve

from .random_fields import GaussianField
from .system import Array, Count, NonNegative, Positive, Real, System, variable


class Darcy(System):
    """Pressure in a medium of random permeability.

    Attributes:
        coefficient: ``threshold`` takes ``high`` where a Gaussian field is positive and ``low`` elsewhere;
            ``lognormal`` takes its exponential. Both are set at the nodes; see the module for values between
            them.
        high: permeability where the field is positive.
        low: permeability elsewhere.
        source: f, the same everywhere.
        alpha: see ``GaussianField``.
        tau: see ``GaussianField``.
        sigma: see ``GaussianField``.
        refine: intervals of the solver for one of the result, along each dimension; odd ones put jumps
            between nodes of the solver, which is more accurate.
    """

    coefficient: Literal["threshold", "lognormal"] = "threshold"
    high: Positive = 12.0
    low: Positive = 4.0
    source: Real = 1.0
    alpha: NonNegative = 2.0
    tau: Positive = 3.0
    sigma: NonNegative = 3.0
    refine: Count = 3

    names: ClassVar = ("permeability", "pressure")
    given: ClassVar[tuple[str, ...]] = names[:1]

    def template(self) -> xr.Dataset:
        """Return coordinates y and x from edge to edge, the coefficient and the solution."""
        sizes = {"y": self.resolution, "x": self.resolution}
        coords = {
            d: (d, np.linspace(0, 1, self.resolution), {"long_name": d, "periodic": "false", "length": 1.0})
            for d in sizes
        }
        return xr.Dataset({name: variable(("y", "x"), sizes, name) for name in self.names}, coords)

    def draw(self, rng: np.random.Generator, points: int) -> Array:
        """Return the coefficient on a grid (y, x), both edges included."""
        # Half of a periodic field twice as large, so that opposite edges know nothing of each other.
        field = GaussianField(self.alpha, 2 * self.tau, 2 * self.sigma).draw(rng, 2 * (points - 1), 2)[
            :points, :points
        ]
        return np.where(field > 0, self.high, self.low) if self.coefficient == "threshold" else np.exp(field)

    def instance(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the coefficient."""
        return {self.names[0]: self.draw(rng, self.resolution)}

    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return coefficient and solution."""
        a = self.draw(rng, self.resolution)
        points = (self.resolution - 1) * self.refine + 1
        f = np.full((points, points), self.source)
        if self.coefficient == "threshold":
            u = solve_network(*conductances_of_cells(a, self.refine), f)
        else:
            u = steady_state(bilinear_in_logarithm(a, self.refine), f)
        return dict(zip(self.names, (a, u[:: self.refine, :: self.refine]), strict=True))


class HeatConduction(Darcy):
    """Temperature above that of the edge, in a plate of random conductivity with a source of heat.

    The attributes are those of ``Darcy``.
    """

    coefficient: Literal["threshold", "lognormal"] = "lognormal"
    sigma: NonNegative = 10.0

    names: ClassVar = ("conductivity", "temperature")
    given: ClassVar[tuple[str, ...]] = names[:1]


def conductances_of_cells(a: Array, refine: int) -> tuple[Array, Array]:
    """Return conductances between the nodes of a grid ``refine`` times as fine, of a coefficient constant in
    the cell around each node.

    A face has in series the coefficients at a quarter and three quarters of the way between its two nodes,
    and in parallel those on either side of the line that connects them. On the grid of ``a`` itself this is
    the harmonic mean of neighbours.

    Args:
        a: coefficient at nodes, both edges included, shape (n, n), positive.
        refine: intervals of the fine grid for one of the coarse.

    Returns:
        Conductances between rows, shape (N - 1, N - 2), and between columns, shape (N - 2, N - 1), with N =
        (n - 1) refine + 1.
    """
    quarters = np.arange(
        1, 4 * (len(a) - 1) * refine, 2
    )  # between all fine nodes, in quarters of the fine spacing
    cell = (quarters + 2 * refine) // (4 * refine)
    fine = a[np.ix_(cell, cell)]
    between_rows = 2 / (1 / fine[::2] + 1 / fine[1::2])
    between_columns = 2 / (1 / fine[:, ::2] + 1 / fine[:, 1::2])
    south = (between_rows[:, 1:-1:2] + between_rows[:, 2::2]) / 2
    west = (between_columns[1:-1:2] + between_columns[2::2]) / 2
    return south, west


def bilinear_in_logarithm(a: Array, refine: int) -> Array:
    """Return a coefficient whose logarithm is bilinear between nodes, on a grid ``refine`` times as fine.

    Args:
        a: coefficient at nodes, both edges included, shape (n, n), positive.
        refine: intervals of the fine grid for one of the coarse.
    """
    coarse, fine = np.arange(len(a)), np.arange((len(a) - 1) * refine + 1) / refine
    weights = np.maximum(1 - np.abs(fine[:, None] - coarse), 0)  # hat functions, shape (fine, coarse)
    return np.asarray(np.exp(weights @ np.log(a) @ weights.T))


def steady_state(a: Array, f: Array) -> Array:
    """Return u with ``-div(a grad u) = f`` and u = 0 on the edge of the unit square.

    Args:
        a: coefficient at the nodes, both edges included, shape (n, n), positive.
        f: source at the nodes.
    """
    south = 2 / (1 / a[1:, 1:-1] + 1 / a[:-1, 1:-1])
    west = 2 / (1 / a[1:-1, 1:] + 1 / a[1:-1, :-1])
    return solve_network(south, west, f)


def solve_network(south: Array, west: Array, f: Array) -> Array:
    """Return u at nodes with given conductances between them: flux out of the cell of each node = f times its
    area, u = 0 on the edge.

    Args:
        south: conductances between rows, shape (n + 1, n) for n interior nodes along each side.
        west: conductances between columns, shape (n, n + 1).
        f: source at all nodes, shape (n + 2, n + 2).
    """
    n = len(west)
    centre = south[1:] + south[:-1] + west[:, 1:] + west[:, :-1]
    along = west[:, 1:].copy()
    along[:, -1] = 0  # the last node of a row and the first of the next are no neighbours
    beside, above = -along.ravel()[:-1], -south[1:-1].ravel()
    matrix = diags_array(
        [centre.ravel(), beside, beside, above, above], offsets=[0, 1, -1, n, -n], shape=(n * n, n * n)
    )
    u = np.zeros_like(f)
    u[1:-1, 1:-1] = spsolve(csc_matrix(matrix), f[1:-1, 1:-1].ravel() / (n + 1) ** 2).reshape(n, n)
    return u
