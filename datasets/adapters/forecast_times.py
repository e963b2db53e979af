"""Recognition of the initial, lead and valid times of a forecast, and their conversion to canonical axes."""

import numpy as np
import xarray as xr

from ..errors import DataError
from .lead_times import NAMES as LEAD
from .lead_times import decode_leads, is_duration

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


def is_forecast(dataset: xr.Dataset) -> bool:
    """Return whether a data set contains fields by lead time, or by valid time of a single initial time."""
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


def forecast_axes(dataset: xr.Dataset, source: str, lead_units: str | None) -> xr.Dataset:
    """Return a forecast with the axes ``time`` (initial times) and ``prediction_timedelta`` (lead times).

    Args:
        dataset: data set as opened.
        source: path, for error messages.
        lead_units: unit of lead times that are numbers without one, e.g. ``hours``.

    Raises:
        ValueError: lead times or the initial time are missing or ambiguous.
    """
    lead = _lead_axis(dataset)
    if lead is None:
        return _from_valid_times(dataset, source, lead_units)
    dataset, initial = _initial_axis(dataset, lead, source, lead_units=lead_units)
    leads = None
    if lead_units is None and not is_duration(dataset[lead]):
        leads = _leads_from_dates(dataset, lead, initial)
    if leads is None:
        leads = decode_leads(dataset[lead], source, lead_units)
    others = [
        c
        for c in dataset.coords
        if c not in (lead, initial) and (_is_date(dataset[c]) or c in (*LEAD, "time"))
    ]
    dataset = dataset.drop_vars(others)
    dataset = dataset.rename({k: v for k, v in ((lead, "prediction_timedelta"), (initial, "time")) if k != v})
    dataset = dataset.assign_coords(prediction_timedelta=("prediction_timedelta", leads))
    return _expand_time(dataset)


def _expand_time(dataset: xr.Dataset) -> xr.Dataset:
    """Return a data set with a single initial time as an axis of all variables with lead times."""
    if "time" in dataset.dims:
        return dataset
    coordinate = dataset["time"]
    forecasts = [name for name, v in dataset.data_vars.items() if "prediction_timedelta" in v.dims]
    expanded = {name: dataset[name].drop_vars("time").expand_dims("time") for name in forecasts}
    dataset = dataset.drop_vars("time").assign(expanded)
    return dataset.assign_coords(time=("time", np.atleast_1d(coordinate.values), coordinate.attrs))


