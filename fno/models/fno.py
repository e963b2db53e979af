"""Fourier neural operator."""

from typing import cast

from torch import Tensor, nn

from ..layers.blocks import ChannelMLP, FNOBlock
from ..layers.padding import continue_periodically
from ..transforms.fourier import Method


class FNO(nn.Module):
    """Map fields to fields on any regular grid by layers of spectral convolutions.

    Lift, ``n_layers`` Fourier blocks, project; after Li et al. 2021 (arXiv:2010.08895) in the argument names of
    neuraloperator.

    Args:
        n_modes: kept modes along (H, W), counted as in neuraloperator.
        in_channels: channels of the input.
        out_channels: channels of the output.
        hidden_channels: width of the network.
        n_layers: number of Fourier blocks.
        lifting_channel_ratio: hidden width of the lifting network as a multiple of ``hidden_channels``.
        projection_channel_ratio: the same for the projection.
        domain_padding: margin along (H, W), as a share of the domain, in which the field is continued periodically;
            zero where the domain wraps.
        dropout: dropout in the pointwise networks of the blocks.
        method: how transforms are computed, see ``fno.transforms.fourier``.

    Raises:
        ValueError: fewer than one layer, or a count below one.

    Example:
        >>> import torch
        >>> FNO(n_modes=(8, 8), in_channels=2, out_channels=1, hidden_channels=16)(torch.zeros(3, 2, 25, 53)).shape
        torch.Size([3, 1, 25, 53])
    """

    def __init__(
        self,
        n_modes: tuple[int, int],
        in_channels: int,
        out_channels: int,
        hidden_channels: int = 64,
        n_layers: int = 4,
        lifting_channel_ratio: float = 2,
        projection_channel_ratio: float = 2,
        domain_padding: tuple[float, float] = (0.0, 0.0),
        dropout: float = 0.0,
        method: Method = "auto",
    ) -> None:
        super().__init__()
        if n_layers < 1:
            raise ValueError(f"n_layers must be at least 1, got {n_layers}")
        n_modes = cast(tuple[int, int], tuple(n_modes))
        width = hidden_channels
        self.domain_padding = tuple(domain_padding)
        self.lifting = ChannelMLP(in_channels, max(1, round(width * lifting_channel_ratio)), width)
        self.blocks = nn.ModuleList(FNOBlock(width, n_modes, dropout=dropout, activate=i < n_layers - 1, method=method) for i in range(n_layers))
        self.projection = ChannelMLP(width, max(1, round(width * projection_channel_ratio)), out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``, shape (batch, channel, H, W), to (batch, out_channels, H, W)."""
        h, w = x.shape[-2:]
        x = self.lifting(x.permute(0, 2, 3, 1))
        x = continue_periodically(continue_periodically(x, 1, self.domain_padding[0]), 2, self.domain_padding[1])
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.projection(x[:, :h, :w])).permute(0, 3, 1, 2)
