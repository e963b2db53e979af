"""Steady flow through a porous medium on a square."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..derivatives import FiniteVolumes
from .base import Coefficient, Equation


def residual(u: Tensor, d: FiniteVolumes, *, permeability: Tensor, source: float | Tensor) -> Tensor:
    """Return ``-div(permeability grad u) - source`` at the inner nodes of a grid, by finite volumes.

    Values on the boundary are those of ``u``, which should satisfy the boundary condition.

    Args:
        u: solution, shape (..., n, m).
        d: finite volumes on the grid.
        permeability: shape (..., n, m).
        source: a number, or a field of shape (..., n, m).

    Returns:
        Residual, shape (..., n - 2, m - 2).

    Raises:
        InputError: shapes differ or have no inner nodes.
    """
    divergence = d.flux_divergence(u, permeability)
    f = source[..., 1:-1, 1:-1] if isinstance(source, Tensor) and source.ndim >= 2 else source
    return -divergence - f


def reference_size(system: Mapping[str, Any], inputs: Tensor, _: Mapping[str, Tensor]) -> Tensor:
    """Return ``f L^2 / mean(a)``, the size of the solution by its global budget, on the unit square."""
    return float(system["source"]) / inputs[:, :1].mean(dim=(-2, -1), keepdim=True)


DARCY = Equation(
    name="darcy",
    formula="-div(permeability grad u) - source",
    coefficients=(
        Coefficient("permeability", "field at the nodes"),
        Coefficient("source", "source of the fluid", 1.0),
    ),
    orders={"y": 2, "x": 2},
    residual=residual,
    translation_invariant=False,
    zero_boundary=True,
    reference_size=reference_size,
    source="Li et al. 2021, arXiv:2010.08895",
)
