"""Adaptive Fourier mixer: a two-layer network on Fourier coefficients, shared by all modes."""

import torch
from torch import Tensor, nn
from torch.nn import functional


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
        """Mix ``x``, shape (batch, H, W, channel); transforms run in float32 even under autocast."""
        _, h, w, _ = x.shape
        with torch.autocast(x.device.type, enabled=False):
            z = torch.fft.rfft2(x.float(), dim=(1, 2), norm="ortho")
            total = h // 2 + 1
            kept = int(total * self.fraction)
            # The window that FourCastNet keeps: rows around total = H // 2 + 1, the first columns.
            rows = slice(total - kept, total + kept)
            window = z[:, rows, :kept].unflatten(-1, (self.num_blocks, self.block_size))
            real = functional.relu(_multiply(window.real, window.imag, self.w1, -1) + self.b1[0])
            imaginary = functional.relu(_multiply(window.imag, window.real, self.w1, 1) + self.b1[1])
            pair = torch.stack(
                [
                    _multiply(real, imaginary, self.w2, -1) + self.b2[0],
                    _multiply(imaginary, real, self.w2, 1) + self.b2[1],
                ],
                dim=-1,
            )
            pair = functional.softshrink(pair, lambd=self.sparsity_threshold)
            mixed = torch.zeros_like(z)
            mixed[:, rows, :kept] = torch.view_as_complex(pair.contiguous()).flatten(-2)
            field: Tensor = torch.fft.irfft2(mixed, s=(h, w), dim=(1, 2), norm="ortho")
            return field + x


def _multiply(a: Tensor, b: Tensor, weight: Tensor, sign: int) -> Tensor:
    """One part of a complex block product: ``a W_re + sign b W_im``."""
    real, imaginary = (torch.einsum("...bi,bio->...bo", x, w) for x, w in zip((a, b), weight, strict=True))
    return real + sign * imaginary
