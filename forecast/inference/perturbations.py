"""Ensembles: forecasts from initial states that differ by about the error of an analysis."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...datasets.ingest.regrid import linear
from ...fno.random import Stream, numpy_generator
from ..checkpoint.weather import Checkpoint
from .initial_states import InitialStates, TimeArray

Float = NDArray[np.float32]

AMPLITUDE = 0.1
"""Default root mean square of a perturbation, in standard deviations of the anomalies."""

_MOST_MEMBERS = 10_000
_ENOUGH_STATES = 20  # number of states from which pairs are drawn; fewer are combined
_COARSENING = 8  # grid points between independent values of smooth noise


@dataclass(frozen=True)
class Ensemble:
    """Size of an ensemble, and amplitude and seed of its perturbations.

    Attributes:
        members: number of members; 1 is a single forecast.
        amplitude: root mean square of a perturbation, in standard deviations of the anomalies.
        seed: seed of the random draws.

    Raises:
        ValueError: there are no or too many members, the amplitude is not positive, or the seed is negative
            or too large.
    """

    members: int = 1
    amplitude: float = AMPLITUDE
    seed: int = 0

    def __post_init__(self) -> None:
        if self.members > _MOST_MEMBERS:
            raise ValueError(
                f"an ensemble may have {_MOST_MEMBERS} members, got {self.members}; run several with "
                "different seeds"
            )
        if self.members < 1:
            raise ValueError(f"an ensemble needs at least one member, got {self.members}")
        if not 0 < self.amplitude < np.inf:
            raise ValueError(
                f"the amplitude of an ensemble must be a positive number, got {self.amplitude:g}"
            )
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"the seed of an ensemble must be between 0 and 2**63 - 1, got {self.seed}")

    @classmethod
    def of(cls, members: int = 1, seed: int | None = None, amplitude: float | None = None) -> "Ensemble":
        """Return an ensemble, with defaults for options that are None.

        Raises:
            ValueError: a seed or amplitude is given for a single forecast.
        """
        if members == 1 and (seed, amplitude) != (None, None):
            name = "amplitude" if seed is None else "seed"
            raise ValueError(
                f"{name} has no effect on a single forecast; set members as well, or leave {name} out"
            )
        return cls(members, AMPLITUDE if amplitude is None else amplitude, seed or 0)

    @property
    def has_control(self) -> bool:
        """Whether the first member is unperturbed."""
        return self.members != 2


def mixing_matrix(members: int) -> NDArray[np.float64]:
    """Return the coefficients of independent draws in the perturbation of each member, shape (member, draw).

    The first member is unperturbed; the others are pairs +d, -d, each of its own draw d. If one member is
    left over, the last three share two draws: d, -d/2 + sqrt(3)/2 e and -d/2 - sqrt(3)/2 e. Two members are
    one pair, without an unperturbed one. Hence each column sums to zero (the mean of the initial states is
    the analysis), each perturbed row has norm one, and the members of a pair do not depend on how many
    follow.
    """
    if members == 2:
        return np.array([[1.0], [-1.0]])
    matrix = np.zeros((members, members // 2))
    for draw in range(members // 2):
        matrix[1 + 2 * draw : 3 + 2 * draw, draw] = [1, -1][: members - 1 - 2 * draw]
    if members % 2 == 0:
        matrix[-3:, -2:] = [[1, 0], [-0.5, np.sqrt(0.75)], [-0.5, -np.sqrt(0.75)]]
    return matrix


def perturbations(
    checkpoint: Checkpoint, states: InitialStates, times: TimeArray, *, ensemble: Ensemble
) -> Float:
    """Return perturbations of the initial states of an ensemble's members, whose mean is zero.

    Each draw is a random field perturbation (Magnusson, Nycander and Kallen 2009,
    doi:10.1111/j.1600-0870.2008.00385.x): the difference of the anomalies of two states of the source, none
    later than the initial time, so that it has the patterns and the balance between variables of the
    atmosphere. With fewer than 20 states, a draw is a random combination of all of them with weights that sum
    to zero; n states have n - 1 independent differences, and further draws are smooth random fields without
    such balance. All are scaled to a root mean square, over area and channels, of ``ensemble.amplitude``
    standard deviations of the anomalies. For given states, a draw depends only on the initial time, its
    number and the seed; ``mixing_matrix`` combines draws to members.

    Args:
        checkpoint: model, whose seasonal cycle the anomalies depart from.
        states: states to draw from.
        times: initial times, shape (time,).
        ensemble: members, amplitude and seed.

    Returns:
        Perturbations in physical units, shape (time, member, channel, y, x).
    """
    matrix = mixing_matrix(ensemble.members).astype(np.float32)
    result = np.zeros((len(times), ensemble.members, *states.fields.shape[1:]), np.float32)
    for i, time in enumerate(times):
        draws = [
            _draw(checkpoint, states, time, number=number, seed=ensemble.seed)
            for number in range(matrix.shape[1])
        ]
        result[i] = np.tensordot(matrix, np.float32(ensemble.amplitude) * np.stack(draws), axes=1)
    return result


def noise_input(times: TimeArray, ensemble: Ensemble, *, step: int, shape: tuple[int, ...]) -> Float:
    """Return the noise input of a network for one step of each member, zeros for an unperturbed one.

    Args:
        times: initial times, shape (time,).
        ensemble: members and seed.
        step: number of the step, from 1.
        shape: number of noise fields and points of the grid.

    Returns:
        Gaussian noise with variance one, shape (time, member, *shape); that of a member depends only on the
        seed, its initial time and number, and the step.
    """
    result = np.zeros((len(times), ensemble.members, *shape), np.float32)
    for i, time in enumerate(times):
        for member in range(int(ensemble.has_control), ensemble.members):
            random = numpy_generator(ensemble.seed, Stream.NOISE_INPUT, _seconds(time), member, step)
            result[i, member] = random.standard_normal(shape, dtype=np.float32)
    return result


def within_bounds(added: Float, analysis: Float, bounds: NDArray[np.float64]) -> Float:
    """Return perturbations reduced so that no member exceeds the bounds.

    At each point the perturbations of all members are multiplied by the same factor, so their mean stays
    zero.

    Args:
        added: perturbations, shape (time, member, channel, y, x).
        analysis: states that they are added to, shape (time, channel, y, x).
        bounds: lower and upper bound of each channel, shape (2, channel).
    """
    low, high = (bound[:, None, None].astype(np.float32) for bound in bounds)
    factor = np.ones(analysis.shape, np.float32)
    for room, needed in ((analysis - low, -added.min(axis=1)), (high - analysis, added.max(axis=1))):
        share = np.divide(np.maximum(room, 0), needed, out=np.ones_like(factor), where=needed > 0)
        factor = np.minimum(factor, share)
    return added * factor[:, None]


def _seconds(time: np.datetime64) -> int:
    """Return a time as a number that is not negative [s]."""
    return int(time.astype("datetime64[s]").astype(int)) % 2**64


def _draw(
    checkpoint: Checkpoint, states: InitialStates, time: np.datetime64, *, number: int, seed: int
) -> Float:
    """Return one random field in physical units, shape (channel, y, x).

    Its root mean square over area and channels is one standard deviation of the anomalies.
    """
    random = numpy_generator(seed, Stream.PERTURBATIONS, _seconds(time), number)
    count = int(np.searchsorted(states.fields.times, time, side="right"))
    stepper = checkpoint.stepper
    deviation = stepper.anomaly_std.cpu().numpy()
    mask = stepper.mask.cpu().numpy()
    field = np.zeros(mask.shape, np.float32)
    if count >= _ENOUGH_STATES:
        pair = random.choice(count, 2, replace=False)
        field = _combine_anomalies(checkpoint, states, positions=pair, weights=np.array([1.0, -1.0]))
    elif number < count - 1:
        weights = random.standard_normal(count)
        field = _combine_anomalies(
            checkpoint, states, positions=np.arange(count), weights=weights - weights.mean()
        )
    field = np.where(mask & np.isfinite(field), field / deviation, 0)
    if not field.any():
        field = _smooth_noise(random, checkpoint.grid.periodic, mask.shape)
    area = checkpoint.grid.area_weights[:, None] * mask
    norm = np.sqrt((area * field.astype(np.float64) ** 2).sum() / area.sum())
    return np.asarray(np.where(mask, field / norm * deviation, 0), dtype=np.float32)


def _combine_anomalies(
    checkpoint: Checkpoint,
    states: InitialStates,
    *,
    positions: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> Float:
    """Return a weighted sum of the anomalies of some states, shape (channel, y, x)."""
    anomalies = states.fields.read(positions) - checkpoint.cycle.at(states.fields.times[positions])
    return np.asarray(np.tensordot(weights.astype(np.float32), anomalies, axes=1))


def _smooth_noise(random: np.random.Generator, periodic: tuple[bool, ...], shape: tuple[int, ...]) -> Float:
    """Return smooth noise: white at every eighth point along both axes, interpolated linearly in between."""
    channels, *points = shape
    noise = random.standard_normal((channels, *(max(3, n // _COARSENING) for n in points)))
    weights = []
    for coarse, fine, closed in zip(noise.shape[1:], points, periodic, strict=True):
        old, new = (np.arange(n) * 360 / (n if closed else n - 1) for n in (coarse, fine))
        weights.append(linear(old, new, closed))
    return np.asarray(weights[0] @ noise @ weights[1].T, dtype=np.float32)
