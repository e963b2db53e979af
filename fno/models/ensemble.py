"""Ensemble of networks: independent in training, averaged in evaluation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .base import summary


class Ensemble(nn.Module):
    """Mean of networks that differ in their initial weights and training samples.

    In training each network receives its own part of the batch, so the networks stay independent; in
    evaluation all receive the whole batch and their outputs are averaged, which removes the part of the error
    that differs between them.

    Args:
        networks: networks with the same inputs and outputs.

    Raises:
        ValueError: no network.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if not networks:
            raise ValueError("an ensemble needs at least one network")
        self.networks = nn.ModuleList(networks)

    def __repr__(self) -> str:
        return summary(self, f"{len(self.networks)} networks", self.networks[:1])

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``, shape (batch, channel, *grid)."""
        if self.training and x.shape[0]:
            parts = torch.tensor_split(x, len(self.networks))
            return torch.cat([net(part) for net, part in zip(self.networks, parts, strict=True) if len(part)])
        return torch.stack([net(x) for net in self.networks]).mean(dim=0)
