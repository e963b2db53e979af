"""Two-dimensional incompressible flow on a torus, as vorticity."""

import math

import torch
from torch import Tensor

from ...errors import InputError
from ..derivatives import InvertibleDerivative
from .base import Coefficient, Equation


def velocity(w: Tensor, d: InvertibleDerivative) -> tuple[Tensor, Tensor]:
    """Return the velocity ``u = -psi_y``, ``v = psi_x`` with the stream function ``Laplacian psi = w``.

    Args:
        w: vorticity, shape (..., y, x).
        d: derivatives along y and x, and the inverse of the Laplacian.

    Returns:
        Velocity along x and along y.
    """
    psi = d.inverse_laplacian(w)
    return -d(psi, "y"), d(psi, "x")


def residual(
    w: Tensor, d: InvertibleDerivative, *, viscosity: float | Tensor, forcing: str | float | Tensor
) -> Tensor:
    """Return ``w_t + u w_x + v w_y - viscosity (w_xx + w_yy) - f`` with the velocity (u, v) of w.

    Args:
        w: vorticity, shape (..., t, y, x), or (..., y, x) where ``d`` has the time derivative by other means.
        d: derivatives along t, y and x, spectral along y and x.
        viscosity: kinematic viscosity.
        forcing: f, or the name of a force, see ``force``.
    """
    u, v = velocity(w, d)
    f = force(forcing, w) if isinstance(forcing, str) else forcing
    return d(w, "t") + u * d(w, "x") + v * d(w, "y") - viscosity * (d(w, "x", 2) + d(w, "y", 2)) - f


def damping(k2: Tensor, *, viscosity: float | Tensor, forcing: object) -> Tensor:
    """Return the rate of viscous decay ``viscosity k^2``."""
    return viscosity * k2


def force(name: str, like: Tensor) -> Tensor:
    """Return the curl of a body force on a torus, shape (y, x).

    Args:
        name: ``diagonal`` is ``0.1 (sin 2 pi (x + y) + cos 2 pi (x + y))`` with x and y in units of the side
            (Li et al. 2021), ``kolmogorov`` is ``-4 cos(4 y)`` with y from 0 to 2 pi along the side,
            ``none`` is zero.
        like: a field on the grid, shape (..., y, x), whose type and device the result has.

    Raises:
        InputError: another name.
    """
    y, x = torch.meshgrid(
        *[2 * math.pi / n * torch.arange(n, dtype=like.dtype, device=like.device) for n in like.shape[-2:]],
        indexing="ij",
    )
    if name == "diagonal":
        return 0.1 * (torch.sin(x + y) + torch.cos(x + y))
    if name == "kolmogorov":
        return -4 * torch.cos(4 * y)
    if name == "none":
        return torch.zeros_like(x)
    raise InputError(f"no force {name!r}; there are diagonal, kolmogorov, none")


NAVIER_STOKES = Equation(
    name="navier_stokes",
    formula="w_t + u w_x + v w_y - viscosity (w_xx + w_yy) - f",
    coefficients=(
        Coefficient("viscosity", "kinematic viscosity", 1e-3),
        Coefficient("forcing", "f: `diagonal`, `kolmogorov` or `none`", "diagonal"),
    ),
    orders={"t": 1, "y": 2, "x": 2},
    residual=residual,
    damping=damping,
    translation_invariant=False,
    source="Li et al. 2021, arXiv:2010.08895",
)
