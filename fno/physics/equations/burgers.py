"""Burgers' equation on a line."""

import math

import torch
from torch import Tensor

from ..derivatives import Derivative
from .base import Coefficient, Conditions, Equation


def residual(u: Tensor, d: Derivative, *, viscosity: float | Tensor) -> Tensor:
    """Return ``u_t + u u_x - viscosity u_xx``."""
    return d(u, "t") + u * d(u, "x") - viscosity * d(u, "x", 2)


def damping(k2: Tensor, *, viscosity: float | Tensor) -> Tensor:
    """Return the rate of diffusion ``viscosity k^2``."""
    return viscosity * k2


def sine(x: Tensor) -> Tensor:
    """Return ``-sin(pi x)``."""
    return -torch.sin(math.pi * x)


BURGERS = Equation(
    name="burgers",
    formula="u_t + u u_x - viscosity u_xx",
    coefficients=(Coefficient("viscosity", "kinematic viscosity", 0.01),),
    orders={"t": 1, "x": 2},
    residual=residual,
    damping=damping,
    conditions=Conditions(
        low=-1.0,
        high=1.0,
        initial=sine,
        coefficients={"viscosity": 0.01 / math.pi},
        source="Raissi et al. 2019, doi:10.1016/j.jcp.2018.10.045",
    ),
)