def _from_valid_times(dataset: xr.Dataset, source: str, lead_units: str | None) -> xr.Dataset:
    """Convert a forecast with valid times and one initial time to lead times."""
    valid = _valid_axis(dataset)
    initial = None if valid is None else _single_initial_time(dataset)
    if valid is None or initial is None:
        missing = "lead times" if valid is None else "initial time"
        raise ValueError(
            f"{source} is not a forecast: it has no {missing} (dimensions: "
            f"{', '.join(map(str, dataset.sizes))}); name its axes time and prediction_timedelta"
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
    return _expand_time(dataset.assign_coords(time=initial))


def _is_date(variable: xr.DataArray) -> bool:
    return variable.dtype.kind == "M"


def _lead_axis(dataset: xr.Dataset) -> str | None:
    """Return the dimension of lead times, found by standard name, name or durations, or None."""
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
    # A simulation on a Cartesian box may count its time in seconds, but has no date.
    return durations[0] if len(durations) == 1 and any(_is_date(c) for c in dataset.coords.values()) else None


def _initial_axis(
    dataset: xr.Dataset, lead: str, source: str, *, lead_units: str | None
) -> tuple[xr.Dataset, str]:
    """Return a data set and the name of its coordinate of initial times, an axis or a scalar.

    Without such a coordinate, initial times are computed as valid times minus lead times, or read from the
    attributes.
    """
    dates = [
        str(c)
        for c, v in dataset.coords.items()
        if _is_date(v) and lead not in v.dims and v.ndim < 2 and str(c).lower() not in VALID
    ]
    for candidates in (
        [c for c in dates if dataset[c].attrs.get("standard_name") == "forecast_reference_time"],
        [c for c in dates if c.lower() in INITIAL],
        [c for c in dates if c == "time"],
        [c for c in dates if c in dataset.dims],
    ):
        if len(candidates) == 1:
            axis = candidates[0]
            dim = str(dataset[axis].dims[0]) if dataset[axis].ndim else axis
            return (dataset if dim == axis else dataset.swap_dims({dim: axis})), axis
    for name, valid in dataset.coords.items():
        if _is_date(valid) and lead in valid.dims and valid.ndim <= 2:
            leads = xr.DataArray(decode_leads(dataset[lead], source, lead_units), dims=lead)
            starts = (valid.variable - leads.variable).transpose(..., lead)
            if (starts.values != starts.values[..., :1]).any():
                raise ValueError(
                    f"{source}: {name} minus {lead} results in several initial times of one forecast; "
                    "correct one of them"
                )
            dataset = dataset.drop_vars([str(c) for c in dataset.coords if _is_date(dataset[c])])
            if starts.ndim == 1:
                return dataset.assign_coords(initial_time=starts.values[0]), "initial_time"
            dim = str(starts.dims[0])
            dataset = dataset.drop_vars(dim, errors="ignore").rename({dim: "initial_time"})
            return dataset.assign_coords(initial_time=("initial_time", starts.values[:, 0])), "initial_time"
    if (single := _initial_time_attribute(dataset)) is not None:
        return dataset.assign_coords(initial_time=single), "initial_time"
    raise ValueError(
        f"{source} has no initial time (dimensions: {', '.join(map(str, dataset.sizes))}); "
        "add it, e.g. with ds.assign_coords(time=np.datetime64('2020-01-01'))"
    )


def _leads_from_dates(dataset: xr.Dataset, lead: str, initial: str) -> np.ndarray | None:
    """Return valid times minus initial times, for lead times without units; None without valid times."""
    for valid in dataset.coords.values():
        if _is_date(valid) and lead in valid.dims and set(valid.dims) <= {lead, *dataset[initial].dims}:
            difference = (valid.variable - dataset[initial].variable).transpose(..., lead)
            return np.asarray(difference.values.reshape(-1, dataset.sizes[lead])[0])
    return None


def _valid_axis(dataset: xr.Dataset) -> str | None:
    """Return the axis of valid times of a forecast without lead times, or None."""
    dates = [str(d) for d in dataset.dims if d in dataset.coords and _is_date(dataset[d])]
    dates = [d for d in dates if not (d.lower() in INITIAL and dataset.sizes[d] == 1)]
    return dates[0] if len(dates) == 1 else None


def _single_initial_time(dataset: xr.Dataset) -> np.datetime64 | None:
    """Return the only initial time, from a coordinate, an attribute, or the epoch of the valid times."""
    valid = _valid_axis(dataset)
    for name, c in dataset.coords.items():
        named = (
            str(name).lower() in (*INITIAL, "time")
            or c.attrs.get("standard_name") == "forecast_reference_time"
        )
        if name != valid and named and _is_date(c) and c.size == 1:
            return np.datetime64(c.values.ravel()[0], "ns")
    if (single := _initial_time_attribute(dataset)) is not None:
        return single
    # anemoi-inference stores the initial time only as the epoch of its valid times.
    epoch = ""
    if valid and "values" in dataset.dims:
        epoch = str(dataset[valid].encoding.get("units", "")).partition(" since ")[2]
    return _parse_date(epoch)


def _initial_time_attribute(dataset: xr.Dataset) -> np.datetime64 | None:
    for key, value in dataset.attrs.items():
        if str(key).lower() in INITIAL and (date := _parse_date(value)) is not None:
            return date
    return None


def _parse_date(text: object) -> np.datetime64 | None:
    """Return a date in ISO 8601, or None if the text is not one."""
    date = str(text).strip().removesuffix("Z").removesuffix(" UTC")
    try:
        return np.datetime64(date, "ns") if date else None
    except ValueError:
        return None
