"""States of the forecast of a frozen model, as inputs of a network that diagnoses further variables."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..batch import Batch
from .stepper import Stepper


def normalised_state(stepper: Stepper, state: Tensor) -> Tensor:
    """Return (x - mean) / std of a state in physical units, zero outside the mask.

    Args:
        stepper: forecast model, for its scales and mask.
        state: shape (..., channel, H, W).
    """
    return torch.where(stepper.mask, (state - stepper.mean) / stepper.std, 0.0)


@torch.no_grad()
def forecast_states(stepper: Stepper, batch: Batch, forcings: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the index in time and the normalised state of each step of a forecast.

    Args:
        stepper: forecast model, in evaluation mode; no gradient flows through it.
        batch: samples; of the forcing fields the first ``forcings`` are those of the model.
        forcings: number of forcing fields of the model.
    """
    anomaly = stepper.anomaly(batch.state, batch.background)
    times = range(stepper.window, anomaly.shape[1])
    known = batch.forcing[:, :, :forcings]
    drivers = ((batch.background[:, t - 1 : t + 1], known[:, t - 1 : t + 1]) for t in times)
    steps = stepper.rollout(anomaly[:, : stepper.window], drivers)
    for t, step in zip(times, steps, strict=True):
        yield t, normalised_state(stepper, stepper.state(step, batch.background[:, t]))
