"""Simple invariants of input fields and coefficients, and their comparison with those of the training set.

For each channel of a sample: its mean, its standard deviation and the amplitudes of its waves in octaves,

    A_j = (sum of |c_k|^2 over 2^j <= |k| < 2^(j + 1))^(1/2),   k in waves per domain,

with the Fourier coefficients c, or those of the mirrored field (a cosine series) along axes that are not
periodic. Only octaves that a grid resolves completely are used, so grids of any size are comparable. A
coefficient of an equation enters by its logarithm.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .batch import Instances
from .grids import AxisEdge

FEWEST = 8
"""Number of samples below which a range is not used."""
SHIFT = 5.0
"""Standard errors by which the mean over the samples of a run may differ."""
NEGLIGIBLE = 1e-3
"""Fraction of a channel's root mean square below which differences are rounding errors."""


@dataclass(frozen=True)
class Range:
    """Distribution of an invariant over the samples of a training set.

    Attributes:
        mean: mean over the samples.
        std: standard deviation over the samples.
        low: smallest value.
        high: largest value.
        negligible: difference below which values are considered equal.
        logarithm: whether the values are logarithms of a coefficient.
    """

    mean: float
    std: float
    low: float
    high: float
    negligible: float = 0.0
    logarithm: bool = False

    def margin(self, count: int) -> float:
        """Return how far outside [low, high] a sample may lie, given the number of training samples."""
        # Coefficients are drawn from an interval, amplitudes from a distribution with a tail. With these
        # constants samples of the same distribution depart in less than 1% of runs after 64 training samples.
        fraction = 0.1 + 6 / count if self.logarithm else 0.5 + 24 / count
        return max(self.negligible, fraction * (self.high - self.low))

    def text(self, value: float) -> str:
        """Return a value in the units of the input as text, zero if negligible."""
        shown = math.exp(value) if self.logarithm else value
        return f"{0.0 if abs(value) < self.negligible else shown:.3g}"


