"""The Earth as a sphere: differential operators, Coriolis parameter and mean on a global grid."""

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from ..grids import SphereGrid, sphere_nodes
from ..transforms.sht import InverseRealSHT, RealSHT, SphereCalculus

RADIUS = 6.37122e6  # of the Earth [m]
OMEGA = 7.292e-5  # rotation rate of the Earth [1/s]


@dataclass(frozen=True)
class Sphere:
    """A global grid with latitudes from north to south.

    Attributes:
        nlat: number of latitudes.
        nlon: number of longitudes.
        grid: quadrature grid of the latitudes.
        lmax: number of spherical harmonic degrees that derivatives retain.
    """

    nlat: int
    nlon: int
    grid: SphereGrid = "equiangular"
    lmax: int = 64

    @cached_property
    def transforms(self) -> tuple[SphereCalculus, RealSHT, InverseRealSHT]:
        """Derivatives, analysis and synthesis by spherical harmonics."""
        size = (self.nlat, self.nlon, self.lmax)
        orders = min(self.lmax, self.nlon // 2 + 1)
        return (
            SphereCalculus(*size, mmax=orders, grid=self.grid),
            RealSHT(*size, mmax=orders, grid=self.grid),
            InverseRealSHT(*size, mmax=orders, grid=self.grid),
        )

    def latitude(self, like: Tensor) -> Tensor:
        """Return the latitudes [rad], shape (latitude, 1), with the type and device of ``like``."""
        colatitude = sphere_nodes(self.nlat, self.grid)[0]
        return torch.pi / 2 - torch.as_tensor(colatitude, dtype=like.dtype, device=like.device)[:, None]

    def coriolis(self, like: Tensor) -> Tensor:
        """Return the Coriolis parameter ``2 Omega sin(latitude)`` [1/s], shape (latitude, 1)."""
        return 2 * OMEGA * torch.sin(self.latitude(like))

    def divergence(self, u: Tensor, v: Tensor) -> Tensor:
        """Return the divergence of a wind [1/s].

        Args:
            u: eastward wind [m/s], shape (..., latitude, longitude).
            v: northward wind [m/s], same shape.
        """
        calculus, _, synthesise = self.transforms
        return cast(Tensor, synthesise(calculus.divergence(u, v, RADIUS)))

    def curl(self, u: Tensor, v: Tensor) -> Tensor:
        """Return the vertical component of the curl of a wind [1/s]; arguments as for ``divergence``."""
        calculus, _, synthesise = self.transforms
        return cast(Tensor, synthesise(calculus.curl(u, v, RADIUS)))

    def laplacian(self, f: Tensor) -> Tensor:
        """Return the Laplacian, in units of ``f`` per square metre."""
        calculus, analyse, synthesise = self.transforms
        return cast(Tensor, synthesise(calculus.laplacian(analyse(f), RADIUS)))

    def gradient(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Return the eastward and northward components of the gradient, in units of ``f`` per metre."""
        calculus, analyse, _ = self.transforms
        return calculus.gradient(analyse(f), RADIUS)

    def mean(self, f: Tensor) -> Tensor:
        """Return the area-weighted mean over the sphere, shape (...)."""
        weights = torch.as_tensor(sphere_nodes(self.nlat, self.grid)[1], dtype=f.dtype, device=f.device) / 2
        return (f.mean(-1) * weights).sum(-1)
