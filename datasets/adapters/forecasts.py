"""Forecasts of other packages, as the canonical forecast.

Layouts differ in what they call initial time, lead time and members, in whether the lead or the valid time is
an axis, and in
whether variables are arrays or places along one axis, and grid points rows and columns or one list of cells:

=====================
========================================================================================= WeatherBench2
``time, prediction_timedelta``, leads as durations or hours; (longitude, latitude); no units earth2studio
``time, lead_time, [variable,] lat, lon``; names such as ``t2m`` and ``z500`` GraphCast, GenCast     ``batch,
[sample,] time, [level,] lat, lon``: ``time`` is the lead, ``datetime`` the valid time anemoi-inference
``time, values``: ``time`` is the valid time; latitude and longitude of each cell cfgrib
``time, step``, with ``valid_time``; ``number`` for members =====================
=========================================================================================

Once these axes have their canonical names, a forecast goes through what every source goes through
(``cf.canonical``).
"""

import logging

import numpy as np
import xarray as xr

from ..errors import DataError
from ..schema import axes_of
from .cf import canonical
from .channel_names import identify
from .lead_times import NAMES as LEAD
from .lead_times import decode_leads, is_duration
from .rearranging import cells_to_grid, channels_to_variables, named_axes
from .vocabulary import WEATHERBENCH

log = logging.getLogger(__name__)

INITIAL = (
    "forecast_reference_time",
    "init_time",
    "initial_time",
    "initialization_time",
    "initialisation_time",
    "init",
    "reference_time",
    "analysis_time",
    "base_time",
    "basetime",
    "start_time",
    "forecast_initial_time",
    "initialization_date",
    "initial_date",
    "reference_date",
)
VALID = ("valid_time", "datetime", "validtime", "verification_time", "verifying_time")
MEMBERS = (
    "number",
    "member",
    "members",
    "ensemble",
    "ensemble_member",
    "realization",
    "realisation",
    "sample",
    "ens",
)
BEYOND = ("prediction_timedelta", "number")
PRESSURE_AXES = {"level", "lev", "plev", "pressure", "pressure_level"}
_LARGEST_HPA = 2000.0
_CHUNK_BYTES = 2**25


def is_forecast(dataset: xr.Dataset) -> bool:
    """Return whether a data set, as it is opened, holds forecasts: fields by lead time, or by valid time of
    one initial time.
    """
    if (lead := _lead_axis(dataset)) is not None:
        dated = [
            v
            for v in dataset.data_vars.values()
            if any(_is_date(dataset[d]) for d in v.dims if d in dataset.coords)
        ]
        return all(lead in v.dims for v in dated) and any(
            lead in v.dims and v.ndim > 2 for v in dataset.data_vars.values()
        )
    return _valid_axis(dataset) is not None and _single_initial_time(dataset) is not None


def canonical_forecast(dataset: xr.Dataset, source: str, lead_units: str | None = None) -> xr.Dataset:
    """Return a forecast with canonical axes, names of coordinates, order and units; lazy.

    Variables keep their names. One without units gets those of the vocabulary, which is reported once in the
    log; one that the vocabulary does not have either stays without.

    Args:
        dataset: what ``open_lazily`` returned, or a data set in memory.
        source: named in errors.
        lead_units: unit of lead times that are numbers without one, e.g. ``hours``.

    Returns:
        Dimensions time (initial time), prediction_timedelta, [number], [level], latitude, longitude, or y, x;
        with ``valid_time`` (time, prediction_timedelta).

    Raises:
        ValueError: no lead times, initial time or grid; ambiguous lead times; what ``cf.canonical`` refuses.
    """
    attrs = dataset.attrs
    close = dataset.close
    dataset = _time_axes(_members(dataset), source, lead_units)
    if empty := [d for d in ("time", "prediction_timedelta") if dataset.sizes.get(d) == 0]:
        raise ValueError(f"{source} holds no forecast: its axis {empty[0]} has no points")
    dataset = cells_to_grid(channels_to_variables(dataset, source), source)
    dataset = _with_units(_lazy(named_axes(dataset)), source)
    result = canonical(dataset, source, beyond=BEYOND)
    result = _with_attributes(result, dataset)
    leads = dataset["prediction_timedelta"].values
    if (
        axes_of(result)[0] == "latitude"
        and (odd := np.abs(leads[leads != 0])).size
        and odd.min() < np.timedelta64(1, "s")
    ):
        raise ValueError(
            f"{source}: its lead times are {odd.min() / np.timedelta64(1, 'ns'):g} ns and more; they were decoded with "
            "a wrong unit: set the attribute units of the stored numbers, e.g. hours"
        )
    times = result["time"].values
    result["time"].attrs = {"standard_name": "forecast_reference_time", "long_name": "initial time"}
    lead = ("prediction_timedelta", leads, {"standard_name": "forecast_period", "long_name": "lead time"})
    valid = (
        ("time", "prediction_timedelta"),
        times[:, None] + leads,
        {"standard_name": "time", "long_name": "valid time"},
    )
    result = result.assign_coords(prediction_timedelta=lead, valid_time=valid).assign_attrs(attrs)
    result = _sorted(result, source)
    result.encoding = {"source": source}
    result.set_close(close)
    return result


