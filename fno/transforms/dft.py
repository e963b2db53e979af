"""Truncated real Fourier transforms as products with small real matrices, one for each dimension.

Two orders give the same coefficients. *Last dimension first* gives real pairs, which the other dimensions
transform by complex products, without any operation in between. *First dimension first* multiplies by cosines
and sines, real throughout, for wavenumbers 0 to max |k| only, and combines them to k and -k at the end (see
``symmetry``): half the operations, in few and large products, for two more passes over the retained modes. It
is used for large transforms.

The inverse multiplies by the transposed matrices in the opposite order.
"""

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .products import batched_product
from .symmetry import fold, unfold
from .tables import table, table_builder

Weights = Literal["mean", "sum"]
"""Weights of a transform: ``mean`` (1/n, analysis), or ``sum`` (the multiplicity of each mode, synthesis)."""
Modes = tuple[range, ...]
"""Retained wavenumbers along each dimension."""
_LARGE = 1e7
"""Multiplications of the first dimension's product from which it is transformed first."""


def products(x: Tensor, modes: Modes, size: tuple[int, ...], weights: Weights) -> Tensor:
    """Return ``X[k] = w[k] sum_j x[j] exp(-i k j)`` as real pairs.

    Args:
        x: field, shape (batch, n_1, ..., n_d, channel).
        modes: wavenumbers along each dimension.
        size: points along each dimension.
        weights: w, see ``Weights``.

    Returns:
        Coefficients, shape (batch, 2, K_1, ..., K_d, channel).
    """
    z = x
    d = len(modes)
    batch, channels = x.shape[0], x.shape[-1]
    kept = [len(m) for m in modes]
    if not _first_dimension_first(modes, size, channels):
        for dim in reversed(range(d)):
            a = _matrix("pairs" if dim < d - 1 else "last", modes[dim], size[dim], weights, x)
            z = batched_product(
                a, z.reshape(batch * math.prod(size[:dim]), a.shape[1], math.prod(kept[dim + 1 :]) * channels)
            )
        return z.reshape(batch, 2, *kept, channels)
    outer = batch
    for dim in range(d):
        a = _matrix("sums" if dim < d - 1 else "last", modes[dim], size[dim], weights, x)
        z = batched_product(a, z.reshape(outer, size[dim], math.prod(size[dim + 1 :]) * channels))
        outer *= a.shape[0]
    outer //= 2 * kept[-1]
    for dim in reversed(range(d - 1)):
        minus, plus = _signs(modes[dim])
        rows = max(minus + 1, plus)
        outer //= 2 * rows
        z = unfold(z.reshape(outer, 2, rows, 2, math.prod(kept[dim + 1 :]) * channels), minus, plus)
    return z.reshape(batch, 2, *kept, channels)


def products_back(z: Tensor, modes: Modes, size: tuple[int, ...], weights: Weights) -> Tensor:
    """Return ``x[j] = sum_k w[k] Re(X[k] exp(i k j))``: the transpose of ``products``.

    Args:
        z: coefficients, shape (batch, 2, K_1, ..., K_d, channel).
        modes: wavenumbers along each dimension.
        size: points along each dimension.
        weights: w, see ``Weights``.

    Returns:
        Field, shape (batch, n_1, ..., n_d, channel).
    """
    d = len(modes)
    batch, channels = z.shape[0], z.shape[-1]
    kept = [len(m) for m in modes]
    if not _first_dimension_first(modes, size, channels):
        for dim in range(d):
            a = _matrix("pairs" if dim < d - 1 else "last", modes[dim], size[dim], weights, z).T
            z = batched_product(
                a, z.reshape(batch * math.prod(size[:dim]), a.shape[1], math.prod(kept[dim + 1 :]) * channels)
            )
        return z.reshape(batch, *size, channels)
    outer = batch
    for dim in range(d - 1):
        minus, plus = _signs(modes[dim])
        z = fold(z.reshape(outer, 2, kept[dim], math.prod(kept[dim + 1 :]) * channels), minus, plus)
        outer *= 2 * max(minus + 1, plus)
    outer *= 2 * kept[-1]
    for dim in reversed(range(d)):
        a = _matrix("sums" if dim < d - 1 else "last", modes[dim], size[dim], weights, z).T
        outer //= a.shape[1]
        z = batched_product(a, z.reshape(outer, a.shape[1], math.prod(size[dim + 1 :]) * channels))
    return z.reshape(batch, *size, channels)


