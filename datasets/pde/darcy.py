"""Steady diffusion on a square, Darcy flow or heat conduction: ``-div(a grad u) = f``, u = 0 on the boundary.

Second-order finite volumes around the nodes of a regular grid, with the harmonic mean of ``a`` between
neighbours, which keeps the flux continuous where ``a`` jumps; solved directly.

The coefficient is drawn at the nodes of the stored grid, which determine it everywhere: ``threshold`` is
constant in the cell around each node, the logarithm of ``lognormal`` is bilinear between nodes. A finer
solver grid therefore lowers the error of the solution without changing the problem, and the stored
coefficient determines the stored solution. The solution is sampled at the nodes rather than low-pass
filtered: it is not periodic, and a filter would change the values on the boundary.
"""

from typing import ClassVar, Literal

import numpy as np
import xarray as xr
from scipy.sparse import csc_matrix, diags_array
from scipy.sparse.linalg import spsolve

from .random_fields import GaussianField
from .system import Array, Count, NonNegative, Positive, Real, System, variable


class Darcy(System):
    """Pressure in a porous medium of random permeability.

    Attributes:
        coefficient: ``threshold`` is ``high`` where a Gaussian field is positive and ``low`` elsewhere,
            ``lognormal`` the exponential of the field; see the module for values between nodes.
        high: permeability where the field is positive.
        low: permeability elsewhere.
        source: uniform source f.
        alpha: see ``GaussianField``; the field has its spectrum in units of the unit square.
        tau: see ``GaussianField``.
        sigma: see ``GaussianField``.
        refine: solver intervals per stored interval along each dimension; odd numbers place jumps of the
            coefficient between solver nodes, which is more accurate.
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
    coefficients: ClassVar[tuple[str, ...]] = (*names[:1], "source")
    input_variables: ClassVar[tuple[str, ...]] = names[:1]

    def template(self) -> xr.Dataset:
        """Return the coordinates y and x, boundary included, the coefficient and the solution."""
        sizes = {"y": self.resolution, "x": self.resolution}
        coords = {
            d: (d, np.linspace(0, 1, self.resolution), {"long_name": d, "periodic": "false", "length": 1.0})
            for d in sizes
        }
        return xr.Dataset({name: variable(("y", "x"), sizes, long_name=name) for name in self.names}, coords)

    def draw(self, rng: np.random.Generator, points: int) -> Array:
        """Return the coefficient on a grid that includes the boundary, shape (points, points)."""
        # A quarter of a periodic field of twice the size, so that opposite sides are independent. Its wave k
        # has the wave number k / 2 of the unit square, and the variance of a wave is the spectral density
        # over the area 4, so its amplitude is
        #     sigma (4 pi^2 (k / 2)^2 + tau^2)^(-alpha / 2) / 2
        #         = 2^(alpha - 1) sigma (4 pi^2 k^2 + (2 tau)^2)^(-alpha / 2).
        distribution = GaussianField(self.alpha, 2 * self.tau, 2 ** (self.alpha - 1) * self.sigma)
        field = distribution.draw(rng, 2 * (points - 1), 2)[:points, :points]
        return np.where(field > 0, self.high, self.low) if self.coefficient == "threshold" else np.exp(field)

    def sample_inputs(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the coefficient."""
        return {self.names[0]: self.draw(rng, self.resolution)}

    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the coefficient and the solution."""
        a = self.draw(rng, self.resolution)
        points = (self.resolution - 1) * self.refine + 1
        f = np.full((points, points), self.source)
        if self.coefficient == "threshold":
            u = solve_network(*conductances_of_cells(a, self.refine), f)
        else:
            u = steady_state(bilinear_in_logarithm(a, self.refine), f)
        return dict(zip(self.names, (a, u[:: self.refine, :: self.refine]), strict=True))


class HeatConduction(Darcy):
    """Temperature excess over the boundary in a plate of random conductivity with a heat source.

    The attributes are those of ``Darcy``.
    """

    coefficient: Literal["threshold", "lognormal"] = "lognormal"
    sigma: NonNegative = 10.0

    names: ClassVar = ("conductivity", "temperature")
    coefficients: ClassVar[tuple[str, ...]] = (*names[:1], "source")
    input_variables: ClassVar[tuple[str, ...]] = names[:1]


def conductances_of_cells(a: Array, refine: int) -> tuple[Array, Array]:
    """Return conductances on a refined grid for a coefficient that is constant in the cell around each node.

    The conductance between two nodes combines in series the coefficients at a quarter and three quarters of
    their connecting line, and in parallel those on either side of the line. For ``refine=1`` it is the
    harmonic mean of neighbours.

    Args:
        a: positive coefficient at the nodes, boundary included, shape (n, n).
        refine: intervals of the refined grid per interval of ``a``.

    Returns:
        Conductances between rows, shape (N - 1, N - 2), and between columns, shape (N - 2, N - 1), with
        N = (n - 1) refine + 1.
    """
    # Positions between all nodes of the refined grid, in quarters of its spacing.
    quarters = np.arange(1, 4 * (len(a) - 1) * refine, 2)
    cell = (quarters + 2 * refine) // (4 * refine)
    fine = a[np.ix_(cell, cell)]
    between_rows = 2 / (1 / fine[::2] + 1 / fine[1::2])
    between_columns = 2 / (1 / fine[:, ::2] + 1 / fine[:, 1::2])
    south = (between_rows[:, 1:-1:2] + between_rows[:, 2::2]) / 2
    west = (between_columns[1:-1:2] + between_columns[2::2]) / 2
    return south, west


def bilinear_in_logarithm(a: Array, refine: int) -> Array:
    """Return a coefficient on a refined grid, interpolated bilinearly in its logarithm.

    Args:
        a: positive coefficient at the nodes, boundary included, shape (n, n).
        refine: intervals of the refined grid per interval of ``a``.
    """
    coarse = np.arange(len(a))
    fine = np.arange((len(a) - 1) * refine + 1) / refine
    weights = np.maximum(1 - np.abs(fine[:, None] - coarse), 0)  # hat functions, shape (fine, coarse)
    return np.asarray(np.exp(weights @ np.log(a) @ weights.T))


def steady_state(a: Array, f: Array) -> Array:
    """Return u with ``-div(a grad u) = f`` and u = 0 on the boundary of the unit square.

    Args:
        a: positive coefficient at the nodes, boundary included, shape (n, n).
        f: source at the nodes, shape (n, n).
    """
    south = 2 / (1 / a[1:, 1:-1] + 1 / a[:-1, 1:-1])
    west = 2 / (1 / a[1:-1, 1:] + 1 / a[1:-1, :-1])
    return solve_network(south, west, f)


def solve_network(south: Array, west: Array, f: Array) -> Array:
    """Return u from the conductances between nodes, with u = 0 on the boundary.

    The flux out of the cell of each node equals f times the area of the cell.

    Args:
        south: conductances between rows, shape (n + 1, n) for n inner nodes along each side.
        west: conductances between columns, shape (n, n + 1).
        f: source at the nodes, boundary included, shape (n + 2, n + 2).

    Returns:
        Solution at the nodes, shape (n + 2, n + 2).
    """
    n = len(west)
    centre = south[1:] + south[:-1] + west[:, 1:] + west[:, :-1]
    along = west[:, 1:].copy()
    along[:, -1] = 0  # the last node of a row and the first of the next are not neighbours
    within_row = -along.ravel()[:-1]
    between_rows = -south[1:-1].ravel()
    matrix = diags_array(
        [centre.ravel(), within_row, within_row, between_rows, between_rows],
        offsets=[0, 1, -1, n, -n],
        shape=(n * n, n * n),
    )
    u = np.zeros_like(f)
    u[1:-1, 1:-1] = spsolve(csc_matrix(matrix), f[1:-1, 1:-1].ravel() / (n + 1) ** 2).reshape(n, n)
    return u
