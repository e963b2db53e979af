"""Equations on a line, solved in closed form or by Fourier modes."""

import math
from typing import ClassVar

import numpy as np
import xarray as xr

from .etdrk4 import Complex
from .periodic_line import Line, Semilinear
from .random_fields import GaussianField
from .system import Array, NonNegative, Positive, Real


class Advection(Line):
    """``u_t + beta u_x = 0``, solved exactly by a phase shift of every wave.

    Attributes:
        beta: speed.
    """

    beta: Real = 1.0

    coefficients: ClassVar[tuple[str, ...]] = ("beta",)

    def standard_state(self, x: Array) -> Array:
        """Return sin x, one wavelength per line."""
        return np.asarray(np.sin(2 * np.pi * (x - self.start) / self.length))

    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the solution u, shape (time, x)."""
        n = self.resolution
        shift = np.exp(-2j * np.pi * np.outer(self.times, np.arange(n // 2 + 1)) * self.beta / self.length)
        return {"u": np.fft.irfft(np.fft.rfft(self.initial_state(rng, n)) * shift, n=n)}


def _gaussian(x: Array, start: float, length: float) -> Array:
    """Return a Gaussian in the middle of the line, with a standard deviation of length / 8."""
    return np.asarray(np.exp(-0.5 * ((x - start - length / 2) / (length / 8)) ** 2))


class Reaction(Line):
    """``u_t = rho u (1 - u)``, the logistic equation at each point, solved in closed form.

    A random initial state is mapped into (0, 1) by the logistic function.

    Attributes:
        rho: reaction rate.
    """

    rho: Real = 5.0

    coefficients: ClassVar[tuple[str, ...]] = ("rho",)

    def initial_state(self, rng: np.random.Generator, points: int) -> Array:
        """Return the initial state, between 0 and 1."""
        u = super().initial_state(rng, points)
        return u if self.initial == "standard" else 1 / (1 + np.exp(-u))

    def standard_state(self, x: Array) -> Array:
        """Return a Gaussian."""
        return _gaussian(x, self.start, self.length)

    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the solution u, shape (time, x)."""
        u = self.initial_state(rng, self.resolution)
        decay = np.exp(-self.rho * self.times)[:, None]
        return {"u": u / (u + (1 - u) * decay)}


class Burgers(Semilinear):
    """``u_t + u u_x = viscosity u_xx``.

    Attributes:
        viscosity: kinematic viscosity.
    """

    length: Positive = 1.0
    viscosity: Positive = 0.01

    coefficients: ClassVar[tuple[str, ...]] = ("viscosity",)

    def standard_state(self, x: Array) -> Array:
        """Return one wavelength of a sine, ``-sin(pi x)`` on [-1, 1]."""
        return np.asarray(np.sin(2 * np.pi * (x - self.start) / self.length))

    def narrowest_feature(self) -> float:
        """Return the width of a shock of height one."""
        return self.viscosity

    def linear_symbol(self, k: Array) -> Array:
        """Return the symbol of diffusion."""
        return -self.viscosity * k**2

    def nonlinear_term(self, u: Complex, k: Array, points: int) -> Complex:
        """Return the advection term ``-(u^2 / 2)_x``."""
        return np.asarray(-0.5j * k * np.fft.rfft(np.fft.irfft(u, n=points) ** 2))

    def fastest_rate(self, u: Array, largest: float) -> float:
        """Return the advection rate ``max |u| k`` of the shortest wave."""
        return largest * float(np.abs(u).max())


class ReactionDiffusion(Semilinear, Reaction):
    """``u_t = nu u_xx + rho u (1 - u)``.

    Attributes:
        nu: diffusivity.
    """

    nu: NonNegative = 5.0

    coefficients: ClassVar[tuple[str, ...]] = ("nu", "rho")

    def linear_symbol(self, k: Array) -> Array:
        """Return the symbol of diffusion."""
        return -self.nu * k**2

    def nonlinear_term(self, u: Complex, k: Array, points: int) -> Complex:
        """Return the reaction term."""
        v = np.fft.irfft(u, n=points)
        return np.asarray(np.fft.rfft(self.rho * v * (1 - v)))

    def fastest_rate(self, u: Array, largest: float) -> float:
        """Return the largest rate of the linearised reaction."""
        return float(np.abs(self.rho * (1 - 2 * u)).max())


