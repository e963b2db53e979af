"""Conversion of forecasts of other packages to the canonical forecast.

Layouts differ in the names of initial time, lead time and members, in whether lead or valid times are an
axis, and in whether variables and grid points are separate dimensions or stacked along one:

- WeatherBench2: ``time, prediction_timedelta``, lead times as durations or hours; (longitude, latitude); no
  units
- earth2studio: ``time, lead_time, [variable,] lat, lon``; names such as ``t2m`` and ``z500``
- GraphCast, GenCast: ``batch, [sample,] time, [level,] lat, lon``; ``time`` is the lead time and ``datetime``
  the valid time
- anemoi-inference: ``time, values``; ``time`` is the valid time; latitude and longitude of each cell
- cfgrib: ``time, step``, with ``valid_time``; ``number`` for members

With canonical names of these axes, a forecast is converted like any other source (``cf.canonical``).
"""

import logging

import numpy as np
import xarray as xr

from ..schema import axes_of
from .cf import canonical
from .channel_names import identify
from .forecast_times import forecast_axes, is_forecast
from .rearranging import cells_to_grid, channels_to_variables, named_axes
from .vocabulary import WEATHERBENCH

__all__ = ["canonical_forecast", "is_forecast"]

log = logging.getLogger(__name__)

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
EXTRA_DIMS = ("prediction_timedelta", "number")
PRESSURE_AXES = {"level", "lev", "plev", "pressure", "pressure_level"}
_LARGEST_HPA = 2000.0  # larger pressures are in Pa
_CHUNK_BYTES = 2**25


def canonical_forecast(dataset: xr.Dataset, source: str, lead_units: str | None = None) -> xr.Dataset:
    """Return a forecast, lazily, with canonical axes, coordinate names, dimension order and units.

    Variables keep their names. A variable without units gets those of the vocabulary, with a warning, or none
    if the vocabulary lacks it.

    Args:
        dataset: data set of ``open_lazily``, or a data set in memory.
        source: path, for error messages.
        lead_units: unit of lead times that are numbers without one, e.g. ``hours``.

    Returns:
        Forecast with the dimensions time (initial time), prediction_timedelta, [number], [level], latitude,
        longitude (or y, x), and the coordinate ``valid_time`` (time, prediction_timedelta).

    Raises:
        ValueError: lead times, initial time or grid are missing or ambiguous, or ``cf.canonical`` raises it.
    """
    attrs = dataset.attrs
    close = dataset.close
    dataset = forecast_axes(_number_members(dataset), source, lead_units)
    if empty := [d for d in ("time", "prediction_timedelta") if dataset.sizes.get(d) == 0]:
        raise ValueError(f"{source} contains no forecast: its axis {empty[0]} is empty")
    dataset = cells_to_grid(channels_to_variables(dataset, source), source)
    dataset = _assume_units(_chunk(named_axes(dataset)), source)
    result = canonical(dataset, source, extra_dims=EXTRA_DIMS)
    result = _restore_attributes(result, dataset)
    leads = dataset["prediction_timedelta"].values
    if (
        axes_of(result)[0] == "latitude"
        and (sizes := np.abs(leads[leads != 0])).size
        and sizes.min() < np.timedelta64(1, "s")
    ):
        raise ValueError(
            f"{source}: its shortest lead time is {sizes.min() / np.timedelta64(1, 'ns'):g} ns, "
            "decoded with a wrong unit: set the attribute units of the stored numbers, e.g. hours"
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
    result = _sort_times(result, source)
    result.encoding = {"source": source}
    result.set_close(close)
    return result


def _restore_attributes(result: xr.Dataset, dataset: xr.Dataset) -> xr.Dataset:
    """Return the canonical data set with the original attributes of variables whose units did not change."""
    for name, variable in result.data_vars.items():
        original = name if name in dataset else variable.attrs.get("source_name")
        if original in dataset and dataset[original].attrs.get("units") == variable.attrs.get("units"):
            variable.attrs = dataset[original].attrs | variable.attrs
    if "number" in result.dims:
        result["number"].attrs = dataset["number"].attrs
    return result


def _sort_times(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return a forecast with sorted times; raise ``ValueError`` if a time occurs twice."""
    for axis, description in (("time", "initial time"), ("prediction_timedelta", "lead time")):
        values = dataset[axis].values
        if len(np.unique(values)) < len(values):
            raise ValueError(
                f"{source} contains the same {description} twice; "
                f"drop one, e.g. with ds.drop_duplicates({axis!r})"
            )
        if (np.diff(values) < np.timedelta64(0)).any():
            dataset = dataset.sortby(axis)
    return dataset


def _number_members(dataset: xr.Dataset) -> xr.Dataset:
    """Return a data set with members along ``number``, numbered from 0 if they have no numbers."""
    axes = [str(d) for d in dataset.dims]
    named = [
        d for d in axes if d in dataset.coords and dataset[d].attrs.get("standard_name") == "realization"
    ]
    axis = next(iter([*named, *(d for d in axes if d.lower() in MEMBERS)]), None)
    if axis is None:
        return dataset
    if axis != "number":
        dataset = dataset.drop_vars("number", errors="ignore").rename({axis: "number"})
    if "number" in dataset.coords:
        return dataset
    return dataset.assign_coords(number=np.arange(dataset.sizes["number"]))


def _assume_units(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return a data set with the units of the vocabulary where they are missing, with a warning.

    Pressure axes without units are in Pa if values exceed 2000, otherwise in hPa.
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
        listed = ", ".join(f"{name} [{units}]" for name, units in list(assumed.items())[:8])
        log.warning(
            "%s has %d variable(s) without units; those of their names are assumed: %s%s",
            source,
            len(assumed),
            listed,
            " ..." if len(assumed) > 8 else "",
        )
    return dataset


def _chunk(dataset: xr.Dataset) -> xr.Dataset:
    """Return a data set as dask arrays whose chunks are whole chunks of the source, up to a target size."""
    return dataset.assign(
        {name: v.chunk(_chunk_sizes(v)) for name, v in dataset.data_vars.items() if v.chunks is None}
    )


def _chunk_sizes(variable: xr.DataArray) -> dict[str, int]:
    """Return chunk sizes of whole fields and of multiples of the stored chunks along the other axes."""
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
