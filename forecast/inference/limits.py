"""Clip a forecast to bounds, and compare it with the range of the training data."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...datasets.bounds import Bounds, physical_bounds
from ...datasets.errors import DataError
from ...datasets.store.open import open_store, read_group
from ...datasets.suggestions import suggest
from ..checkpoint.weather import Checkpoint
from .records import Clipped, OutOfRange

log = logging.getLogger(__name__)

Float = NDArray[np.float32]

_TOLERANCE = 0.01  # share of its range by which the training data may exceed a physical bound that applies
_STATE = ("total", "outside", "clipped", "least", "largest", "first")  # attributes of ``Limits``


class Limits:
    """Clip the fields of a forecast to bounds, counting clipped values and those outside the training range.

    The counts are of points of the model's grid over all lead times, initial times and members, before
    clipping. Clipped values are written, while the model continues from its own, so that bounds do not change
    the forecast elsewhere.

    Args:
        checkpoint: model.
        physical: clip to ``physical_bounds``, except bounds that the training data exceed by more than a
            hundredth of their range.
        clip: bounds by name of variable, which replace the physical ones.

    Attributes:
        bounds: lower and upper bound of each channel, infinite where there is none, shape (2, channel).

    Raises:
        ValueError: ``clip`` names a variable that the model lacks, or bounds that are out of order.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, physical: bool = True, clip: Mapping[str, Bounds] | None = None
    ) -> None:
        clip = clip or {}
        self.checkpoint = checkpoint
        self.channels = checkpoint.channels
        check_clip(clip, [channel.variable for channel in self.channels])
        self.training = training_range(checkpoint)
        count = len(self.channels)
        self.bounds = np.array([self._bounds_of(i, clip, physical=physical) for i in range(count)]).T
        self.total = np.zeros(count, np.int64)
        self.outside = np.zeros(count, np.int64)
        self.clipped = np.zeros(count, np.int64)
        self.least = np.full(count, np.inf)
        self.largest = np.full(count, -np.inf)
        self.first = np.full(count, -1, np.int64)

    def _bounds_of(self, channel: int, clip: Mapping[str, Bounds], *, physical: bool) -> tuple[float, float]:
        """Return lower and upper bound of a channel, infinite where there is none."""
        name = self.channels[channel].variable
        if name in clip:
            return _to_floats(clip[name])
        if not physical:
            return -np.inf, np.inf
        attrs = self.checkpoint.attrs.get(name, {})
        low, high = _to_floats(physical_bounds(name, attrs, self.channels[channel].units))
        if self.training is not None:
            least, largest = self.training[:, channel]
            margin = _TOLERANCE * (largest - least)
            low = low if least >= low - margin else -np.inf
            high = high if largest <= high + margin else np.inf
        return low, high

    def watch(self, rollout: Iterable[Float]) -> Iterator[Float]:
        """Yield the clipped fields of each lead time of a rollout, shape (..., channel, y, x)."""
        for lead, fields in enumerate(rollout):
            yield self._apply(fields, lead)

    def _apply(self, fields: Float, lead: int) -> Float:
        """Count the values of one lead time, and return the clipped fields."""
        values = np.moveaxis(fields, -3, 0).reshape(len(self.channels), -1)
        self.least = np.fmin(self.least, np.fmin.reduce(values, axis=1))
        self.largest = np.fmax(self.largest, np.fmax.reduce(values, axis=1))
        self.total += np.isfinite(values).sum(axis=1)
        if self.training is not None:
            low, high = self.training.astype(np.float32)
            count = _count_beyond(values, low, high)
            earlier = (self.first < 0) | (lead < self.first)
            self.first = np.where((count > 0) & earlier, lead, self.first)
            self.outside += count
        low, high = self.bounds.astype(np.float32)
        self.clipped += _count_beyond(values, low, high)
        return np.clip(fields, low[:, None, None], high[:, None, None])

    def state(self) -> dict[str, list[float]]:
        """Return the counts in a form that JSON can store."""
        return {name: getattr(self, name).tolist() for name in _STATE}

    def restore(self, state: Mapping[str, list[float]]) -> None:
        """Continue from the counts of an interrupted run."""
        for name in _STATE:
            setattr(self, name, np.array(state[name], dtype=getattr(self, name).dtype))

    def attributes(self, variable: str) -> dict[str, str]:
        """Return the records of a variable as attributes: JSON lists with an entry for each level."""
        channels = [i for i, channel in enumerate(self.channels) if channel.variable == variable]
        attributes = {}
        if self.training is not None:
            outside = [self._out_of_range(i).to_entry() for i in channels if self.outside[i]]
            attributes["outside_training_range"] = json.dumps(outside)
        bounded = [i for i in channels if np.isfinite(self.bounds[:, i]).any()]
        if bounded:
            attributes["clipped"] = json.dumps([self._clipped(i).to_entry() for i in bounded])
        return attributes

    def _out_of_range(self, i: int) -> OutOfRange:
        assert self.training is not None
        return OutOfRange(
            self.channels[i].variable,
            self.channels[i].level,
            minimum=float(self.least[i]),
            maximum=float(self.largest[i]),
            training_minimum=float(self.training[0, i]),
            training_maximum=float(self.training[1, i]),
            first_lead_hours=float(int(self.first[i]) * self.checkpoint.step / np.timedelta64(1, "h")),
            values=int(self.outside[i]),
            share=round(float(self.outside[i] / self.total[i]), 9),
        )

    def _clipped(self, i: int) -> Clipped:
        lower, upper = (float(bound) if np.isfinite(bound) else None for bound in self.bounds[:, i])
        return Clipped(
            self.channels[i].variable,
            self.channels[i].level,
            lower=lower,
            upper=upper,
            values=int(self.clipped[i]),
            share=round(float(self.clipped[i] / max(1, self.total[i])), 9),
        )

    def report(self) -> None:
        """Log a line for each channel with values outside the training range."""
        for i in np.flatnonzero(self.outside):
            record = self._out_of_range(int(i))
            low = record.training_minimum
            high = record.training_maximum
            extremes = [f"{x:.6g}" for x in (record.minimum, record.maximum) if not low <= x <= high]
            log.warning(
                "%s reaches %s %s, outside the training range %.6g ... %.6g: first at %g h, %.3g %% of the "
                "values",
                self.channels[i],
                " and ".join(extremes),
                self.channels[i].units,
                low,
                high,
                record.first_lead_hours,
                100 * record.share,
            )


