"""Forecasts by repeated steps of a trained model."""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ...datasets.durations import format_time
from ...datasets.errors import IncompleteDataError
from ...datasets.forcings import forcings
from ...fno.memory import machine_memory
from ..checkpoint.weather import Checkpoint
from .initial_states import InitialStates, TimeArray
from .perturbations import Ensemble, noise_input, perturbations, within_bounds

Float = NDArray[np.float32]

# Arrays of the size of all initial states: perturbations, perturbed states, those on the device, the result.
_COPIES = 4


def rollout(
    checkpoint: Checkpoint,
    states: InitialStates,
    times: TimeArray,
    *,
    steps: int,
    device: str,
    ensemble: Ensemble = Ensemble(),
    bounds: NDArray[np.float64] | None = None,
    batch_size: int = 32,
) -> Iterator[Float]:
    """Yield the forecasts from several initial times step by step, from step 0, the initial state itself.

    Memory does not grow with ``steps``: background and forcing are computed a step at a time.

    Args:
        checkpoint: model.
        states: states to start from.
        times: initial times, shape (time,).
        steps: number of steps.
        device: device of the model.
        ensemble: number of members and their perturbations.
        bounds: lower and upper bound of each channel, shape (2, channel), within which the initial states of
            an ensemble are kept.
        batch_size: forecasts in one call of the model; members count.

    Yields:
        Fields in physical units, shape (time, channel, y, x), of an ensemble (time, member, channel, y, x).

    Raises:
        ValueError: a state of an input window is missing, the ensemble does not fit in memory, or the
            forecast becomes infinite or NaN.
        IncompleteDataError: a state has missing values at points that the model needs.
    """
    stepper = checkpoint.stepper
    step = checkpoint.step.astype("timedelta64[ns]")
    positions = states.positions(times, stepper.window, checkpoint.step)
    if states.forcings is not None:
        states.forcings.check(times, steps, step)
    initial = states.fields.read(positions.ravel()).reshape(*positions.shape, *states.fields.shape[1:])
    mask = stepper.mask.cpu().numpy()
    missing = ~np.isfinite(initial) & mask
    if missing.any():
        sample, state, channel = np.argwhere(missing.any(axis=(3, 4)))[0]
        raise IncompleteDataError(
            f"{states.source}: {checkpoint.channels[channel]} has missing values at "
            f"{format_time(states.fields.times[positions[sample, state]])}; fill them first"
        )
    members = ensemble.members
    initial_times = times
    shape = (len(times), *((members,) if members > 1 else ()), *initial.shape[2:])
    if members > 1:
        _check_memory(members, initial.nbytes)
        added = perturbations(checkpoint, states, times, ensemble=ensemble)
        if bounds is not None:
            added = within_bounds(added, initial[:, -1], bounds)
        times = np.repeat(times, members)
        positions = np.repeat(positions, members, axis=0)
        initial = np.repeat(initial, members, axis=0) + added.reshape(-1, 1, *initial.shape[2:])
    yield np.where(mask, initial[:, -1], np.nan).astype(np.float32).reshape(shape)

    latest_background: list[torch.Tensor] = []

    def drivers() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield background and forcing at the start and the end of each step, shape (time, 2, ...)."""
        start = _drivers_at(checkpoint, states, times)
        for k in range(1, steps + 1):
            end = _drivers_at(checkpoint, states, times + k * step)
            pairs = (np.stack(pair, axis=1) for pair in zip(start, end, strict=True))
            background, forcing = (torch.from_numpy(pair).to(device) for pair in pairs)
            latest_background.append(background[:, 1])
            yield background, forcing
            start = end

    steps_done = itertools.count(1)

    def noise(window: torch.Tensor) -> torch.Tensor:
        """Return the noise input of the next step; without an ensemble it is zero."""
        if members == 1 or not stepper.noise_channels:
            return stepper.noise(window, None)
        points = (stepper.noise_channels, *mask.shape[1:])
        drawn = noise_input(initial_times, ensemble, step=next(steps_done), shape=points)
        return torch.from_numpy(drawn).flatten(0, 1).to(window)

    backgrounds = np.stack([checkpoint.cycle.at(t) for t in states.fields.times[positions]])
    with torch.inference_mode():
        window = stepper.anomaly(
            torch.from_numpy(initial).to(device), torch.from_numpy(backgrounds).to(device)
        )
        for anomaly in stepper.rollout(window, drivers(), batch_size, noise=noise):
            state = stepper.state(anomaly, latest_background.pop()).cpu().numpy()
            if not (finite := np.isfinite(state[:, mask]).all(axis=1)).all():
                first = format_time(times[np.argmin(finite)])
                raise ValueError(
                    f"the forecast from {first} became infinite or NaN; train the model longer or at a lower "
                    "rate"
                )
            yield state.reshape(shape)


def _check_memory(members: int, size: int) -> None:
    """Raise ``ValueError`` where an ensemble does not fit in this machine's memory.

    Args:
        members: number of members.
        size: size of the initial states of one member [bytes].
    """
    memory = machine_memory()
    needed = _COPIES * members * size
    if needed > memory:
        raise ValueError(
            f"{members} members need about {needed / 2**30:.3g} GiB of memory, of {memory / 2**30:.3g} GiB; "
            "take fewer, or run several ensembles with different seeds"
        )


def _drivers_at(checkpoint: Checkpoint, states: InitialStates, times: TimeArray) -> tuple[Float, Float]:
    """Return background and forcing at ``times``, both of shape (time, channel, y, x)."""
    background = checkpoint.cycle.at(times)
    forcing = forcings(times, checkpoint.grid, checkpoint.step, names=checkpoint.forcings)
    if states.forcings is not None:
        forcing = np.concatenate([forcing, states.forcings.at(times)], axis=1)
    return background, forcing
