"""Sums of statistics over the initial times of a forecast, next to those of the reference forecasts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...datasets.store.fields import Fields
from ...datasets.store.open import Store
from ...fno.progress import Progress
from .baselines import Climatology
from .metrics.base import Aggregation, Array, Sample, Statistic, aggregate
from .pairing import PairedForecast

Float = NDArray[np.float32]

SOURCES = ("forecast", "persistence", "damped_persistence", "climatology")
"""What is scored: the forecast and the reference forecasts."""

_BATCH_BYTES = 2**28


@dataclass(frozen=True)
class Cases:
    """Initial times and lead times of a forecast, and their positions in the truth.

    Attributes:
        times: initial times, shape (time,).
        leads: lead times, shape (lead,).
        steps: lead times in time steps of the truth.
        initial: positions of the initial times, shape (time,).
        valid: positions of the valid times, shape (time, lead).
    """

    times: NDArray[np.datetime64]
    leads: NDArray[np.timedelta64]
    steps: list[int]
    initial: NDArray[np.int64]
    valid: NDArray[np.int64]

    @classmethod
    def of(cls, forecast: xr.Dataset, truth: Store, name: str) -> "Cases":
        """Return the cases of a forecast.

        Args:
            forecast: canonical forecast.
            truth: store of the truth.
            name: name of the forecast in errors.

        Raises:
            ValueError: the truth lacks a valid or initial time, or a lead time is negative.
        """
        times = forecast["time"].values.astype("datetime64[ns]")
        leads = forecast["prediction_timedelta"].values
        valid = _positions(truth, times[:, None] + leads, name)
        if leads.min() < np.timedelta64(0):
            first = leads.min() / np.timedelta64(1, "h")
            raise ValueError(f"{name} has a lead time before its initial time ({first:g} h); drop it")
        steps = np.round(leads / truth.step).astype(int).tolist()
        initial = valid[:, steps.index(0)] if 0 in steps else _positions(truth, times, name)
        return cls(times, leads, steps, initial, valid)


def _positions(truth: Store, times: NDArray[np.datetime64], name: str) -> NDArray[np.int64]:
    """Return the positions of times in the truth; raises ``ValueError`` where it lacks one."""
    stored = truth.dataset["time"].values.astype("datetime64[ns]")
    positions = np.searchsorted(stored, times).clip(max=len(stored) - 1)
    missing = stored[positions] != times
    if missing.any():
        raise ValueError(
            f"{name} is valid at {int(missing.sum())} of {missing.size} times that the truth {truth.path} "
            f"lacks, the first {times[missing][0].astype('datetime64[m]')}; choose initial times and leads "
            "that it covers"
        )
    return np.asarray(positions)


class Accumulator:
    """Sums of the statistics of each source over the initial times, read batch by batch.

    Args:
        forecast: forecast, its channels in the order of the scores.
        truth: fields of the truth.
        climatology: climatology of the same channels.
        factors: factors of damped persistence, shape (lead, channel).
        order: positions in the truth of the channels that are scored.
        weights: area weight of each row, shape (y,).
        statistics: statistics to sum.
    """

    def __init__(
        self,
        forecast: PairedForecast,
        truth: Fields,
        climatology: Climatology,
        *,
        factors: Array,
        order: list[int],
        weights: Array,
        statistics: Sequence[Statistic],
    ) -> None:
        self.forecast = forecast
        self.truth = truth
        self.climatology = climatology
        self.factors = factors
        self.order = order
        self.weights = weights
        self.statistics = statistics

    def run(self, cases: Cases, batch_size: int, progress: Progress | None) -> Aggregation:
        """Return sums of shape (source, lead, channel)."""
        count = len(cases.times)
        batch_size = max(1, min(batch_size, _BATCH_BYTES // self.forecast.bytes_per_lead))
        zero = Aggregation.zero(self.statistics, (len(self.order),), self.forecast.members)
        totals = [[zero] * len(cases.leads) for _ in SOURCES]
        for start in range(0, count, batch_size):
            batch = slice(start, min(start + batch_size, count))
            initial = self.truth.read(cases.initial[batch])
            anomaly = initial - self.climatology.at(cases.times[batch])
            for i, lead in enumerate(cases.leads):
                climatology = self.climatology.at(cases.times[batch] + lead)
                damped = climatology + self.factors[i][:, None, None] * anomaly
                truth = self.truth.read(cases.valid[batch, i])
                persistence, damped, climatology, truth = (
                    field[:, self.order] for field in (initial, damped, climatology, truth)
                )
                forecast, members = self._read_forecast(batch, i)
                for source, field in enumerate((forecast, persistence, damped, climatology)):
                    sample = Sample.of(field, truth, climatology, members=members if source == 0 else None)
                    totals[source][i] += aggregate(sample, self.weights, self.statistics)
            if progress:
                progress(batch.stop, count, "verify")
        return Aggregation.stack([Aggregation.stack(leads) for leads in totals])

    def _read_forecast(self, batch: slice, lead: int) -> tuple[NDArray[np.floating], Float | None]:
        """Return the forecast, of an ensemble its mean and its members, the latter along the first axis."""
        values = self.forecast.read(batch, lead)
        if not self.forecast.ensemble:
            return values, None
        members = np.moveaxis(values, 1, 0)
        return members.mean(axis=0, dtype=np.float64), members if len(members) > 1 else None