def _with_attributes(result: xr.Dataset, dataset: xr.Dataset) -> xr.Dataset:
    """Return the canonical data set with the other attributes of its variables, where the units are the same
    still.
    """
    for name, variable in result.data_vars.items():
        original = name if name in dataset else variable.attrs.get("source_name")
        if original in dataset and dataset[original].attrs.get("units") == variable.attrs.get("units"):
            variable.attrs = dataset[original].attrs | variable.attrs
    if "number" in result.dims:
        result["number"].attrs = dataset["number"].attrs
    return result


def _sorted(dataset: xr.Dataset, source: str) -> xr.Dataset:
    for axis, called in (("time", "initial time"), ("prediction_timedelta", "lead time")):
        values = dataset[axis].values
        if len(np.unique(values)) < len(values):
            raise ValueError(
                f"{source} holds a {called} twice; drop one, e.g. with ds.drop_duplicates({axis!r})"
            )
        if (np.diff(values) < np.timedelta64(0)).any():
            dataset = dataset.sortby(axis)
    return dataset


def _members(dataset: xr.Dataset) -> xr.Dataset:
    """Return the data set with members along ``number``, counted from 0 where they have no numbers."""
    axes = [str(d) for d in dataset.dims]
    named = [
        d for d in axes if d in dataset.coords and dataset[d].attrs.get("standard_name") == "realization"
    ]
    found = next(iter([*named, *(d for d in axes if d.lower() in MEMBERS)]), None)
    if found is None:
        return dataset
    if found != "number":
        dataset = dataset.drop_vars("number", errors="ignore").rename({found: "number"})
    return (
        dataset
        if "number" in dataset.coords
        else dataset.assign_coords(number=np.arange(dataset.sizes["number"]))
    )


def _time_axes(dataset: xr.Dataset, source: str, lead_units: str | None) -> xr.Dataset:
    """Return the data set with axes ``time``, dates of the start, and ``prediction_timedelta``, durations."""
    lead = _lead_axis(dataset)
    if lead is None:
        return _from_valid_times(dataset, source, lead_units)
    dataset, initial = _initial_axis(dataset, lead, source, lead_units)
    leads = (
        _leads_from_dates(dataset, lead, initial)
        if lead_units is None and not is_duration(dataset[lead])
        else None
    )
    leads = decode_leads(dataset[lead], source, lead_units) if leads is None else leads
    others = [
        c
        for c in dataset.coords
        if c not in (lead, initial) and (_is_date(dataset[c]) or c in (*LEAD, "time"))
    ]
    dataset = dataset.drop_vars(others)
    dataset = dataset.rename({k: v for k, v in ((lead, "prediction_timedelta"), (initial, "time")) if k != v})
    dataset = dataset.assign_coords(prediction_timedelta=("prediction_timedelta", leads))
    return _along(dataset, "time")


def _along(dataset: xr.Dataset, axis: str) -> xr.Dataset:
    """Return the data set with a single initial time as an axis of all that has lead times."""
    if axis in dataset.dims:
        return dataset
    coordinate = dataset[axis]
    forecasts = [name for name, v in dataset.data_vars.items() if "prediction_timedelta" in v.dims]
    dataset = dataset.drop_vars(axis).assign(
        {name: dataset[name].drop_vars(axis).expand_dims(axis) for name in forecasts}
    )
    return dataset.assign_coords({axis: (axis, np.atleast_1d(coordinate.values), coordinate.attrs)})


