"""The logistic reaction with diffusion on a line."""

import math

from torch import Tensor

from ..derivatives import Derivative
from .advection import KRISHNAPRIYAN
from .base import Coefficient, Conditions, Equation
from .reaction import gaussian


def residual(u: Tensor, d: Derivative, *, nu: float | Tensor, rho: float | Tensor) -> Tensor:
    """Return ``u_t - nu u_xx - rho u (1 - u)``."""
    return d(u, "t") - nu * d(u, "x", 2) - rho * u * (1 - u)


def damping(k2: Tensor, *, nu: float | Tensor, rho: float | Tensor) -> Tensor:
    """Return the rate of diffusion ``nu k^2``."""
    return nu * k2


REACTION_DIFFUSION = Equation(
    name="reaction_diffusion",
    formula="u_t - nu u_xx - rho u (1 - u)",
    coefficients=(Coefficient("nu", "diffusivity", 5.0), Coefficient("rho", "reaction rate", 5.0)),
    orders={"t": 1, "x": 2},
    residual=residual,
    damping=damping,
    conditions=Conditions(
        low=0.0,
        high=2 * math.pi,
        initial=gaussian,
        coefficients={"nu": 5.0, "rho": 5.0},
        source=KRISHNAPRIYAN,
    ),
)
