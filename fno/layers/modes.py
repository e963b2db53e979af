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
    def forward(z: Tensor, weight: Tensor) -> Tensor:
        batch, out, modes = z.shape[0], weight.shape[-1], z.shape[2:-1]
        p = torch.bmm(_by_mode(z), weight.reshape(-1, weight.shape[-3], 2 * out)).reshape(-1, 2, batch, 2, out)
        y = z.new_empty(batch, 2, p.shape[0], out)
        into = y.permute(1, 2, 0, 3)
        write(torch.sub, p[:, 0, :, 0], p[:, 1, :, 1], into[0])
        write(torch.add, p[:, 0, :, 1], p[:, 1, :, 0], into[1])
        return y.reshape(batch, 2, *modes, out)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        z, weight = ctx.saved_tensors
        batch, channels, out, modes = z.shape[0], z.shape[-1], weight.shape[-1], z.shape[2:-1]
        g = grads[0].reshape(batch, 2, -1, out).permute(1, 2, 0, 3)
        real, imaginary = g[0], g[1]
        rows = [torch.stack([real, imaginary], dim=2), torch.stack([imaginary, -real], dim=2)]
        p = torch.stack(rows, dim=1).reshape(-1, 2 * batch, 2 * out)
        dz = torch.bmm(p, weight.reshape(-1, channels, 2 * out).transpose(1, 2)).reshape(-1, 2, batch, channels)
        dw = torch.bmm(_by_mode(z).transpose(1, 2), p).reshape(weight.shape)
        return dz.permute(2, 1, 0, 3).reshape(batch, 2, *modes, channels), dw


def _by_mode(z: Tensor) -> Tensor:
    """Return coefficients mode by mode, shape (modes, 2 batch, channel)."""
    batch, channels = z.shape[0], z.shape[-1]
    return z.reshape(batch, 2, -1, channels).permute(2, 1, 0, 3).reshape(-1, 2 * batch, channels)


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