def _from_valid_times(dataset: xr.Dataset, source: str, lead_units: str | None) -> xr.Dataset:
    """Return forecasts by valid time of one initial time by their lead time."""
    valid = _valid_axis(dataset)
    initial = None if valid is None else _single_initial_time(dataset)
    if valid is None or initial is None:
        lacks = "lead times" if valid is None else "initial time"
        raise ValueError(
            f"{source} is not a forecast: it has no {lacks} (dimensions: {', '.join(map(str, dataset.sizes))}); "
            "name its axes time and prediction_timedelta, or make a forecast with `forecast run`"
        )
    if lead_units is not None:
        raise DataError(
            f"{source} has valid times, so its lead times need no units; leave out lead_units",
            option="lead_units",
        )
    leads = (dataset[valid].values - initial).astype("timedelta64[ns]")
    starts = [d for d in dataset.dims if d != valid and d in dataset.coords and _is_date(dataset[d])]
    dataset = dataset.isel(dict.fromkeys(starts, 0), drop=True)
    dataset = dataset.drop_vars([c for c in dataset.coords if c != valid and _is_date(dataset[c])])
    dataset = dataset.rename({valid: "prediction_timedelta"}).assign_coords(
        prediction_timedelta=("prediction_timedelta", leads)
    )
    return _along(dataset.assign_coords(time=initial), "time")


def _is_date(variable: xr.DataArray) -> bool:
    return variable.dtype.kind == "M"


def _lead_axis(dataset: xr.Dataset) -> str | None:
    """Return the dimension of lead times: by standard name, by name, or by its durations."""
    axes = [str(d) for d in dataset.dims if d in dataset.coords]
    for axis in axes:
        if dataset[axis].attrs.get("standard_name") == "forecast_period" or axis.lower() in LEAD:
            return axis
    dated = {
        d
        for name, c in dataset.coords.items()
        if str(name).lower() in VALID and _is_date(c)
        for d in c.dims
        if str(name) != d
    }
    durations = [
        axis
        for axis in axes
        if is_duration(dataset[axis]) or (axis in dated and dataset[axis].dtype.kind in "iuf")
    ]
    # A flow in a box may count its time in seconds; then there is no date at all.
    return durations[0] if len(durations) == 1 and any(_is_date(c) for c in dataset.coords.values()) else None


def _initial_axis(
    dataset: xr.Dataset, lead: str, source: str, lead_units: str | None
) -> tuple[xr.Dataset, str]:
    """Return the data set and its coordinate of initial times, an axis or a single one, which are valid times
    less leads if need be.
    """
    dates = [
        str(c)
        for c, v in dataset.coords.items()
        if _is_date(v) and lead not in v.dims and v.ndim < 2 and str(c).lower() not in VALID
    ]
    for wanted in (
        [c for c in dates if dataset[c].attrs.get("standard_name") == "forecast_reference_time"],
        [c for c in dates if c.lower() in INITIAL],
        [c for c in dates if c == "time"],
        [c for c in dates if c in dataset.dims],
    ):
        if len(wanted) == 1:
            axis = wanted[0]
            along = str(dataset[axis].dims[0]) if dataset[axis].ndim else axis
            return (dataset if along == axis else dataset.swap_dims({along: axis})), axis
    for name, valid in dataset.coords.items():
        if _is_date(valid) and lead in valid.dims and valid.ndim <= 2:
            leads = xr.DataArray(decode_leads(dataset[lead], source, lead_units), dims=lead)
            starts = (valid.variable - leads.variable).transpose(..., lead)
            if (starts.values != starts.values[..., :1]).any():
                raise ValueError(
                    f"{source}: {name} less {lead} gives more than one initial time of a forecast; correct one of them"
                )
            dataset = dataset.drop_vars([str(c) for c in dataset.coords if _is_date(dataset[c])])
            if starts.ndim == 1:
                return dataset.assign_coords(initial_time=starts.values[0]), "initial_time"
            along = str(starts.dims[0])
            dataset = dataset.drop_vars(along, errors="ignore").rename({along: "initial_time"})
            return dataset.assign_coords(initial_time=("initial_time", starts.values[:, 0])), "initial_time"
    if (single := _dated_attribute(dataset)) is not None:
        return dataset.assign_coords(initial_time=single), "initial_time"
    raise ValueError(
        f"{source} has no initial time (dimensions: {', '.join(map(str, dataset.sizes))}); "
        "add it, e.g. with ds.assign_coords(time=np.datetime64('2020-01-01'))"
    )


