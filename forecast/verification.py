"""Scores of a forecast against truth, beside the forecasts that cost nothing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..datasets import atomic
from ..datasets.fields import Fields
from ..datasets.netcdf import PRESSURE_LEVEL, write_netcdf
from ..datasets.outputs import check_output
from ..datasets.scalars import check_same_place, scalars_of
from ..datasets.schema import axes_of, channels, nearest
from ..datasets.split import period
from ..datasets.stores import Store, open_store, read_group, select_variables
from ..fno.grids import LatLon
from .api import open_forecast
from .baselines import Climatology, damping
from .metrics import ENSEMBLE_METRICS, METRICS, Aggregation, aggregate

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]
Metric = Callable[[Aggregation], Array]

SOURCES = ("forecast", "persistence", "damped_persistence", "climatology")


def verify(
    forecast: str | Path | xr.Dataset,
    truth: str | Path,
    output: str | Path | None = None,
    batch_size: int = 16,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Score a forecast by lead time and variable.

    Persistence starts from the truth; damped persistence adds to the climatology the initial anomaly times a factor
    fitted on the training period; climatology is the truth store's, of its training period.

    Args:
        forecast: path, or a data set as ``Forecaster.run`` returns it.
        truth: store made by ``forecast ingest``.
        output: write the scores to this netCDF file.
        batch_size: initial times read at once.
        overwrite: replace an existing output.
        progress: called with (done, in all, text).

    Returns:
        A variable for each of the forecast's, dimensions metric (rmse, mae, bias in its units; acc; of an ensemble, whose mean is
        scored, also crps and spread), source, prediction_timedelta and level.

    Raises:
        FileNotFoundError: forecast or truth does not exist.
        FileExistsError: ``output`` exists.
        ValueError: variables, grid or times do not match; a partial overlap in time is refused.
    """
    if output is not None and check_output(output, "file of scores").exists() and not overwrite:
        raise FileExistsError(f"{output} exists; pass --overwrite to replace it, or choose another name")
    dataset = forecast if isinstance(forecast, xr.Dataset) else open_forecast(forecast)
    name = "the forecast" if isinstance(forecast, xr.Dataset) else str(forecast)
    variables = [str(v) for v in dataset.data_vars]
    store = _matching(open_store(truth), dataset, variables, name)
    times, leads = dataset["time"].values.astype("datetime64[ns]"), dataset["prediction_timedelta"].values
    valid = _positions(store, times[:, None] + leads[None], name)
    fields = Fields(store.dataset, cache_bytes=2**29)
    group = read_group(store, "climatology")
    climatology = Climatology(group.sel(level=store.dataset["level"]) if "level" in store.dataset.dims else group, variables)
    steps = np.round(leads / store.step).astype(int).tolist()
    fit = period(fields.times, "/".join(store.train_period))
    factors = damping(fields, climatology, fit, store.gaps, steps)
    count, weights = fields.shape[1], store.grid.area_weights
    total = Aggregation.zero((len(SOURCES), len(leads), count))
    for first in range(0, len(times), batch_size):
        where = slice(first, first + batch_size)
        initial, known = fields.read(valid[where, steps.index(0)] if 0 in steps else _positions(store, times[where, None], name)[:, 0]), times[where]
        departure = initial - climatology.at(known)
        for i, lead in enumerate(leads):
            part = dataset.isel(time=where, prediction_timedelta=i)
            members = np.stack([_stack(part.isel(number=k), variables) for k in range(part.sizes["number"])]) if "number" in part.dims else None
            predicted = _stack(part, variables) if members is None else members.mean(axis=0)
            normal, actual = climatology.at(known + lead), fields.read(valid[where, i])
            damped = normal + factors[i][:, None, None] * departure
            for j, guess in enumerate((predicted, initial, damped, normal)):
                total = total + _place(aggregate(guess, actual, normal, weights, None if j else members), total.weight.shape, j, i)
        if progress:
            progress(min(first + batch_size, len(times)), len(times), "verify")
    scores = _scores(total, store, leads, times, METRICS | ENSEMBLE_METRICS if "number" in dataset.dims else METRICS)
    if output is not None:
        with atomic.replacing(Path(output), overwrite) as temporary:
            write_netcdf(scores, temporary)
    return scores


