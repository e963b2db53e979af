"""Truncated real Fourier transforms as products with small real matrices, one for each dimension.

Two orders give the same coefficients. *Last dimension first* leaves real pairs, on which the other dimensions
work as complex products; nothing stands between the products. *First dimension first* multiplies by cosines
and sines, real throughout, for wave numbers 0 to max |k| only, and joins them to k and -k at the end (see
``symmetry``): half the operations, in few and large products, for two more passes over the kept modes. The
larger transform takes it.

Going back multiplies by the transposed matrices in the opposite order.
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

Weights = Literal[
    "mean", "sum"
]  # of the analysis: 1/n each; or of the synthesis: how often a real field holds the mode
Modes = tuple[range, ...]
_LARGE = 1e7
"""Multiplications of the first dimension's product from which on it comes first."""


def products(x: Tensor, modes: Modes, size: tuple[int, ...], weights: Weights) -> Tensor:
    """Return ``X[k] = w[k] sum_j x[j] exp(-i k j)`` as real pairs.

    Args:
        x: field, shape (batch, n_1, ..., n_d, channel).
        modes: wave numbers along each dimension.
        size: points along each dimension.
        weights: w.

    Returns:
        Coefficients, shape (batch, 2, K_1, ..., K_d, channel).
    """
    z, d = x, len(modes)
    batch, channels = x.shape[0], x.shape[-1]
    kept = [len(m) for m in modes]
    if not _first_first(modes, size, channels):
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
        modes: wave numbers along each dimension.
        size: points along each dimension.
        weights: w.

    Returns:
        Field, shape (batch, n_1, ..., n_d, channel).
    """
    d = len(modes)
    batch, channels = z.shape[0], z.shape[-1]
    kept = [len(m) for m in modes]
    if not _first_first(modes, size, channels):
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


def _first_first(modes: Modes, size: tuple[int, ...], channels: int) -> bool:
    minus, plus = _signs(modes[0])
    return len(modes) > 1 and 2 * max(minus + 1, plus) * math.prod(size) * channels >= _LARGE


def _signs(wave: range) -> tuple[int, int]:
    """Return how many wave numbers are negative and how many are not; those of a range above zero are taken
    as they come.
    """
    return (-wave.start, wave.stop) if wave.start <= 0 else (0, len(wave))


def _matrix(
    kind: Literal["last", "pairs", "sums"], modes: range, n: int, weights: Weights, like: Tensor
) -> Tensor:
    return table(f"fourier_{kind}", [modes.start, modes.stop, n, int(weights == "mean")], like)


@table_builder
def fourier_last(start: int, stop: int, n: int, mean: bool) -> NDArray[np.float64]:
    """From values to real and imaginary parts, shape (2 K, n)."""
    c, s = _waves(range(start, stop), n)
    weight = np.full((len(c), 1), 1 / n) if mean else multiplicity(range(start, stop), n)[:, None]
    return np.concatenate([weight * c, -weight * s])


@table_builder
def fourier_pairs(start: int, stop: int, n: int, mean: bool) -> NDArray[np.float64]:
    """From pairs that stand behind the dimension to pairs before it, shape (2 K, 2 n)."""
    c, s = _waves(range(start, stop), n)
    matrix = np.concatenate([np.stack([c, s], axis=-1), np.stack([-s, c], axis=-1)]).reshape(-1, 2 * n)
    return np.asarray(matrix / n if mean else matrix)


@table_builder
def fourier_sums(start: int, stop: int, n: int, mean: bool) -> NDArray[np.float64]:
    """From values to sums with cosines, then sines, of wave numbers from 0 to max |k|, shape (2 k, n)."""
    minus, plus = _signs(range(start, stop))
    matrix = np.concatenate(_waves(range(max(minus + 1, plus)) if start <= 0 else range(start, stop), n))
    return np.asarray(matrix / n if mean else matrix)


def _waves(modes: range, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    angle = 2 * np.pi / n * (np.outer(np.array(modes), np.arange(n)) % n)
    return np.cos(angle), np.sin(angle)


def multiplicity(columns: range, n: int) -> NDArray[np.float64]:
    """Return how often a real field of ``n`` points holds each mode of its last dimension: l and -l, but 0
    and Nyquist once.
    """
    return np.array([1.0 if l == 0 or 2 * l == n else 2.0 for l in columns])


def static(size: tuple[int, ...] | torch.Size) -> tuple[int, ...]:
    """Return sizes as numbers: a compiled graph is then bound to them."""
    return tuple([len(range(n)) for n in size])
