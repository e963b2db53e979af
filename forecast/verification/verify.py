"""Scores of a forecast and of reference forecasts, against a truth."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...datasets.loaders.split import period
from ...datasets.store import atomic
from ...datasets.store.fields import Fields
from ...datasets.store.netcdf import PRESSURE_LEVEL, write_netcdf
from ...datasets.store.open import Store, open_store, read_group
from ...fno.grids import LatLon
from ...fno.progress import Progress
from ..inference.open import open_forecast, source_name
from .accumulation import SOURCES, Accumulator, Cases
from .baselines import Climatology, damping
from .common_grid import common_grid
from .metrics.base import Aggregation, Metric
from .metrics.selection import select_metrics
from .pairing import Key, PairedForecast, channel_keys, pair_channels

_CACHE_BYTES = 2**29
_LEAST_RATIO = 0.5  # ratio of spread to error below which an ensemble is reported to have too little spread


def verify(
    forecast: str | Path | xr.Dataset,
    truth: str | Path,
    output: str | Path | None = None,
    *,
    metrics: Sequence[str] | None = None,
    area: str | None = None,
    regrid: bool = False,
    lead_units: str | None = None,
    batch_size: int = 16,
    overwrite: bool = False,
    follow_links: bool = False,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Score a forecast and reference forecasts by lead time and variable.

    Persistence is the truth at the initial time. Damped persistence is the climatology plus the initial
    anomaly times a factor that is fitted to the training period of the truth store, see ``damping``. The
    climatology is the one in the truth store, computed on its training period. All are scored on the points
    that forecast and truth have in common, weighted by area.

    Args:
        forecast: path or data set, of this or another package.
        truth: store written by ``ingest``.
        output: netCDF file to write the scores to.
        metrics: names of metrics (see ``metric_names``); by default RMSE, MAE, bias and ACC, of an ensemble,
            whose mean is scored, also CRPS, spread and the ratio of spread to error.
        area: area to score, ``NORTH/WEST/SOUTH/EAST`` [degrees]; by default all common points.
        regrid: regrid the finer of forecast and truth conservatively to the points of the coarser.
        lead_units: unit of lead times that are numbers without one, e.g. ``hours``.
        batch_size: number of initial times read at once.
        overwrite: replace an existing output.
        follow_links: follow links in forecast and truth that lead outside of them.
        progress: called with (initial times done, total initial times, text).

    Returns:
        One variable for each that forecast and truth have in common, named as in the truth, with dimensions
        (metric, source, prediction_timedelta, [level]).

    Raises:
        FileNotFoundError: forecast or truth does not exist.
        FileExistsError: ``output`` exists.
        ValueError: a metric is unknown; forecast and truth have no variable in common, or different points or
            units; or the truth lacks some of the valid times.
    """
    options: dict[str, Any] = {
        "metrics": metrics,
        "area": area,
        "regrid": regrid,
        "lead_units": lead_units,
        "batch_size": batch_size,
        "follow_links": follow_links,
        "progress": progress,
    }
    if output is None:
        return _verify(forecast, truth, **options)
    with atomic.reserved(output, "file of scores", overwrite=overwrite, inputs=[forecast, truth]) as path:
        scores = _verify(forecast, truth, **options)
        with atomic.replacing(path, overwrite=overwrite, kind="file of scores") as temporary:
            write_netcdf(scores, temporary)
    return scores