def _first_dimension_first(modes: Modes, size: tuple[int, ...], channels: int) -> bool:
    """Return whether the first dimension is transformed first, as is faster for large transforms."""
    minus, plus = _signs(modes[0])
    return len(modes) > 1 and 2 * max(minus + 1, plus) * math.prod(size) * channels >= _LARGE


def _signs(wave: range) -> tuple[int, int]:
    """Return the numbers of negative and of other wavenumbers; a range above zero has no symmetric part."""
    return (-wave.start, wave.stop) if wave.start <= 0 else (0, len(wave))


def _matrix(
    kind: Literal["last", "pairs", "sums"], modes: range, n: int, weights: Weights, like: Tensor
) -> Tensor:
    return table(f"fourier_{kind}", [modes.start, modes.stop, n, int(weights == "mean")], like)


@table_builder
def fourier_last(start: int, stop: int, n: int, mean: bool) -> NDArray[np.float64]:
    """Return the matrix from real values to real and imaginary parts of the coefficients, shape (2 K, n).

    Args:
        start: first wavenumber.
        stop: end of the wavenumbers, exclusive.
        n: number of points.
        mean: whether the weights are ``mean`` rather than ``sum``, see ``Weights``.
    """
    c, s = _waves(range(start, stop), n)
    weight = np.full((len(c), 1), 1 / n) if mean else multiplicity(range(start, stop), n)[:, None]
    return np.concatenate([weight * c, -weight * s])


@table_builder
def fourier_pairs(start: int, stop: int, n: int, mean: bool) -> NDArray[np.float64]:
    """Return the matrix from complex values to coefficients, shape (2 K, 2 n); arguments as ``fourier_last``.

    Real and imaginary part follow the points in the values, and precede the modes in the coefficients.
    """
    c, s = _waves(range(start, stop), n)
    matrix = np.concatenate([np.stack([c, s], axis=-1), np.stack([-s, c], axis=-1)]).reshape(-1, 2 * n)
    return np.asarray(matrix / n if mean else matrix)


@table_builder
def fourier_sums(start: int, stop: int, n: int, mean: bool) -> NDArray[np.float64]:
    """Return the matrix from values to cosine, then sine sums, shape (2 k, n); arguments as ``fourier_last``.

    The sums are those of the k wavenumbers from 0 to max |k|.
    """
    minus, plus = _signs(range(start, stop))
    matrix = np.concatenate(_waves(range(max(minus + 1, plus)) if start <= 0 else range(start, stop), n))
    return np.asarray(matrix / n if mean else matrix)


def _waves(modes: range, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return cosines and sines of the waves at ``n`` points, each of shape (modes, n)."""
    angle = 2 * np.pi / n * (np.outer(np.array(modes), np.arange(n)) % n)
    return np.cos(angle), np.sin(angle)


def multiplicity(columns: range, n: int) -> NDArray[np.float64]:
    """Return the multiplicity of each mode of the last dimension in a real field.

    It is two, for l and -l, except for l = 0 and the Nyquist wavenumber.

    Args:
        columns: wavenumbers l.
        n: number of points.
    """
    return np.array([1.0 if l == 0 or 2 * l == n else 2.0 for l in columns])


def static(size: tuple[int, ...] | torch.Size) -> tuple[int, ...]:
    """Return sizes as integers, which specialises a compiled graph to them."""
    return tuple([len(range(n)) for n in size])
