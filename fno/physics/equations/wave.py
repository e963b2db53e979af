"""The wave equation on a line with fixed ends."""

import math

import torch
from torch import Tensor

from ..derivatives import Derivative
from .base import Coefficient, Conditions, Equation


def residual(u: Tensor, d: Derivative, *, speed: float | Tensor) -> Tensor:
    """Return ``u_tt - speed^2 u_xx``."""
    return d(u, "t", 2) - speed**2 * d(u, "x", 2)


def initial(x: Tensor) -> Tensor:
    """Return ``sin(pi x) + sin(4 pi x) / 2``."""
    return torch.sin(math.pi * x) + 0.5 * torch.sin(4 * math.pi * x)


WAVE = Equation(
    name="wave",
    formula="u_tt - speed² u_xx",
    coefficients=(Coefficient("speed", "wave speed", 2.0),),
    orders={"t": 2, "x": 2},
    residual=residual,
    conditions=Conditions(
        low=0.0,
        high=1.0,
        initial=initial,
        coefficients={"speed": 2.0},
        periodic=False,
        source="Wang et al. 2022, doi:10.1016/j.jcp.2021.110768",
    ),
)
