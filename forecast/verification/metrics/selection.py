"""The metrics that a verification computes, chosen by name."""

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from ....datasets.suggestions import suggest
from .base import REGISTRY, Metric

GROUP = "fourcaster.metrics"
"""Entry point group in which other packages name their metrics."""

DEFAULT = ("rmse", "mae", "bias", "acc", "crps", "spread", "spread_error_ratio")
"""Metrics computed where none are chosen; those that need an ensemble are left out for a single forecast."""


def metric_names() -> list[str]:
    """Return the names of all metrics, those of other packages last."""
    _import_all()
    return [*REGISTRY, *(name for name in _entry_points() if name not in REGISTRY)]


def find_metric(name: str) -> Metric:
    """Return the metric of a name.

    Raises:
        ValueError: there is none, or what an entry point names is no metric.
    """
    _import_all()
    if name in REGISTRY:
        return REGISTRY[name]()
    points = _entry_points()
    if name not in points:
        raise ValueError(f"there is no metric {name!r}; {suggest(name, metric_names())}")
    metric = points[name].load()
    if not (isinstance(metric, type) and issubclass(metric, Metric)):
        raise ValueError(f"the entry point {points[name].value} of the metric {name!r} is not a Metric")
    metric.name = name
    return metric()


def select_metrics(names: Sequence[str] | None, members: int) -> list[Metric]:
    """Return the metrics to compute, each once.

    Args:
        names: names of metrics; ``DEFAULT`` if None.
        members: number of members of the forecast.

    Raises:
        ValueError: a name is unknown, none is given, or a metric needs an ensemble and there is none.
    """
    if isinstance(names, str):
        names = [names]
    metrics = [find_metric(name) for name in dict.fromkeys(DEFAULT if names is None else names)]
    if names is None:
        return [metric for metric in metrics if members > 1 or not metric.needs_ensemble]
    if not metrics:
        raise ValueError(f"no metrics are chosen; {suggest('', metric_names())}")
    for metric in metrics:
        if metric.needs_ensemble and members == 1:
            raise ValueError(f"the metric {metric.name!r} needs an ensemble, but the forecast has no members")
    return metrics


def _import_all() -> None:
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
