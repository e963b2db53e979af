"""Spectral convolution: a learned multiplier on the kept Fourier modes of a field."""

from typing import cast

import torch
from torch import Tensor, nn

from ..transforms.fourier import Method, from_modes, kept_modes, to_modes


class SpectralConv(nn.Module):
    """Multiply each kept Fourier mode by a complex matrix over channels.

        y = F^-1( W[k, l] F(x)[k, l] ) + b

    after Li et al. 2021, "Fourier Neural Operator for Parametric Partial Differential Equations". Weights are stored
    as real pairs, mode by mode, so that optimisers and exports meet no complex parameter and the channel product is
    one batched real product. The layer acts alike on every grid: a grid too coarse for some modes uses the others.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        n_modes: modes along (H, W) as neuraloperator counts them: rows -(n // 2) .. (n - 1) // 2, columns 0 .. n // 2.
        bias: add a constant to each output channel.
        method: how the transform is computed, see ``fno.transforms.fourier``.

    Raises:
        ValueError: a channel or mode count is below one.
    """

    def __init__(self, in_channels: int, out_channels: int, n_modes: tuple[int, int], bias: bool = True, method: Method = "auto") -> None:
        super().__init__()
        if min(in_channels, out_channels) < 1:
            raise ValueError(f"channels must be at least 1, got {in_channels} in and {out_channels} out")
        n_modes = cast(tuple[int, int], tuple(n_modes))
        self.rows, self.columns = kept_modes(n_modes, n_modes)
        self.in_channels, self.out_channels, self.n_modes, self.method = in_channels, out_channels, n_modes, method
        scale = (2 / (in_channels + out_channels)) ** 0.5
        self.weight = nn.Parameter(scale / 2**0.5 * torch.randn(len(self.rows), len(self.columns), in_channels, 2, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x``, shape (batch, H, W, channel); the transform runs in float32 even under autocast."""
        size = (x.shape[1], x.shape[2])
        with torch.autocast(x.device.type, enabled=False):
            z = to_modes(x, self.n_modes, self.method)
            rows, columns = kept_modes(self.n_modes, size)
            first = rows.start - self.rows.start
            weight = self.weight[first : first + len(rows), : len(columns)].to(z.dtype)
            y = from_modes(_mix(z, weight), self.n_modes, size, self.method)
            return y if self.bias is None else y + self.bias.to(y.dtype)


def _mix(z: Tensor, weight: Tensor) -> Tensor:
    """Complex product over channels, one real batched product: [Xr; Xi] times [Wr | Wi], then the two half sums."""
    batch, _, k, l, channels = z.shape
    out = weight.shape[-1]
    x = z.permute(2, 3, 1, 0, 4).reshape(k * l, 2 * batch, channels)
    p = torch.bmm(x, weight.reshape(k * l, channels, 2 * out)).reshape(k, l, 2, batch, 2, out)
    real = p[:, :, 0, :, 0] - p[:, :, 1, :, 1]
    imaginary = p[:, :, 0, :, 1] + p[:, :, 1, :, 0]
    return torch.stack([real, imaginary]).permute(3, 0, 1, 2, 4)
