"""Scores in three stages: statistic -> aggregation -> metric, after WeatherBench-X.

A statistic turns forecast and truth into sums over the area, an aggregation adds sums up over initial times,
and a metric is computed from sums at the end. So scores of pieces add up to the score of the whole, and the
root of a mean square error is taken after the mean over time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]
Array = NDArray[np.float64]

STATISTICS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "squared_error": lambda f, o, c: (f - o) ** 2,
    "absolute_error": lambda f, o, c: np.abs(f - o),
    "error": lambda f, o, c: f - o,
    "anomaly_product": lambda f, o, c: (f - c) * (o - c),
    "forecast_anomaly_square": lambda f, o, c: (f - c) ** 2,
    "truth_anomaly_square": lambda f, o, c: (o - c) ** 2,
}


def fair_crps(members: Array, truth: Array) -> Array:
    """Return ``mean |x_i - o| - sum_ij |x_i - x_j| / (2 M (M - 1))`` over the members, the first dimension
    (Ferro 2014, doi:10.1002/qj.2270).
    """
    count = len(members)
    ranks = (2 * np.arange(1, count + 1) - count - 1).reshape(-1, *(1,) * (members.ndim - 1))
    return np.asarray(
        np.abs(members - truth).mean(axis=0)
        - (ranks * np.sort(members, axis=0)).sum(axis=0) / (count * (count - 1))
    )


ENSEMBLE_STATISTICS: dict[str, Callable[[Array, Array], Array]] = {
    "crps": fair_crps,
    "variance": lambda x, o: x.var(axis=0, ddof=1),
}


@dataclass(frozen=True)
class Aggregation:
    """Weighted sums of statistics and the sum of the weights.

    Attributes:
        sums: statistic -> sum, all of one shape.
        weight: sum of the weights, same shape.
    """

    sums: dict[str, Array]
    weight: Array

    @classmethod
    def zero(cls, shape: tuple[int, ...]) -> "Aggregation":
        """Return the aggregation of nothing."""
        return cls({name: np.zeros(shape) for name in (*STATISTICS, *ENSEMBLE_STATISTICS)}, np.zeros(shape))

    def __add__(self, other: "Aggregation") -> "Aggregation":
        return Aggregation({n: s + other.sums[n] for n, s in self.sums.items()}, self.weight + other.weight)

    def mean(self, name: str) -> Array:
        """Return the weighted mean of a statistic, NaN where there was nothing."""
        return np.asarray(self.sums[name] / np.where(self.weight > 0, self.weight, np.nan))


def aggregate(
    forecast: Float, truth: Float, climatology: Float, weights: Float, members: Float | None = None
) -> Aggregation:
    """Aggregate over the first dimension and the last two; points without truth are left out.

    Args:
        forecast: shape (sample, ..., H, W).
        truth: shape that broadcasts to it.
        climatology: shape that broadcasts to it.
        weights: area weights, shape (H,).
        members: an ensemble whose mean the forecast is, shape (member, sample, ..., H, W); of a single
            forecast the CRPS is the absolute error, and the variance zero.

    Raises:
        ValueError: the forecast has missing values where there is truth.
    """
    f, o, c = (np.asarray(a, dtype=np.float64) for a in (forecast, truth, climatology))
    there = np.broadcast_to(np.isfinite(o), f.shape)
    if not np.isfinite(f[there]).all():
        raise ValueError("the forecast has missing values where the truth has none; make it again")
    w = np.where(there, weights[:, None], 0.0)
    axes = (0, f.ndim - 2, f.ndim - 1)
    sums = {
        name: (w * np.where(there, statistic(f, o, c), 0)).sum(axis=axes)
        for name, statistic in STATISTICS.items()
    }
    if members is None:
        sums |= {"crps": sums["absolute_error"], "variance": np.zeros_like(sums["absolute_error"])}
    else:
        x = np.asarray(members, dtype=np.float64)
        sums |= {
            name: (w * np.where(there, statistic(x, o), 0)).sum(axis=axes)
            for name, statistic in ENSEMBLE_STATISTICS.items()
        }
    return Aggregation(sums, w.sum(axis=axes))


def rmse(a: Aggregation) -> Array:
    """Root mean square error."""
    return np.asarray(np.sqrt(a.mean("squared_error")))


def mae(a: Aggregation) -> Array:
    """Mean absolute error."""
    return a.mean("absolute_error")


def bias(a: Aggregation) -> Array:
    """Mean error."""
    return a.mean("error")


def acc(a: Aggregation) -> Array:
    """Anomaly correlation coefficient, not centred: sum f'o' / sqrt(sum f'^2 sum o'^2); NaN for climatology
    itself.
    """
    norm = np.sqrt(a.sums["forecast_anomaly_square"] * a.sums["truth_anomaly_square"])
    return np.asarray(a.sums["anomaly_product"] / np.where(norm > 0, norm, np.nan))


def crps(a: Aggregation) -> Array:
    """Mean continuous ranked probability score, fair."""
    return a.mean("crps")


def spread(a: Aggregation) -> Array:
    """Root mean variance of an ensemble; where it is reliable, the rmse of the mean of M members is sqrt((M +
    1) / M) of it.
    """
    return np.asarray(np.sqrt(a.mean("variance")))


def spread_error_ratio(a: Aggregation, members: int) -> Array:
    """Return ``spread sqrt((M + 1) / M) / rmse``, which is one for a reliable ensemble of M members (Fortin
    et al. 2014).

    NaN where the error is round-off, as that of the initial state against its own analysis is.
    """
    error, expected = rmse(a), spread(a) * np.sqrt((members + 1) / members)
    return np.asarray(expected / np.where(error > 1e-4 * expected, error, np.nan))


METRICS = {"rmse": rmse, "mae": mae, "bias": bias, "acc": acc}
ENSEMBLE_METRICS = {"crps": crps, "spread": spread}
