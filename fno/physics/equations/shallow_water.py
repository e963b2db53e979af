"""Shallow water on the rotating sphere."""

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from ...grids import SphereGrid, sphere_nodes
from ...transforms.sht import InverseRealSHT, RealSHT, SphereCalculus
from .base import Coefficient, Equation

RADIUS = 6.37122e6  # of the Earth [m]
OMEGA = 7.292e-5  # rotation of the Earth [1/s]
GRAVITY = 9.80616  # [m/s^2]


@dataclass(frozen=True)
class ShallowWaterResidual:
    """Residuals of the three equations, shape (..., t, latitude, longitude).

    Attributes:
        vorticity: ``d zeta / dt + div((zeta + f) v)`` [1/s^2].
        divergence: ``d delta / dt - curl((zeta + f) v) + Laplacian(g h + |v|^2 / 2)`` [1/s^2].
        mass: ``d D / dt + div(D v)`` [m/s], with the depth D.
    """

    vorticity: Tensor
    divergence: Tensor
    mass: Tensor


@dataclass(frozen=True)
class SphereDerivatives:
    """Derivatives on the sphere by spherical harmonics, and in time by central differences.

    Attributes:
        shape: latitudes, from north to south, and longitudes.
        grid: kind of latitudes.
        lmax: number of degrees of the transforms.
        seconds: time between states [s].
    """

    shape: tuple[int, int]
    grid: SphereGrid
    lmax: int
    seconds: float

    @cached_property
    def _transforms(self) -> tuple[SphereCalculus, RealSHT, InverseRealSHT]:
        nlat, nlon = self.shape
        arguments = (nlat, nlon, self.lmax, min(self.lmax, nlon // 2 + 1), self.grid)
        return SphereCalculus(*arguments), RealSHT(*arguments), InverseRealSHT(*arguments)

    def coriolis(self, like: Tensor) -> Tensor:
        """Return the Coriolis parameter ``2 Omega sin(latitude)`` [1/s], shape (latitude, 1)."""
        colatitude = sphere_nodes(self.shape[0], self.grid)[0]
        latitude = torch.pi / 2 - torch.as_tensor(colatitude, dtype=like.dtype, device=like.device)
        return 2 * OMEGA * torch.sin(latitude)[:, None]

    def curl(self, u: Tensor, v: Tensor) -> Tensor:
        """Return the vertical component of the curl of a vector field [1/s]."""
        calculus, _, synthesise = self._transforms
        return cast(Tensor, synthesise(calculus.curl(u, v, RADIUS)))

    def divergence(self, u: Tensor, v: Tensor) -> Tensor:
        """Return the divergence of a vector field [1/s]."""
        calculus, _, synthesise = self._transforms
        return cast(Tensor, synthesise(calculus.divergence(u, v, RADIUS)))

    def laplacian(self, field: Tensor) -> Tensor:
        """Return the Laplacian of a field."""
        calculus, analyse, synthesise = self._transforms
        return cast(Tensor, synthesise(calculus.laplacian(analyse(field), RADIUS)))

    def tendency(self, field: Tensor) -> Tensor:
        """Return the time derivative of a field (..., t, latitude, longitude), without its end times."""
        return (field[..., 2:, :, :] - field[..., :-2, :, :]) / (2 * self.seconds)


def residual(
    state: tuple[Tensor, Tensor, Tensor], d: SphereDerivatives, *, mountain: float | Tensor
) -> ShallowWaterResidual:
    """Return the residuals of a series of states.

    Args:
        state: height of the surface [m], eastward and northward wind [m/s], each of shape
            (..., t, latitude, longitude).
        d: derivatives on the grid of the state.
        mountain: height of the ground [m].

    Returns:
        Residuals at all times except the first and the last.
    """
    height, u, v = state
    vorticity = d.curl(u, v)
    absolute = vorticity + d.coriolis(height)
    depth = height - mountain
    east = absolute * u
    north = absolute * v
    energy = d.laplacian(GRAVITY * height + (u**2 + v**2) / 2)
    inner = (Ellipsis, slice(1, -1), slice(None), slice(None))
    return ShallowWaterResidual(
        d.tendency(vorticity) + d.divergence(east, north)[inner],
        d.tendency(d.divergence(u, v)) - d.curl(east, north)[inner] + energy[inner],
        d.tendency(depth) + d.divergence(depth * u, depth * v)[inner],
    )


SHALLOW_WATER = Equation(
    name="shallow_water",
    formula=(
        "zeta_t + div((zeta + f) v); delta_t - curl((zeta + f) v) + Laplacian(g h + v² / 2); D_t + div(D v)"
    ),
    coefficients=(Coefficient("mountain", "height of the ground", 0.0, "m"),),
    orders={"t": 1, "latitude": 2, "longitude": 2},
    residual=residual,
    translation_invariant=False,
    source="Williamson et al. 1992, doi:10.1016/S0021-9991(05)80016-6",
)
