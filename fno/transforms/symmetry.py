"""The half sums that join wave numbers k and -k, which share one cosine and one sine product.

For pairs (re, im) along a dimension of n points, with C and S the cosine and sine sums for k >= 0,

    X(+k) = (C re + S im) + i (C im - S re),    X(-k) = (C re - S im) + i (C im + S re),

so half the rows are multiplied. ``unfold`` makes the right-hand sides, ``fold`` is its adjoint, and with it the inverse
transform is ``re = C^T cr + S^T sr``, ``im = C^T ci + S^T si``.
"""

from typing import Any, cast

import torch
from torch import Tensor

from .inplace import write


def unfold(g: Tensor, minus: int, plus: int) -> Tensor:
    """Join cosine and sine sums to wave numbers ``-minus .. plus - 1``.

    Args:
        g: sums, shape (outer, 2 for cosine and sine, k, 2 for re and im, inner), k from 0.
        minus: number of negative wave numbers.
        plus: number of others.

    Returns:
        Coefficients, shape (outer, 2, minus + plus, inner).
    """
    return cast(Tensor, _Unfold.apply(g, minus, plus))


def fold(z: Tensor, minus: int, plus: int) -> Tensor:
    """Apply the adjoint of ``unfold``."""
    return cast(Tensor, _Fold.apply(z, minus, plus))


class _Unfold(torch.autograd.Function):
    @staticmethod
    def forward(g: Tensor, minus: int, plus: int) -> Tensor:
        c, s = g[:, 0], g[:, 1]
        z = g.new_empty(g.shape[0], 2, minus + plus, g.shape[-1])
        write(torch.add, c[:, :plus, 0], s[:, :plus, 1], z[:, 0, minus:])
        write(torch.sub, c[:, :plus, 1], s[:, :plus, 0], z[:, 1, minus:])
        if minus:
            back = torch.arange(minus - 1, -1, -1, device=g.device)
            z[:, 0].index_copy_(1, back, c[:, 1 : minus + 1, 0] - s[:, 1 : minus + 1, 1])
            z[:, 1].index_copy_(1, back, c[:, 1 : minus + 1, 1] + s[:, 1 : minus + 1, 0])
        return z

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.minus, ctx.plus = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _Fold.apply(grads[0], ctx.minus, ctx.plus), None, None


class _Fold(torch.autograd.Function):
    @staticmethod
    def forward(z: Tensor, minus: int, plus: int) -> Tensor:
        both, rows = min(minus, plus - 1), max(minus + 1, plus)
        g = z.new_empty(z.shape[0], 2, rows, 2, z.shape[-1])
        c, s = g[:, 0], g[:, 1]
        p, m = z[:, :, minus:], z[:, :, :minus].flip(2)
        c[:, 0] = p[:, :, 0]
        s[:, 0] = 0  # sin 0
        if both:
            a, b = p[:, :, 1 : both + 1], m[:, :, :both]
            write(torch.add, a, b, c[:, 1 : both + 1].transpose(1, 2))
            write(torch.sub, b[:, 1], a[:, 1], s[:, 1 : both + 1, 0])
            write(torch.sub, a[:, 0], b[:, 0], s[:, 1 : both + 1, 1])
        if rows > both + 1:  # wave numbers without their partner
            lone, sign = (p[:, :, both + 1 :], 1) if plus > minus else (m[:, :, both:], -1)
            c[:, both + 1 :] = lone.transpose(1, 2)
            s[:, both + 1 :, 0] = -sign * lone[:, 1]
            s[:, both + 1 :, 1] = sign * lone[:, 0]
        return g

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.minus, ctx.plus = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        g = grads[0].clone()
        g[:, 1, 0] = 0
        return _Unfold.apply(g, ctx.minus, ctx.plus), None, None
