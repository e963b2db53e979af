"""Residuals of transport along a line: advection, Burgers' equation, waves."""

from torch import Tensor

from .derivatives import Derivative


def advection(u: Tensor, d: Derivative, beta: float | Tensor = 1.0) -> Tensor:
    """Return ``u_t + beta u_x``."""
    return d(u, "t") + beta * d(u, "x")


def burgers(u: Tensor, d: Derivative, viscosity: float | Tensor = 0.01) -> Tensor:
    """Return ``u_t + u u_x - viscosity u_xx``."""
    return d(u, "t") + u * d(u, "x") - viscosity * d(u, "x", 2)


def wave(u: Tensor, d: Derivative, speed: float | Tensor = 2.0) -> Tensor:
    """Return ``u_tt - speed^2 u_xx``."""
    return d(u, "t", 2) - speed**2 * d(u, "x", 2)
