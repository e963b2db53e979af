"""Base of metrics: pointwise statistics, their aggregation, and a registry of names."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Forecasts, and the truth and climatology at their valid times, on the same points.

    Attributes:
        forecast: forecast, of an ensemble its mean, shape (time, ..., y, x).
        truth: truth at the valid times; broadcasts to ``forecast``.
        climatology: climatology at the valid times; broadcasts to ``forecast``.
        members: members of an ensemble, shape (member, time, ..., y, x); None for a single forecast.
    """

    forecast: Array
    truth: Array
    climatology: Array
    members: Array | None = None

    @classmethod
    def of(
        cls, forecast: Float, truth: Float, climatology: Float, *, members: Float | None = None
    ) -> "Sample":
        """Return a sample of arrays converted to float64."""
        return cls(
            np.asarray(forecast, dtype=np.float64),
            np.asarray(truth, dtype=np.float64),
            np.asarray(climatology, dtype=np.float64),
            None if members is None else np.asarray(members, dtype=np.float64),
        )


Statistic = Callable[[Sample], Array]
"""A function that returns a value at each grid point of a sample, shape (time, ..., y, x)."""


@dataclass(frozen=True)
class Aggregation:
    """Weighted sums of statistics.

    Attributes:
        sums: statistic -> sum of its values times their weights; all of the same shape.
        weight: sum of the weights, same shape.
        members: number of members of the ensemble; 1 for a single forecast.
    """

    sums: Mapping[Statistic, Array]
    weight: Array
    members: int = 1

    @classmethod
    def zero(cls, statistics: Iterable[Statistic], shape: tuple[int, ...], members: int = 1) -> "Aggregation":
        """Return the aggregation of no samples."""
        return cls({statistic: np.zeros(shape) for statistic in statistics}, np.zeros(shape), members)

    @classmethod
    def stack(cls, parts: Sequence["Aggregation"]) -> "Aggregation":
        """Return aggregations stacked along a new first dimension; the ensemble size is that of the first."""
        sums = {s: np.stack([part.sums[s] for part in parts]) for s in parts[0].sums}
        return cls(sums, np.stack([part.weight for part in parts]), parts[0].members)

    def __add__(self, other: "Aggregation") -> "Aggregation":
        sums = {statistic: total + other.sums[statistic] for statistic, total in self.sums.items()}
        return Aggregation(sums, self.weight + other.weight, self.members)

    def mean(self, statistic: Statistic) -> Array:
        """Return the weighted mean of a statistic, NaN where the weight is zero."""
        return np.asarray(self.sums[statistic] / np.where(self.weight > 0, self.weight, np.nan))


class Metric(ABC):
    """A score computed from weighted sums of pointwise statistics.

    Attributes:
        name: name that ``register`` gave it.
        label: heading in tables and charts.
        statistics: statistics from which it is computed. One that several metrics share is computed once.
        dimensionless: whether it has no units; otherwise it has those of the variable.
        needs_ensemble: whether it is defined for ensembles only.
        scores_references: whether it is meaningful for the reference forecasts, which are single forecasts.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    statistics: ClassVar[tuple[Statistic, ...]]
    dimensionless: ClassVar[bool] = False
    needs_ensemble: ClassVar[bool] = False
    scores_references: ClassVar[bool] = True

    @abstractmethod
    def compute(self, aggregation: Aggregation) -> Array:
        """Return the metric, of the shape of the sums; NaN where it is undefined."""


M = TypeVar("M", bound=type[Metric])
REGISTRY: dict[str, type[Metric]] = {}


def register(name: str) -> Callable[[M], M]:
    """Return a class decorator that registers a metric.

    Raises:
        ValueError: another metric has this name.
    """

    def decorate(metric: M) -> M:
        other = REGISTRY.setdefault(name, metric)
        if (other.__module__, other.__qualname__) != (metric.__module__, metric.__qualname__):
            raise ValueError(f"the metric {name!r} is registered already, by {other.__module__}")
        REGISTRY[name] = metric
        metric.name = name
        return metric

    return decorate


def aggregate(sample: Sample, weights: Float, statistics: Iterable[Statistic]) -> Aggregation:
    """Sum statistics over the time and the area of a sample, leaving out points where the truth is missing.

    Args:
        sample: forecasts and truth, shape (time, ..., y, x).
        weights: area weight of each row, shape (y,).
        statistics: statistics to sum.

    Returns:
        Sums of shape (...).

    Raises:
        ValueError: the forecast is not finite at a point where the truth is.
    """
    valid = np.broadcast_to(np.isfinite(sample.truth), sample.forecast.shape)
    if not np.isfinite(sample.forecast[valid]).all():
        raise ValueError("the forecast has missing values at points where the truth has none")
    weight = np.where(valid, weights[:, None], 0.0)
    axes = (0, sample.forecast.ndim - 2, sample.forecast.ndim - 1)
    sums = {
        statistic: (weight * np.where(valid, statistic(sample), 0)).sum(axis=axes) for statistic in statistics
    }
    members = 1 if sample.members is None else len(sample.members)
    return Aggregation(sums, weight.sum(axis=axes), members)
