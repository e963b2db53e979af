"""Linear advection on a line."""

import math

import torch
from torch import Tensor

from ..derivatives import Derivative
from .base import Coefficient, Conditions, Equation, no_damping

KRISHNAPRIYAN = "Krishnapriyan et al. 2021, arXiv:2109.01050"


def residual(u: Tensor, d: Derivative, *, beta: float | Tensor) -> Tensor:
    """Return ``u_t + beta u_x``."""
    return d(u, "t") + beta * d(u, "x")


ADVECTION = Equation(
    name="advection",
    formula="u_t + beta u_x",
    coefficients=(Coefficient("beta", "speed", 1.0),),
    orders={"t": 1, "x": 1},
    residual=residual,
    damping=no_damping,
    conditions=Conditions(
        low=0.0,
        high=2 * math.pi,
        initial=torch.sin,
        coefficients={"beta": 30.0},
        source=KRISHNAPRIYAN,
    ),
)
