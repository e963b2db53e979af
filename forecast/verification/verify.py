"""Scores of a forecast against truth, beside the forecasts that cost nothing."""

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
from ..inference.forecaster import open_forecast, source_name
from .baselines import Climatology, damping
from .common_grid import common_grid
from .metrics import ENSEMBLE_METRICS, METRICS, Aggregation, aggregate, spread_error_ratio
from .pairing import Key, PairedForecast, channel_keys, pair_channels

Array = NDArray[np.float64]

_BATCH_BYTES = 2**28
_LISTED = 12  # channels in a line
_LEAST_RATIO = 0.5  # of spread to error, below which an ensemble is reported to have too little spread
_OF_MEMBERS = ("crps", "spread", "spread_error_ratio")
SOURCES = ("forecast", "persistence", "damped_persistence", "climatology")


def verify(
    forecast: str | Path | xr.Dataset,
    truth: str | Path,
    output: str | Path | None = None,
    batch_size: int = 16,
    overwrite: bool = False,
    progress: Progress | None = None,
    *,
    area: str | None = None,
    regrid: bool = False,
    lead_units: str | None = None,
    follow_links: bool = False,
) -> xr.Dataset:
    """Score a forecast by lead time and variable.

    Persistence starts from the truth; damped persistence adds to the climatology the initial anomaly times a
    factor fitted on the training period; climatology is the truth store's, of its training period. All are
    computed on the points that are scored: those common to forecast and truth, where the points of one are
    among those of the other.

    Args:
        forecast: path, or a data set, of this or another package.
        truth: store made by ``forecast ingest``.
        output: write the scores to this netCDF file.
        batch_size: initial times read at once.
        overwrite: replace an existing output.
        progress: called with (done, in all, text).
        area: ``NORTH/WEST/SOUTH/EAST`` in degrees to score; all common points by default.
        regrid: regrid the finer of forecast and truth to the points of the coarser, by shares of area.
        lead_units: unit of lead times that are numbers without one, e.g. ``hours``.
        follow_links: follow links within forecast and truth that lead outside of them.

    Returns:
        A variable for each that both have, by the truth's name, dimensions metric (rmse, mae, bias in its
        units; acc; of an ensemble, whose mean is scored, also crps, spread and spread_error_ratio), source,
        prediction_timedelta and level.

    Raises:
        FileNotFoundError: forecast or truth does not exist.
        FileExistsError: ``output`` exists.
        ValueError: no variable is common, or grid, units or times do not match; a partial overlap in time is
            refused.
    """
    if output is None:
        return _verify(forecast, truth, batch_size, progress, area, regrid, lead_units, follow_links)
    with atomic.reserved(output, "file of scores", overwrite=overwrite, inputs=[forecast, truth]) as path:
        scores = _verify(forecast, truth, batch_size, progress, area, regrid, lead_units, follow_links)
        with atomic.replacing(path, overwrite=overwrite, kind="file of scores") as temporary:
            write_netcdf(scores, temporary)
    return scores


