"""Metrics of an ensemble."""

import numpy as np

from .base import Aggregation, Array, Metric, Sample, register
from .deterministic import RMSE, absolute_error


def fair_crps(members: Array, truth: Array) -> Array:
    """Return the fair continuous ranked probability score of an ensemble of M members.

        mean_i |x_i - o| - sum_ij |x_i - x_j| / (2 M (M - 1))

    (Ferro 2014, doi:10.1002/qj.2270), its second sum computed from the sorted members.

    Args:
        members: at least two members x, shape (member, ...).
        truth: truth o, shape (...).
    """
    count = len(members)
    ranks = (2 * np.arange(1, count + 1) - count - 1).reshape(-1, *(1,) * (members.ndim - 1))
    spread = (ranks * np.sort(members, axis=0)).sum(axis=0) / (count * (count - 1))
    return np.asarray(np.abs(members - truth).mean(axis=0) - spread)


def crps(sample: Sample) -> Array:
    """Return the fair CRPS of an ensemble, of a single forecast its absolute error."""
    return absolute_error(sample) if sample.members is None else fair_crps(sample.members, sample.truth)


def variance(sample: Sample) -> Array:
    """Return the unbiased variance of the members, zero for a single forecast."""
    if sample.members is None:
        return np.zeros_like(sample.forecast)
    return np.asarray(sample.members.var(axis=0, ddof=1))


@register("crps")
class CRPS(Metric):
    """Mean fair continuous ranked probability score; see ``fair_crps``."""

    label = "CRPS"
    statistics = (crps,)
    needs_ensemble = True

    def compute(self, aggregation: Aggregation) -> Array:
        """Return the score in the units of the variable."""
        return aggregation.mean(crps)


@register("spread")
class Spread(Metric):
    """Root mean variance of the members.

    If an ensemble of M members is reliable, the RMSE of its mean is ``sqrt((M + 1) / M)`` of the spread.
    """

    label = "spread"
    statistics = (variance,)
    needs_ensemble = True

    def compute(self, aggregation: Aggregation) -> Array:
        """Return the spread in the units of the variable."""
        return np.asarray(np.sqrt(aggregation.mean(variance)))


@register("spread_error_ratio")
class SpreadErrorRatio(Metric):
    """Ratio of spread to error of M members, 1 if reliable: ``sqrt((M + 1) / M) spread / RMSE``.

    See Fortin et al. (2014), doi:10.1175/JHM-D-14-0008.1. Undefined where the error is round-off, as that of
    the initial state against its own analysis is.
    """

    label = "spread / error"
    statistics = (*Spread.statistics, *RMSE.statistics)
    dimensionless = True
    needs_ensemble = True
    scores_references = False

    def compute(self, aggregation: Aggregation) -> Array:
        """Return the ratio."""
        error = RMSE().compute(aggregation)
        expected = Spread().compute(aggregation) * np.sqrt((aggregation.members + 1) / aggregation.members)
        return np.asarray(expected / np.where(error > 1e-4 * expected, error, np.nan))
