"""Base classes of equations on a line: initial states, and a Fourier solver on a refined grid."""

import math
from abc import abstractmethod
from typing import Literal

import numpy as np
import xarray as xr

from .etdrk4 import ETDRK4, STABLE, Complex
from .random_fields import GaussianField
from .resample import resample
from .system import (
    Array,
    Count,
    EvolvingSystem,
    NonNegative,
    Positive,
    Real,
    periodic_axis,
    variable,
    warn_truncated,
    warn_unresolved,
)

Initial = Literal["random", "standard"]


class Line(EvolvingSystem):
    """A field u(t, x) on a periodic line.

    Attributes:
        initial: ``standard`` is the initial state of the literature, ``random`` a Gaussian random field on
            the unit box.
        start: left end of the line.
        length: length of the line.
        alpha: see ``GaussianField``.
        tau: see ``GaussianField``.
        sigma: see ``GaussianField``.
    """

    initial: Initial = "random"
    start: Real = 0.0
    length: Positive = 2 * np.pi
    alpha: NonNegative = 2.0
    tau: Positive = 5.0
    sigma: NonNegative = 25.0

    def template(self) -> xr.Dataset:
        """Return the coordinates time and x, and the variable u."""
        sizes = {"time": self.frames + 1, "x": self.resolution}
        coords = {
            "time": self.time_coordinate(),
            "x": periodic_axis("x", self.resolution, start=self.start, length=self.length),
        }
        return xr.Dataset({"u": variable(("time", "x"), sizes, long_name="solution")}, coords)

    def is_random(self) -> bool:
        """Return whether samples differ."""
        return self.initial == "random"

    def nodes(self, points: int) -> Array:
        """Return the coordinates of a grid of ``points`` points."""
        return self.start + self.length / points * np.arange(points, dtype=np.float64)

    def initial_state(self, rng: np.random.Generator, points: int) -> Array:
        """Return the initial state, shape (points,).

        A random one contains only the waves that ``resolution`` points resolve.

        Args:
            rng: source of the sample's random numbers.
            points: number of grid points.
        """
        if self.initial == "standard":
            return self.standard_state(self.nodes(points))
        return GaussianField(self.alpha, self.tau, self.sigma).draw(rng, points, band=self.resolution)

    def sample_inputs(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the initial state."""
        return {"u": self.initial_state(rng, self.resolution)}

    @abstractmethod
    def standard_state(self, x: Array) -> Array:
        """Return the initial state of the literature at the coordinates ``x``."""


class Semilinear(Line):
    """``u_t = L u + N(u)`` with L diagonal in Fourier space, solved by ETDRK4 on a refined grid.

    The initial state is low-pass filtered to the stored grid before it is solved, and every state before it
    is stored. An initial state of the literature that the stored grid does not resolve (the kink of
    Allen-Cahn at x = 1) is thereby projected. To compare values at points with such a solution, simulate on a
    grid that resolves it and take every n-th point.

    Attributes:
        refine: solver points per stored point; by default enough to resolve the steepest slope of the
            equation.
    """

    refine: Count | None = None

    @property
    def refinement(self) -> int:
        """Number of solver points per stored point."""
        return self.refine or max(2, math.ceil(self.length / self.narrowest_feature() / self.resolution))

    def sample_inputs(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the stored initial state."""
        return {"u": resample(self.initial_state(rng, self.resolution * self.refinement), self.resolution)}

    @np.errstate(over="ignore", invalid="ignore")
    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the solution u, shape (time, x)."""
        refine = self.refinement
        points = self.resolution * refine
        k: Array = 2 * np.pi / self.length * np.arange(points // 2 + 1, dtype=np.float64)
        keep = np.arange(len(k)) < self.dealiasing_fraction() * points / 2
        linear = self.linear_symbol(k)
        u = np.fft.rfft(resample(self.sample_inputs(rng)["u"], points))
        stepper: ETDRK4 | None = None
        frames = [np.fft.irfft(u, n=points)]

        def tendency(u: Complex) -> Complex:
            return np.asarray(keep * self.nonlinear_term(u, k, points))

        for _ in range(self.frames):
            rate = self.fastest_rate(frames[-1], float(k[keep][-1]))
            longest = STABLE / max(rate, np.finfo(float).tiny)
            count = self.substeps(longest, longest / 8)
            step = self.duration / self.frames / count
            if stepper is None or stepper.step != step:
                stepper = ETDRK4(linear, step)
            for _ in range(count):
                u = stepper(u, tendency)
            frames.append(np.fft.irfft(u, n=points))
            if not np.isfinite(frames[-1]).all():
                raise ValueError(
                    f"the solution became infinite or NaN before time {self.times[len(frames) - 1]:g}; "
                    "use a shorter step or a larger refine"
                )
        warn_unresolved(np.abs(u[keep]) ** 2, type(self).__name__, f"use refine={2 * refine}")
        fine = np.stack(frames)
        stored = resample(fine, self.resolution)
        warn_truncated(fine, stored, name=type(self).__name__, points=self.resolution)
        return {"u": stored}

    def narrowest_feature(self) -> float:
        """Return the spacing that resolves the steepest slope of the equation."""
        return self.length

    def dealiasing_fraction(self) -> float:
        """Return the fraction of waves that the nonlinear term may contain without aliasing."""
        return 2 / 3

    @abstractmethod
    def linear_symbol(self, k: Array) -> Array:
        """Return L at angular wave numbers, shape (wave,).

        Args:
            k: angular wave numbers, shape (wave,).
        """

    @abstractmethod
    def nonlinear_term(self, u: Complex, k: Array, points: int) -> Complex:
        """Return the Fourier coefficients of N(u), shape (wave,).

        Args:
            u: Fourier coefficients of u, as ``np.fft.rfft`` returns them.
            k: angular wave numbers, shape (wave,).
            points: number of grid points.
        """

    @abstractmethod
    def fastest_rate(self, u: Array, largest: float) -> float:
        """Return the largest rate of N [1/time].

        Args:
            u: values at the grid points.
            largest: largest angular wave number.
        """
