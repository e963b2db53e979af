"""The Allen-Cahn equation of phase separation on a line."""

import math

import torch
from torch import Tensor

from ..derivatives import Derivative
from .base import Coefficient, Conditions, Equation

WIGHT = "Wight and Zhao 2020, arXiv:2007.04542"


def residual(u: Tensor, d: Derivative, *, diffusivity: float | Tensor, rate: float | Tensor) -> Tensor:
    """Return ``u_t - diffusivity u_xx - rate (u - u^3)``."""
    return d(u, "t") - diffusivity * d(u, "x", 2) - rate * (u - u**3)


def damping(k2: Tensor, *, diffusivity: float | Tensor, rate: float | Tensor) -> Tensor:
    """Return the rate of diffusion ``diffusivity k^2``; growth by the reaction is not part of it."""
    return diffusivity * k2


def initial(x: Tensor) -> Tensor:
    """Return ``x^2 cos(pi x)``."""
    return x**2 * torch.cos(math.pi * x)


ALLEN_CAHN = Equation(
    name="allen_cahn",
    formula="u_t - diffusivity u_xx - rate (u - u³)",
    coefficients=(
        Coefficient("diffusivity", "diffusivity of the order parameter", 1e-4),
        Coefficient("rate", "reaction rate", 5.0),
    ),
    orders={"t": 1, "x": 2},
    residual=residual,
    damping=damping,
    conditions=Conditions(
        low=-1.0,
        high=1.0,
        initial=initial,
        coefficients={"diffusivity": 1e-4, "rate": 5.0},
        source=WIGHT,
    ),
)