def _verify(
    forecast: str | Path | xr.Dataset,
    truth: str | Path,
    *,
    metrics: Sequence[str] | None,
    area: str | None,
    regrid: bool,
    lead_units: str | None,
    batch_size: int,
    follow_links: bool,
    progress: Progress | None,
) -> xr.Dataset:
    dataset = open_forecast(forecast, lead_units, follow_links=follow_links)
    name = source_name(forecast)
    selected = select_metrics(metrics, dataset.sizes.get("number", 1))
    store = open_store(truth, follow_links=follow_links)
    names = (name, str(store.path))
    common = common_grid(dataset, store.dataset, names, area=area, regrid=regrid)
    pairs = pair_channels(dataset, store.dataset, names)
    variables = list(dict.fromkeys(variable for variable, _ in pairs.channels))
    levels = sorted({level for _, level in pairs.channels if level is not None}, reverse=True)

    def select(d: xr.Dataset) -> xr.Dataset:
        part = common.truth(d[variables])
        return part.sel(level=levels) if levels else part

    store = replace(store, dataset=select(store.dataset))
    paired = PairedForecast(common.forecast(dataset), store.dataset, pairs, names=names)
    cases = Cases.of(dataset, store, name)
    climatology = Climatology(select(read_group(store, "climatology")), variables)
    fields = Fields(store.dataset, cache_bytes=_CACHE_BYTES)
    fit = period(fields.times, "/".join(store.train_period))
    factors = damping(fields, climatology, fit, gaps=store.gaps, leads=cases.steps)
    keys = list(pairs.channels)
    accumulator = Accumulator(
        paired,
        fields,
        climatology,
        factors=factors,
        order=[channel_keys(store.dataset).index(key) for key in keys],
        weights=store.grid.area_weights,
        statistics=list(dict.fromkeys(s for metric in selected for s in metric.statistics)),
    )
    total = accumulator.run(cases, batch_size, progress)
    scores = _score_dataset(total, selected, store, keys=keys, cases=cases)
    scores.attrs |= common.notes | ({"left_out": pairs.left_out} if pairs.left_out else {})
    return scores


def _score_dataset(
    total: Aggregation, metrics: Sequence[Metric], truth: Store, *, keys: list[Key], cases: Cases
) -> xr.Dataset:
    """Return the metrics of sums of shape (source, lead, channel) as variables of the truth's names."""
    parts = []
    for metric in metrics:
        part = metric.compute(total)
        if not metric.scores_references:
            part[1:] = np.nan
        parts.append(part)
    values = np.stack(parts)
    coords: dict[str, Any] = {
        "metric": [metric.name for metric in metrics],
        "source": list(SOURCES),
        "prediction_timedelta": cases.leads,
    }
    levels = [level for level in dict.fromkeys(level for _, level in keys) if level is not None]
    if levels:
        coords["level"] = ("level", levels, PRESSURE_LEVEL)
    variables = {}
    for name in dict.fromkeys(name for name, _ in keys):
        dims = ["metric", "source", "prediction_timedelta"]
        attrs = {"units": str(truth.dataset[name].attrs["units"])}
        if (name, None) in keys:
            field = values[..., keys.index((name, None))]
        else:  # forecast and truth may share a variable on some of the levels only
            dims.append("level")
            field = np.full((*values.shape[:-1], len(levels)), np.nan)
            for i, level in enumerate(levels):
                if (name, level) in keys:
                    field[..., i] = values[..., keys.index((name, level))]
        variables[name] = xr.DataArray(field, dims=dims, attrs=attrs)
    scores = xr.Dataset(variables, coords, _attributes(truth, cases.times))
    if total.members > 1:
        scores.attrs |= {"members": total.members} | _underdispersion(scores)
    return scores


def _attributes(truth: Store, times: NDArray[np.datetime64]) -> dict[str, Any]:
    """Return the attributes of scores: initial times, overlap with the training period, and weighting."""
    first, last = (np.datetime64(text) for text in truth.train_period)
    overlap = bool(((times >= first) & (times <= last)).any())
    by_area = isinstance(truth.grid, LatLon)
    return {
        "initial_times": len(times),
        "first_initial_time": str(times.min()),
        "last_initial_time": str(times.max()),
        "climatology_period": list(truth.train_period),
        "overlaps_training_period": int(overlap),
        "weighting": "area: sin(upper latitude) - sin(lower latitude)" if by_area else "none",
    }


def _underdispersion(scores: xr.Dataset) -> dict[str, Any]:
    """Return attributes that report whether the ratio of spread to error falls far below one.

    The first lead time is left out where there are others.
    """
    if "spread_error_ratio" not in scores["metric"].values:
        return {}
    ratio = scores.sel(metric="spread_error_ratio", source="forecast")
    if scores.sizes["prediction_timedelta"] > 1:
        ratio = ratio.isel(prediction_timedelta=slice(1, None))
    least = {str(name): float(v.min()) for name, v in ratio.data_vars.items() if np.isfinite(v).any()}
    low = {name: value for name, value in least.items() if value < _LEAST_RATIO}
    if not low:
        return {"underdispersive": 0}
    name = min(low, key=lambda n: low[n])
    warning = (
        f"the ensemble has too little spread, as little as {low[name]:.2f} of its error ({name}; a reliable "
        "ensemble has 1)"
    )
    return {"underdispersive": 1, "spread_warning": warning}
