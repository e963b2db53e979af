"""Residuals of two-dimensional incompressible flow, given by its vorticity on a torus or a beta plane."""

from torch import Tensor

from .derivatives import Derivative, Spectral


def velocity(w: Tensor, space: Spectral) -> tuple[Tensor, Tensor]:
    """Return the flow ``u = -psi_y``, ``v = psi_x`` along x and y with ``Laplacian psi = w``."""
    psi = space.inverse_laplacian(w)
    return -space(psi, "y"), space(psi, "x")


def navier_stokes(w: Tensor, d: Derivative, space: Spectral, viscosity: float | Tensor = 1e-3, force: float | Tensor = 0.0) -> Tensor:
    """Return ``w_t + u w_x + v w_y - viscosity (w_xx + w_yy) - f``.

    Args:
        w: vorticity, shape (..., t, y, x), or (..., y, x) where ``d`` knows the time derivative otherwise.
        d: derivatives along t, y and x.
        space: spectral derivatives along y and x, from which the flow is found.
        viscosity: kinematic viscosity.
        force: f.
    """
    u, v = velocity(w, space)
    return d(w, "t") + u * d(w, "x") + v * d(w, "y") - viscosity * (d(w, "x", 2) + d(w, "y", 2)) - force


def barotropic(w: Tensor, d: Derivative, space: Spectral, beta: float, drag: float = 0.0, force: float | Tensor = 0.0) -> Tensor:
    """Return ``w_t + u w_x + v (w_y + beta) + drag w - f`` [1/s^2] for vorticity [1/s]; arguments as for ``navier_stokes``.

    Args:
        w: vorticity [1/s].
        d: derivatives along t, y and x, in seconds and metres.
        space: spectral derivatives along y and x.
        beta: gradient of planetary vorticity [1/(m s)].
        drag: linear drag [1/s].
        force: f [1/s^2].
    """
    u, v = velocity(w, space)
    return d(w, "t") + u * d(w, "x") + v * (d(w, "y") + beta) + drag * w - force
