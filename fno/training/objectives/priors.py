"""Prior distributions of the unknowns of an inverse problem, as functions of standard normal variables."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

_MODES = {1: 16, 2: 4, 3: 2}  # largest wave number along an axis, by number of dimensions: about 60 modes


class CoefficientPrior(Protocol):
    """The prior of a coefficient of an equation, as the distribution of ``transform(z)``, z ~ N(0, 1)."""

    def transform(self, z: Tensor) -> Tensor:
        """Return the coefficient for a standard normal variable, elementwise."""


@dataclass(frozen=True)
class NormalPrior:
    """A coefficient of either sign, ``c ~ N(mean, std^2)``."""

    mean: float
    std: float

    def transform(self, z: Tensor) -> Tensor:
        """Return ``mean + std z``."""
        return self.mean + self.std * z


@dataclass(frozen=True)
class LogNormalPrior:
    """A positive coefficient, ``log c ~ N(mean, std^2)``."""

    mean: float
    std: float

    def transform(self, z: Tensor) -> Tensor:
        """Return ``exp(mean + std z)``."""
        return (self.mean + self.std * z).exp()


@dataclass(frozen=True)
class UniformPrior:
    """A coefficient in an interval, ``c ~ U(low, high)``."""

    low: float
    high: float

    def transform(self, z: Tensor) -> Tensor:
        """Return ``low + (high - low) Phi(z)`` with the normal distribution function Phi."""
        coefficient: Tensor = self.low + (self.high - self.low) * torch.special.ndtr(z)
        return coefficient


@dataclass(frozen=True)
class LogUniformPrior:
    """A positive coefficient in an interval, ``log c ~ U(log low, log high)``."""

    low: float
    high: float

    def transform(self, z: Tensor) -> Tensor:
        """Return ``low (high / low)^Phi(z)`` with the normal distribution function Phi."""
        coefficient: Tensor = self.low * (self.high / self.low) ** torch.special.ndtr(z)
        return coefficient


def fit_prior(samples: Tensor) -> CoefficientPrior:
    """Return the log-uniform prior between the extremes of samples that are all positive, else the uniform.

    Both are bounded, since an operator that is trained on the samples may be wrong by any amount elsewhere.

    Args:
        samples: values of a coefficient, shape (sample,).

    Raises:
        ValueError: fewer than two samples.
    """
    if len(samples) < 2:
        raise ValueError(f"a prior needs at least two samples, got {len(samples)}")
    positive = bool((samples > 0).all())
    extremes = float(samples.double().min()), float(samples.double().max())
    return (LogUniformPrior if positive else UniformPrior)(*extremes)


class SpectralPrior:
    """A homogeneous Gaussian random field on a periodic box, with independent Fourier modes:

        u(x) = m + s_0 a_0 + 2 Re sum_k s_k (a_k + i b_k) exp(2 pi i k x),    a_k, b_k ~ N(0, 1)

    where x is in units of the box and the sum is over half of the wave vectors, since u is real.

    Args:
        mean: mean m of each field, shape (field,).
        spread: standard deviations s_k, shape (field, mode), in the order of ``waves``.
        waves: wave vectors k, shape (mode, dimension), the first of which is zero.
        grid: number of points along each axis.
    """

    def __init__(self, mean: Tensor, spread: Tensor, waves: Tensor, *, grid: Sequence[int]) -> None:
        self.mean = mean
        self.spread = spread
        self.waves = waves
        self.grid = tuple(grid)
        self._positive = _flat_index(waves, self.grid)
        self._negative = _flat_index(-waves, self.grid)

    @classmethod
    def fit(cls, states: Tensor, modes: int | None = None) -> "SpectralPrior":
        """Return the prior with the mean and the spectrum of some states.

        Args:
            states: initial states of simulations, shape (sample, field, *grid).
            modes: largest wave number along each axis, limited by the grid; by default 16 in one dimension, 4
                in two and 2 in three.
        """
        grid = tuple(states.shape[2:])
        if modes is None:
            modes = _MODES[len(grid)]
        waves = _half_space([min(modes, (n - 1) // 2) for n in grid])
        dims = list(range(2, states.ndim))
        spectrum = torch.fft.fftn(states.double(), dim=dims, norm="forward").flatten(2)
        coefficients = spectrum[:, :, _flat_index(waves, grid)]
        mean = coefficients[:, :, 0].real.mean(0)
        spread = (coefficients.abs().square().mean(0) / 2).sqrt()
        spread[:, 0] = coefficients[:, :, 0].real.std(0, correction=0)
        return cls(mean, spread, waves, grid=grid)

    @property
    def unknowns(self) -> int:
        """Number of standard normal variables; the imaginary part of the mean counts, but has no effect."""
        return 2 * self.spread.numel()

    def transform(self, z: Tensor) -> Tensor:
        """Return fields for standard normal variables.

        Args:
            z: real and imaginary parts of all modes of all fields, shape (batch, unknown).

        Returns:
            Shape (batch, field, *grid).
        """
        real, imaginary = z.unflatten(1, (2, *self.spread.shape)).unbind(1)
        used = torch.ones_like(self.spread)
        used[:, 0] = 0
        modes = self.spread * torch.complex(real, used * imaginary)
        modes[:, :, 0] += self.mean
        spectrum = modes.new_zeros(len(z), len(self.spread), math.prod(self.grid))
        spectrum[:, :, self._positive] = modes
        spectrum[:, :, self._negative] = modes.conj()
        spectrum = spectrum.unflatten(2, self.grid)
        field: Tensor = torch.fft.ifftn(spectrum, dim=list(range(2, spectrum.ndim)), norm="forward").real
        return field


def _half_space(largest: Sequence[int]) -> Tensor:
    """Return zero and one of each pair of opposite wave vectors, shape (mode, dimension)."""
    vectors = itertools.product(*(range(-k, k + 1) for k in largest))
    zero = (0,) * len(largest)
    return torch.tensor([zero, *(v for v in vectors if v > zero)])


def _flat_index(waves: Tensor, grid: Sequence[int]) -> Tensor:
    """Return the positions of wave vectors in a flattened spectrum, shape (mode,)."""
    index = torch.zeros(len(waves), dtype=torch.long)
    for k, n in zip(waves.unbind(1), grid, strict=True):
        index = index * n + k % n
    return index
