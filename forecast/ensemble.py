"""Ensembles: forecasts from initial states that differ by as much as an analysis may err."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .rollout import InitialStates

Float = NDArray[np.float32]

SCALE = 0.1
LEAST = 20  # states to draw from


def perturbations(checkpoint: "Checkpoint", states: "InitialStates", times: NDArray[np.datetime64], members: int, scale: float = SCALE) -> Float:
    """Return what is added to the initial states of an ensemble's members.

    Random field perturbations (Magnusson, Nycander and Kallen 2009, doi:10.1111/j.1600-0870.2008.00386.x): ``scale * (a - b) / sqrt(2)``, with
    the anomalies ``a`` and ``b`` of two states that are drawn from the source, none of them later than the initial time. So a perturbation has the
    patterns, and the balance between variables, that the atmosphere has. The first member is not perturbed, the others come in pairs of
    opposite sign; each depends on the initial time and the pair's number alone.

    Args:
        checkpoint: model, whose mean cycles the anomalies depart from.
        states: source.
        times: initial times.
        members: members of the ensemble.
        scale: standard deviation of the perturbations over that of the anomalies.

    Returns:
        Shape (time, member, channel, H, W).

    Raises:
        ValueError: the source has too few states up to an initial time.
    """
    made = np.zeros((len(times), members, *states.fields.shape[1:]), np.float32)
    for i, time in enumerate(times):
        count = int(np.searchsorted(states.fields.times, time, side="right"))
        if members > 1 and count < LEAST:
            raise ValueError(
                f"{states.source} holds {count} states up to {time.astype('datetime64[m]')}, but an ensemble's perturbations are drawn from {LEAST} "
                "at least; give it more, or make one forecast (members 1)"
            )
        for pair in range(members // 2):
            draw = np.random.default_rng([int(time.astype("datetime64[s]").astype(int)), pair]).choice(count, 2, replace=False)
            a, b = states.fields.read(draw) - checkpoint.cycle.at(states.fields.times[draw])
            part = np.float32(scale / np.sqrt(2)) * (a - b)
            made[i, 1 + 2 * pair] = part
            if 2 + 2 * pair < members:
                made[i, 2 + 2 * pair] = -part
    return made
