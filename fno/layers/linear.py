"""Dense layers over channels that come last.

On CPUs a large one in float32 is computed as a convolution with a kernel of one point. That is the same
product, but PyTorch leaves convolutions to oneDNN, whose kernels use the full width of the vector registers
on every maker's processors, and dense layers to MKL, which does so on one maker's. Gradients of weights and
layers with few channels gain most.
"""

from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..precision import require_real
from ..transforms.functions import Function
from ..transforms.products import pays

_IMAGES, _POINTS = 16, 512
"""PyTorch leaves a convolution with a kernel of one point to oneDNN from so many images on; and how large
they had best be.
"""


class Linear(nn.Linear):
    """A dense layer ``y = x W^T + b``: the parameters and the arguments of ``torch.nn.Linear``, and its
    result up to round-off.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply to tensors of shape (..., in_features)."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: int = 1) -> Tensor:
    """Return ``x weight^T + bias`` like ``torch.nn.functional.linear``; with ``groups``, each group of
    channels by its own rows of ``weight``.

    Args:
        x: shape (..., in).
        weight: shape (out, in / groups), the rows of one group after those of the other.
        bias: shape (out,).
        groups: number of groups that the channels fall into.

    Raises:
        InputError: ``x`` is complex.
    """
    require_real(x)
    images = 0
    if (
        pays(x.numel() // groups * weight.shape[0], x)
        and weight.dtype == x.dtype
        and not torch.is_autocast_enabled(x.device.type)
    ):
        images = _images(x.numel() // x.shape[-1])
    if images:
        return cast(Tensor, _Linear.apply(x, weight, bias, images, groups))
    return _linear(x, weight, bias, groups)


@lru_cache(maxsize=256)
def _images(rows: int) -> int:
    """Return into how many images of equal size the rows are best divided; 0 where they do not divide into
    any of some size.
    """
    for images in range(max(_IMAGES, rows // _POINTS), rows // 8):
        if rows % images == 0:
            return images
    return 0


class _Linear(Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, images: int, groups: int) -> Tensor:
        return _rows(
            functional.conv2d(_as_images(x, images), weight[:, :, None, None], bias, groups=groups),
            (*x.shape[:-1], weight.shape[0]),
        )

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, int, int], output: Tensor
    ) -> None:
        x, weight, _, ctx.images, ctx.groups = inputs
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        (x, weight), g = ctx.saved_tensors, grads[0]
        wanted = [*ctx.needs_input_grad[:2], False]  # the sum for the bias is faster apart
        dx = dw = None
        if any(wanted):
            image, gradient = _as_images(x, ctx.images), _as_images(g, ctx.images)
            how = (None, [1, 1], [0, 0], [1, 1], False, [0, 0], ctx.groups, wanted)
            dx, dw, _ = torch.ops.aten.convolution_backward(gradient, image, weight[:, :, None, None], *how)
        return (
            None if dx is None else _rows(dx, x.shape),
            None if dw is None else dw[:, :, 0, 0],
            g.flatten(0, -2).sum(0) if ctx.needs_input_grad[2] else None,
            None,
            None,
        )

    @classmethod
    def derivative(cls, ctx: Any, dx: Tensor, dweight: Tensor, dbias: Tensor | None, *_: None) -> Tensor:
        x, weight = cls.primals(ctx)
        return linear(dx, weight, None, ctx.groups) + linear(x, dweight, dbias, ctx.groups)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        images: int,
        groups: int,
    ) -> tuple[Tensor, int]:
        """Take instances that share their weights as more rows; leave others to PyTorch."""
        if in_dims[1] is None and in_dims[2] is None:
            return linear(x.movedim(cast(int, in_dims[0]), 0), weight, bias, groups), 0
        apply = torch.vmap(_linear, in_dims=(*in_dims[:3], None))
        return apply(x, weight, bias, groups), 0


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    if groups == 1:
        return functional.linear(x, weight, bias)
    parts = x.reshape(-1, groups, x.shape[-1] // groups).transpose(0, 1)
    y = (
        torch.bmm(parts, weight.unflatten(0, (groups, -1)).transpose(1, 2))
        .transpose(0, 1)
        .reshape(*x.shape[:-1], weight.shape[0])
    )
    return y if bias is None else y + bias


def _as_images(x: Tensor, images: int) -> Tensor:
    return x.reshape(images, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)


def _rows(x: Tensor, shape: Any) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(shape)
