"""The Cahn-Hilliard equation of phase separation on a line, which conserves the mean of u."""

import math

import torch
from torch import Tensor

from ..derivatives import Derivative
from .allen_cahn import WIGHT
from .base import Coefficient, Conditions, Equation


def residual(u: Tensor, d: Derivative, *, gamma_1: float | Tensor, gamma_2: float | Tensor) -> Tensor:
    """Return ``u_t - (gamma_2 (u^3 - u) - gamma_1 u_xx)_xx``.

    The cubic term is expanded by the product rule, ``(u^3)_xx = 6 u u_x^2 + 3 u^2 u_xx``.
    """
    slope = d(u, "x")
    curvature = d(u, "x", 2)
    cubic = 6 * u * slope**2 + 3 * u**2 * curvature
    return d(u, "t") - gamma_2 * (cubic - curvature) + gamma_1 * d(u, "x", 4)


def damping(k2: Tensor, *, gamma_1: float | Tensor, gamma_2: float | Tensor) -> Tensor:
    """Return ``gamma_1 k^4``, the rate of the interface term; growth by the bulk term is not part of it."""
    return gamma_1 * k2**2


def initial(x: Tensor) -> Tensor:
    """Return ``cos(pi x) - exp(-4 (pi x)^2)``."""
    return torch.cos(math.pi * x) - torch.exp(-4 * (math.pi * x) ** 2)


CAHN_HILLIARD = Equation(
    name="cahn_hilliard",
    formula="u_t - (gamma_2 (u³ - u) - gamma_1 u_xx)_xx",
    coefficients=(
        Coefficient("gamma_1", "interface energy", 1e-6),
        Coefficient("gamma_2", "bulk energy", 1e-2),
    ),
    orders={"t": 1, "x": 4},
    residual=residual,
    damping=damping,
    conditions=Conditions(
        low=-1.0,
        high=1.0,
        initial=initial,
        coefficients={"gamma_1": 1e-6, "gamma_2": 1e-2},
        source=WIGHT,
    ),
)
