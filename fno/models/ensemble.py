"""Several networks as one: apart in training, their mean in use."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Mean of networks that differ in their initial weights and in the samples they see.

    In training each network takes its own part of the batch, so the networks stay independent; in evaluation
    all take the whole and their outputs are averaged, which takes away the part of the error that differs
    between them.

    Args:
        networks: networks of the same inputs and outputs.

    Raises:
        ValueError: no network.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if not networks:
            raise ValueError("an ensemble needs at least one network")
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``, shape (batch, channel, H, W)."""
        if self.training and x.shape[0]:
            parts = torch.tensor_split(x, len(self.networks))
            return torch.cat([net(part) for net, part in zip(self.networks, parts, strict=True) if len(part)])
        return torch.stack([net(x) for net in self.networks]).mean(dim=0)
