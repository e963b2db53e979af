"""Adaptive Fourier mixer: a two-layer network on Fourier coefficients, shared by all modes."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from ..transforms.fourier import Method, analyse, synthesise
from .precision import without_autocast


class AFNO2D(nn.Module):
    """Mix tokens globally by a block-diagonal network in Fourier space.

        y = F^-1 softshrink( W2 relu(W1 F(x) + b1) + b2 ) + x

    after Guibas et al. 2022 (arXiv:2111.13587) as FourCastNet uses it: orthonormal transforms, real and imaginary
    parts rectified separately, parameters ``w1, b1, w2, b2`` with a leading axis for the real and imaginary part.

    Args:
        hidden_size: channels.
        num_blocks: diagonal blocks that the channels are divided into.
        sparsity_threshold: coefficients smaller than this are set to zero (softshrink).
        hard_thresholding_fraction: share of the modes that is kept.
        hidden_size_factor: hidden width as a multiple of the block's.

    Raises:
        ValueError: channels do not divide into blocks, or the fraction lies outside (0, 1].
    """

    def __init__(
        self,
        hidden_size: int,
        num_blocks: int = 8,
        sparsity_threshold: float = 0.01,
        hard_thresholding_fraction: float = 1.0,
        hidden_size_factor: int = 1,
    ) -> None:
        super().__init__()
        if hidden_size % num_blocks:
            raise ValueError(f"{hidden_size} channels do not divide into {num_blocks} blocks")
        if not 0 < hard_thresholding_fraction <= 1:
            raise ValueError(f"hard_thresholding_fraction must lie in (0, 1], got {hard_thresholding_fraction}")
        size = hidden_size // num_blocks
        self.num_blocks, self.block_size = num_blocks, size
        self.sparsity_threshold, self.fraction = sparsity_threshold, hard_thresholding_fraction
        hidden = size * hidden_size_factor
        self.w1 = nn.Parameter(0.02 * torch.randn(2, num_blocks, size, hidden))
        self.b1 = nn.Parameter(0.02 * torch.randn(2, num_blocks, hidden))
        self.w2 = nn.Parameter(0.02 * torch.randn(2, num_blocks, hidden, size))
        self.b2 = nn.Parameter(0.02 * torch.randn(2, num_blocks, size))

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x``, shape (batch, H, W, channel); transforms run in float32 even under autocast.

        Raises:
            InputError: wrong rank or number of channels.
        """
        if x.ndim != 4 or x.shape[-1] != self.num_blocks * self.block_size:
            raise InputError(f"expected a tensor of shape (batch, H, W, {self.num_blocks * self.block_size}), got {tuple(x.shape)}")
        return without_autocast(self._mix, x)

    def _mix(self, x: Tensor) -> Tensor:
        batch, h, w, channels = x.shape
        # The window that FourCastNet keeps: rows around total = H // 2 + 1, the first columns.
        total = h // 2 + 1
        kept = int(total * self.fraction)
        rows, columns = range(total - kept, min(total + kept, h)), range(min(kept, w // 2 + 1))
        if not rows or not columns:
            return x
        if len(rows) == h:  # all of them, in whatever order, since all modes share their weights
            rows = range(-(h // 2), h - h // 2)
        # The FFT's interleaved coefficients cost more to take apart into blocks, which moves the crossover.
        method: Method = "dft" if x.device.type == "cpu" and 4 * len(columns) * (1 + len(rows) / w) < 320 else "auto"
        z = analyse(x, (rows, columns), method)
        z = z.unflatten(-1, (self.num_blocks, self.block_size))
        # Block by block, real and imaginary part side by side, so that a complex product is one real one.
        z = z.permute(4, 0, 2, 3, 1, 5).reshape(self.num_blocks, -1, 2 * self.block_size)
        scale = (h * w) ** 0.5  # from the mean to the orthonormal transform
        z = functional.relu(torch.baddbmm(_bias(self.b1, z), z, _matrix(self.w1, z) * scale))
        z = functional.softshrink(torch.baddbmm(_bias(self.b2, z) / scale, z, _matrix(self.w2, z) / scale), self.sparsity_threshold / scale)
        z = z.reshape(self.num_blocks, batch, len(rows), len(columns), 2, self.block_size).permute(1, 4, 2, 3, 0, 5)
        return synthesise(z.reshape(batch, 2, len(rows), len(columns), channels), (rows, columns), (h, w), method) + x


def _matrix(weight: Tensor, like: Tensor) -> Tensor:
    """Real matrix of a complex product, ``[re im] [[a, b], [-b, a]]``, shape (block, 2 in, 2 out)."""
    a, b = weight.to(like.dtype)
    return torch.cat([torch.cat([a, b], dim=-1), torch.cat([-b, a], dim=-1)], dim=-2)


def _bias(bias: Tensor, like: Tensor) -> Tensor:
    return bias.to(like.dtype).movedim(0, 1).flatten(1)[:, None]