def _leads_from_dates(dataset: xr.Dataset, lead: str, initial: str) -> "np.ndarray | None":
    """Return valid times less initial times, where both are given, for leads whose numbers have no units."""
    for valid in dataset.coords.values():
        if _is_date(valid) and lead in valid.dims and set(valid.dims) <= {lead, *dataset[initial].dims}:
            return np.asarray(
                (valid.variable - dataset[initial].variable)
                .transpose(..., lead)
                .values.reshape(-1, dataset.sizes[lead])[0]
            )
    return None


def _valid_axis(dataset: xr.Dataset) -> str | None:
    """Return the axis of valid times of a forecast that has no lead times."""
    dates = [str(d) for d in dataset.dims if d in dataset.coords and _is_date(dataset[d])]
    dates = [d for d in dates if not (d.lower() in INITIAL and dataset.sizes[d] == 1)]
    return dates[0] if len(dates) == 1 else None


def _single_initial_time(dataset: xr.Dataset) -> np.datetime64 | None:
    """Return the initial time that a coordinate, an attribute, or the epoch of a list of cells' times gives."""
    valid = _valid_axis(dataset)
    for name, c in dataset.coords.items():
        named = (
            str(name).lower() in (*INITIAL, "time")
            or c.attrs.get("standard_name") == "forecast_reference_time"
        )
        if name != valid and named and _is_date(c) and c.size == 1:
            return np.datetime64(c.values.ravel()[0], "ns")
    if (single := _dated_attribute(dataset)) is not None:
        return single
    # anemoi-inference counts the seconds of its times from the initial time, and gives it nowhere else.
    epoch = (
        str(dataset[valid].encoding.get("units", "")).partition(" since ")[2]
        if valid and "values" in dataset.dims
        else ""
    )
    return _date(epoch)


def _dated_attribute(dataset: xr.Dataset) -> np.datetime64 | None:
    return next(
        (d for k, v in dataset.attrs.items() if str(k).lower() in INITIAL and (d := _date(v)) is not None),
        None,
    )


def _date(text: object) -> np.datetime64 | None:
    try:
        return (
            np.datetime64(str(text).strip().removesuffix("Z").removesuffix(" UTC"), "ns")
            if str(text).strip()
            else None
        )
    except ValueError:
        return None


def _with_units(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return the data set with the vocabulary's units on variables without any, and say so; pressures above
    2000 are in Pa.
    """
    for axis in PRESSURE_AXES & set(map(str, dataset.coords)):
        level = dataset[axis]
        if (
            level.dtype.kind in "iuf"
            and not level.attrs.get("units")
            and level.values.max(initial=0) > _LARGEST_HPA
        ):
            dataset = dataset.assign_coords({axis: level.assign_attrs(units="Pa")})
    assumed = {}
    for name, variable in dataset.data_vars.items():
        term, _ = identify(str(name), variable.attrs)
        if not str(variable.attrs.get("units", "")).strip() and variable.ndim > 2 and term in WEATHERBENCH:
            variable.attrs["units"] = assumed[str(name)] = WEATHERBENCH[term].units
    if assumed:
        said = ", ".join(f"{name} [{units}]" for name, units in list(assumed.items())[:8]) + (
            " ..." if len(assumed) > 8 else ""
        )
        log.warning(
            "%s gives no units of %d variable(s); those of their names are assumed: %s",
            source,
            len(assumed),
            said,
        )
    return dataset


def _lazy(dataset: xr.Dataset) -> xr.Dataset:
    """Return the data set as dask arrays in whole chunks of the source, about as large as one read should be."""
    return dataset.assign(
        {name: v.chunk(_sizes(v)) for name, v in dataset.data_vars.items() if v.chunks is None}
    )


def _sizes(variable: xr.DataArray) -> dict[str, int]:
    """Return chunk sizes: whole fields, and as many members, leads and initial times as fit, in multiples of
    stored chunks.
    """
    stored = variable.encoding.get("preferred_chunks") or {}
    outer = [d for d in ("number", "prediction_timedelta", "time") if d in variable.dims]
    sizes = {str(d): size for d, size in variable.sizes.items()} | {
        d: min(variable.sizes[d], int(stored.get(d, 1))) for d in outer
    }
    room = _CHUNK_BYTES // max(1, variable.dtype.itemsize * int(np.prod(list(sizes.values()))))
    for d in outer:
        more = max(1, min(room, -(-variable.sizes[d] // sizes[d])))
        sizes[d] = min(variable.sizes[d], sizes[d] * more)
        room //= more
    return sizes
