"""Products over channels, mode by mode, of coefficients stored as real pairs.

Coefficients have the shape (batch, 2, *modes, channel).
"""

import math
from typing import Any, cast

import torch
from torch import Tensor

from ..precision import without_autocast
from ..transforms.functions import Function
from ..transforms.inplace import write


class _ModeProduct(Function):
    """Complex matrix product over channels in each mode, see ``mode_product``."""

    @staticmethod
    def forward(z: Tensor, weight: Tensor) -> Tensor:
        return _product(z, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        gradients: tuple[Tensor, Tensor] = without_autocast(_product_gradients, grads[0], *ctx.saved_tensors)
        return gradients

    @classmethod
    def derivative(cls, ctx: Any, dz: Tensor, dweight: Tensor) -> Tensor:
        z, weight = cls.primals(ctx)
        return mode_product(dz, weight) + mode_product(z, dweight)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, int | None], z: Tensor, weight: Tensor
    ) -> tuple[Tensor, int]:
        """Treat mapped inputs of the same weights as one batch, and mapped weights as further modes."""
        of_z, of_weight = in_dims  # the mapped dimensions
        if of_weight is None and of_z is not None:
            z = z.movedim(of_z, 0)
            return mode_product(z.flatten(0, 1), weight).unflatten(0, z.shape[:2]), 0
        if of_z is None:
            z = z[:, :, None].expand(-1, -1, info.batch_size, *z.shape[2:])
        else:
            z = z.movedim(of_z, 2)
        return mode_product(z, weight.movedim(cast(int, of_weight), 0)), 2


def _product(z: Tensor, weight: Tensor) -> Tensor:
    """Multiply by one real batched product.

    [Xr; Xi] [Wr | Wi] gives four products, whose sums and differences are the result.
    """
    batch, _, *modes, channels = z.shape
    count = math.prod(modes)
    out = weight.shape[-1]
    p = torch.bmm(_by_mode(z), weight.reshape(count, channels, 2 * out)).reshape(count, batch, 2, 2, out)
    y = z.new_empty(batch, 2, *modes, out)
    into = y.view(batch, 2, count, out).permute(1, 2, 0, 3)
    write(torch.sub, p[:, :, 0, 0], p[:, :, 1, 1], into[0])
    write(torch.add, p[:, :, 0, 1], p[:, :, 1, 0], into[1])
    return y


def _product_gradients(g: Tensor, z: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients with respect to ``z`` and ``weight``, given that with respect to the product."""
    batch, _, *modes, channels = z.shape
    count = math.prod(modes)
    out = weight.shape[-1]
    g = g.reshape(batch, 2, count, out).permute(2, 0, 1, 3)
    p = g.new_empty(count, batch, 2, 2, out)
    p[:, :, 0] = g
    p[:, :, 1, 0] = g[:, :, 1]
    p[:, :, 1, 1] = -g[:, :, 0]
    p = p.reshape(count, 2 * batch, 2 * out)
    dz = torch.bmm(p, weight.reshape(count, channels, 2 * out).transpose(1, 2))
    dz = dz.reshape(count, batch, 2, channels)
    dweight = torch.bmm(_by_mode(z).transpose(1, 2), p).reshape(weight.shape)
    return dz.permute(1, 2, 0, 3).reshape(z.shape), dweight


def _by_mode(z: Tensor) -> Tensor:
    """Return coefficients mode by mode, shape (modes, 2 batch, channel), without a copy if contiguous."""
    batch, _, *modes, channels = z.shape
    return z.reshape(2 * batch, math.prod(modes), channels).transpose(0, 1)


def mode_product(z: Tensor, weight: Tensor) -> Tensor:
    """Multiply the channels of each mode by that mode's complex matrix.

    Args:
        z: coefficients, shape (batch, 2, *modes, in).
        weight: matrices as real pairs, shape (*modes, in, 2, out).

    Returns:
        Coefficients, shape (batch, 2, *modes, out).
    """
    # Compilers differentiate the elementary operations.
    result: Tensor = _product(z, weight) if torch.compiler.is_compiling() else _ModeProduct.apply(z, weight)
    return result


def channel_product(z: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the channels of all modes by the same complex matrix.

    Args:
        z: coefficients, shape (batch, 2, *modes, in).
        matrix: matrix as real pairs, shape (in, 2, out).

    Returns:
        Coefficients, shape (batch, 2, *modes, out).
    """
    p = (z @ matrix.flatten(1)).unflatten(-1, matrix.shape[1:])
    return torch.stack(
        [p[:, 0, ..., 0, :] - p[:, 1, ..., 1, :], p[:, 0, ..., 1, :] + p[:, 1, ..., 0, :]], dim=1
    )


def pointwise_product(z: Tensor, factor: Tensor, axis: int = 1) -> Tensor:
    """Multiply coefficients by complex factors of the same shape up to broadcasting.

    Args:
        z: pairs along ``axis``.
        factor: pairs along its first axis.
        axis: axis of the pairs in ``z``.
    """
    a, b = z.select(axis, 0), z.select(axis, 1)
    return torch.stack([a * factor[0] - b * factor[1], a * factor[1] + b * factor[0]], dim=axis)
