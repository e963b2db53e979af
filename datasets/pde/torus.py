"""Two-dimensional flow on a torus, pseudo-spectrally in float64 with the 2/3 rule and ETDRK4; stored low-pass
filtered.

w_t + u . grad w = viscosity Laplacian w + f,   u = (-psi_y, psi_x),   Laplacian psi = w
"""

from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .etdrk4 import ETDRK4, STABLE, Complex
from .random_fields import GaussianField
from .resample import resample
from .system import (
    Array,
    Count,
    Evolution,
    NonNegative,
    Positive,
    periodic_axis,
    variable,
    warn_lost,
    warn_unresolved,
)


class NavierStokes(Evolution):
    """Incompressible flow, as vorticity, from a random state of rest on average.

    The initial state has the waves that the stored grid holds, those of the 2/3 rule where ``refine`` is 1,
    and every state is low-pass filtered to the stored grid. So the stored initial state determines the stored
    solution.

    Attributes:
        viscosity: kinematic viscosity.
        length: side of the torus; 1, or 2 pi for ``kolmogorov``, by default.
        forcing: ``diagonal`` is 0.1 (sin 2 pi (x + y) + cos 2 pi (x + y)) with x and y in units of the side
            (Li et al. 2021), ``kolmogorov`` is -4 cos(4 y) with y from 0 to 2 pi along the side, ``none``
            lets the flow decay.
        alpha: see ``GaussianField``.
        tau: see ``GaussianField``.
        sigma: see ``GaussianField``.
        refine: points of the solver for one of the result, along each dimension.
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

    @property
    def side(self) -> float:
        """Side of the torus."""
        return self.length or (2 * np.pi if self.forcing == "kolmogorov" else 1.0)

    def template(self) -> xr.Dataset:
        """Return coordinates t, y and x, and the vorticity."""
        n = self.resolution
        coords = {"time": self.time_coordinate()} | {
            d: periodic_axis(d, n, 0.0, self.side) for d in ("y", "x")
        }
        dims = ("time", "y", "x")
        return xr.Dataset(
            {"vorticity": variable(dims, {"time": self.frames + 1, "y": n, "x": n}, "vorticity")}, coords
        )

    def force(self, points: int) -> Array:
        """Return f on a grid (y, x)."""
        y, x = np.meshgrid(*[2 * np.pi * np.arange(points) / points] * 2, indexing="ij")
        if self.forcing == "diagonal":
            return np.asarray(0.1 * (np.sin(x + y) + np.cos(x + y)))
        return np.asarray(-4 * np.cos(4 * y)) if self.forcing == "kolmogorov" else np.zeros_like(y)

    def begin(self, rng: np.random.Generator, points: int) -> Array:
        """Return the initial vorticity on so many points; a random one has only the waves that ``resolution``
        points hold.
        """
        return GaussianField(self.alpha, self.tau, self.sigma).draw(rng, points, 2, band=self.resolution)

    def instance(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the initial vorticity that is stored."""
        points = self.resolution * self.refine
        waves = Waves(points, self.side)
        kept = waves.field(waves.keep * np.fft.rfft2(self.begin(rng, points)))
        return {"vorticity": resample(kept, self.resolution, (-2, -1))}

    @np.errstate(over="ignore", invalid="ignore")
    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the vorticity."""
        points = self.resolution * self.refine
        waves = Waves(points, self.side)
        force = np.fft.rfft2(self.force(points))
        w = np.fft.rfft2(resample(self.instance(rng)["vorticity"], points, (-2, -1)))
        linear, stepper = -self.viscosity * waves.k2, None
        frames = [waves.field(w)]
        for _ in range(self.frames):
            u, v = waves.velocity(w)
            speed = max(float((np.abs(u) + np.abs(v)).max()), np.finfo(float).tiny)
            longest = STABLE / (speed * waves.largest)
            count = self.substeps(longest, min(longest / 4, self.duration / self.frames))
            if stepper is None or stepper.step != self.duration / self.frames / count:
                stepper = ETDRK4(linear, self.duration / self.frames / count)
            for _ in range(count):
                w = stepper(w, lambda w: waves.advection(w) + force)
            frames.append(waves.field(w))
            if not np.isfinite(frames[-1]).all():
                raise ValueError(
                    f"the flow left the finite numbers before time {self.times[len(frames) - 1]:g}; use a shorter step or a finer grid"
                )
        warn_unresolved(waves.spectrum(w), "the flow", f"use refine={2 * self.refine}, or more viscosity")
        fine = np.stack(frames)
        stored = resample(fine, self.resolution, (-2, -1))
        warn_lost(fine, stored, "the flow", self.resolution)
        return {"vorticity": stored}


class Waves:
    """Waves of a torus, and what can be done with fields given by them, shape (ky, kx >= 0).

    Args:
        points: grid points along each side.
        side: length of a side.
    """

    def __init__(self, points: int, side: float) -> None:
        index = np.fft.fftfreq(points, 1 / points)
        unit = 2 * np.pi / side
        self.points, self.ky, self.kx = (
            points,
            unit * index[:, None],
            unit * np.abs(index[None, : points // 2 + 1]),
        )
        self.k2 = self.kx**2 + self.ky**2
        self.inverse = np.divide(1.0, self.k2, out=np.zeros_like(self.k2), where=self.k2 > 0)
        self.keep: NDArray[np.bool_] = (self.kx < unit * points / 3) & (np.abs(self.ky) < unit * points / 3)
        self.shell = np.rint(np.sqrt(self.k2) / unit).astype(int)
        self.largest = float(self.kx[self.keep.any(axis=0)[None]].max())

    def field(self, w: Complex) -> Array:
        """Return values on the grid."""
        return np.asarray(np.fft.irfft2(w, s=(self.points, self.points)))

    def velocity(self, w: Complex) -> tuple[Array, Array]:
        """Return the flow along x and y that has vorticity ``w``."""
        psi = -self.inverse * w
        return self.field(-1j * self.ky * psi), self.field(1j * self.kx * psi)

    def advection(self, w: Complex) -> Complex:
        """Return ``-u . grad w`` without aliasing."""
        u, v = self.velocity(w)
        return np.asarray(
            -(self.keep * np.fft.rfft2(u * self.field(1j * self.kx * w) + v * self.field(1j * self.ky * w)))
        )

    def spectrum(self, w: Complex) -> Array:
        """Return the variance of w by shells of wave numbers that are kept."""
        twice = np.where((self.kx > 0) & (self.kx < self.kx.max()), 2.0, 1.0) * np.ones_like(self.k2)
        most = self.points // 3
        shells = np.bincount(self.shell.ravel(), (twice * np.abs(w) ** 2).ravel())
        return np.asarray(shells[: most + 1])
