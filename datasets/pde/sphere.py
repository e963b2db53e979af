"""Spherical harmonics and wind on a Gauss grid in float64, with derivatives by the recurrence in degree.

    H_lm = (1 - mu^2) dP_lm/dmu = (l + 1) e_lm P_(l-1)m - l e_(l+1)m P_(l+1)m
    e_lm = sqrt((l^2 - m^2) / (4 l^2 - 1))

where mu is the sine of latitude. Curl and divergence of a vector are integrated by parts, so that wind and
vorticity are exactly consistent (Durran 2010, section 6.4).
"""

from functools import cached_property

import numpy as np

from ...fno.grids import sphere_nodes
from ...fno.transforms.legendre import legendre
from .etdrk4 import Complex
from .system import Array

RADIUS = 6.37122e6  # of the Earth [m]


class Harmonics:
    """Transforms between a Gauss grid and coefficients, shape (m, l).

    The truncation is triangular at two thirds of the number of latitudes.

    Args:
        nlat: number of latitudes, from north to south; there are twice as many longitudes.
    """

    def __init__(self, nlat: int) -> None:
        self.nlat = nlat
        self.nlon = 2 * nlat
        self.truncation = (2 * nlat - 1) // 3
        theta, weights = sphere_nodes(nlat, "legendre-gauss")
        longitude = np.arange(self.nlon) * 2 * np.pi / self.nlon
        self.grid = (np.pi / 2 - theta, longitude)
        n = self.truncation + 1
        p = legendre(n + 1, n, theta)
        l = np.arange(n + 1)[None, :]
        m = np.arange(n)[:, None]
        e = np.sqrt(np.maximum(l**2 - m**2, 0) / (4 * l**2 - 1.0))
        h = np.zeros((n, n, nlat))
        h[:, 1:] += ((l[:, 1:n] + 1) * e[:, 1:n])[..., None] * p[:, : n - 1]
        h -= (l[:, :n] * e[:, 1:])[..., None] * p[:, 1:]
        self.p = p[:, :n]
        self.h = h * (np.arange(n)[None, :] >= np.arange(n)[:, None])[..., None]
        self.degree = l[:, :n]
        self.order = m
        self.weights = 2 * np.pi * weights
        self.cosine = np.sin(theta)[:, None]

    @cached_property
    def inverse_laplacian(self) -> Array:
        """Factor of each degree that inverts the Laplacian [m^2]; zero for the mean."""
        eigenvalue = self.degree * (self.degree + 1.0)
        return np.asarray(
            -(RADIUS**2) * np.divide(1.0, eigenvalue, out=np.zeros_like(eigenvalue), where=eigenvalue > 0)
        )

    def analyse(self, f: Array) -> Complex:
        """Return the coefficients of a field, shape (latitude, longitude)."""
        return self._integrate(self._to_waves(f), self.p)

    def synthesise(self, a: Complex) -> Array:
        """Return the field with the coefficients ``a``, shape (latitude, longitude)."""
        return self._from_waves(self._sum(a, self.p))

    def wind(self, vorticity: Complex, divergence: Complex) -> tuple[Array, Array]:
        """Return eastward and northward wind [m/s], each of shape (latitude, longitude).

        Args:
            vorticity: coefficients [1/s], shape (m, l).
            divergence: coefficients [1/s], shape (m, l).
        """
        psi = self.inverse_laplacian * vorticity
        chi = self.inverse_laplacian * divergence
        east = self._sum(1j * self.order * chi, self.p) - self._sum(psi, self.h)
        north = self._sum(1j * self.order * psi, self.p) + self._sum(chi, self.h)
        scale = RADIUS * self.cosine
        return self._from_waves(east) / scale, self._from_waves(north) / scale

    def curl_and_divergence(self, u: Array, v: Array) -> tuple[Complex, Complex]:
        """Return the coefficients of curl and divergence of a vector field [1/s], each of shape (m, l).

        Args:
            u: eastward component [m/s], shape (latitude, longitude).
            v: northward component [m/s], same shape.
        """
        east, north = (self._to_waves(f / self.cosine) for f in (u, v))
        curl = 1j * self.order * self._integrate(north, self.p) + self._integrate(east, self.h)
        divergence = 1j * self.order * self._integrate(east, self.p) - self._integrate(north, self.h)
        return curl / RADIUS, divergence / RADIUS

    def random_field(self, rng: np.random.Generator, degrees: int) -> Array:
        """Return a random field of unit variance, divided equally among the degrees 1 to ``degrees``."""
        a = np.zeros(self.p.shape[:2], dtype=complex)
        for l in range(1, degrees + 1):
            re, im = rng.standard_normal((2, l + 1))
            a[0, l] = re[0]
            a[1 : l + 1, l] = (re[1:] + 1j * im[1:]) / np.sqrt(2)
            a[:, l] *= np.sqrt(4 * np.pi / ((2 * l + 1) * degrees))
        return self.synthesise(a)

    def _to_waves(self, f: Array) -> Complex:
        """Return the Fourier coefficients of each row, shape (latitude, m)."""
        return np.asarray(np.fft.rfft(f, axis=1, norm="forward")[:, : self.truncation + 1])

    def _from_waves(self, waves: Complex) -> Array:
        """Return the field with these coefficients, shape (latitude, longitude)."""
        return np.asarray(np.fft.irfft(waves, n=self.nlon, axis=1, norm="forward"))

    def _integrate(self, waves: Complex, table: Array) -> Complex:
        """Return the integrals over latitude with functions, shape (m, l, latitude), as shape (m, l)."""
        return np.asarray((table @ (self.weights[:, None] * waves).T[..., None])[..., 0])

    def _sum(self, a: Complex, table: Array) -> Complex:
        """Return the sums over degrees of functions, shape (m, l, latitude), as shape (latitude, m)."""
        return np.asarray((a[:, None] @ table)[:, 0].T)