class AllenCahn(Semilinear):
    """``u_t = diffusivity u_xx + rate (u - u^3)``.

    Attributes:
        diffusivity: diffusivity of the order parameter.
        rate: reaction rate.
    """

    start: Real = -1.0
    length: Positive = 2.0
    diffusivity: Positive = 1e-4
    rate: NonNegative = 5.0

    coefficients: ClassVar[tuple[str, ...]] = ("diffusivity", "rate")

    def standard_state(self, x: Array) -> Array:
        """Return ``x^2 cos(pi x)``."""
        return np.asarray(x**2 * np.cos(np.pi * x))

    def dealiasing_fraction(self) -> float:
        """Return 1/2, for a cubic term."""
        return 1 / 2

    def narrowest_feature(self) -> float:
        """Return half the width of an interface."""
        return 0.5 * math.sqrt(self.diffusivity / max(self.rate, 1e-12))

    def linear_symbol(self, k: Array) -> Array:
        """Return the symbol of diffusion."""
        return -self.diffusivity * k**2

    def nonlinear_term(self, u: Complex, k: Array, points: int) -> Complex:
        """Return the reaction term."""
        v = np.fft.irfft(u, n=points)
        return np.asarray(np.fft.rfft(self.rate * (v - v**3)))

    def fastest_rate(self, u: Array, largest: float) -> float:
        """Return the largest rate of the linearised reaction, at least that of the separated phases."""
        return self.rate * max(2.0, float(np.abs(1 - 3 * u**2).max()))


class CahnHilliard(Semilinear):
    """``u_t = (gamma_2 (u^3 - u) - gamma_1 u_xx)_xx``, which conserves the mean of u.

    Attributes:
        gamma_1: coefficient of the interface energy.
        gamma_2: coefficient of the bulk energy.
    """

    start: Real = -1.0
    length: Positive = 2.0
    gamma_1: Positive = 1e-6
    gamma_2: Positive = 1e-2

    coefficients: ClassVar[tuple[str, ...]] = ("gamma_1", "gamma_2")

    def standard_state(self, x: Array) -> Array:
        """Return ``cos(pi x) - exp(-4 (pi x)^2)``."""
        return np.asarray(np.cos(np.pi * x) - np.exp(-4 * (np.pi * x) ** 2))

    def dealiasing_fraction(self) -> float:
        """Return 1/2, for a cubic term."""
        return 1 / 2

    def narrowest_feature(self) -> float:
        """Return half the width of an interface."""
        return 0.5 * math.sqrt(self.gamma_1 / self.gamma_2)

    def linear_symbol(self, k: Array) -> Array:
        """Return the symbol of the terms that are linear in u."""
        return self.gamma_2 * k**2 - self.gamma_1 * k**4

    def nonlinear_term(self, u: Complex, k: Array, points: int) -> Complex:
        """Return the cubic term."""
        return np.asarray(-self.gamma_2 * k**2 * np.fft.rfft(np.fft.irfft(u, n=points) ** 3))

    def fastest_rate(self, u: Array, largest: float) -> float:
        """Return the largest rate of the linearised cubic term, at least that of the separated phases.

        Only waves that the interface term does not damp count.
        """
        steep = 3 * max(1.0, float((u**2).max()))
        k2 = min(largest**2, self.gamma_2 * (1 + steep) / self.gamma_1)
        return self.gamma_2 * steep * k2


class Wave(Line):
    """``u_tt = speed^2 u_xx`` on [start, start + length], u = 0 at both ends, initially at rest.

    It is solved exactly by a sine series; the grid includes both ends.

    Attributes:
        speed: wave speed.
    """

    length: Positive = 1.0
    speed: Positive = 2.0

    coefficients: ClassVar[tuple[str, ...]] = ("speed",)

    def template(self) -> xr.Dataset:
        """Return the coordinates time and x, and u."""
        template = super().template()
        attrs = {"long_name": "x", "periodic": "false", "length": self.length}
        return template.assign_coords(x=("x", self.nodes(self.resolution), attrs))

    def nodes(self, points: int) -> Array:
        """Return the coordinates of a grid of ``points`` points, both ends included."""
        return np.linspace(self.start, self.start + self.length, points)

    def initial_state(self, rng: np.random.Generator, points: int) -> Array:
        """Return the initial state."""
        if self.initial == "standard":
            return self.standard_state(self.nodes(points))
        return GaussianField(self.alpha, self.tau, self.sigma).draw_sines(rng, points)

    def standard_state(self, x: Array) -> Array:
        """Return ``sin(pi x) + sin(4 pi x) / 2``."""
        s = np.pi * (x - self.start) / self.length
        return np.asarray(np.sin(s) + 0.5 * np.sin(4 * s))

    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the solution u, shape (time, x)."""
        u = self.initial_state(rng, self.resolution)
        n = np.arange(1, self.resolution - 1)
        sines = np.sin(np.pi * np.outer(np.arange(self.resolution) / (self.resolution - 1), n))
        amplitudes = 2 / (self.resolution - 1) * (u @ sines)
        phase = np.pi * self.speed / self.length * np.outer(self.times, n)
        return {"u": (np.cos(phase) * amplitudes) @ sines.T}
