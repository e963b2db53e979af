"""Data losses: area-weighted and masked by channel, and relative for whole solutions."""

import torch
from torch import Tensor


def area_weighted_mse(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return the mean square error of each channel, shape (channel,).

        sum_{b,i,j} w[c,i,j] (p - t)^2 / (B sum_{i,j} w[c,i,j])

    Args:
        prediction: shape (batch, channel, H, W).
        target: same shape; values with zero weight have no effect, but must be finite.
        weights: area weights, zero outside the mask of a channel, shape (channel, H, W).
    """
    error = (prediction - target).square() * weights
    total = error.sum(dim=(0, 2, 3))
    mean: Tensor = total / (len(prediction) * weights.sum(dim=(1, 2)))
    return mean


def relative_l2(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the relative L2 error of each sample, ``|p - t| / |t|``, shape (batch,).

    The error is not finite where a prediction of a known value is not, and NaN for a sample without any known
    value.

    Args:
        prediction: shape (batch, ...).
        target: same shape; NaN and infinite values are left out of both norms.
    """
    known = torch.isfinite(target)
    values = torch.where(known, target, 0.0)
    difference = torch.where(known, prediction - values, 0.0)
    result: Tensor = difference.flatten(1).norm(dim=1) / values.flatten(1).norm(dim=1)
    return result
