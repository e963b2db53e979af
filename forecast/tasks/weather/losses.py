"""The data loss of a forecast model and the weights of its channels, from their configuration."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ....datasets.schema import Channel
from ....datasets.suggestions import suggest
from ....fno.grids import Grid
from ....fno.losses.base import DataLoss, LossDomain
from ....fno.models.stepper import Stepper
from ...config.loss import LossConfig


def build_loss(config: LossConfig, stepper: Stepper, grid: Grid, *, weights: Tensor) -> DataLoss:
    """Return the data loss, whose errors are in the configured units.

    Args:
        config: section ``loss``.
        stepper: forecast model, with the standard deviations of the channels.
        grid: grid of the fields.
        weights: area weight of each point, zero under the mask, shape (channel, H, W).
    """
    units = {"tendency": stepper.tendency_std, "anomaly": stepper.anomaly_std, "state": stepper.std}
    scale = (stepper.anomaly_std / units[config.channel_weights]).flatten()
    return config.loss_class(LossDomain(grid, weights.to(scale.device), scale), **config.options)


def channel_weights(config: LossConfig, channels: Sequence[Channel]) -> Tensor | None:
    """Return the configured weight of each channel, with mean one, shape (channel,); None if there is none.

    Args:
        config: section ``loss``.
        channels: channels of the state.

    Raises:
        ValueError: a weight of a variable or level that the model does not have, or no positive weight.
    """
    if not config.variables and not config.levels:
        return None
    names = list(dict.fromkeys(channel.variable for channel in channels))
    for name in config.variables:
        if name not in names:
            raise ValueError(f"loss.variables: the model has no variable {name!r}; {suggest(name, names)}")
    levels = list(dict.fromkeys(channel.level for channel in channels if channel.level is not None))
    for level in config.levels:
        if level not in levels:
            existing = ", ".join(f"{value:g}" for value in levels)
            raise ValueError(
                f"loss.levels: the model has no level {level:g} hPa; "
                + (f"there are: {existing}" if levels else "its variables have no levels")
            )
    weights = torch.tensor(
        [
            config.variables.get(channel.variable, 1.0)
            * (1.0 if channel.level is None else config.levels.get(channel.level, 1.0))
            for channel in channels
        ]
    )
    if not weights.any():
        raise ValueError("loss.variables and loss.levels give every channel the weight zero")
    return weights / weights.mean()
