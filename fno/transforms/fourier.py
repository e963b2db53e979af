"""Truncated real Fourier transforms in any number of dimensions, by FFT or by matrix product, behind one interface.

For a real field ``x`` of shape (batch, n_1, ..., n_d, channel) both methods return the same kept coefficients

    X[k] = 1/(n_1 ... n_d) sum_j x[j] exp(-2 pi sqrt(-1) (k_1 j_1 / n_1 + ... + k_d j_d / n_d)),

with ``k`` in [-(n // 2), (n - 1) // 2] for ``n`` modes along all dimensions but the last and in [0, n // 2] along the
last, the count that neuraloperator uses. The factor (``norm="forward"``) makes a coefficient independent of
resolution. Complex numbers are kept as real pairs, shape (batch, 2, K_1, ..., K_d, channel).

A matrix product that computes only the kept modes beats an FFT that computes all of them while few are kept;
``choose_method`` draws the line. The products go from the last dimension to the first, each on the pairs that the one
before left, so that no copy stands between them.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ModesError
from .costs import COSTS
from .symmetry import fold, unfold
from .tables import table, table_builder

Method = Literal["auto", "dft", "fft"]
Size = Sequence[int]


def kept_modes(n_modes: Size, size: Size) -> tuple[range, ...]:
    """Return the wave numbers kept along each dimension.

    Args:
        n_modes: modes asked for; a real field needs only ``n // 2 + 1`` of them along the last dimension.
        size: grid points along the same dimensions.

    Raises:
        ModesError: a count is below one, or larger than the grid.
    """
    if len(n_modes) != len(size):
        raise ModesError(f"n_modes {tuple(n_modes)} has {len(n_modes)} dimensions, the grid {tuple(size)} has {len(size)}")
    if any(n < 1 for n in n_modes):
        raise ModesError(f"n_modes {tuple(n_modes)} must be at least 1 along each dimension")
    if any(n > points for n, points in zip(n_modes, size, strict=True)):
        raise ModesError(f"a grid of {tuple(size)} points cannot hold {tuple(n_modes)} modes; use a finer grid or fewer modes")
    return (*(range(-(n // 2), n - n // 2) for n in n_modes[:-1]), range(n_modes[-1] // 2 + 1))


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def choose_method(kept: Size, size: Size, device: str = "cpu") -> Literal["dft", "fft"]:
    """Return the method expected to be faster on this grid: a committed cost model, so that every run chooses alike.

    The nanoseconds a point and channel takes are modelled as ``flops / product_rate`` for the products and as
    ``fft_base + fft_log work`` for the FFT, see ``work``. Devices without measured constants take the FFT.

    Args:
        kept: wave numbers kept along each dimension.
        size: grid points along each dimension.
        device: kind of device.
    """
    if device not in COSTS:
        return "fft"
    cost, (flops, butterflies) = COSTS[device], work(tuple(kept), tuple(size))
    return "dft" if flops / cost.product_rate < cost.fft_base + cost.fft_log * butterflies else "fft"


@lru_cache(maxsize=256)
def work(kept: tuple[int, ...], size: tuple[int, ...]) -> tuple[float, float]:
    """Return what a transform does for each point of the grid: operations of the products, and butterflies of the FFT.

    A dimension of n points is ``sum log2 p`` butterflies over its prime factors p, a factor above 13 counted four
    times; all but the last dimension are transformed for the kept columns only, with complex numbers.
    """
    flops, butterflies, left = 0.0, 0.0, 1.0  # left: the share of numbers that earlier dimensions have kept
    for dim in reversed(range(len(size))):
        last = dim == len(size) - 1
        flops += left * kept[dim] * (4 if last or _shares_sums(range(kept[dim])) else 8)
        butterflies += left * (1 if last else 2) * sum(math.log2(p) * (4 if p > 13 else 1) for p in _prime_factors(size[dim]))
        left *= kept[dim] / size[dim]
    return flops, butterflies


@lru_cache(maxsize=256)
def _prime_factors(n: int) -> tuple[int, ...]:
    for p in range(2, math.isqrt(n) + 1):
        if n % p == 0:
            return (p, *_prime_factors(n // p))
    return (n,) if n > 1 else ()


@table_builder
def fourier_matrix(start: int, stop: int, n: int, last: bool, inverse: bool) -> NDArray[np.float64]:
    """Real matrix of one dimension of the transform.

    Forward: (2 L, n) from values to pairs for the last dimension; for the others (2 (max |k| + 1), n), cosines and
    sines, where k and -k share them, else (2 K, 2 n) from pairs behind the dimension to pairs before it.
    Inverse: the other way.
    """
    modes = range(start, stop)
    about_zero = not last and _shares_sums(modes)
    if about_zero:
        modes = range(max(-modes.start + 1, modes.stop))
    angle = 2 * np.pi / n * (np.outer(np.array(modes), np.arange(n)) % n)
    c, s = np.cos(angle), np.sin(angle)
    if about_zero:
        matrix = np.concatenate([c, s])
        matrix = matrix.T if inverse else matrix / n
    elif last and inverse:
        twice = multiplicity(modes, n)[:, None]
        matrix = np.concatenate([twice * c, -twice * s]).T
    elif last:
        matrix = np.concatenate([c, -s]) / n
    elif inverse:
        matrix = np.stack([np.concatenate([c, -s]).T, np.concatenate([s, c]).T], axis=1).reshape(2 * n, -1)
    else:
        matrix = np.concatenate([np.stack([c, s], axis=-1), np.stack([-s, c], axis=-1)]).reshape(-1, 2 * n) / n
    return np.asarray(matrix)


def _shares_sums(modes: range) -> bool:
    """Whether k and -k share their sums: half the work, worth its extra passes from a few dozen wave numbers on."""
    return modes.start <= 0 and len(modes) >= 40


def multiplicity(columns: range, n: int) -> NDArray[np.float64]:
    """Return how often a real field of ``n`` points holds each mode of its last dimension: l and -l, but 0 and Nyquist once."""
    return np.array([1.0 if l == 0 or 2 * l == n else 2.0 for l in columns])


def _matrix(modes: range, n: int, last: bool, inverse: bool, like: Tensor) -> Tensor:
    return table("fourier_matrix", [modes.start, modes.stop, n, int(last), int(inverse)], like)


def to_modes(x: Tensor, n_modes: Size, method: Method = "auto") -> Tensor:
    """Return the kept Fourier coefficients of a real field.

    Args:
        x: field, shape (batch, n_1, ..., n_d, channel). Half precision is transformed in float32; float64 stays.
        n_modes: modes along each dimension, counted as in neuraloperator.
        method: ``dft``, ``fft``, or ``auto`` for the faster.

    Returns:
        Coefficients, shape (batch, 2, K_1, ..., K_d, channel), real part first.

    Raises:
        ModesError: the grid cannot hold the modes.
        ValueError: unknown method.
    """
    return analyse(x, kept_modes(n_modes, x.shape[1:-1]), method)


def from_modes(z: Tensor, n_modes: Size, size: Size, method: Method = "auto") -> Tensor:
    """Return the real field that has the given coefficients: the inverse of ``to_modes`` on the kept modes.

    Args:
        z: coefficients, shape (batch, 2, K_1, ..., K_d, channel).
        n_modes: as given to ``to_modes``.
        size: grid points of the field to make.
        method: ``dft``, ``fft``, or ``auto`` for the faster.

    Returns:
        Field, shape (batch, n_1, ..., n_d, channel).

    Raises:
        ModesError: ``z`` holds other modes, or the grid cannot hold them.
        ValueError: unknown method.
    """
    modes = kept_modes(n_modes, size)
    if tuple(z.shape[2:-1]) != tuple(len(m) for m in modes):
        raise ModesError(f"coefficients hold {tuple(z.shape[2:-1])} modes, but n_modes {tuple(n_modes)} are {tuple(len(m) for m in modes)}")
    return synthesise(z, modes, size, method)


def analyse(x: Tensor, modes: tuple[range, ...], method: Method = "auto") -> Tensor:
    """Return the coefficients of any ranges of wave numbers, see ``to_modes``; the last range must start at zero."""
    x = x if x.dtype == torch.float64 else x.float()
    batch, channels = x.shape[0], x.shape[-1]
    if _resolve(method, modes, x.shape[1:-1], x) == "fft":
        return cast(Tensor, _Analyse.apply(x, modes))
    size = _static(x.shape[1:-1])
    z, inner = x.reshape(-1, channels), channels
    for dim in reversed(range(len(size))):
        n, kept, last = size[dim], len(modes[dim]), dim == len(size) - 1
        a = _matrix(modes[dim], n, last, False, x)
        outer = batch * math.prod(size[:dim])
        if not last and _shares_sums(modes[dim]):
            z = torch.bmm(a.expand(outer, -1, -1), z.reshape(outer, n, 2 * inner))
            z = unfold(z.reshape(outer, 2, -1, 2, inner), -modes[dim].start, modes[dim].stop)
        else:
            z = torch.bmm(a.expand(outer, -1, -1), z.reshape(outer, n if last else 2 * n, inner))
        inner *= kept
    return z.reshape(batch, 2, *[len(m) for m in modes], channels)


def synthesise(z: Tensor, modes: tuple[range, ...], size: Size, method: Method = "auto") -> Tensor:
    """Return the real field that has the coefficients of these wave numbers and no others, see ``from_modes``."""
    if _resolve(method, modes, size, z) == "fft":
        return cast(Tensor, _Synthesise.apply(z, modes, tuple(size)))
    size = _static(size)
    batch, channels = z.shape[0], z.shape[-1]
    y = z
    for dim in range(len(size)):
        kept, last = len(modes[dim]), dim == len(size) - 1
        a = _matrix(modes[dim], size[dim], last, True, z)
        outer, inner = batch * math.prod(size[:dim]), math.prod([len(m) for m in modes[dim + 1 :]]) * channels
        if not last and _shares_sums(modes[dim]):
            y = fold(y.reshape(outer, 2, kept, inner), -modes[dim].start, modes[dim].stop)
            y = torch.bmm(a.expand(outer, -1, -1), y.reshape(outer, -1, 2 * inner))
        else:
            y = torch.bmm(a.expand(outer, -1, -1), y.reshape(outer, 2 * kept, inner))
    return y.reshape(batch, *size, channels)


class _Analyse(torch.autograd.Function):
    """The pruned FFT. Its adjoint is the inverse up to scale, half the work of differentiating ``rfft``."""

    @staticmethod
    def forward(x: Tensor, modes: tuple[range, ...]) -> Tensor:
        d = len(modes)
        z = torch.fft.rfft(x, dim=d).narrow(d, 0, len(modes[-1]))
        for dim in reversed(range(1, d)):
            n, (first, stop) = z.shape[dim], _ends(modes[dim - 1])
            z = torch.fft.fft(z, dim=dim)
            parts = [(first, stop - first)] if first >= 0 else [(n + first, -first), (0, stop)]
            z = torch.cat([z.narrow(dim, *part) for part in parts], dim=dim)
        if torch.compiler.is_compiling():
            z = z.contiguous()  # whose strides do not bind an exported graph to a size
        # Scaled here, where only the kept modes are left.
        return (torch.view_as_real(z) / math.prod(x.shape[1:-1])).movedim(-1, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.modes = inputs
        ctx.size = tuple(x.shape[1:-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        scaled = grads[0] / _doubling(grads[0], ctx.modes, ctx.size) / math.prod(ctx.size)
        return _Synthesise.apply(scaled, ctx.modes, ctx.size), None


class _Synthesise(torch.autograd.Function):
    """The inverse of ``_Analyse``."""

    @staticmethod
    def forward(z: Tensor, modes: tuple[range, ...], size: tuple[int, ...]) -> Tensor:
        d = len(modes)
        interleaved = not torch.compiler.is_compiling() and z.stride(1) == 1 and z.stride(-1) % 2 == 0
        y = torch.view_as_complex(z.movedim(1, -1)) if interleaved else torch.complex(z[:, 0], z[:, 1])
        for dim in range(1, d):
            n, (first, stop) = size[dim - 1], _ends(modes[dim - 1])
            gap = y.new_zeros([*y.shape[:dim], n - len(modes[dim - 1]), *y.shape[dim + 1 :]])
            if first < 0:
                y = torch.cat([y.narrow(dim, -first, stop), gap, y.narrow(dim, 0, -first)], dim=dim)
            else:
                y = torch.cat([gap.narrow(dim, 0, first), y, gap.narrow(dim, first, n - stop)], dim=dim)
            y = torch.fft.ifft(y, dim=dim, norm="forward")
        field: Tensor = torch.fft.irfft(y, n=size[-1], dim=d, norm="forward")
        return field

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.modes, ctx.size = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        z = cast(Tensor, _Analyse.apply(grads[0], ctx.modes))
        return z * _doubling(z, ctx.modes, ctx.size) * math.prod(ctx.size), None, None


def _ends(modes: range) -> tuple[int, int]:
    return modes.start, modes.stop


def _doubling(z: Tensor, modes: tuple[range, ...], size: tuple[int, ...]) -> Tensor:
    columns = torch.arange(len(modes[-1]), device=z.device)
    return torch.where((columns == 0) | (2 * columns == size[-1]), 1.0, 2.0).to(z.dtype)[:, None]


def _resolve(method: Method, modes: tuple[range, ...], size: Size, x: Tensor) -> Literal["dft", "fft"]:
    if method not in ("auto", "dft", "fft"):
        raise ValueError(f"unknown transform method {method!r}; use 'auto', 'dft' or 'fft'")
    if method == "auto":
        return cast(Literal["dft", "fft"], choose_method(tuple([len(m) for m in modes]), _static(size), x.device.type))
    return method


def _static(size: Size) -> tuple[int, ...]:
    """Return sizes as numbers: a compiled graph is then bound to them."""
    return tuple([len(range(n)) for n in size])


def resample(x: Tensor, size: Size) -> Tensor:
    """Return a periodic field on another grid of the same domain, by Fourier interpolation.

    The modes that both grids hold are kept (at an even number of points the mode at the smaller Nyquist is dropped),
    so a field band-limited to them comes back exactly.

    Args:
        x: field, shape (batch, n_1, ..., n_d, channel).
        size: new number of points along each dimension.
    """
    if tuple(x.shape[1:-1]) == tuple(size):
        return x
    shared = tuple((min(a, b) - 1) // 2 * 2 + 1 for a, b in zip(x.shape[1:-1], size, strict=True))
    return from_modes(to_modes(x, shared, "fft"), shared, size, "fft").to(x.dtype)
