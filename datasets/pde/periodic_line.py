"""What equations on a periodic line share: initial states, and the solver by Fourier modes on a grid finer
than the stored one.
"""

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
    Evolution,
    NonNegative,
    Positive,
    Real,
    periodic_axis,
    variable,
    warn_lost,
    warn_unresolved,
)

Initial = Literal["random", "standard"]


class Line(Evolution):
    """A field u(t, x) on a periodic line.

    Attributes:
        initial: ``standard`` is the state of the literature, ``random`` a Gaussian random field on the unit
            box.
        start: left end of the line.
        length: its length.
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
        """Return coordinates t and x, and u."""
        sizes = {"time": self.frames + 1, "x": self.resolution}
        coords = {
            "time": self.time_coordinate(),
            "x": periodic_axis("x", self.resolution, self.start, self.length),
        }
        return xr.Dataset({"u": variable(("time", "x"), sizes, "solution")}, coords)

    def random(self) -> bool:
        """Whether samples differ."""
        return self.initial == "random"

    def nodes(self, points: int) -> Array:
        """Return the coordinates of so many points."""
        return self.start + self.length / points * np.arange(points, dtype=np.float64)

    def begin(self, rng: np.random.Generator, points: int) -> Array:
        """Return the initial state on so many points; a random one has only the waves that ``resolution``
        points hold.
        """
        if self.initial == "standard":
            return self.standard(self.nodes(points))
        return GaussianField(self.alpha, self.tau, self.sigma).draw(rng, points, band=self.resolution)

    def instance(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the initial state."""
        return {"u": self.begin(rng, self.resolution)}

    @abstractmethod
    def standard(self, x: Array) -> Array:
        """Return the initial state of the literature."""


class Semilinear(Line):
    """``u_t = L u + N(u)`` with L a diagonal operator on the waves, by ETDRK4 on a grid ``refine`` times as
    fine as the stored one.

    The initial state is low-pass filtered to the stored grid before it is solved, and every state before it
    is stored. Of a state of the literature that the stored grid does not hold (the kink of Allen-Cahn at x =
    1) this is the projection; where values at points are to be compared with such a solution, simulate on a
    grid that holds it and take every n-th point.

    Attributes:
        refine: points of the solver for one of the result; by default so many that the steepest slope of the
            equation is resolved.
    """

    refine: Count | None = None

    @property
    def refinement(self) -> int:
        """Points of the solver for one of the result."""
        return self.refine or max(2, math.ceil(self.length / self.thinnest() / self.resolution))

    def instance(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the initial state that is stored."""
        return {"u": resample(self.begin(rng, self.resolution * self.refinement), self.resolution)}

    @np.errstate(over="ignore", invalid="ignore")
    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return u."""
        refine = self.refinement
        points = self.resolution * refine
        k: Array = 2 * np.pi / self.length * np.arange(points // 2 + 1, dtype=np.float64)
        keep = np.arange(len(k)) < self.kept() * points / 2
        linear = self.linear(k)
        u = np.fft.rfft(resample(self.instance(rng)["u"], points))
        stepper: ETDRK4 | None = None
        frames = [np.fft.irfft(u, n=points)]

        def tendency(u: Complex) -> Complex:
            return np.asarray(keep * self.tendency(u, k, points))

        for _ in range(self.frames):
            longest = STABLE / max(self.fastest(frames[-1], float(k[keep][-1])), np.finfo(float).tiny)
            count = self.substeps(longest, longest / 8)
            step = self.duration / self.frames / count
            if stepper is None or stepper.step != step:
                stepper = ETDRK4(linear, step)
            for _ in range(count):
                u = stepper(u, tendency)
            frames.append(np.fft.irfft(u, n=points))
            if not np.isfinite(frames[-1]).all():
                raise ValueError(
                    f"the solution left the finite numbers before time {self.times[len(frames) - 1]:g}; use a shorter step or refine"
                )
        warn_unresolved(np.abs(u[keep]) ** 2, type(self).__name__, f"use refine={2 * refine}")
        fine = np.stack(frames)
        stored = resample(fine, self.resolution)
        warn_lost(fine, stored, type(self).__name__, self.resolution)
        return {"u": stored}

    def thinnest(self) -> float:
        """Return the spacing that resolves the steepest slope of the equation."""
        return self.length

    def kept(self) -> float:
        """Return the share of waves that the nonlinear term may hold so that it is free of aliasing."""
        return 2 / 3

    @abstractmethod
    def linear(self, k: Array) -> Array:
        """Return L for angular wave numbers."""

    @abstractmethod
    def tendency(self, u: Complex, k: Array, points: int) -> Complex:
        """Return N."""

    @abstractmethod
    def fastest(self, u: Array, largest: float) -> float:
        """Return the largest rate [1/time] that N brings about at state ``u``, with waves up to ``largest``."""
