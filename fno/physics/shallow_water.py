"""Residuals of shallow water on the rotating sphere."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ..grids import SphereGrid, sphere_nodes
from ..transforms.sht import InverseRealSHT, RealSHT, SphereCalculus

RADIUS = 6.37122e6  # of the Earth [m]
OMEGA = 7.292e-5  # rotation of the Earth [1/s]
GRAVITY = 9.80616  # [m/s^2]


@dataclass(frozen=True)
class ShallowWaterResidual:
    """What is left of the equations, each at all grid points, shape (..., t, latitude, longitude).

    Attributes:
        vorticity: ``d zeta / dt + div((zeta + f) v)`` [1/s^2].
        divergence: ``d delta / dt - curl((zeta + f) v) + Laplacian(g h + |v|^2 / 2)`` [1/s^2].
        mass: ``d D / dt + div(D v)`` [m/s], with the depth D.
    """

    vorticity: Tensor
    divergence: Tensor
    mass: Tensor


def shallow_water(
    height: Tensor,
    u: Tensor,
    v: Tensor,
    seconds: float,
    grid: SphereGrid,
    lmax: int,
    mountain: float | Tensor = 0.0,
) -> ShallowWaterResidual:
    """Return the residuals of a series of states, by spherical harmonics and central differences in time.

    Args:
        height: height of the surface [m], shape (..., t, latitude, longitude), rows from north to south.
        u: eastward wind [m/s].
        v: northward wind [m/s].
        seconds: time between states [s].
        grid: kind of latitudes.
        lmax: degrees that derivatives are taken of.
        mountain: height of the ground [m].

    Returns:
        Residuals at all times but the first and the last.
    """
    nlat, nlon = height.shape[-2:]
    arguments = (nlat, nlon, lmax, min(lmax, nlon // 2 + 1), grid)
    calculus, analyse, field = SphereCalculus(*arguments), RealSHT(*arguments), InverseRealSHT(*arguments)
    latitude = torch.pi / 2 - torch.as_tensor(
        sphere_nodes(nlat, grid)[0], dtype=height.dtype, device=height.device
    )
    coriolis = 2 * OMEGA * torch.sin(latitude)[:, None]

    def curl(a: Tensor, b: Tensor) -> Tensor:
        return cast(Tensor, field(calculus.curl(a, b, RADIUS)))

    def divergence(a: Tensor, b: Tensor) -> Tensor:
        return cast(Tensor, field(calculus.divergence(a, b, RADIUS)))

    def tendency(x: Tensor) -> Tensor:
        return (x[..., 2:, :, :] - x[..., :-2, :, :]) / (2 * seconds)

    spin, spread, depth = curl(u, v), divergence(u, v), height - mountain
    east, north = (spin + coriolis) * u, (spin + coriolis) * v
    energy = field(calculus.laplacian(analyse(GRAVITY * height + (u**2 + v**2) / 2), RADIUS))
    inner = (Ellipsis, slice(1, -1), slice(None), slice(None))
    return ShallowWaterResidual(
        tendency(spin) + divergence(east, north)[inner],
        tendency(spread) - curl(east, north)[inner] + energy[inner],
        tendency(depth) + divergence(depth * u, depth * v)[inner],
    )
