"""Linear forecasts of gridded anomalies: ridge regression on principal components.

A baseline that a learned model must beat. With the leading principal components p of the area-weighted
normalised anomalies of all variables,

    p(t + lead) = A p(t) + B p(t - step),

and damped persistence for the rest r of the anomaly: r(t) times sum r(t) r(t + lead) / sum r(t)^2 of each
channel over the training period. The number of components and the penalty are those of the smallest error
in the last training year, of models fitted to the years before it; the chosen ones are fitted to all.
``direct`` fits one model for each lead, ``iterated`` applies that of one step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
COMPONENTS = (40, 75, 150)
PENALTIES = (1e-3, 3e-3, 1e-2, 1e-1)
HARMONICS = 2  # of the year, in the climatology


@dataclass(frozen=True)
class Series:
    """Normalised fields in time.

    Attributes:
        values: shape (time, channel, row, column).
        times: times, shape (time,), evenly spaced.
        weights: area weights of the rows with mean 1, shape (row,).
    """

    values: Array
    times: NDArray[np.datetime64]
    weights: NDArray[np.float64]

    def years(self, years: Sequence[int]) -> NDArray[np.bool_]:
        """Return which times lie in these years."""
        return np.isin(self.times.astype("datetime64[Y]").astype(int) + 1970, years)


def climatology(series: Series, train: NDArray[np.bool_]) -> Array:
    """Return the mean and the first two harmonics of the year at each hour, fitted to the training times.

    Args:
        series: fields.
        train: which times to fit.

    Returns:
        Fields at the times of the series, of the shape of its values.
    """
    days = series.times.astype("datetime64[D]")
    since = (series.times - series.times.astype("datetime64[Y]")) / np.timedelta64(1, "D")
    hour = (series.times - days).astype("timedelta64[h]").astype(int)
    angles = 2 * np.pi * since[:, None] / 365.25 * np.arange(1, HARMONICS + 1)
    basis = np.concatenate([np.ones((len(days), 1)), np.cos(angles), np.sin(angles)], axis=1)
    result = np.empty_like(series.values)
    for h in np.unique(hour):
        used = train & (hour == h)
        fitted = np.linalg.lstsq(basis[used], series.values[used].reshape(used.sum(), -1), rcond=None)[0]
        result[hour == h] = (basis[hour == h] @ fitted).reshape(-1, *series.values.shape[1:])
    return result


def components(anomaly: Array, scale: Array, train: NDArray[np.bool_], count: int) -> tuple[Array, Array]:
    """Return principal components in time and their patterns in units of the anomaly.

    Args:
        anomaly: anomalies, shape (time, channel, row, column).
        scale: factor of each value before the decomposition, broadcast to a field.
        train: times that define the patterns.
        count: number of components.

    Returns:
        Components, shape (time, count), and patterns, shape (count, channel, row, column).
    """
    rows = (anomaly * scale).reshape(len(anomaly), -1)
    used = rows[train]
    values, vectors = np.linalg.eigh((used @ used.T).astype(np.float64))
    leading = vectors[:, ::-1][:, :count] / np.sqrt(values[::-1][:count])
    patterns = (leading.T @ used).astype(np.float32)
    fields = patterns.reshape(count, *anomaly.shape[1:]) / np.maximum(scale, 1e-6)
    return rows @ patterns.T, fields


def fit(x: Array, y: Array, penalty: float) -> NDArray[np.float64]:
    """Return the ridge regression of ``y`` on ``x``; the penalty is relative to the mean square of ``x``."""
    gram = (x.T @ x).astype(np.float64)
    gram += penalty * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram, (x.T @ y).astype(np.float64))


def predictors(p: Array, times: NDArray[np.int64]) -> Array:
    """Return the components at these positions and one step before, shape (position, 2 count)."""
    return np.concatenate([p[times], p[times - 1]], axis=1)


def forecast(p: Array, starts: NDArray[np.int64], operator: NDArray[np.float64], steps: int) -> Array:
    """Return the components after applying an operator of one step repeatedly, shape (start, count)."""
    state = predictors(p, starts).astype(np.float64)
    count = p.shape[1]
    for _ in range(steps):
        state = np.concatenate([state @ operator, state[:, :count]], axis=1)
    return state[:, :count].astype(np.float32)


def persistence(rest: Array, positions: NDArray[np.int64], step: int) -> Array:
    """Return the regression of a field on the same field some steps before, shape (channel, 1, 1).

    Args:
        rest: fields, shape (time, channel, row, column).
        positions: earlier times.
        step: number of steps.
    """
    before = rest[positions]
    product = (before * rest[positions + step]).sum(axis=(0, 2, 3))
    return (product / np.square(before).sum(axis=(0, 2, 3))).reshape(-1, 1, 1)


def scores(
    series: Series, train_years: Sequence[int], test_year: int, steps: Sequence[int]
) -> dict[str, dict[int, NDArray[np.float64]]]:
    """Return the root mean square error of each channel in the units of the series.

    Args:
        series: fields.
        train_years: training years, of which the last selects number and penalty.
        test_year: year of the forecasts.
        steps: leads in time steps.

    Returns:
        Errors of shape (channel,) by method (``ridge_direct``, ``ridge_iterated``) and lead.
    """
    count, penalty = _select(series, train_years, steps)
    errors = _errors(series, train_years, test_year, steps, counts=[count], penalties=[penalty])
    return {name: by_lead for (_, _, name), by_lead in errors.items()}


def _select(series: Series, train_years: Sequence[int], steps: Sequence[int]) -> tuple[int, float]:
    """Return number of components and penalty of the iterated model with the smallest normalised error."""
    errors = _errors(series, train_years[:-1], train_years[-1], steps, counts=COMPONENTS, penalties=PENALTIES)
    scale = series.values.std(axis=(0, 2, 3))
    means = {
        key[:2]: float(np.mean([e / scale for e in by_lead.values()]))
        for key, by_lead in errors.items()
        if key[2] == "ridge_iterated"
    }
    return min(means, key=lambda key: means[key])


def _errors(
    series: Series,
    train_years: Sequence[int],
    test_year: int,
    steps: Sequence[int],
    *,
    counts: Sequence[int],
    penalties: Sequence[float],
) -> dict[tuple[int, float, str], dict[int, NDArray[np.float64]]]:
    """Return the errors by number, penalty, method and lead."""
    train = series.years(train_years)
    anomaly = series.values - climatology(series, train)
    deviation = anomaly[train].std(axis=(0, 2, 3)).reshape(-1, 1, 1)
    scale = (np.sqrt(series.weights)[:, None] / deviation).astype(np.float32)
    p, patterns = components(anomaly, scale, train, max(counts))
    positions = np.flatnonzero(train)
    last = max(steps)
    starts = np.flatnonzero(series.years([test_year]))
    starts = starts[(starts >= 1) & (starts + last < len(anomaly))]
    result: dict[tuple[int, float, str], dict[int, NDArray[np.float64]]] = {}
    for count in counts:
        q = p[:, :count]
        rest = anomaly - np.tensordot(q, patterns[:count], axes=1)
        damping = {step: persistence(rest, positions[: len(positions) - step], step) for step in steps}
        for penalty in penalties:
            operators = {}
            for step in {1, *steps}:
                used = positions[(positions >= 1) & (positions + step <= positions[-1])]
                operators[step] = fit(predictors(q, used), q[used + step], penalty)
            for step in steps:
                outputs = {
                    "ridge_direct": (predictors(q, starts) @ operators[step]).astype(np.float32),
                    "ridge_iterated": forecast(q, starts, operators[1], step),
                }
                for name, output in outputs.items():
                    field = np.tensordot(output, patterns[:count], axes=1)
                    field += damping[step] * rest[starts]
                    square = np.square(field - anomaly[starts + step]) * series.weights[:, None]
                    result.setdefault((count, penalty, name), {})[step] = np.sqrt(square.mean(axis=(0, 2, 3)))
    return result