def _matching(store: Store, forecast: xr.Dataset, variables: list[str], name: str) -> Store:
    """Return the truth's variables that the forecast has, once grid, levels and units agree."""
    for variable in variables:
        if variable not in store.dataset:
            raise ValueError(f"the truth {store.path} has no variable {variable!r}; {nearest(variable, store.dataset.data_vars)}")
    store = select_variables(store, variables)
    for coordinate in (*axes_of(store.dataset), "level"):
        if coordinate not in forecast.dims and coordinate not in store.dataset.dims:
            continue
        ours, theirs = (d[coordinate].values if coordinate in d.dims else np.empty(0) for d in (forecast, store.dataset))
        if coordinate == "level" and set(ours.tolist()) <= set(theirs.tolist()) and len(ours):
            store = Store(store.path, store.dataset.sel(level=ours.tolist()), store.step, store.gaps)
        elif not np.array_equal(ours, theirs):
            raise ValueError(f"{coordinate} of {name} and of the truth {store.path} differ; verify on the grid that the model was trained on")
    for variable in variables:
        place, truth = (scalars_of(d[variable].attrs) for d in (forecast, store.dataset))
        check_same_place(variable, place, truth, source=name, owner=f"the truth {store.path}", ignore=("number",))
        made, held = (d[variable].attrs.get("units") for d in (forecast, store.dataset))
        if made != held:
            raise ValueError(f"{variable!r} has units {made!r} in {name}, but {held!r} in the truth {store.path}; convert one of them")
    return store


def _positions(store: Store, wanted: NDArray[np.datetime64], name: str) -> NDArray[np.int64]:
    held = store.dataset["time"].values.astype("datetime64[ns]")
    found = np.searchsorted(held, wanted).clip(max=len(held) - 1)
    if (missing := held[found] != wanted).any():
        raise ValueError(
            f"{name} is valid at {int(missing.sum())} of {missing.size} times that the truth {store.path} lacks, the first "
            f"{wanted[missing][0].astype('datetime64[m]')}; choose initial times and leads that it covers"
        )
    return np.asarray(found)


def _stack(part: xr.Dataset, variables: list[str]) -> NDArray[np.float32]:
    arrays = [part[v].values for v in variables]
    return np.concatenate([a if a.ndim == 4 else a[:, None] for a in arrays], axis=1)


def _place(part: Aggregation, shape: tuple[int, ...], source: int, lead: int) -> Aggregation:
    """Return ``part``, of one source and lead, within an aggregation of all."""
    whole = Aggregation.zero(shape)
    for name, values in part.sums.items():
        whole.sums[name][source, lead] = values
    whole.weight[source, lead] = part.weight
    return whole


def _scores(total: Aggregation, store: Store, leads: NDArray[Any], times: NDArray[Any], metrics: Mapping[str, Metric]) -> xr.Dataset:
    values = np.stack([metric(total) for metric in metrics.values()])
    named = channels(store.dataset)
    coords: dict[str, Any] = {"metric": list(metrics), "source": list(SOURCES), "prediction_timedelta": leads}
    result = {}
    for variable in dict.fromkeys(c.variable for c in named):
        index = [i for i, c in enumerate(named) if c.variable == variable]
        part, dims = values[..., index], ("metric", "source", "prediction_timedelta", "level")
        attrs = {"units": named[index[0]].units}
        if named[index[0]].level is None:
            result[variable] = xr.DataArray(part[..., 0], dims=dims[:3], attrs=attrs)
        else:
            coords["level"] = ("level", [named[i].level for i in index], PRESSURE_LEVEL)
            result[variable] = xr.DataArray(part, dims=dims, attrs=attrs)
    overlap = bool((times <= np.datetime64(store.train_period[1])).any())
    described: dict[str, Any] = {
        "initial_times": len(times),
        "first_initial_time": str(times.min()),
        "last_initial_time": str(times.max()),
        "climatology_period": list(store.train_period),
        "overlaps_training_period": int(overlap),
        "weighting": "area: sin(upper latitude) - sin(lower latitude)" if isinstance(store.grid, LatLon) else "none",
    }
    return xr.Dataset(result, coords, described)


def summary(scores: xr.Dataset) -> list[dict[str, Any]]:
    """Return a row for each variable, level and lead: RMSE of each source, ACC, and skill.

    Skill is 1 - RMSE / RMSE of damped persistence.
    """
    rows = []
    for variable in scores.data_vars:
        array = scores[variable] if "level" in scores[variable].dims else scores[variable].expand_dims(level=[None])
        for level in array["level"].values:
            for lead in scores["prediction_timedelta"].values:
                part = array.sel(level=level, prediction_timedelta=lead) if level is not None else array.isel(level=0).sel(prediction_timedelta=lead)
                errors = {source: float(part.sel(metric="rmse", source=source)) for source in SOURCES}
                skill = 1 - errors["forecast"] / errors["damped_persistence"] if errors["damped_persistence"] > 0 else None
                rows.append(
                    {
                        "variable": str(variable),
                        "level": None if level is None else int(level),
                        "units": str(scores[variable].attrs["units"]),
                        "lead_hours": float(lead / np.timedelta64(1, "h")),
                        "rmse": errors,
                        "acc": float(part.sel(metric="acc", source="forecast")),
                        "skill": skill,
                    }
                )
    return rows
