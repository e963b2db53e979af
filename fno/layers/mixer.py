"""Adaptive Fourier mixer: a two-layer network on Fourier coefficients, shared by all modes."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from ..precision import full_precision
from ..transforms.dft import static
from ..transforms.fourier import Method, analyse, synthesise
from ..transforms.planned import device_type
from .linear import linear


class AFNO2D(nn.Module):
    """Mix tokens globally by a block-diagonal network in Fourier space.

        y = F^-1 softshrink( W2 relu(W1 F(x) + b1) + b2 ) + x

    after Guibas et al. 2022 (arXiv:2111.13587) as in FourCastNet: orthonormal transforms, real and imaginary
    parts rectified separately, parameters ``w1, b1, w2, b2`` with a leading axis for the real and
    imaginary part.

    Args:
        hidden_size: channels.
        num_blocks: number of diagonal blocks of channels.
        sparsity_threshold: coefficients smaller than this are set to zero (softshrink).
        hard_thresholding_fraction: fraction of the modes that is retained.
        hidden_size_factor: hidden width as a multiple of the block's.

    Raises:
        ValueError: channels do not divide into blocks, or the fraction lies outside (0, 1].
    """

    def __init__(
        self,
        hidden_size: int,
        num_blocks: int = 8,
        *,
        sparsity_threshold: float = 0.01,
        hard_thresholding_fraction: float = 1.0,
        hidden_size_factor: int = 1,
    ) -> None:
        super().__init__()
        if hidden_size % num_blocks:
            raise ValueError(f"{hidden_size} channels do not divide into {num_blocks} blocks")
        if not 0 < hard_thresholding_fraction <= 1:
            raise ValueError(
                f"hard_thresholding_fraction must lie in (0, 1], got {hard_thresholding_fraction}"
            )
        size = hidden_size // num_blocks
        self.num_blocks = num_blocks
        self.block_size = size
        self.sparsity_threshold = sparsity_threshold
        self.fraction = hard_thresholding_fraction
        hidden = size * hidden_size_factor
        self.w1 = nn.Parameter(0.02 * torch.randn(2, num_blocks, size, hidden))
        self.b1 = nn.Parameter(0.02 * torch.randn(2, num_blocks, hidden))
        self.w2 = nn.Parameter(0.02 * torch.randn(2, num_blocks, hidden, size))
        self.b2 = nn.Parameter(0.02 * torch.randn(2, num_blocks, size))

    def extra_repr(self) -> str:
        """Return channels, blocks and thresholds."""
        return (
            f"{self.num_blocks * self.block_size}, num_blocks={self.num_blocks}, "
            f"sparsity_threshold={self.sparsity_threshold}, hard_thresholding_fraction={self.fraction}"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x``, shape (batch, H, W, channel), in at least float32, see ``SpectralConv``.

        Raises:
            InputError: wrong rank or number of channels, or complex numbers.
        """
        if x.ndim != 4 or x.shape[-1] != self.num_blocks * self.block_size:
            raise InputError(
                f"expected a tensor of shape (batch, H, W, {self.num_blocks * self.block_size}), "
                f"got {tuple(x.shape)}"
            )
        return full_precision(self._mix, x, self.w1)

    def _mix(self, x: Tensor) -> Tensor:
        h, w = static(x.shape[1:3])
        # The window that FourCastNet retains: rows around total = H // 2 + 1, the first columns.
        total = h // 2 + 1
        kept = int(total * self.fraction)
        rows = range(total - kept, min(total + kept, h))
        columns = range(min(kept, w // 2 + 1))
        if not rows or not columns:
            return x
        if len(rows) == h:  # all rows, in any order, since all modes share their weights
            rows = range(-(h // 2), h - h // 2)
        # The FFT's interleaved coefficients cost more to split into blocks, which shifts the crossover.
        method: Method = (
            "dft" if device_type(x) == "cpu" and 4 * len(columns) * (1 + len(rows) / w) < 320 else "auto"
        )
        z = analyse(x, (rows, columns), method)
        # Real and imaginary part of a block are adjacent, so that a complex product is one real product.
        z = z.unflatten(-1, (self.num_blocks, self.block_size)).movedim(1, -2).flatten(-3)
        scale = (h * w) ** 0.5  # from the mean to the orthonormal transform
        z = functional.relu(linear(z, _matrix(self.w1, z) * scale, _bias(self.b1, z), groups=self.num_blocks))
        z = linear(z, _matrix(self.w2, z) / scale, _bias(self.b2, z) / scale, groups=self.num_blocks)
        z = functional.softshrink(z, self.sparsity_threshold / scale)
        z = z.unflatten(-1, (self.num_blocks, 2, self.block_size)).movedim(-2, 1).flatten(-2)
        return synthesise(z, (rows, columns), (h, w), method=method) + x


def _matrix(weight: Tensor, like: Tensor) -> Tensor:
    """Return the real matrices of complex products, transposed and stacked, shape (block 2 out, 2 in).

    [re im] [[a, b], [-b, a]]
    """
    a, b = weight.to(like.dtype).transpose(-1, -2)
    return torch.cat([torch.cat([a, -b], dim=-1), torch.cat([b, a], dim=-1)], dim=-2).flatten(0, 1)


def _bias(bias: Tensor, like: Tensor) -> Tensor:
    """Return biases block by block, real parts before imaginary ones, shape (block 2 out,)."""
    return bias.to(like.dtype).transpose(0, 1).flatten()