@dataclass(frozen=True)
class TrainingRanges:
    """Distributions of the invariants of the training inputs of a model.

    Attributes:
        count: number of training samples.
        ranges: distribution of each invariant, by name.
    """

    count: int
    ranges: Mapping[str, Range]

    @classmethod
    def of(cls, invariants: Mapping[str, Tensor], scales: Mapping[str, float]) -> "TrainingRanges":
        """Return the distributions of the invariants of training samples.

        Args:
            invariants: invariants by name, each of shape (sample,), see ``invariants_of``.
            scales: root mean square of the field of each invariant, see ``scales_of``; an invariant without
                one is the logarithm of a coefficient.
        """
        ranges = {}
        count = 0
        for name, values in invariants.items():
            count = len(values)
            scale = scales.get(name)
            std = float(values.std(correction=0))
            limits = float(values.mean()), std, float(values.min()), float(values.max())
            ranges[name] = Range(*limits, negligible=NEGLIGIBLE * (scale or 0.0), logarithm=scale is None)
        return cls(count, ranges)

    def departures(self, invariants: Mapping[str, Tensor]) -> list[str]:
        """Describe the invariants of a run that lie outside those of training, the largest departures first.

        A sample departs if an invariant lies outside the training range by more than a margin, a run also if
        the mean over its samples differs by more than ``SHIFT`` standard errors. The result is empty after
        fewer than ``FEWEST`` training samples.

        Args:
            invariants: invariants of the run by name, each of shape (sample,), see ``invariants_of``.
        """
        reported: list[tuple[float, str]] = []
        for name, values in invariants.items():
            training = self.ranges.get(name)
            if training is None or self.count < FEWEST:
                continue
            margin = training.margin(self.count)
            outside = torch.maximum(values - training.high, training.low - values)
            far = ~(outside <= margin)  # NaN departs as well
            if bool(far.any()):
                worst = int(outside.nan_to_num(nan=torch.inf).argmax())
                others = int(far.sum()) - 1
                text = f"{name} {training.text(float(values[worst]))} in sample {worst}"
                text += f" and {others} more" if others else ""
                text += f", in training {training.text(training.low)} to {training.text(training.high)}"
                reported.append((float(outside[worst].nan_to_num(nan=torch.inf)) / max(margin, 1e-300), text))
                continue
            difference = abs(float(values.mean()) - training.mean)
            error = training.std * math.sqrt(1 / len(values) + 1 / self.count) * (1 + 4 / self.count)
            if (
                len(values) > 1
                and not training.logarithm
                and difference > max(SHIFT * error, training.negligible)
            ):
                text = (
                    f"{name} {training.text(float(values.mean()))} on average over {len(values)} samples, "
                    f"in training {training.text(training.mean)}"
                )
                reported.append((0.0, text))
        return [text for _, text in sorted(reported, key=lambda pair: -pair[0])]

    def to_json(self) -> dict[str, Any]:
        """Return the distributions as plain numbers, for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainingRanges":
        """Return the distributions that ``to_json`` described."""
        ranges = {name: Range(**entries) for name, entries in values["ranges"].items()}
        return cls(int(values["count"]), ranges)


def invariants_of(
    instances: Instances, *, fields: Sequence[str], inputs: Sequence[str], edges: Sequence[AxisEdge]
) -> dict[str, Tensor]:
    """Return the invariants of the inputs of samples by name, each of shape (batch,).

    Args:
        instances: samples.
        fields: names of the channels of the initial state; none for a steady equation.
        inputs: names of the input fields.
        edges: grid along each axis: ``periodic``, with nodes on both edges (``node``), or cell centres
            (``cell``).
    """
    invariants: dict[str, Tensor] = {}
    for names, tensor in ((fields, instances.state), (inputs, instances.inputs)):
        for name, field in zip(names, tensor.unbind(1), strict=False):
            invariants |= {
                f"{kind} of {name}": value for kind, value in _of_field(field.double(), edges).items()
            }
    return invariants | {name: value.double().log() for name, value in instances.parameters.items()}


def scales_of(instances: Instances, invariants: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the root mean square of the field that each invariant belongs to.

    Args:
        instances: samples.
        invariants: invariants of these samples, see ``invariants_of``.
    """
    scales = {}
    for name in invariants:
        if name not in instances.parameters:
            channel = name.rpartition(" of ")[2]
            mean = invariants[f"mean of {channel}"]
            std = invariants[f"standard deviation of {channel}"]
            scales[name] = float((mean.square() + std.square()).mean().sqrt())
    return scales


def _of_field(field: Tensor, edges: Sequence[AxisEdge]) -> dict[str, Tensor]:
    """Return the invariants of a field of shape (batch, *grid), each of shape (batch,)."""
    axes = list(range(1, field.ndim))
    invariants = {"mean": field.mean(axes), "standard deviation": field.std(axes, correction=0)}
    square = torch.zeros([1] * (field.ndim - 1), dtype=field.dtype, device=field.device)
    largest = math.inf
    for axis, edge in zip(axes, edges, strict=True):
        period = 1 if edge == "periodic" else 2
        if edge != "periodic":
            mirror = field.flip(axis)
            inner = mirror.narrow(axis, 1, field.shape[axis] - 2)
            field = torch.cat([field, inner if edge == "node" else mirror], dim=axis)
        points = field.shape[axis]
        waves = torch.fft.fftfreq(points, 1 / points, device=field.device, dtype=field.dtype).abs() / period
        square = square + waves.square().reshape([-1 if a == axis else 1 for a in axes])
        largest = min(largest, ((points - 1) // 2) / period)
    power = torch.fft.fftn(field, dim=axes, norm="forward").abs().square()
    k = square.sqrt()
    lowest = low = 1.0 if all(edge == "periodic" for edge in edges) else 0.5
    while 2 * low <= largest + lowest:
        inside = (k >= low) & (k < 2 * low)
        invariants[f"amplitude of waves {low:g} to {2 * low:g}"] = (power * inside).sum(axes).sqrt()
        low *= 2
    return invariants
