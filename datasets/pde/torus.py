"""Two-dimensional incompressible flow on a torus, solved pseudo-spectrally with the 2/3 rule and ETDRK4.

w_t + u . grad w = viscosity Laplacian w + f,   u = (-psi_y, psi_x),   Laplacian psi = w
"""

from typing import ClassVar, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .etdrk4 import ETDRK4, STABLE, Complex
from .random_fields import GaussianField
from .resample import resample
from .system import (
    Array,
    Count,
    EvolvingSystem,
    NonNegative,
    Positive,
    periodic_axis,
    variable,
    warn_truncated,
    warn_unresolved,
)


class NavierStokes(EvolvingSystem):
    """Incompressible flow as vorticity, from a random initial state of zero mean.

    The initial state contains the waves that the stored grid resolves (those of the 2/3 rule if ``refine`` is
    1), and every state is low-pass filtered to the stored grid, so that the stored initial state determines
    the stored solution.

    Attributes:
        viscosity: kinematic viscosity.
        length: side of the torus; by default 1, or 2 pi for ``kolmogorov``.
        forcing: ``diagonal`` is 0.1 (sin 2 pi (x + y) + cos 2 pi (x + y)) with x and y in units of the side
            (Li et al. 2021), ``kolmogorov`` is -4 cos(4 y) with y from 0 to 2 pi along the side, ``none``
            is free decay.
        alpha: see ``GaussianField``.
        tau: see ``GaussianField``.
        sigma: see ``GaussianField``.
        refine: solver points per stored point along each dimension.
    """

    viscosity: NonNegative = 1e-3
    length: Positive | None = None
    forcing: Literal["diagonal", "kolmogorov", "none"] = "diagonal"
    alpha: NonNegative = 2.5
    tau: Positive = 7.0
    sigma: NonNegative = 7.0**1.5
    refine: Count = 1
    duration: Positive = 20.0
    frames: Count = 20

    coefficients: ClassVar[tuple[str, ...]] = ("viscosity", "forcing")

    @property
    def side(self) -> float:
        """Side of the torus."""
        return self.length or (2 * np.pi if self.forcing == "kolmogorov" else 1.0)

    def template(self) -> xr.Dataset:
        """Return the coordinates time, y and x, and the vorticity."""
        n = self.resolution
        coords = {"time": self.time_coordinate()} | {
            d: periodic_axis(d, n, start=0.0, length=self.side) for d in ("y", "x")
        }
        sizes = {"time": self.frames + 1, "y": n, "x": n}
        return xr.Dataset({"vorticity": variable(tuple(sizes), sizes, long_name="vorticity")}, coords)

    def force(self, points: int) -> Array:
        """Return f on a grid of ``points`` points along each side, shape (y, x)."""
        y, x = np.meshgrid(*[2 * np.pi * np.arange(points) / points] * 2, indexing="ij")
        if self.forcing == "diagonal":
            return np.asarray(0.1 * (np.sin(x + y) + np.cos(x + y)))
        return np.asarray(-4 * np.cos(4 * y)) if self.forcing == "kolmogorov" else np.zeros_like(y)

    def initial_state(self, rng: np.random.Generator, points: int) -> Array:
        """Return the initial vorticity on a grid of ``points`` points along each side, shape (y, x).

        It contains only the waves that ``resolution`` points resolve.
        """
        return GaussianField(self.alpha, self.tau, self.sigma).draw(rng, points, 2, band=self.resolution)

    def sample_inputs(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the stored initial vorticity."""
        points = self.resolution * self.refine
        torus = SpectralTorus(points, self.side)
        filtered = torus.to_grid(torus.dealiased * np.fft.rfft2(self.initial_state(rng, points)))
        return {"vorticity": resample(filtered, self.resolution, (-2, -1))}

    @np.errstate(over="ignore", invalid="ignore")
    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the vorticity, shape (time, y, x)."""
        points = self.resolution * self.refine
        torus = SpectralTorus(points, self.side)
        force = np.fft.rfft2(self.force(points))
        w = np.fft.rfft2(resample(self.sample_inputs(rng)["vorticity"], points, (-2, -1)))
        linear = -self.viscosity * torus.k2
        stepper: ETDRK4 | None = None
        frames = [torus.to_grid(w)]
        for _ in range(self.frames):
            u, v = torus.velocity(w)
            speed = max(float((np.abs(u) + np.abs(v)).max()), np.finfo(float).tiny)
            longest = STABLE / (speed * torus.largest_wave_number)
            count = self.substeps(longest, min(longest / 4, self.duration / self.frames))
            if stepper is None or stepper.step != self.duration / self.frames / count:
                stepper = ETDRK4(linear, self.duration / self.frames / count)
            for _ in range(count):
                w = stepper(w, lambda w: torus.advection(w) + force)
            frames.append(torus.to_grid(w))
            if not np.isfinite(frames[-1]).all():
                raise ValueError(
                    f"the flow became infinite or NaN before time {self.times[len(frames) - 1]:g}; "
                    "use a shorter step or a finer grid"
                )
        warn_unresolved(torus.spectrum(w), "the flow", f"use refine={2 * self.refine} or a larger viscosity")
        fine = np.stack(frames)
        stored = resample(fine, self.resolution, (-2, -1))
        warn_truncated(fine, stored, name="the flow", points=self.resolution)
        return {"vorticity": stored}


class SpectralTorus:
    """Operations on fields of a torus in Fourier space, shape (ky, kx >= 0).

    Args:
        points: grid points along each side.
        side: length of a side.

    Attributes:
        k2: squared wave number of each wave.
        inverse: 1 / k2, zero for the mean.
        dealiased: waves that are retained by the 2/3 rule.
        largest_wave_number: largest retained wave number along x.
    """

    def __init__(self, points: int, side: float) -> None:
        index = np.fft.fftfreq(points, 1 / points)
        unit = 2 * np.pi / side
        self.points = points
        self.ky = unit * index[:, None]
        self.kx = unit * np.abs(index[None, : points // 2 + 1])
        self.k2 = self.kx**2 + self.ky**2
        self.inverse = np.divide(1.0, self.k2, out=np.zeros_like(self.k2), where=self.k2 > 0)
        limit = unit * points / 3
        self.dealiased: NDArray[np.bool_] = (self.kx < limit) & (np.abs(self.ky) < limit)
        self.shell = np.rint(np.sqrt(self.k2) / unit).astype(int)
        self.largest_wave_number = float(self.kx[self.dealiased.any(axis=0)[None]].max())

    def to_grid(self, w: Complex) -> Array:
        """Return the values on the grid, shape (y, x)."""
        return np.asarray(np.fft.irfft2(w, s=(self.points, self.points)))

    def velocity(self, w: Complex) -> tuple[Array, Array]:
        """Return the velocity along x and y on the grid for the vorticity ``w``."""
        psi = -self.inverse * w
        return self.to_grid(-1j * self.ky * psi), self.to_grid(1j * self.kx * psi)

    def advection(self, w: Complex) -> Complex:
        """Return the dealiased advection term ``-u . grad w``."""
        u, v = self.velocity(w)
        slope = u * self.to_grid(1j * self.kx * w) + v * self.to_grid(1j * self.ky * w)
        return np.asarray(-(self.dealiased * np.fft.rfft2(slope)))

    def spectrum(self, w: Complex) -> Array:
        """Return the variance of w by shells of retained wave numbers, up to a factor, shape (shell,)."""
        multiplicity = np.where((self.kx > 0) & (self.kx < self.kx.max()), 2.0, 1.0) * np.ones_like(self.k2)
        shells = np.bincount(self.shell.ravel(), (multiplicity * np.abs(w) ** 2).ravel())
        return np.asarray(shells[: self.points // 3 + 1])
