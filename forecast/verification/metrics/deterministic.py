"""Metrics of a single forecast, or of the mean of an ensemble."""

import numpy as np

from .base import Aggregation, Array, Metric, Sample, register


def squared_error(sample: Sample) -> Array:
    """Return ``(f - o)^2``."""
    return (sample.forecast - sample.truth) ** 2


def absolute_error(sample: Sample) -> Array:
    """Return ``|f - o|``."""
    return np.abs(sample.forecast - sample.truth)


def error(sample: Sample) -> Array:
    """Return ``f - o``."""
    return sample.forecast - sample.truth


def anomaly_product(sample: Sample) -> Array:
    """Return ``(f - c) (o - c)``, with the climatology c."""
    return (sample.forecast - sample.climatology) * (sample.truth - sample.climatology)


def squared_forecast_anomaly(sample: Sample) -> Array:
    """Return ``(f - c)^2``, with the climatology c."""
    return (sample.forecast - sample.climatology) ** 2


def squared_truth_anomaly(sample: Sample) -> Array:
    """Return ``(o - c)^2``, with the climatology c."""
    return (sample.truth - sample.climatology) ** 2


@register("rmse")
class RMSE(Metric):
    """Root mean square error, the root taken after the mean over time: ``sqrt(mean (f - o)^2)``."""

    label = "RMSE"
    statistics = (squared_error,)

    def compute(self, aggregation: Aggregation) -> Array:
        """Return the error in the units of the variable."""
        return np.asarray(np.sqrt(aggregation.mean(squared_error)))


@register("mae")
class MAE(Metric):
    """Mean absolute error: ``mean |f - o|``."""

    label = "MAE"
    statistics = (absolute_error,)

    def compute(self, aggregation: Aggregation) -> Array:
        """Return the error in the units of the variable."""
        return aggregation.mean(absolute_error)


@register("bias")
class Bias(Metric):
    """Mean error: ``mean (f - o)``."""

    label = "bias"
    statistics = (error,)

    def compute(self, aggregation: Aggregation) -> Array:
        """Return the error in the units of the variable."""
        return aggregation.mean(error)


@register("acc")
class ACC(Metric):
    """Anomaly correlation coefficient, uncentred: ``sum f' o' / sqrt(sum f'^2 sum o'^2)``.

    Anomalies f' and o' are departures from the climatology at the valid time. Undefined for the climatology
    itself.
    """

    label = "ACC"
    statistics = (anomaly_product, squared_forecast_anomaly, squared_truth_anomaly)
    dimensionless = True

    def compute(self, aggregation: Aggregation) -> Array:
        """Return the correlation, between -1 and 1."""
        sums = aggregation.sums
        norm = np.sqrt(sums[squared_forecast_anomaly] * sums[squared_truth_anomaly])
        return np.asarray(sums[anomaly_product] / np.where(norm > 0, norm, np.nan))
