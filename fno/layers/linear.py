"""Dense layers over channels that come last.

On CPUs a large float32 layer is computed as a convolution with a kernel of one point. That is the same
product, but PyTorch delegates convolutions to oneDNN, whose kernels use the full width of the vector
registers on processors of every vendor, and dense layers to MKL, which does so on one vendor's only.
Gradients of weights and layers with few channels gain most.
"""

from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..precision import autocasts, require_real
from ..transforms.functions import Function
from ..transforms.products import pays

_IMAGES = 16
"""Number of images from which PyTorch delegates a convolution with a kernel of one point to oneDNN."""
_POINTS = 512
"""Number of points of an image at which the convolution is fastest."""


class Linear(nn.Linear):
    """Dense layer ``y = x W^T + b`` with the arguments, parameters and, up to round-off, result of
    ``torch.nn.Linear``.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply to tensors of shape (..., in_features)."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, groups: int = 1) -> Tensor:
    """Return ``x weight^T + bias`` like ``torch.nn.functional.linear``, with optional groups of channels.

    Args:
        x: shape (..., in).
        weight: shape (out, in / groups), group by group.
        bias: shape (out,).
        groups: number of groups of channels, each multiplied by its own rows of ``weight``.

    Raises:
        InputError: ``x`` is complex.
    """
    require_real(x)
    images = 0
    if pays(x.numel() // groups * weight.shape[0], x) and weight.dtype == x.dtype and not autocasts(x):
        images = _images(x.numel() // x.shape[-1])
    if images:
        return cast(Tensor, _Linear.apply(x, weight, bias, images, groups))
    return _linear(x, weight, bias, groups)


@lru_cache(maxsize=256)
def _images(rows: int) -> int:
    """Return the number of equal images into which the rows are best divided; 0 if there is no division."""
    for images in range(max(_IMAGES, rows // _POINTS), rows // 8):
        if rows % images == 0:
            return images
    return 0


class _Linear(Function):
    """``linear`` as a convolution of images with a kernel of one point."""

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
        x, weight = ctx.saved_tensors
        g = grads[0]
        needed = [*ctx.needs_input_grad[:2], False]  # the sum for the bias is faster on its own
        dx = dw = None
        if any(needed):
            image = _as_images(x, ctx.images)
            gradient = _as_images(g, ctx.images)
            options = (None, [1, 1], [0, 0], [1, 1], False, [0, 0], ctx.groups, needed)
            dx, dw, _ = torch.ops.aten.convolution_backward(
                gradient, image, weight[:, :, None, None], *options
            )
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
        return linear(dx, weight, groups=ctx.groups) + linear(x, dweight, dbias, groups=ctx.groups)

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
        """Treat mapped inputs of the same weights as more rows; leave mapped weights to PyTorch."""
        if in_dims[1] is None and in_dims[2] is None:
            return linear(x.movedim(cast(int, in_dims[0]), 0), weight, bias, groups=groups), 0
        apply = torch.vmap(_linear, in_dims=(*in_dims[:3], None))
        return apply(x, weight, bias, groups), 0


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    if groups == 1:
        return functional.linear(x, weight, bias)
    parts = x.reshape(-1, groups, x.shape[-1] // groups).transpose(0, 1)
    y = torch.bmm(parts, weight.unflatten(0, (groups, -1)).transpose(1, 2))
    y = y.transpose(0, 1).reshape(*x.shape[:-1], weight.shape[0])
    return y if bias is None else y + bias


def _as_images(x: Tensor, images: int) -> Tensor:
    return x.reshape(images, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)


def _rows(x: Tensor, shape: Any) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(shape)
