"""The pieces that models are assembled from: pointwise networks and the Fourier block. Channels come last."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..transforms.fourier import Method
from .spectral import SpectralConv


class ChannelMLP(nn.Module):
    """Two dense layers over channels with a GELU between them, the same at every grid point.

    Args:
        in_channels: channels of the input.
        hidden_channels: channels between the two layers.
        out_channels: channels of the output.
        dropout: probability with which a hidden channel is dropped in training.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, out_channels)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x``, shape (..., channel)."""
        x = functional.gelu(self.fc1(x))
        if self.dropout:
            x = functional.dropout(x, self.dropout, self.training)
        return cast(Tensor, self.fc2(x))


class FNOBlock(nn.Module):
    """A Fourier layer with its skips: ``h = gelu(K x + W x)``, ``y = h-MLP(h) + g * x`` (Li et al. 2021, Kossaifi 2023).

    Args:
        channels: channels in and out.
        n_modes: kept modes along (H, W).
        mlp_ratio: hidden channels of the pointwise network as a multiple of ``channels``.
        dropout: dropout inside the pointwise network.
        activate: apply a GELU to the result (all blocks but the last).
        method: how the transform is computed.
    """

    def __init__(
        self,
        channels: int,
        n_modes: tuple[int, int],
        mlp_ratio: float = 0.5,
        dropout: float = 0.0,
        activate: bool = True,
        method: Method = "auto",
    ) -> None:
        super().__init__()
        self.conv = SpectralConv(channels, channels, n_modes, method=method)
        self.skip = nn.Linear(channels, channels, bias=False)
        self.mlp = ChannelMLP(channels, max(1, round(channels * mlp_ratio)), channels, dropout)
        self.gate = nn.Parameter(torch.ones(channels))
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x``, shape (batch, H, W, channel)."""
        h = functional.gelu(self.conv(x) + self.skip(x))
        y = self.mlp(h) + self.gate * x
        return functional.gelu(y) if self.activate else y
