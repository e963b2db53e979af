"""Initial value problems of one dimension that physics-informed networks are tried on: equation, domain,
initial and boundary values.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .derivatives import Derivative
from .reaction import allen_cahn, cahn_hilliard, reaction, reaction_diffusion
from .transport import advection, burgers, wave


@dataclass(frozen=True)
class Problem:
    """An equation on t in [0, 1] and an interval of x, with what holds at its start and its ends.

    Attributes:
        equation: residual of u given its derivatives and the parameters.
        parameters: numbers of the equation.
        low: left end of x.
        high: right end.
        initial: u at t = 0.
        orders: highest derivatives of the equation along t and x.
        periodic: whether x wraps; else u is zero at both ends.
    """

    equation: Callable[..., Tensor]
    parameters: Mapping[str, float]
    low: float
    high: float
    initial: Callable[[Tensor], Tensor]
    orders: Mapping[str, int] = field(default_factory=lambda: {"t": 1, "x": 2})
    periodic: bool = True

    @property
    def at_rest(self) -> bool:
        """Whether the equation is of second order in time; then u_t = 0 at t = 0."""
        return self.orders["t"] == 2

    def residual(self, u: Tensor, d: Derivative) -> Tensor:
        """Return what is left of the equation at all points."""
        return self.equation(u, d, **self.parameters)


def _bump(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * ((x - math.pi) / (math.pi / 4)) ** 2)


_CIRCLE: dict[str, Any] = {"low": 0.0, "high": 2 * math.pi}
_AROUND_ZERO: dict[str, Any] = {"low": -1.0, "high": 1.0}

PROBLEMS: dict[str, Problem] = {
    "convection": Problem(advection, {"beta": 30.0}, initial=torch.sin, orders={"t": 1, "x": 1}, **_CIRCLE),
    "reaction": Problem(reaction, {"rho": 5.0}, initial=_bump, orders={"t": 1, "x": 0}, **_CIRCLE),
    "reaction_diffusion": Problem(reaction_diffusion, {"nu": 5.0, "rho": 5.0}, initial=_bump, **_CIRCLE),
    "burgers": Problem(
        burgers, {"viscosity": 0.01 / math.pi}, initial=lambda x: -torch.sin(math.pi * x), **_AROUND_ZERO
    ),
    "allen_cahn": Problem(
        allen_cahn,
        {"diffusivity": 1e-4, "rate": 5.0},
        initial=lambda x: x**2 * torch.cos(math.pi * x),
        **_AROUND_ZERO,
    ),
    "cahn_hilliard": Problem(
        cahn_hilliard,
        {"gamma_1": 1e-6, "gamma_2": 1e-2},
        initial=lambda x: torch.cos(math.pi * x) - torch.exp(-4 * (math.pi * x) ** 2),
        orders={"t": 1, "x": 4},
        **_AROUND_ZERO,
    ),
    "wave": Problem(
        wave,
        {"speed": 2.0},
        low=0.0,
        high=1.0,
        initial=lambda x: torch.sin(math.pi * x) + 0.5 * torch.sin(4 * math.pi * x),
        orders={"t": 2, "x": 2},
        periodic=False,
    ),
}
