"""Residuals of two-dimensional incompressible flow, given by its vorticity on a torus or a beta plane."""

import math

import torch
from torch import Tensor

from ..errors import InputError
from ..grids import Box
from .derivatives import Derivative, Spectral


def velocity(w: Tensor, space: Spectral) -> tuple[Tensor, Tensor]:
    """Return the flow ``u = -psi_y``, ``v = psi_x`` along x and y with ``Laplacian psi = w``."""
    psi = space.inverse_laplacian(w)
    return -space(psi, "y"), space(psi, "x")


def navier_stokes(
    w: Tensor, d: Derivative, space: Spectral, viscosity: float | Tensor = 1e-3, force: float | Tensor = 0.0
) -> Tensor:
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


def barotropic(
    w: Tensor, d: Derivative, space: Spectral, beta: float, drag: float = 0.0, force: float | Tensor = 0.0
) -> Tensor:
    """Return ``w_t + u w_x + v (w_y + beta) + drag w - f`` [1/s^2] for vorticity [1/s]; arguments as for
    ``navier_stokes``.

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


def force(name: str, box: Box, like: Tensor) -> Tensor:
    """Return the curl of a force on a torus, shape (y, x).

    Args:
        name: ``diagonal`` is 0.1 (sin 2 pi (x + y) + cos 2 pi (x + y)) with x and y in units of the side (Li
            et al. 2021), ``kolmogorov`` is -4 cos(4 y) with y from 0 to 2 pi along the side, ``none`` is
            zero.
        box: grid.
        like: a tensor of the wanted type and device.

    Raises:
        InputError: another name.
    """
    y, x = torch.meshgrid(
        *[2 * math.pi / n * torch.arange(n, dtype=like.dtype, device=like.device) for n in box.shape],
        indexing="ij",
    )
    if name == "diagonal":
        return 0.1 * (torch.sin(x + y) + torch.cos(x + y))
    if name == "kolmogorov":
        return -4 * torch.cos(4 * y)
    if name == "none":
        return torch.zeros_like(x)
    raise InputError(f"no force {name!r}; there are diagonal, kolmogorov, none")
