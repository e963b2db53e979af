"""Residual of steady flow through a porous medium, which is that of steady conduction of heat."""

import torch
from torch import Tensor

from ..errors import InputError


def darcy(u: Tensor, a: Tensor, spacing: float, source: float | Tensor = 1.0) -> Tensor:
    """Return ``-div(a grad u) - f`` at the inner nodes of a grid, by finite volumes.

    The coefficient between two nodes is their harmonic mean, so that the flux is continuous where it jumps.
    Values on the edge are those of ``u``, which should be the boundary condition.

    Args:
        u: solution, shape (..., n, m).
        a: coefficient, same shape.
        spacing: of the grid, along both dimensions.
        source: f, a number or at the nodes.

    Returns:
        Residual, shape (..., n - 2, m - 2).

    Raises:
        InputError: shapes differ or have no inner nodes.
    """
    if u.shape != a.shape or min(u.shape[-2:]) < 3:
        raise InputError(
            f"solution and coefficient must have the same shape with at least 3 x 3 nodes, got {tuple(u.shape)} and {tuple(a.shape)}"
        )
    divergence = torch.zeros((), dtype=u.dtype, device=u.device)
    for dim in (-2, -1):
        other = -3 - dim
        v, b = (t.narrow(other, 1, t.shape[other] - 2) for t in (u, a))
        lower, upper = b.narrow(dim, 0, b.shape[dim] - 1), b.narrow(dim, 1, b.shape[dim] - 1)
        flux = 2 * lower * upper / (lower + upper) * torch.diff(v, dim=dim) / spacing
        divergence = divergence + torch.diff(flux, dim=dim) / spacing
    f = source[..., 1:-1, 1:-1] if isinstance(source, Tensor) and source.ndim >= 2 else source
    return -divergence - f
