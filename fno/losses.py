"""Losses: area-weighted, masked, per channel."""

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
    mean: Tensor = total / (len(prediction) * weights.sum(dim=(1, 2)))
    return mean
