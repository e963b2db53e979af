"""Truncated real Fourier transforms by FFT, dimension by dimension, each truncated before the next.

A compiled graph sees either transform as one operator, since compilers expect other strides of complex
numbers than FFT libraries return. Exported graphs contain PyTorch's own FFTs.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from .dft import Modes, Weights


def pruned_fft(x: Tensor, modes: Modes, size: tuple[int, ...], weights: Weights) -> Tensor:
    """Return ``X[k] = w[k] sum_j x[j] exp(-i k j)`` as real pairs; shapes as in ``dft.products``."""
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        return cast(
            Tensor,
            torch.ops.fourcaster.pruned_fft(
                x, [m.start for m in modes], [m.stop for m in modes], size, weights
            ),
        )
    d = len(modes)
    z = torch.fft.rfft(x, dim=d).narrow(d, 0, len(modes[-1]))
    for dim in reversed(range(1, d)):
        n = z.shape[dim]
        first, stop = modes[dim - 1].start, modes[dim - 1].stop
        z = torch.fft.fft(z, dim=dim)
        parts = [(first, stop - first)] if first >= 0 else [(n + first, -first), (0, stop)]
        z = torch.cat([z.narrow(dim, *part) for part in parts], dim=dim)
    if torch.compiler.is_exporting():
        z = z.contiguous()  # so that strides do not specialise the graph to a size
    # Weights are applied here, to the retained modes only.
    scale = 1 / math.prod(size) if weights == "mean" else _multiplicity(x, modes, size[-1])
    return torch.view_as_real(z).movedim(-1, 1) * scale


def pruned_fft_back(z: Tensor, modes: Modes, size: tuple[int, ...], weights: Weights) -> Tensor:
    """Return ``x[j] = sum_k w[k] Re(X[k] exp(i k j))``, the transpose of ``pruned_fft``.

    Shapes are those of ``dft.products_back``.
    """
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        return cast(
            Tensor,
            torch.ops.fourcaster.pruned_fft_back(
                z, [m.start for m in modes], [m.stop for m in modes], size, weights
            ),
        )
    d = len(modes)
    if weights == "mean":
        z = z / (_multiplicity(z, modes, size[-1]) * math.prod(size))
    interleaved = not torch.compiler.is_exporting() and z.stride(1) == 1 and z.stride(-1) % 2 == 0
    y = torch.view_as_complex(z.movedim(1, -1)) if interleaved else torch.complex(z[:, 0], z[:, 1])
    for dim in range(1, d):
        n = size[dim - 1]
        first, stop = modes[dim - 1].start, modes[dim - 1].stop
        gap = y.new_zeros([*y.shape[:dim], n - len(modes[dim - 1]), *y.shape[dim + 1 :]])
        if first < 0:
            y = torch.cat([y.narrow(dim, -first, stop), gap, y.narrow(dim, 0, -first)], dim=dim)
        else:
            y = torch.cat([gap.narrow(dim, 0, first), y, gap.narrow(dim, first, n - stop)], dim=dim)
        y = torch.fft.ifft(y, dim=dim, norm="forward")
    field: Tensor = torch.fft.irfft(y, n=size[-1], dim=d, norm="forward")
    return field


def _multiplicity(z: Tensor, modes: Modes, n: int) -> Tensor:
    """Return ``dft.multiplicity`` as a tensor, without specialising an exported graph to ``n``."""
    columns = torch.arange(len(modes[-1]), device=z.device)
    return torch.where((columns == 0) | (2 * columns == n), 1.0, 2.0).to(z.dtype)[:, None]


@torch.library.custom_op("fourcaster::pruned_fft", mutates_args=())
def _forward(
    x: Tensor, starts: Sequence[int], stops: Sequence[int], size: Sequence[int], weights: str
) -> Tensor:
    return pruned_fft(x, _modes(starts, stops), tuple(size), cast(Weights, weights)).contiguous()


@torch.library.custom_op("fourcaster::pruned_fft_back", mutates_args=())
def _back(
    z: Tensor, starts: Sequence[int], stops: Sequence[int], size: Sequence[int], weights: str
) -> Tensor:
    return pruned_fft_back(z, _modes(starts, stops), tuple(size), cast(Weights, weights)).contiguous()


@_forward.register_fake
def _(x: Tensor, starts: Sequence[int], stops: Sequence[int], size: Sequence[int], weights: str) -> Tensor:
    return x.new_empty(x.shape[0], 2, *[len(m) for m in _modes(starts, stops)], x.shape[-1])


@_back.register_fake
def _(z: Tensor, starts: Sequence[int], stops: Sequence[int], size: Sequence[int], weights: str) -> Tensor:
    return z.new_empty(z.shape[0], *size, z.shape[-1])


def _modes(starts: Sequence[int], stops: Sequence[int]) -> Modes:
    return tuple([range(start, stop) for start, stop in zip(starts, stops, strict=True)])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.constants = inputs[1:]


def _forward_gradient(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    return torch.ops.fourcaster.pruned_fft_back(g, *ctx.constants), None, None, None, None


def _back_gradient(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    return torch.ops.fourcaster.pruned_fft(g, *ctx.constants), None, None, None, None


_forward.register_autograd(_forward_gradient, setup_context=_keep)
_back.register_autograd(_back_gradient, setup_context=_keep)
