"""From a configuration and statistics to a model ready to train."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets.forcings import forcing_names, normalised, static_fields
from ..datasets.schema import Channel
from ..datasets.statistics.moments import Statistics
from ..fno.grids import Grid
from ..fno.layers.spherical import largest_lmax
from ..fno.models import REGISTRY
from ..fno.models.ensemble import Ensemble
from ..fno.models.stepper import Scales, Stepper
from ..fno.random import Stream, seeded_torch
from .config.sections import PluginModelConfig
from .config.weather import AFNOConfig, ModelConfig, SFNOConfig

log = logging.getLogger(__name__)


def build_network(
    config: ModelConfig, grid: Grid, in_channels: int, out_channels: int, *, quiet: bool = False
) -> torch.nn.Module:
    """Build the networks that a configuration names, fitted to a grid.

    Modes, degrees and patches that the grid cannot hold are clipped, with a message unless ``quiet``. The
    last layer starts at zero, so that an untrained model forecasts persistence of the anomaly.

    Raises:
        ValueError: an SFNO on a grid that does not cover the sphere.
    """
    return Ensemble(
        [_build_one(config, grid, in_channels, out_channels, quiet) for _ in range(config.members)]
    )


def _build_one(
    config: ModelConfig, grid: Grid, in_channels: int, out_channels: int, quiet: bool
) -> torch.nn.Module:
    if isinstance(config, PluginModelConfig):
        plugin: Any = REGISTRY[config.kind]
        return plugin(in_channels=in_channels, out_channels=out_channels, **config.arguments)  # type: ignore[no-any-return]
    arguments = config.model_dump(exclude={"kind", "window", "members"}) | {
        "in_channels": in_channels,
        "out_channels": out_channels,
    }
    if isinstance(config, AFNOConfig):
        arguments |= {
            "inp_shape": grid.shape,
            "patch_size": _clip("patch_size", config.patch_size, grid.shape, quiet),
        }
    elif isinstance(config, SFNOConfig):
        kind = grid.sphere
        if kind is None:
            raise ValueError(
                "model.kind sfno needs a grid that covers the sphere, evenly spaced or with Gauss latitudes; "
                "use fno on this one"
            )
        (lmax,) = _clip("lmax", (config.lmax,), (largest_lmax(grid.shape[0], grid.shape[1], kind),), quiet)
        arguments |= {"grid": kind, "lmax": lmax}
    else:
        margin = config.domain_padding
        arguments |= {
            "domain_padding": tuple(0.0 if periodic else margin for periodic in grid.periodic),
            "reference_size": grid.shape,
            "edges": grid.edges,
            "n_modes": _clip("n_modes", config.n_modes, grid.shape, quiet),
        }
        if config.activation == "alias_free":  # whose band of 2 n - 1 wave numbers the grid must hold too
            half = ((grid.shape[0] + 1) // 2, (grid.shape[1] + 1) // 2)
            arguments["n_modes"] = _clip("n_modes", arguments["n_modes"], half, quiet)
    network: Any = REGISTRY[config.kind](**arguments)
    last = network.head if isinstance(config, AFNOConfig) else network.projection.fc2
    torch.nn.init.zeros_(last.weight)
    if last.bias is not None:
        torch.nn.init.zeros_(last.bias)
    return network  # type: ignore[no-any-return]


def _clip(name: str, wanted: Sequence[int], most: Sequence[int], quiet: bool) -> tuple[int, ...]:
    clipped = tuple(min(w, m) for w, m in zip(wanted, most, strict=True))
    if clipped != tuple(wanted) and not quiet:
        log.warning(
            "model.%s %s does not fit the grid and was clipped to %s", name, list(wanted), list(clipped)
        )
    return clipped


def build_stepper(
    config: ModelConfig,
    channels: list[Channel],
    grid: Grid,
    statistics: Statistics,
    seed: int,
    static: Sequence[NDArray[np.floating]] = (),
) -> Stepper:
    """Build a model for the channels of a store, initialised from ``seed``; ``static`` fields go with its
    input, normalised.

    Raises:
        ValueError: a channel has values that come and go.
    """
    for channel, points in zip(channels, statistics.partly_missing, strict=True):
        if points:
            raise ValueError(
                f"{channel} has missing values that come and go at {points} points of the training period; "
                f"fill them before ingesting, or leave the variable out with data.variables"
            )
    mask = statistics.mask
    for channel, covered in zip(channels, np.atleast_1d(mask.any(axis=(1, 2))), strict=True):
        if not covered:
            raise ValueError(
                f"{channel} has no values at all in the training period; leave it out with data.variables"
            )
    scales = Scales(
        *(
            torch.from_numpy(getattr(statistics, name))
            for name in ("mean", "std", "anomaly_std", "anomaly_tendency_std")
        )
    )
    normal = (
        np.nan_to_num(statistics.cycle.coefficients[:, 0].mean(axis=0)) - statistics.mean[:, None, None]
    ) / statistics.std[:, None, None]
    parts = [
        static_fields(grid),
        np.where(mask, normal, 0),
        *(normalised(field, grid)[None] for field in static),
    ]
    if not mask.all():
        parts.append(mask)
    fields = torch.from_numpy(np.concatenate([f.astype(np.float32) for f in parts]))
    count = Stepper.input_channels(len(channels), config.window, len(forcing_names(grid)), len(fields))
    with seeded_torch(seed, Stream.INITIAL_WEIGHTS):
        network = build_network(config, grid, count, len(channels))
    return Stepper(network, scales, fields, torch.from_numpy(mask), config.window)
