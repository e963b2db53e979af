"""Residuals of reactions, with diffusion or without."""

from torch import Tensor

from .derivatives import Derivative


def reaction(u: Tensor, d: Derivative, rho: float | Tensor = 5.0) -> Tensor:
    """Return ``u_t - rho u (1 - u)``."""
    return d(u, "t") - rho * u * (1 - u)


def reaction_diffusion(
    u: Tensor, d: Derivative, nu: float | Tensor = 5.0, rho: float | Tensor = 5.0
) -> Tensor:
    """Return ``u_t - nu u_xx - rho u (1 - u)``."""
    return d(u, "t") - nu * d(u, "x", 2) - rho * u * (1 - u)


def allen_cahn(
    u: Tensor, d: Derivative, diffusivity: float | Tensor = 1e-4, rate: float | Tensor = 5.0
) -> Tensor:
    """Return ``u_t - diffusivity u_xx - rate (u - u^3)``."""
    return d(u, "t") - diffusivity * d(u, "x", 2) - rate * (u - u**3)


def cahn_hilliard(
    u: Tensor, d: Derivative, gamma_1: float | Tensor = 1e-6, gamma_2: float | Tensor = 1e-2
) -> Tensor:
    """Return ``u_t - (gamma_2 (u^3 - u) - gamma_1 u_xx)_xx``, the cubic term differentiated by hand."""
    slope, curvature = d(u, "x"), d(u, "x", 2)
    cubic = 6 * u * slope**2 + 3 * u**2 * curvature
    return d(u, "t") - gamma_2 * (cubic - curvature) + gamma_1 * d(u, "x", 4)
