"""Products over channels, mode by mode, on coefficients kept as real pairs, shape (batch, 2, *modes, channel)."""

from typing import Any

import torch
from torch import Tensor

from ..transforms.inplace import write


class _ModeProduct(torch.autograd.Function):
    """Complex matrix product over channels in each mode as one real batched product.

    [Xr; Xi] times [Wr | Wi] gives the four products; two half sums make the result. Only the kept modes are saved.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(z, weight)
        batch, channels, out, modes = z.shape[0], z.shape[-1], weight.shape[-1], z.shape[2:-1]
        p = torch.bmm(_by_mode(z), weight.reshape(-1, channels, 2 * out)).reshape(-1, batch, 2, 2, out)
        y = z.new_empty(batch, 2, *modes, out)
        into = y.view(batch, 2, -1, out).permute(1, 2, 0, 3)
        write(torch.sub, p[:, :, 0, 0], p[:, :, 1, 1], into[0])
        write(torch.add, p[:, :, 0, 1], p[:, :, 1, 0], into[1])
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        z, weight = ctx.saved_tensors
        batch, channels, out, modes = z.shape[0], z.shape[-1], weight.shape[-1], z.shape[2:-1]
        g = grads[0].reshape(batch, 2, -1, out).permute(2, 0, 1, 3)
        p = g.new_empty(g.shape[0], batch, 2, 2, out)
        p[:, :, 0] = g
        p[:, :, 1, 0] = g[:, :, 1]
        p[:, :, 1, 1] = -g[:, :, 0]
        p = p.reshape(-1, 2 * batch, 2 * out)
        dz = torch.bmm(p, weight.reshape(-1, channels, 2 * out).transpose(1, 2)).reshape(-1, batch, 2, channels)
        dw = torch.bmm(_by_mode(z).transpose(1, 2), p).reshape(weight.shape)
        return dz.permute(1, 2, 0, 3).reshape(batch, 2, *modes, channels), dw


def _by_mode(z: Tensor) -> Tensor:
    """Return coefficients mode by mode, shape (modes, 2 batch, channel), without a copy where they are contiguous."""
    return z.reshape(2 * z.shape[0], -1, z.shape[-1]).transpose(0, 1)


def mode_product(z: Tensor, weight: Tensor) -> Tensor:
    """Multiply the channels of each mode by that mode's complex matrix.

    Args:
        z: coefficients, shape (batch, 2, *modes, in).
        weight: matrices as real pairs, shape (*modes, in, 2, out).

    Returns:
        Coefficients, shape (batch, 2, *modes, out).
    """
    result: Tensor = _ModeProduct.apply(z, weight)
    return result


def channel_product(z: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the channels of all modes by the same complex matrix, shape (in, 2, out)."""
    p = (z @ matrix.flatten(1)).unflatten(-1, matrix.shape[1:])
    return torch.stack([p[:, 0, ..., 0, :] - p[:, 1, ..., 1, :], p[:, 0, ..., 1, :] + p[:, 1, ..., 0, :]], dim=1)


def pointwise_product(z: Tensor, factor: Tensor, axis: int = 1) -> Tensor:
    """Multiply coefficients by complex factors of the same shape up to broadcasting.

    Args:
        z: pairs along ``axis``.
        factor: pairs along its first axis.
        axis: which axis of ``z`` holds the pairs.
    """
    a, b = z.select(axis, 0), z.select(axis, 1)
    return torch.stack([a * factor[0] - b * factor[1], a * factor[1] + b * factor[0]], dim=axis)
