"""Gaussian random fields on a periodic box, the same function at every resolution.

    f(x) = sum_k a_k sqrt(2) (xi_k cos(2 pi k.x) + eta_k sin(2 pi k.x))
    a_k = sigma (4 pi^2 |k|^2 + tau^2)^(-alpha / 2)

over half of all wave vectors k (k and -k are the same wave), with independent standard normal xi and eta, and
x in units of the box. It is a draw from N(0, sigma^2 (-Laplacian + tau^2)^-alpha) minus its mean. Random
numbers are drawn in the order of increasing wave number, so a finer grid only adds small scales.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GaussianField:
    """The distribution of a random field.

    Attributes:
        alpha: exponent of the decay of the spectrum.
        tau: inverse length below which the spectrum is flat.
        sigma: amplitude.
    """

    alpha: float
    tau: float
    sigma: float

    def amplitude(self, k: Array) -> Array:
        """Return a_k for wave numbers |k| in waves per box."""
        return np.asarray(self.sigma * (4 * np.pi**2 * k**2 + self.tau**2) ** (-self.alpha / 2))

    def draw(
        self, rng: np.random.Generator, points: int, dimensions: int = 1, *, band: int | None = None
    ) -> Array:
        """Return a field on a periodic grid, whose last points are one spacing from its ends.

        Args:
            rng: source of xi and eta.
            points: points along each dimension.
            dimensions: number of dimensions.
            band: points of a coarser grid; only the waves that it resolves are drawn,
                ``|k| <= (band - 1) // 2``.

        Returns:
            Field, shape (points,) * dimensions.
        """
        waves = _waves((min(points, band or points) - 1) // 2, dimensions)
        xi, eta = rng.standard_normal((len(waves), 2)).T
        half = self.amplitude(np.sqrt((waves**2).sum(axis=1).astype(float))) / np.sqrt(2) * (xi - 1j * eta)
        spectrum = np.zeros((points,) * dimensions, dtype=complex)
        spectrum[tuple(waves.T)] = half
        spectrum[tuple(-waves.T)] = half.conj()
        return np.asarray(np.fft.ifftn(spectrum, norm="forward").real)

    def draw_sines(self, rng: np.random.Generator, points: int) -> Array:
        """Return a random sine series on [0, 1], which is zero at both ends, shape (points,).

        Args:
            rng: source of the random coefficients.
            points: number of grid points, both ends included.
        """
        n = np.arange(1, points - 1)
        waves = self.amplitude(n / 2) * np.sqrt(2) * rng.standard_normal(len(n))
        return np.asarray(np.sin(np.pi * np.outer(np.linspace(0, 1, points), n)) @ waves)


@lru_cache(maxsize=8)
def _waves(largest: int, dimensions: int) -> NDArray[np.int64]:
    """Return half of the wave vectors with entries up to ``largest``, sorted by their largest entry.

    A larger ``largest`` only appends to the list.
    """
    axes = np.meshgrid(*[np.arange(-largest, largest + 1)] * dimensions, indexing="ij")
    waves = np.stack([a.ravel() for a in axes], axis=1)
    first = np.array([next((n for n in wave if n), 0) for wave in waves.tolist()])
    waves = waves[first > 0]
    order = np.lexsort((*waves.T, np.abs(waves).max(axis=1)))
    return np.asarray(waves[order])
