"""Steady flow through a porous medium, which is also the conduction of heat: ``-div(a grad u) = f`` on a square, u = 0 on its edge.

Finite volumes of second order around the nodes of a regular grid, with the harmonic mean of ``a`` between neighbours, which keeps
the flux continuous where ``a`` jumps; solved directly.
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
        coefficient: ``threshold`` takes ``high`` where a Gaussian field is positive and ``low`` elsewhere; ``lognormal``
            takes its exponential.
        high: permeability where the field is positive.
        low: permeability elsewhere.
        source: f, the same everywhere.
        alpha: see ``GaussianField``.
        tau: see ``GaussianField``.
        sigma: see ``GaussianField``.
        refine: intervals of the solver for one of the result, along each dimension.
    """

    coefficient: Literal["threshold", "lognormal"] = "threshold"
    high: Positive = 12.0
    low: Positive = 4.0
    source: Real = 1.0
    alpha: NonNegative = 2.0
    tau: Positive = 3.0
    sigma: NonNegative = 3.0
    refine: Count = 2

    names: ClassVar = ("permeability", "pressure")
    given: ClassVar[tuple[str, ...]] = names[:1]

    def template(self) -> xr.Dataset:
        """Return coordinates y and x from edge to edge, the coefficient and the solution."""
        sizes = {"y": self.resolution, "x": self.resolution}
        coords = {d: (d, np.linspace(0, 1, self.resolution), {"long_name": d, "periodic": "false", "length": 1.0}) for d in sizes}
        return xr.Dataset({name: variable(("y", "x"), sizes, name) for name in self.names}, coords)

    def draw(self, rng: np.random.Generator, points: int) -> Array:
        """Return the coefficient on a grid (y, x), both edges included."""
        # Half of a periodic field twice as large, so that opposite edges know nothing of each other.
        field = GaussianField(self.alpha, 2 * self.tau, 2 * self.sigma).draw(rng, 2 * (points - 1), 2)[:points, :points]
        return np.where(field > 0, self.high, self.low) if self.coefficient == "threshold" else np.exp(field)

    def instance(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the coefficient."""
        return {self.names[0]: self.draw(rng, (self.resolution - 1) * self.refine + 1)[:: self.refine, :: self.refine]}

    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return coefficient and solution."""
        points = (self.resolution - 1) * self.refine + 1
        a = self.draw(rng, points)
        u = steady_state(a, np.full_like(a, self.source))
        every = slice(None, None, self.refine)
        return dict(zip(self.names, (a[every, every], u[every, every]), strict=True))


class HeatConduction(Darcy):
    """Temperature above that of the edge, in a plate of random conductivity with a source of heat.

    The attributes are those of ``Darcy``.
    """

    coefficient: Literal["threshold", "lognormal"] = "lognormal"
    sigma: NonNegative = 10.0

    names: ClassVar = ("conductivity", "temperature")
    given: ClassVar[tuple[str, ...]] = names[:1]


def steady_state(a: Array, f: Array) -> Array:
    """Return u with ``-div(a grad u) = f`` and u = 0 on the edge of the unit square.

    Args:
        a: coefficient at the nodes, both edges included, shape (n, n), positive.
        f: source at the nodes.
    """
    n = len(a) - 2
    south = 2 / (1 / a[1:, 1:-1] + 1 / a[:-1, 1:-1])  # between rows, shape (n + 1, n)
    west = 2 / (1 / a[1:-1, 1:] + 1 / a[1:-1, :-1])
    centre = south[1:] + south[:-1] + west[:, 1:] + west[:, :-1]
    along = west[:, 1:].copy()
    along[:, -1] = 0  # the last node of a row and the first of the next are no neighbours
    beside, above = -along.ravel()[:-1], -south[1:-1].ravel()
    matrix = diags_array([centre.ravel(), beside, beside, above, above], offsets=[0, 1, -1, n, -n], shape=(n * n, n * n))
    u = np.zeros_like(a)
    u[1:-1, 1:-1] = spsolve(csc_matrix(matrix), f[1:-1, 1:-1].ravel() / (n + 1) ** 2).reshape(n, n)
    return u
