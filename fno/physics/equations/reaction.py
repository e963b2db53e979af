"""The logistic reaction at every point of a line."""

import math

import torch
from torch import Tensor

from ..derivatives import Derivative
from .advection import KRISHNAPRIYAN
from .base import Coefficient, Conditions, Equation, no_damping


def residual(u: Tensor, d: Derivative, *, rho: float | Tensor) -> Tensor:
    """Return ``u_t - rho u (1 - u)``."""
    return d(u, "t") - rho * u * (1 - u)


def gaussian(x: Tensor) -> Tensor:
    """Return the Gaussian of the literature on [0, 2 pi], with standard deviation pi / 4."""
    return torch.exp(-0.5 * ((x - math.pi) / (math.pi / 4)) ** 2)


REACTION = Equation(
    name="reaction",
    formula="u_t - rho u (1 - u)",
    coefficients=(Coefficient("rho", "reaction rate", 5.0),),
    orders={"t": 1, "x": 0},
    residual=residual,
    damping=no_damping,
    conditions=Conditions(
        low=0.0,
        high=2 * math.pi,
        initial=gaussian,
        coefficients={"rho": 5.0},
        source=KRISHNAPRIYAN,
    ),
)
