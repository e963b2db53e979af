"""Simple invariants of fields and numbers, and whether those of a run lie within what a model was trained on.

For each channel of a sample: its mean, its standard deviation and the amplitudes of its waves in octaves,

    A_j = (sum of |c_k|^2 over 2^j <= |k| < 2^(j + 1))^(1/2),   k in waves a domain,

with c the Fourier coefficients, on axes that are not periodic those of the mirror image (a cosine series).
Only octaves that a grid holds whole are taken, so grids of any size are compared. A number enters by its
logarithm.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .batch import Instances

Edge = Literal["wrap", "node", "cell"]
FEWEST = 8  # samples below which a range tells nothing
SHIFT = 5.0  # standard errors by which the mean over the samples of a run may differ
NEGLIGIBLE = 1e-3  # of a channel's root mean square: smaller differences are rounding


@dataclass(frozen=True)
class Range:
    """An invariant over the samples of a training set.

    Attributes:
        mean: over the samples.
        std: standard deviation over the samples.
        low: smallest.
        high: largest.
        negligible: differences that do not matter.
        logarithm: whether these are of the logarithm of a number.
    """

    mean: float
    std: float
    low: float
    high: float
    negligible: float = 0.0
    logarithm: bool = False

    def margin(self, count: int) -> float:
        """Return how far outside of [low, high] one sample may lie, which is more after few training samples."""
        # A number is drawn from an interval, an amplitude from a law with a tail. Chosen so that a sample of
        # the same law departs in
        # fewer than one of a hundred runs after 64 training samples.
        share = 0.1 + 6 / count if self.logarithm else 0.5 + 24 / count
        return max(self.negligible, share * (self.high - self.low))

    def text(self, value: float) -> str:
        """Return a value in the units of the input as text, zero where it is negligible."""
        shown = math.exp(value) if self.logarithm else value
        return f"{0.0 if abs(value) < self.negligible else shown:.3g}"


@dataclass(frozen=True)
class TrainingRanges:
    """Invariants of the inputs that a model was trained on.

    Attributes:
        count: samples that they were taken from.
        ranges: by name of the invariant.
    """

    count: int
    ranges: Mapping[str, Range]

    @classmethod
    def of(cls, invariants: Mapping[str, Tensor], scales: Mapping[str, float]) -> "TrainingRanges":
        """Return the ranges of invariants of samples.

        Args:
            invariants: see ``invariants_of``.
            scales: see ``scales_of``; an invariant without a scale is the logarithm of a number.
        """
        ranges, count = {}, 0
        for name, values in invariants.items():
            count, scale = len(values), scales.get(name)
            std = float(values.std(correction=0))
            limits = float(values.mean()), std, float(values.min()), float(values.max())
            ranges[name] = Range(*limits, negligible=NEGLIGIBLE * (scale or 0.0), logarithm=scale is None)
        return cls(count, ranges)

    def departures(self, invariants: Mapping[str, Tensor]) -> list[str]:
        """Return what of a run lies outside of training, the largest departures first, as text; nothing after
        too few training samples.

        A sample departs where an invariant lies outside of the training range by more than a margin; a run
        also where the mean over its samples differs by more than ``SHIFT`` standard errors.
        """
        reported: list[tuple[float, str]] = []
        for name, values in invariants.items():
            known = self.ranges.get(name)
            if known is None or self.count < FEWEST:
                continue
            margin = known.margin(self.count)
            outside = torch.maximum(values - known.high, known.low - values)
            far = ~(outside <= margin)  # NaN departs as well
            if bool(far.any()):
                worst = int(outside.nan_to_num(nan=torch.inf).argmax())
                others = int(far.sum()) - 1
                text = f"{name} {known.text(float(values[worst]))} in sample {worst}" + (
                    f" and {others} more" if others else ""
                )
                text += f", in training {known.text(known.low)} to {known.text(known.high)}"
                reported.append((float(outside[worst].nan_to_num(nan=torch.inf)) / max(margin, 1e-300), text))
                continue
            difference = abs(float(values.mean()) - known.mean)
            error = known.std * math.sqrt(1 / len(values) + 1 / self.count) * (1 + 4 / self.count)
            if len(values) > 1 and not known.logarithm and difference > max(SHIFT * error, known.negligible):
                text = f"{name} {known.text(float(values.mean()))} on average over {len(values)} samples, in training {known.text(known.mean)}"
                reported.append((0.0, text))
        return [text for _, text in sorted(reported, key=lambda pair: -pair[0])]

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainingRanges":
        """Return what ``to_json`` gave."""
        return cls(int(values["count"]), {name: Range(**given) for name, given in values["ranges"].items()})


def invariants_of(
    instances: Instances, fields: Sequence[str], inputs: Sequence[str], edges: Sequence[Edge]
) -> dict[str, Tensor]:
    """Return the invariants of the inputs of some samples by name, each of shape (batch,).

    Args:
        instances: samples.
        fields: names of the channels of the initial state; none of a steady equation.
        inputs: names of the given fields.
        edges: how the grid lies along each axis: periodic, with nodes on both edges, or with cells between
            them.
    """
    invariants: dict[str, Tensor] = {}
    for names, tensor in ((fields, instances.state), (inputs, instances.inputs)):
        for name, field in zip(names, tensor.unbind(1), strict=False):
            invariants |= {
                f"{kind} of {name}": value for kind, value in _of_field(field.double(), edges).items()
            }
    return invariants | {name: number.double().log() for name, number in instances.parameters.items()}


def scales_of(instances: Instances, invariants: Mapping[str, Tensor]) -> dict[str, float]:
    """Return for each invariant of a field the root mean square of that field over samples.

    Args:
        instances: samples.
        invariants: of these samples.
    """
    scales = {}
    for name in invariants:
        if name not in instances.parameters:
            channel = name.rpartition(" of ")[2]
            mean, std = invariants[f"mean of {channel}"], invariants[f"standard deviation of {channel}"]
            scales[name] = float((mean.square() + std.square()).mean().sqrt())
    return scales


def _of_field(field: Tensor, edges: Sequence[Edge]) -> dict[str, Tensor]:
    """Return mean, standard deviation and amplitudes by octave of a field, shape (batch, *grid)."""
    axes = list(range(1, field.ndim))
    invariants = {"mean": field.mean(axes), "standard deviation": field.std(axes, correction=0)}
    square, largest = torch.zeros([1] * (field.ndim - 1), dtype=field.dtype, device=field.device), math.inf
    for axis, edge in zip(axes, edges, strict=True):
        period = 1 if edge == "wrap" else 2
        if edge != "wrap":
            mirror = field.flip(axis)
            inner = mirror.narrow(axis, 1, field.shape[axis] - 2)
            field = torch.cat([field, inner if edge == "node" else mirror], dim=axis)
        points = field.shape[axis]
        waves = torch.fft.fftfreq(points, 1 / points, device=field.device, dtype=field.dtype).abs() / period
        square = square + waves.square().reshape([-1 if a == axis else 1 for a in axes])
        largest = min(largest, ((points - 1) // 2) / period)
    power, k = torch.fft.fftn(field, dim=axes, norm="forward").abs().square(), square.sqrt()
    lowest = low = 1.0 if all(edge == "wrap" for edge in edges) else 0.5
    while 2 * low <= largest + lowest:
        inside = (k >= low) & (k < 2 * low)
        invariants[f"amplitude of waves {low:g} to {2 * low:g}"] = (power * inside).sum(axes).sqrt()
        low *= 2
    return invariants
