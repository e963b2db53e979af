"""Forecasts compared with the range of the training data, and clipped to bounds."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...datasets.bounds import Bounds, physical_bounds
from ...datasets.store.open import open_store, read_group
from ...datasets.store.recorded import recorded
from ...datasets.suggestions import suggest
from ..checkpoint.weather import Checkpoint

log = logging.getLogger(__name__)

Float = NDArray[np.float32]

_RESPECTED = 0.01  # share of its range by which the training data may lie beyond a physical bound


class Limits:
    """Clip the fields of a forecast to bounds; count clipped values and those outside the training range.

    Counts are of the points of the model's grid, of all lead times, initial times and members, before
    clipping. Clipped values are written; the model goes on from its own, so that the bounds do not change the
    forecast elsewhere.

    Args:
        checkpoint: model.
        physical: clip to ``physical_bounds``, except those that the training data themselves break clearly.
        clip: bounds by name of variable, which take the place of the physical ones.

    Raises:
        ValueError: ``clip`` names a variable that the model lacks, or bounds that are out of order.
    """

    def __init__(
        self, checkpoint: Checkpoint, physical: bool = True, clip: Mapping[str, Bounds] | None = None
    ) -> None:
        self.checkpoint, self.channels = checkpoint, checkpoint.channels
        check_clip(clip or {}, [channel.variable for channel in self.channels])
        self.training = training_range(checkpoint)
        self.bounds = np.array([self._bounds(i, physical, clip or {}) for i in range(len(self.channels))]).T
        count = len(self.channels)
        self.total, self.outside, self.clipped = (np.zeros(count, np.int64) for _ in range(3))
        self.least = np.full(count, np.inf)
        self.largest = np.full(count, -np.inf)
        self.first = np.full(count, -1, np.int64)

    def _bounds(self, channel: int, physical: bool, clip: Mapping[str, Bounds]) -> tuple[float, float]:
        name, units = self.channels[channel].variable, self.channels[channel].units
        if name in clip:
            return _finite(clip[name])
        if not physical:
            return _finite((None, None))
        low, high = _finite(physical_bounds(name, self.checkpoint.attrs.get(name, {}), units))
        if self.training is not None:
            least, largest = self.training[:, channel]
            margin = _RESPECTED * (largest - least)
            low = low if least >= low - margin else -np.inf
            high = high if largest <= high + margin else np.inf
        return low, high

    def watch(self, rollout: Iterable[Float]) -> Iterator[Float]:
        """Yield the clipped fields of each lead time of a rollout, shape (..., channel, H, W)."""
        for lead, fields in enumerate(rollout):
            yield self._apply(fields, lead)

    def _apply(self, fields: Float, lead: int) -> Float:
        values = np.moveaxis(fields, -3, 0).reshape(len(self.channels), -1)
        least, largest = np.fmin.reduce(values, axis=1), np.fmax.reduce(values, axis=1)
        self.least, self.largest = np.fmin(self.least, least), np.fmax(self.largest, largest)
        self.total += np.isfinite(values).sum(axis=1)
        if self.training is not None:
            low, high = self.training.astype(np.float32)
            count = _beyond(values, low, high)
            self.first = np.where((count > 0) & ((self.first < 0) | (lead < self.first)), lead, self.first)
            self.outside += count
        low, high = self.bounds.astype(np.float32)
        self.clipped += _beyond(values, low, high)
        return np.clip(fields, low[:, None, None], high[:, None, None])

    def state(self) -> dict[str, list[float]]:
        """Return the counts, for JSON."""
        names = ("total", "outside", "clipped", "least", "largest", "first")
        return {name: getattr(self, name).tolist() for name in names}

    def restore(self, state: Mapping[str, list[float]]) -> None:
        """Take up the counts of an interrupted run."""
        for name, values in state.items():
            setattr(self, name, np.array(values, dtype=getattr(self, name).dtype))

    def attributes(self, variable: str) -> dict[str, str]:
        """Return the record of a variable as attributes: JSON lists with an entry for each level concerned."""
        result = {}
        mine = [i for i, channel in enumerate(self.channels) if channel.variable == variable]
        if self.training is not None:
            result["outside_training_range"] = json.dumps([self._outside(i) for i in mine if self.outside[i]])
        if bounded := [i for i in mine if np.isfinite(self.bounds[:, i]).any()]:
            result["clipped"] = json.dumps([self._clipped(i) for i in bounded])
        return result

    def _outside(self, i: int) -> dict[str, Any]:
        assert self.training is not None
        hours = float(int(self.first[i]) * self.checkpoint.step / np.timedelta64(1, "h"))
        return {
            "level": self.channels[i].level,
            "minimum": float(self.least[i]),
            "maximum": float(self.largest[i]),
            "training_minimum": float(self.training[0, i]),
            "training_maximum": float(self.training[1, i]),
            "first_lead_hours": hours,
            "values": int(self.outside[i]),
            "share": round(float(self.outside[i] / self.total[i]), 9),
        }

    def _clipped(self, i: int) -> dict[str, Any]:
        low, high = (float(x) if np.isfinite(x) else None for x in self.bounds[:, i])
        return {
            "level": self.channels[i].level,
            "lower": low,
            "upper": high,
            "values": int(self.clipped[i]),
            "share": round(float(self.clipped[i] / max(1, self.total[i])), 9),
        }

    def report(self) -> None:
        """Log one line for each channel that left the training range."""
        for i in np.flatnonzero(self.outside):
            entry, channel = self._outside(int(i)), self.channels[i]
            least, largest = entry["minimum"], entry["maximum"]
            low, high = entry["training_minimum"], entry["training_maximum"]
            reached = [f"{value:.6g}" for value in (least, largest) if not low <= value <= high]
            log.warning(
                "%s reaches %s %s, outside the training range %.6g ... %.6g: first at %g h, %.3g %% of the values",
                channel,
                " and ".join(reached),
                channel.units,
                low,
                high,
                entry["first_lead_hours"],
                100 * entry["share"],
            )


def _finite(bounds: Bounds) -> tuple[float, float]:
    low, high = bounds
    return -np.inf if low is None else float(low), np.inf if high is None else float(high)


def check_clip(clip: Mapping[str, Bounds], names: Sequence[str]) -> None:
    """Raise ``ValueError`` where bounds are of a variable that is none of ``names``, or not in order."""
    for name, bounds in clip.items():
        if name not in names:
            raise ValueError(
                f"clip: the model has no variable {name!r}; {suggest(name, dict.fromkeys(names))}"
            )
        low, high = _finite(bounds)
        if not low < high:
            raise ValueError(f"clip: the bounds of {name} must be in order, got {low:g} and {high:g}")


def parse_clip(texts: Sequence[str]) -> dict[str, Bounds]:
    """Return the bounds of texts ``NAME=LOW,HIGH``, where either may be empty.

    Raises:
        ValueError: a text is not of this form, or a name is given twice.
    """
    result: dict[str, Bounds] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if name in result:
            raise ValueError(f"--clip names {name} twice; give it once")
        low, comma, high = values.partition(",")
        try:
            result[name] = (float(low) if low.strip() else None, float(high) if high.strip() else None)
        except ValueError:
            comma = ""
        if not (name and equals and comma):
            raise ValueError(
                f"--clip {text} is not understood; write NAME=LOW,HIGH, e.g. --clip q=0,0.04 or --clip q=0,"
            )
    return result


def _beyond(values: Float, low: Float, high: Float) -> NDArray[np.int64]:
    return np.asarray(((values < low[:, None]) | (values > high[:, None])).sum(axis=1))


def records(forecast: xr.Dataset) -> dict[str, list[dict[str, Any]]]:
    """Return what the attributes of a forecast record: values outside the training range, and clipped ones."""
    result: dict[str, list[dict[str, Any]]] = {"outside_training_range": [], "clipped": []}
    for variable, field in forecast.data_vars.items():
        for name, entries in result.items():
            entries += [
                {"variable": str(variable), **entry}
                for entry in recorded(field.attrs, name, list, default="[]")
                if isinstance(entry, dict)
            ]
    return result


def describe_records(recorded: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    """Return records in words, without empty ones."""

    def channel(entry: dict[str, Any]) -> str:
        return (
            str(entry["variable"]) if entry["level"] is None else f"{entry['variable']} {entry['level']} hPa"
        )

    def between(low: float | None, high: float | None) -> str:
        return " ... ".join("" if value is None else f"{value:.6g}" for value in (low, high)).strip()

    outside = [
        f"{channel(e)} {between(e['minimum'], e['maximum'])}, "
        f"trained on {between(e['training_minimum'], e['training_maximum'])}; "
        f"first at {e['first_lead_hours']:g} h, {100 * e['share']:.3g} % of the values"
        for e in recorded["outside_training_range"]
    ]
    clipped = [
        f"{channel(e)} to {between(e['lower'], e['upper'])}, {100 * e['share']:.3g} % of the values"
        for e in recorded["clipped"]
        if e["values"]
    ]
    return {
        name: lines for name, lines in (("outside_training_range", outside), ("clipped", clipped)) if lines
    }


def training_range(checkpoint: Checkpoint) -> NDArray[np.float64] | None:
    """Return the least and largest value of each channel in the training data, shape (2, channel).

    Older checkpoints lack them; the statistics of the store that the model was trained on, where it is still
    there, hold them too. None where they are not known.
    """
    if checkpoint.ranges is not None:
        return checkpoint.ranges
    try:
        store = open_store(checkpoint.config.data.store)
        known = {(c.variable, c.level, c.units) for c in store.channels}
        if not {(c.variable, c.level, c.units) for c in checkpoint.channels} <= known:
            return None
        statistics = read_group(store, "statistics")
        pairs = []
        for channel in checkpoint.channels:
            both = (statistics[f"{channel.variable}_{name}"] for name in ("minimum", "maximum"))
            pairs.append([float(v if channel.level is None else v.sel(level=channel.level)) for v in both])
    except (OSError, ValueError, KeyError):
        return None
    return np.array(pairs).T