def check_clip(clip: Mapping[str, Bounds], names: Sequence[str]) -> None:
    """Raise ``ValueError`` where bounds are of a variable that is not in ``names``, or out of order."""
    for name, bounds in clip.items():
        if name not in names:
            hint = suggest(name, dict.fromkeys(names))
            raise ValueError(f"clip: the model has no variable {name!r}; {hint}")
        low, high = _to_floats(bounds)
        if not low < high:
            raise ValueError(f"clip: the bounds of {name} must be in order, got {low:g} and {high:g}")


def parse_clip(texts: Sequence[str]) -> dict[str, Bounds]:
    """Return the bounds in texts ``NAME=LOW,HIGH``, of which either may be empty.

    >>> parse_clip(["q=0,", "t=180,330"])
    {'q': (0.0, None), 't': (180.0, 330.0)}

    Raises:
        ValueError: a text is malformed, or a variable has several.
    """
    result: dict[str, Bounds] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if name in result:
            raise DataError(f"the bounds of {name} are given twice; give them once", option="clip")
        low, comma, high = values.partition(",")
        try:
            result[name] = (float(low) if low.strip() else None, float(high) if high.strip() else None)
        except ValueError:
            comma = ""
        if not (name and equals and comma):
            raise DataError(
                f"clip {text!r} is not understood; write NAME=LOW,HIGH, where either may be empty",
                option="clip",
                example="q=0,0.04",
            )
    return result


def training_range(checkpoint: Checkpoint) -> NDArray[np.float64] | None:
    """Return the least and largest value of each channel in the training data, shape (2, channel).

    For older checkpoints, which lack them, they are read from the statistics of the training store, if it
    still exists and has the same channels. None where they are unknown.
    """
    if checkpoint.ranges is not None:
        return checkpoint.ranges
    try:
        store = open_store(checkpoint.config.data.store)
        stored = {(c.variable, c.level, c.units) for c in store.channels}
        if not {(c.variable, c.level, c.units) for c in checkpoint.channels} <= stored:
            return None
        statistics = read_group(store, "statistics")
        ranges = []
        for channel in checkpoint.channels:
            pair = (statistics[f"{channel.variable}_{name}"] for name in ("minimum", "maximum"))
            ranges.append([float(v if channel.level is None else v.sel(level=channel.level)) for v in pair])
    except (OSError, ValueError, KeyError):
        return None
    return np.array(ranges).T


def _to_floats(bounds: Bounds) -> tuple[float, float]:
    """Return bounds as numbers, infinite where they are None."""
    low, high = bounds
    return -np.inf if low is None else float(low), np.inf if high is None else float(high)


def _count_beyond(values: Float, low: Float, high: Float) -> NDArray[np.int64]:
    """Return the number of values beyond the bounds of each channel; values have shape (channel, point)."""
    return np.asarray(((values < low[:, None]) | (values > high[:, None])).sum(axis=1))
