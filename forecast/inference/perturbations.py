"""Ensembles: forecasts from initial states that differ by as much as an analysis may err."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...datasets.ingest.regrid import linear
from ...fno.random import Stream, numpy_generator

if TYPE_CHECKING:
    from ..checkpoint.weather import Checkpoint
    from .rollout import InitialStates

Float = NDArray[np.float32]

SCALE = 0.1
MOST_MEMBERS = 10_000
ENOUGH = 20  # states from which pairs are drawn; fewer are combined


@dataclass(frozen=True)
class Ensemble:
    """How many forecasts start at an initial time, and how far apart.

    Attributes:
        members: number of members; 1 is a single forecast.
        amplitude: root mean square of a perturbation, over the standard deviation of the anomalies.
        seed: of the random draws.

    Raises:
        ValueError: no member, an amplitude that is not positive, or a negative seed.
    """

    members: int = 1
    amplitude: float = SCALE
    seed: int = 0

    def __post_init__(self) -> None:
        if self.members > MOST_MEMBERS:
            raise ValueError(
                f"an ensemble may have {MOST_MEMBERS} members, got {self.members}; make several, each with a seed of its own"
            )
        if self.members < 1:
            raise ValueError(f"an ensemble of {self.members} members has none; 1 makes a single forecast")
        if not 0 < self.amplitude < np.inf:
            raise ValueError(
                f"the amplitude of an ensemble must be a positive number, got {self.amplitude:g}"
            )
        if not 0 <= self.seed < 2**63:
            raise ValueError(
                f"the seed of an ensemble must lie between 0 and 2**63 - 1, it must not be negative, got {self.seed}"
            )

    @classmethod
    def of(cls, members: int = 1, seed: int | None = None, amplitude: float | None = None) -> "Ensemble":
        """Return an ensemble, with defaults for what is None; raises ``ValueError`` for options of a single
        forecast.
        """
        if members == 1 and (seed, amplitude) != (None, None):
            name = "amplitude" if seed is None else "seed"
            raise ValueError(
                f"{name} changes nothing in a single forecast; give members as well, or leave {name} out"
            )
        return cls(members, SCALE if amplitude is None else amplitude, seed or 0)

    @property
    def control(self) -> bool:
        """Whether the first member is not perturbed."""
        return self.members != 2


def mixture(members: int) -> NDArray[np.float64]:
    """Return how the perturbations of an ensemble combine independent draws, shape (member, draw).

    The first member is not perturbed; the others are pairs +d, -d, each of a draw of its own. Where one
    member is left over, the last three share two draws: d, -d/2 + sqrt(3)/2 e and -d/2 - sqrt(3)/2 e. Two
    members are one pair, without an unperturbed one. So each column adds up to zero (the mean of the initial
    states is the analysis), each perturbed row has norm one, and a member of a pair does not depend on how
    many members follow.
    """
    if members == 2:
        return np.array([[1.0], [-1.0]])
    result = np.zeros((members, members // 2))
    for draw in range(members // 2):
        result[1 + 2 * draw : 3 + 2 * draw, draw] = [1, -1][: members - 1 - 2 * draw]
    if members % 2 == 0:
        result[-3:, -2:] = [[1, 0], [-0.5, np.sqrt(0.75)], [-0.5, -np.sqrt(0.75)]]
    return result


def perturbations(
    checkpoint: "Checkpoint",
    states: "InitialStates",
    times: NDArray[np.datetime64],
    members: int,
    scale: float = SCALE,
    seed: int = 0,
) -> Float:
    """Return what is added to the initial states of an ensemble's members, zero in the mean over the members.

    Each draw is a random field perturbation (Magnusson, Nycander and Kallen 2009,
    doi:10.1111/j.1600-0870.2008.00386.x): the difference of the anomalies of two states of the source, none
    of them later than the initial time, so that it has the patterns, and the balance between variables, that
    the atmosphere has. Of fewer than ``ENOUGH`` states a random combination of all is taken, with weights
    that add up to zero; where these are used up (n states have n - 1 independent differences) draws are
    smooth random fields, without such balance. All are scaled to a root mean square, over the area and all
    channels, of ``scale`` standard deviations of the anomalies. A draw depends on the initial time, its
    number and the seed alone; ``mixture`` combines draws to members.

    Args:
        checkpoint: model, whose mean cycles the anomalies depart from.
        states: source.
        times: initial times.
        members: members of the ensemble.
        scale: amplitude over the standard deviation of the anomalies.
        seed: of the draws.

    Returns:
        Shape (time, member, channel, H, W).
    """
    weights = mixture(members).astype(np.float32)
    result = np.zeros((len(times), members, *states.fields.shape[1:]), np.float32)
    for i, time in enumerate(times):
        draws = np.stack(
            [_draw(checkpoint, states, time, number, seed) for number in range(weights.shape[1])]
        )
        result[i] = np.tensordot(weights, np.float32(scale) * draws, axes=1)
    return result


def within(added: Float, analysis: Float, bounds: NDArray[np.float64]) -> Float:
    """Return perturbations that lead beyond no bound.

    At each point those of all members are reduced by the same factor, so that their mean stays zero.

    Args:
        added: perturbations, shape (time, member, channel, H, W).
        analysis: states that they are added to, shape (time, channel, H, W).
        bounds: least and largest value of each channel, shape (2, channel).
    """
    low, high = (bound[:, None, None].astype(np.float32) for bound in bounds)
    factor = np.ones(analysis.shape, np.float32)
    for room, need in ((analysis - low, -added.min(axis=1)), (high - analysis, added.max(axis=1))):
        share = np.divide(np.maximum(room, 0), need, out=np.ones_like(factor), where=need > 0)
        factor = np.minimum(factor, share)
    return added * factor[:, None]


def _draw(
    checkpoint: "Checkpoint", states: "InitialStates", time: np.datetime64, number: int, seed: int
) -> Float:
    """Return one random field of unit amplitude, shape (channel, H, W)."""
    moment = int(time.astype("datetime64[s]").astype(int)) % 2**64
    random = numpy_generator(seed, Stream.PERTURBATIONS, moment, number)
    count = int(np.searchsorted(states.fields.times, time, side="right"))
    stepper = checkpoint.stepper
    spread, mask = (x.cpu().numpy() for x in (stepper.anomaly_std, stepper.mask))
    field = np.zeros(mask.shape, np.float32)
    if count >= ENOUGH:
        field = _anomalies(checkpoint, states, random.choice(count, 2, replace=False), np.array([1.0, -1.0]))
    elif number < count - 1:
        parts = random.standard_normal(count)
        field = _anomalies(checkpoint, states, np.arange(count), parts - parts.mean())
    area = checkpoint.grid.area_weights[:, None] * mask
    field = np.where(mask & np.isfinite(field), field / spread, 0)
    if not field.any():
        field = _smooth_noise(random, checkpoint.grid.periodic, mask.shape)
    size = np.sqrt((area * field.astype(np.float64) ** 2).sum() / area.sum())
    return np.asarray(np.where(mask, field / size * spread, 0), dtype=np.float32)


def _anomalies(
    checkpoint: "Checkpoint",
    states: "InitialStates",
    positions: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> Float:
    """Return a weighted sum of the anomalies of some states."""
    anomalies = states.fields.read(positions) - checkpoint.cycle.at(states.fields.times[positions])
    return np.asarray(np.tensordot(weights.astype(np.float32), anomalies, axes=1))


def _smooth_noise(random: np.random.Generator, wraps: tuple[bool, ...], shape: tuple[int, ...]) -> Float:
    """Return white noise at every eighth point along both axes, interpolated linearly between."""
    channels, *points = shape
    noise = random.standard_normal((channels, *(max(3, n // 8) for n in points)))
    along = []
    for coarse, fine, periodic in zip(noise.shape[1:], points, wraps, strict=True):
        old, new = (np.arange(n) * 360 / (n if periodic else n - 1) for n in (coarse, fine))
        along.append(linear(old, new, periodic))
    return np.asarray(along[0] @ noise @ along[1].T, dtype=np.float32)