def _verify(
    forecast: str | Path | xr.Dataset,
    truth: str | Path,
    batch_size: int,
    progress: Progress | None,
    area: str | None,
    regrid: bool,
    lead_units: str | None,
    follow_links: bool,
) -> xr.Dataset:
    dataset = open_forecast(forecast, lead_units, follow_links=follow_links)
    name = source_name(forecast)
    store = open_store(truth, follow_links=follow_links)
    common = common_grid(dataset, store.dataset, (name, str(store.path)), area=area, regrid=regrid)
    pairs = pair_channels(dataset, store.dataset, (name, str(store.path)))
    variables = list(dict.fromkeys(variable for variable, _ in pairs.channels))
    levels = sorted({level for _, level in pairs.channels if level is not None}, reverse=True)

    def of_truth(d: xr.Dataset) -> xr.Dataset:
        d = common.truth(d[variables])
        return d.sel(level=levels) if levels else d

    store = replace(store, dataset=of_truth(store.dataset))
    order = [channel_keys(store.dataset).index(key) for key in pairs.channels]
    paired = PairedForecast(common.forecast(dataset), store.dataset, pairs, (name, str(store.path)))
    times, leads = dataset["time"].values.astype("datetime64[ns]"), dataset["prediction_timedelta"].values
    valid = _positions(store, times[:, None] + leads[None], name)
    fields = Fields(store.dataset, cache_bytes=2**29)
    if leads.min() < np.timedelta64(0):
        raise ValueError(
            f"{name} has a lead time before its initial time ({leads.min() / np.timedelta64(1, 'h'):g} h); drop it"
        )
    climatology = Climatology(of_truth(read_group(store, "climatology")), variables)
    steps = np.round(leads / store.step).astype(int).tolist()
    fit = period(fields.times, "/".join(store.train_period))
    factors = damping(fields, climatology, fit, store.gaps, steps)
    weights = store.grid.area_weights
    total = Aggregation.zero((len(SOURCES), len(leads), len(order)))
    batch_size = max(1, min(batch_size, _BATCH_BYTES // paired.bytes_of_a_lead))
    for first in range(0, len(times), batch_size):
        where = slice(first, min(first + batch_size, len(times)))
        initial, known = (
            fields.read(
                valid[where, steps.index(0)]
                if 0 in steps
                else _positions(store, times[where, None], name)[:, 0]
            ),
            times[where],
        )
        departure = initial - climatology.at(known)
        for i, lead in enumerate(leads):
            read = paired.read(where, i)
            members = np.moveaxis(read, 1, 0) if paired.ensemble else None
            predicted = read if members is None else members.mean(axis=0, dtype=np.float64)
            normal, actual = climatology.at(known + lead), fields.read(valid[where, i])
            damped = normal + factors[i][:, None, None] * departure
            normal, actual, damped = (values[:, order] for values in (normal, actual, damped))
            for j, guess in enumerate((predicted, initial[:, order], damped, normal)):
                total = total + _place(
                    aggregate(guess, actual, normal, weights, None if j else members),
                    total.weight.shape,
                    j,
                    i,
                )
        if progress:
            progress(min(first + batch_size, len(times)), len(times), "verify")
    scores = _scores(total, store, list(pairs.channels), leads, times, dataset.sizes.get("number", 1))
    scores.attrs |= common.notes | ({"left_out": pairs.left_out} if pairs.left_out else {})
    return scores


def _positions(store: Store, wanted: NDArray[np.datetime64], name: str) -> NDArray[np.int64]:
    held = store.dataset["time"].values.astype("datetime64[ns]")
    found = np.searchsorted(held, wanted).clip(max=len(held) - 1)
    if (missing := held[found] != wanted).any():
        raise ValueError(
            f"{name} is valid at {int(missing.sum())} of {missing.size} times that the truth {store.path} lacks, the first "
            f"{wanted[missing][0].astype('datetime64[m]')}; choose initial times and leads that it covers"
        )
    return np.asarray(found)


def _place(part: Aggregation, shape: tuple[int, ...], source: int, lead: int) -> Aggregation:
    """Return ``part``, of one source and lead, within an aggregation of all."""
    whole = Aggregation.zero(shape)
    for name, values in part.sums.items():
        whole.sums[name][source, lead] = values
    whole.weight[source, lead] = part.weight
    return whole


def _scores(
    total: Aggregation, store: Store, keys: list[Key], leads: NDArray[Any], times: NDArray[Any], members: int
) -> xr.Dataset:
    metrics = {name: metric(total) for name, metric in METRICS.items()}
    if members > 1:
        metrics |= {name: metric(total) for name, metric in ENSEMBLE_METRICS.items()}
        metrics["spread_error_ratio"] = spread_error_ratio(total, members)
        for values in metrics.values():
            values[np.isinf(values)] = np.nan
        metrics["spread_error_ratio"][1:] = np.nan
    values = np.stack(list(metrics.values()))
    coords: dict[str, Any] = {"metric": list(metrics), "source": list(SOURCES), "prediction_timedelta": leads}
    levels = [level for level in dict.fromkeys(level for _, level in keys) if level is not None]
    if levels:
        coords["level"] = ("level", levels, PRESSURE_LEVEL)
    result = {}
    for variable in dict.fromkeys(name for name, _ in keys):
        dims = ("metric", "source", "prediction_timedelta", "level")
        attrs = {"units": str(store.dataset[variable].attrs["units"])}
        if (variable, None) in keys:
            result[variable] = xr.DataArray(
                values[..., keys.index((variable, None))], dims=dims[:3], attrs=attrs
            )
            continue
        part = np.full(
            (*values.shape[:-1], len(levels)), np.nan
        )  # a variable may be common on some levels only
        for i, level in enumerate(levels):
            if (variable, level) in keys:
                part[..., i] = values[..., keys.index((variable, level))]
        result[variable] = xr.DataArray(part, dims=dims, attrs=attrs)
    overlap = bool((times <= np.datetime64(store.train_period[1])).any())
    described: dict[str, Any] = {
        "initial_times": len(times),
        "first_initial_time": str(times.min()),
        "last_initial_time": str(times.max()),
        "climatology_period": list(store.train_period),
        "overlaps_training_period": int(overlap),
        "weighting": "area: sin(upper latitude) - sin(lower latitude)"
        if isinstance(store.grid, LatLon)
        else "none",
    }
    scores = xr.Dataset(result, coords, described)
    if members > 1:
        scores.attrs |= {"members": members} | _underdispersion(scores)
    return scores


def _underdispersion(scores: xr.Dataset) -> dict[str, Any]:
    """Return the least ratio of spread to error beyond the first lead, where it is far below one."""
    after = scores.sel(metric="spread_error_ratio", source="forecast")
    after = (
        after.isel(prediction_timedelta=slice(1, None)) if scores.sizes["prediction_timedelta"] > 1 else after
    )
    least = {str(name): float(v.min()) for name, v in after.data_vars.items() if np.isfinite(v).any()}
    low = {name: ratio for name, ratio in least.items() if ratio < _LEAST_RATIO}
    if not low:
        return {"underdispersive": 0}
    name = min(low, key=lambda n: low[n])
    said = f"the ensemble has too little spread, as little as {low[name]:.2f} of its error ({name}; a reliable ensemble has 1)"
    return {"underdispersive": 1, "spread_warning": said}


def notes(scores: xr.Dataset) -> list[str]:
    """Return lines on what was scored, where it is not all of the forecast on all of its points, and on an
    ensemble's spread.
    """
    attrs = scores.attrs
    lines = [f"scored on the area {attrs['area']}"] if "area" in attrs else []
    lines += [f"scored on {attrs['points']}"] if "points" in attrs else []
    lines += [attrs["regridding"]] if "regridding" in attrs else []
    if left_out := attrs.get("left_out"):
        more = f" ... and {len(left_out) - _LISTED} more" if len(left_out) > _LISTED else ""
        lines.append(f"left out, since the truth does not have them: {', '.join(left_out[:_LISTED])}{more}")
    return lines + ([attrs["spread_warning"]] if "spread_warning" in attrs else [])


def summary(scores: xr.Dataset) -> list[dict[str, Any]]:
    """Return a row for each variable, level and lead: RMSE of each source, ACC, and skill; of an ensemble
    also crps and spread.

    Skill is 1 - RMSE / RMSE of damped persistence.
    """
    rows = []
    for variable in scores.data_vars:
        array = (
            scores[variable]
            if "level" in scores[variable].dims
            else scores[variable].expand_dims(level=[None])
        )
        for level in array["level"].values:
            if level is not None and not np.isfinite(array.sel(level=level, metric="rmse")).any():
                continue  # common on other levels only
            for lead in scores["prediction_timedelta"].values:
                part = (
                    array.sel(level=level, prediction_timedelta=lead)
                    if level is not None
                    else array.isel(level=0).sel(prediction_timedelta=lead)
                )
                errors = {source: float(part.sel(metric="rmse", source=source)) for source in SOURCES}
                spread = {
                    m: float(part.sel(metric=m, source="forecast"))
                    for m in _OF_MEMBERS
                    if m in scores["metric"].values
                }
                skill = (
                    1 - errors["forecast"] / errors["damped_persistence"]
                    if errors["damped_persistence"] > 0
                    else None
                )
                row: dict[str, Any] = {
                    "variable": str(variable),
                    "level": None if level is None else int(level),
                    "units": str(scores[variable].attrs["units"]),
                    "lead_hours": float(lead / np.timedelta64(1, "h")),
                    "rmse": errors,
                    "acc": float(part.sel(metric="acc", source="forecast")),
                    "skill": skill,
                } | spread
                rows.append(row)
    return rows
