"""Losses: area-weighted, masked, per channel. Each returns named terms."""

import torch
from torch import Tensor


def area_weighted_mse(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return the mean square error of each channel, shape (channel,).

        sum_{b,i,j} w[c,i,j] (p - t)^2 / (B sum_{i,j} w[c,i,j])

    Args:
        prediction: shape (batch, channel, H, W).
        target: same shape; values where the weight is zero do not count, but must be finite.
        weights: area weight, zero under a channel's mask, shape (channel, H, W).
    """
    error = (prediction - target).square() * weights
    total = error.sum(dim=(0, 2, 3))
    return total / (len(prediction) * weights.sum(dim=(1, 2)))  # type: ignore[no-any-return]


def relative_l2(prediction: Tensor, target: Tensor) -> Tensor:
    """Return ``||p - t|| / ||t||`` over all but the first dimension, averaged over the batch."""
    difference = torch.linalg.vector_norm((prediction - target).flatten(1), dim=1)
    ratio: Tensor = difference / torch.linalg.vector_norm(target.flatten(1), dim=1)
    return ratio.mean()
