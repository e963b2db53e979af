"""Local integral kernel: a learned combination of the values of a field at fixed physical distances."""

import itertools
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from ..precision import full_precision
from ..transforms.dft import static


class StencilConv(nn.Module):
    """Combine the values at a point and at its neighbours on a reference grid.

        y(z) = sum_o W_o x(z + h o),    o in {-1, 0, 1}^d

    with a matrix W_o over channels for each offset o, where h is the spacing of the reference grid along each
    dimension. On finer grids the neighbours lie at the same distances, not next to the point, so that the
    layer is one bounded operator at every resolution, the discrete form of the local integral kernels of
    Liu-Schiaffini et al. 2024 (arXiv:2402.16845). Values at the points of a coarser grid do not depend on the
    points between them.

    Beyond the edges of a dimension that is not periodic the field is continued evenly.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        reference: intervals of the reference grid along each dimension, one or two of them: points if it is
            periodic, points less one otherwise.
        periodic: whether each dimension is periodic; otherwise nodes lie on both edges.

    Raises:
        ValueError: a count is below one, or there are not one or two dimensions.

    Example:
        >>> import torch
        >>> StencilConv(3, 8, (16, 16), periodic=(False, False))(torch.zeros(2, 3, 33, 33)).shape
        torch.Size([2, 8, 33, 33])
    """

    def __init__(
        self, in_channels: int, out_channels: int, reference: Sequence[int], *, periodic: Sequence[bool]
    ) -> None:
        super().__init__()
        self.reference = tuple(reference)
        self.periodic = tuple(periodic)
        if min(in_channels, out_channels, *reference) < 1:
            raise ValueError(
                f"channels and reference must be at least 1, got {in_channels} in, {out_channels} out, "
                f"reference={self.reference}"
            )
        if len(self.reference) != len(self.periodic) or len(self.reference) not in (1, 2):
            raise ValueError(
                f"expected one or two dimensions, got reference={self.reference}, periodic={self.periodic}"
            )
        d = len(self.reference)
        scale = 0.5 / (3**d * in_channels) ** 0.5
        self.weight = nn.Parameter(scale * torch.randn(out_channels, in_channels, *[3] * d))

    def extra_repr(self) -> str:
        """Return channels, reference grid and periodic dimensions."""
        outward, inward = self.weight.shape[:2]
        return f"{inward}, {outward}, reference={self.reference}, periodic={self.periodic}"

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x``, shape (batch, in_channels, *grid), in at least float32.

        Raises:
            InputError: wrong rank or number of channels, complex numbers, or a grid whose intervals are not a
                multiple of those of the reference grid.
        """
        if x.ndim != len(self.reference) + 2 or x.shape[1] != self.weight.shape[1]:
            shape = f"(batch, {self.weight.shape[1]}, {', '.join(['n'] * len(self.reference))})"
            raise InputError(f"expected a tensor of shape {shape}, got {tuple(x.shape)}")
        strides = []
        for n, reference, periodic in zip(static(x.shape[2:]), self.reference, self.periodic, strict=True):
            intervals = n if periodic else n - 1
            if intervals < reference or intervals % reference:
                raise InputError(
                    f"a grid of {tuple(x.shape[2:])} points does not contain the reference grid of "
                    f"{self.reference} intervals; use a multiple of them"
                )
            strides.append(intervals // reference)
        return full_precision(partial(self._convolve, strides=strides), x, self.weight)

    def _convolve(self, x: Tensor, strides: Sequence[int]) -> Tensor:
        for d, (stride, periodic) in enumerate(zip(strides, self.periodic, strict=True)):
            x = _continued(x, d + 2, stride, periodic=periodic)
        weight = self.weight.to(x.dtype)
        if len(self.reference) == 1:
            return functional.conv1d(x, weight, dilation=strides)
        return functional.conv2d(x, weight, dilation=strides)

    def offsets(self) -> list[tuple[int, ...]]:
        """Return the offsets o in the order of the weight's last dimensions."""
        return list(itertools.product((-1, 0, 1), repeat=len(self.reference)))


def _continued(x: Tensor, dim: int, width: int, *, periodic: bool) -> Tensor:
    """Continue ``x`` by ``width`` points at both ends of a dimension, periodically or evenly."""
    n = x.shape[dim]
    if periodic:
        return torch.cat([x.narrow(dim, n - width, width), x, x.narrow(dim, 0, width)], dim)
    before = x.narrow(dim, 1, width).flip(dim)
    return torch.cat([before, x, x.narrow(dim, n - 1 - width, width).flip(dim)], dim)
