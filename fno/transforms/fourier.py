"""Truncated real Fourier transforms in any number of dimensions, by FFT or by matrix product.

For a real field ``x`` of shape (batch, n_1, ..., n_d, channel) both methods return the same coefficients

    X[k] = 1/(n_1 ... n_d) sum_j x[j] exp(-2 pi sqrt(-1) (k_1 j_1 / n_1 + ... + k_d j_d / n_d)),

with ``k`` in [-(n // 2), (n - 1) // 2] for ``n`` modes along all dimensions but the last and in [0, n // 2]
along the last, as neuraloperator counts them. The factor (``norm="forward"``) makes a coefficient independent
of resolution. Complex numbers are stored as real pairs, shape (batch, 2, K_1, ..., K_d, channel).

If few modes are retained, a matrix product that computes only these is faster than an FFT that computes all;
``choose_method`` decides. Each transform is the transpose of the other up to weights, and its derivative.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import ModesError
from ..precision import at_least_single, without_autocast
from .costs import COSTS
from .dft import Weights, products, products_back, static
from .fft import pruned_fft, pruned_fft_back
from .functions import LinearMap
from .planned import device_type

Method = Literal["auto", "dft", "fft"]
Size = Sequence[int]


def kept_modes(n_modes: Size, size: Size) -> tuple[range, ...]:
    """Return the wavenumbers retained along each dimension.

    Args:
        n_modes: number of modes; a real field needs only ``n // 2 + 1`` of them along the last dimension.
        size: grid points along the same dimensions.

    Raises:
        ModesError: a count is below one, or larger than the grid.
    """
    if len(n_modes) != len(size):
        raise ModesError(
            f"n_modes {tuple(n_modes)} has {len(n_modes)} dimensions, the grid {tuple(size)} has {len(size)}"
        )
    if any(n < 1 for n in n_modes):
        raise ModesError(f"n_modes {tuple(n_modes)} must be at least 1 along each dimension")
    if any(n > points for n, points in zip(n_modes, size, strict=True)):
        raise ModesError(
            f"a grid of {tuple(size)} points cannot resolve {tuple(n_modes)} modes; "
            "use a finer grid or fewer modes"
        )
    return (*(range(-(n // 2), n - n // 2) for n in n_modes[:-1]), range(n_modes[-1] // 2 + 1))


def choose_method(kept: Size, size: Size, device: str = "cpu") -> Literal["dft", "fft"]:
    """Return the method expected to be faster on this grid, by a cost model with fixed constants.

    The time per point and channel [ns] is modelled as ``flops / product_rate`` for the products and as
    ``fft_base + fft_log * butterflies`` for the FFT, see ``work``. Devices without measured constants use the
    FFT.

    Args:
        kept: number of wavenumbers retained along each dimension.
        size: grid points along each dimension.
        device: kind of device.
    """
    if device not in COSTS:
        return "fft"
    cost = COSTS[device]
    flops, butterflies = work(tuple(kept), tuple(size))
    return "dft" if flops / cost.product_rate < cost.fft_base + cost.fft_log * butterflies else "fft"


# What torch.compiler.assume_constant_result does; calling it would import the compiler, which takes a second.
choose_method._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache(maxsize=256)
def work(kept: tuple[int, ...], size: tuple[int, ...]) -> tuple[float, float]:
    """Return the operations of the products (first dimension first) and the butterflies of the FFT per point.

    A dimension of n points takes ``sum log2 p`` butterflies over its prime factors p, a factor above 13
    counted four times; all but the last dimension are transformed for the retained columns only, in complex
    arithmetic.

    Args:
        kept: number of wavenumbers retained along each dimension.
        size: grid points along each dimension.
    """
    flops = 0.0
    butterflies = 0.0
    rows = 1.0  # number of values after the dimensions transformed so far, relative to the points
    columns = 1.0  # the same for the FFT, from the last dimension on
    last = len(size) - 1
    for dim in range(len(size)):
        count = kept[dim] if dim == last else kept[dim] // 2 + 1
        flops += rows * 4 * count
        rows *= 2 * count / size[dim]
    for dim in reversed(range(len(size))):
        of_dimension = sum(math.log2(p) * (4 if p > 13 else 1) for p in _prime_factors(size[dim]))
        butterflies += columns * (1 if dim == last else 2) * of_dimension
        columns *= kept[dim] / size[dim]
    return flops, butterflies


@lru_cache(maxsize=256)
def _prime_factors(n: int) -> tuple[int, ...]:
    for p in range(2, math.isqrt(n) + 1):
        if n % p == 0:
            return (p, *_prime_factors(n // p))
    return (n,) if n > 1 else ()


def to_modes(x: Tensor, n_modes: Size, method: Method = "auto") -> Tensor:
    """Return the retained Fourier coefficients of a real field.

    Args:
        x: field, shape (batch, n_1, ..., n_d, channel). Half precision is transformed in float32; float64
            is retained.
        n_modes: modes along each dimension, counted as in neuraloperator.
        method: ``dft``, ``fft``, or ``auto`` for the faster.

    Returns:
        Coefficients, shape (batch, 2, K_1, ..., K_d, channel), real part first.

    Raises:
        ModesError: the grid cannot resolve the modes.
        ValueError: unknown method.
    """
    return analyse(x, kept_modes(n_modes, x.shape[1:-1]), method)


def from_modes(z: Tensor, n_modes: Size, size: Size, *, method: Method = "auto") -> Tensor:
    """Return the real field with these Fourier coefficients: the inverse of ``to_modes``.

    Args:
        z: coefficients, shape (batch, 2, K_1, ..., K_d, channel).
        n_modes: as for ``to_modes``.
        size: grid points of the field along each dimension.
        method: ``dft``, ``fft``, or ``auto`` for the faster.

    Returns:
        Field, shape (batch, n_1, ..., n_d, channel).

    Raises:
        ModesError: ``z`` has another number of modes, or the grid cannot resolve them.
        ValueError: unknown method.
    """
    modes = kept_modes(n_modes, size)
    if tuple(z.shape[2:-1]) != tuple(len(m) for m in modes):
        raise ModesError(
            f"the coefficients have {tuple(z.shape[2:-1])} modes, but n_modes {tuple(n_modes)} are "
            f"{tuple(len(m) for m in modes)}"
        )
    return synthesise(z, modes, size, method=method)


def analyse(x: Tensor, modes: tuple[range, ...], method: Method = "auto") -> Tensor:
    """Return the coefficients of ranges of wavenumbers.

    Args:
        x: as for ``to_modes``.
        modes: wavenumbers along each dimension. The range of the last starts at zero; the others contain zero
            or start above it.
        method: as for ``to_modes``.
    """
    x = at_least_single(x)
    return _ToModes.call(x, modes, *_resolve(method, modes, x.shape[1:-1], x), "mean")


def synthesise(z: Tensor, modes: tuple[range, ...], size: Size, *, method: Method = "auto") -> Tensor:
    """Return the real field with these coefficients and no others.

    Args:
        z: as for ``from_modes``.
        modes: as for ``analyse``.
        size: as for ``from_modes``.
        method: as for ``from_modes``.
    """
    z = at_least_single(z)
    return _FromModes.call(z, modes, *_resolve(method, modes, size, z), "sum")


class _ToModes(LinearMap):
    """``X[k] = w[k] sum_j x[j] exp(-i k j)`` with weights w; transpose of ``_FromModes``."""

    @staticmethod
    def forward(
        x: Tensor, modes: tuple[range, ...], size: tuple[int, ...], method: Method, weights: Weights
    ) -> Tensor:
        z: Tensor = without_autocast(products if method == "dft" else pruned_fft, x, modes, size, weights)
        return z

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        return _FromModes.apply(grads[0], *ctx.constants), None, None, None, None


class _FromModes(LinearMap):
    """``x[j] = sum_k w[k] Re(X[k] exp(i k j))``; transpose of ``_ToModes``."""

    @staticmethod
    def forward(
        z: Tensor, modes: tuple[range, ...], size: tuple[int, ...], method: Method, weights: Weights
    ) -> Tensor:
        x: Tensor = without_autocast(
            products_back if method == "dft" else pruned_fft_back, z, modes, size, weights
        )
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        return _ToModes.apply(grads[0], *ctx.constants), None, None, None, None


def _resolve(
    method: Method, modes: tuple[range, ...], size: Size, x: Tensor
) -> tuple[tuple[int, ...], Literal["dft", "fft"]]:
    """Return size and method of a transform. Matrices specialise a compiled graph to a size, FFTs do not."""
    if method not in ("auto", "dft", "fft"):
        raise ValueError(f"unknown transform method {method!r}; use 'auto', 'dft' or 'fft'")
    if method == "auto":
        method = choose_method(tuple([len(m) for m in modes]), static(tuple(size)), device_type(x))
    if method == "fft" and not torch.compiler.is_exporting() and x.shape[0] == 0:
        method = "dft"  # FFT libraries reject an empty batch
    return (static(tuple(size)) if method == "dft" else tuple(size)), method


def resample(x: Tensor, size: Size) -> Tensor:
    """Return a periodic field on another grid of the same domain, by Fourier interpolation.

    The modes that both grids resolve are retained (with an even number of points, that of the smaller Nyquist
    wavenumber is dropped), so a field band-limited to them is interpolated exactly.

    Args:
        x: field, shape (batch, n_1, ..., n_d, channel).
        size: new number of points along each dimension.
    """
    if tuple(x.shape[1:-1]) == tuple(size):
        return x
    shared = tuple((min(a, b) - 1) // 2 * 2 + 1 for a, b in zip(x.shape[1:-1], size, strict=True))
    return from_modes(to_modes(x, shared, "fft"), shared, size, method="fft").to(x.dtype)
