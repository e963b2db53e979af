"""Construction of a forecast model from its configuration and the statistics of a store."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.forcings import forcing_names, normalised, static_fields
from ..datasets.schema import Channel
from ..datasets.statistics.moments import Statistics
from ..fno.grids import Grid
from ..fno.models import build_model
from ..fno.models.ensemble import Ensemble
from ..fno.models.stepper import Scales, Stepper
from ..fno.random import Stream, seeded_torch
from .config.weather import ModelConfig

log = logging.getLogger(__name__)


def build_network(
    config: ModelConfig, grid: Grid, *, in_channels: int, out_channels: int, quiet: bool = False
) -> torch.nn.Module:
    """Build the networks of a configuration, fitted to a grid.

    Modes, degrees and patches that the grid cannot resolve are clipped, with a warning in the log unless
    ``quiet``. The last layer starts at zero, so that an untrained model forecasts persistence of the anomaly.

    Raises:
        ValueError: a model that cannot run on this grid, such as an SFNO on one that does not cover the
            sphere.
    """
    options = config.network_options
    networks = []
    for _ in range(config.members):
        network, clipped = build_model(
            config.kind, grid, in_channels=in_channels, out_channels=out_channels, **options
        )
        networks.append(network)
        if quiet or len(networks) > 1:  # all members have the same options
            continue
        for option in clipped:
            log.warning(
                "model.%s %s does not fit the grid and was clipped to %s",
                option.name,
                list(option.requested),
                list(option.used),
            )
    return Ensemble(networks)


def channel_problems(channels: Sequence[Channel], statistics: Statistics) -> dict[Channel, str]:
    """Return why channels cannot be trained on: intermittently missing values, or no values at all.

    Args:
        channels: channels of the state.
        statistics: statistics of the training period.
    """
    problems = {}
    covered = np.atleast_1d(statistics.mask.any(axis=(1, 2)))
    for i, channel in enumerate(channels):
        if points := statistics.partly_missing[i]:
            problems[channel] = (
                f"{channel} has intermittently missing values at {points} points of the training period; "
                "fill them before ingesting, or leave the variable out with data.variables"
            )
        elif not covered[i]:
            problems[channel] = (
                f"{channel} has no values at all in the training period; leave it out with data.variables"
            )
    return problems


def build_stepper(
    config: ModelConfig,
    channels: list[Channel],
    *,
    grid: Grid,
    statistics: Statistics,
    seed: int,
    static: Sequence[NDArray[np.floating]] = (),
    lead_times: Sequence[int] = (),
    forcings: int | None = None,
) -> Stepper:
    """Build a model for the channels of a store.

    Args:
        config: configuration of the network.
        channels: channels of the state.
        grid: grid of the store.
        statistics: statistics of the training period.
        seed: seed of the initial weights.
        static: further constant fields of the input, shape (y, x) each, which are normalised.
        lead_times: lead times that the network is conditioned on [steps].
        forcings: number of forcing fields; those of the grid by default.

    Raises:
        ValueError: a channel cannot be trained on, see ``channel_problems``.
    """
    for problem in channel_problems(channels, statistics).values():
        raise ValueError(problem)
    mask = statistics.mask
    scales = Scales(
        *(
            torch.from_numpy(getattr(statistics, name))
            for name in ("mean", "std", "anomaly_std", "anomaly_tendency_std")
        )
    )
    # The time mean at each point, normalised like the state.
    time_mean = (
        np.nan_to_num(statistics.cycle.coefficients[:, 0].mean(axis=0)) - statistics.mean[:, None, None]
    ) / statistics.std[:, None, None]
    parts = [
        static_fields(grid),
        np.where(mask, time_mean, 0),
        *(normalised(field, grid)[None] for field in static),
    ]
    if not mask.all():
        parts.append(mask)
    fields = torch.from_numpy(np.concatenate([f.astype(np.float32) for f in parts]))
    with seeded_torch(seed, Stream.INITIAL_WEIGHTS):
        return assemble_stepper(
            config,
            grid,
            scales=scales,
            static=fields,
            mask=torch.from_numpy(mask),
            lead_times=lead_times,
            forcings=forcings,
        )


def assemble_stepper(
    config: ModelConfig,
    grid: Grid,
    *,
    scales: Scales,
    static: Tensor,
    mask: Tensor,
    lead_times: Sequence[int] = (),
    forcings: int | None = None,
    quiet: bool = False,
) -> Stepper:
    """Build a model with known scales and static fields.

    Args:
        config: configuration of the network.
        grid: grid of the fields.
        scales: normalisation of the channels.
        static: static fields, shape (static, H, W).
        mask: points where each channel has values, shape (channel, H, W).
        lead_times: lead times that the network is conditioned on [steps].
        forcings: number of forcing fields; those of the grid by default.
        quiet: log no warning about options that the grid cannot resolve.
    """
    channels = len(mask)
    count = Stepper.input_channels(
        channels,
        window=config.window,
        forcings=len(forcing_names(grid)) if forcings is None else forcings,
        static=len(static),
        noise=config.noise_channels,
        lead_time=bool(lead_times),
    )
    network = build_network(config, grid, in_channels=count, out_channels=channels, quiet=quiet)
    return Stepper(
        network,
        scales,
        static,
        mask=mask,
        window=config.window,
        noise_channels=config.noise_channels,
        damping=config.damping,
        lead_times=lead_times,
    )
