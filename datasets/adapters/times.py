"""Conversion of time coordinates to ``datetime64[ns]``: calendars, simulation times, and rounding errors."""

import re

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .. import units as cf_units

Dates = NDArray[np.datetime64]

_TOLERANCE = 1e-3  # largest rounding error of dates, as a fraction of the step
_MAX_TOLERANCE = 60e9  # ns
# ns, coarsest first
_UNITS = np.array([3600, 1800, 1200, 900, 600, 300, 60, 30, 15, 10, 5, 1, 0.1, 1e-2, 1e-3]) * 1e9


def standard_times(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return a data set with times as ``datetime64[ns]`` of the standard calendar, without rounding errors.

    Args:
        dataset: data set with an axis ``time``.
        source: path, for error messages.

    Raises:
        ValueError: the calendar has dates that the standard one lacks, times have no units, or some are
            missing.
    """
    times = dataset["time"]
    rounding = _rounding(times)
    if times.dtype == object:  # cftime: another calendar
        calendar = times.dt.calendar
        try:
            dataset = dataset.convert_calendar("standard", use_cftime=False)
        except (ValueError, OverflowError) as error:
            if calendar in ("standard", "gregorian", "proleptic_gregorian"):
                first, last = (str(times.values[index]) for index in (0, -1))
                raise ValueError(
                    f"{source} has times from {first} to {last}, but they must lie between 1678 and 2262; "
                    "correct their units"
                ) from error
            raise ValueError(
                f"{source} uses the calendar {calendar!r}; "
                "convert it with ds.convert_calendar('standard', align_on='date')"
            ) from error
    elif times.dtype.kind in "mfiu" and "y" in dataset.dims and "x" in dataset.dims:
        return dataset.assign_coords(time=("time", _seconds_as_dates(times)))
    elif not np.issubdtype(times.dtype, np.datetime64):
        raise ValueError(
            f"{source}: time has no CF units (dtype {times.dtype}); set e.g. 'hours since 2000-01-01'"
        )
    if np.isnat(dataset["time"].values).any():
        raise ValueError(
            f"{source}: {int(np.isnat(dataset['time'].values).sum())} time(s) are missing; drop those records"
        )
    dates = dataset["time"].astype("datetime64[ns]")
    return dataset.assign_coords(time=dates.copy(data=snap(dates.values, rounding)))


def snap(times: Dates, rounding: float = 0.0) -> Dates:
    """Round dates to the coarsest unit, from an hour to a millisecond, that they match within a tolerance.

    Hours stored as floating-point days are off by microseconds, or by a minute in 32 bits. The tolerance is a
    thousandth of the step, at most a minute, or ``rounding`` if larger; units that make the dates evenly
    spaced are preferred. Dates that are evenly spaced to the second, or match no unit, are not changed.

    Args:
        times: dates, shape (time,).
        rounding: rounding error [ns] of the stored numbers.
    """
    counts = times.astype(np.int64)
    step = int(np.median(np.abs(np.diff(counts)))) if len(counts) > 1 else 3600 * 10**9
    if step == 0 or (not (counts % 10**9).any() and _is_even(counts)):
        return times
    step_tolerance = min(_TOLERANCE * step, _MAX_TOLERANCE)
    rounded = []
    for tolerance in (min(step_tolerance, 1e6), step_tolerance, max(step_tolerance, rounding)):
        for unit in _UNITS[4 * tolerance < _UNITS].astype(np.int64):
            nearest = (counts + unit // 2) // unit * unit
            if np.abs(nearest - counts).max() <= tolerance:
                rounded.append(nearest)
                if _is_even(nearest):
                    return np.asarray(nearest.astype("datetime64[ns]"))
    return np.asarray(rounded[0].astype("datetime64[ns]")) if rounded else times


def _is_even(counts: NDArray[np.int64]) -> bool:
    """Return whether all differences between times are multiples of the step."""
    steps = np.diff(counts)
    return bool(len(steps) == 0 or not (steps % max(1, int(np.median(np.abs(steps))))).any())


def _rounding(times: xr.DataArray) -> float:
    """Return the rounding error [ns] of the numbers that dates are stored as: the spacing of such floats."""
    stored = np.dtype(times.encoding.get("dtype") or "i8")
    origin = re.match(r"\s*(\w+)\s+since\s+(\d+)", str(times.encoding.get("units", "")))
    if stored.kind != "f" or origin is None or not times.size:
        return 0.0
    year = times.max().dt.year.item()
    seconds = cf_units.conversion(origin[1], "s")[0]
    largest = (abs(year - int(origin[2])) + 1) * 365.25 * 86400 / seconds
    return float(np.spacing(stored.type(largest))) * seconds * 1e9


def _seconds_as_dates(times: xr.DataArray) -> Dates:
    """Return simulation times, in seconds or without units, as dates from 1970 on.

    Times that are evenly spaced up to rounding become exactly evenly spaced.
    """
    if times.dtype.kind == "m":
        values = times.values / np.timedelta64(1, "s")
    else:
        values = times.values.astype(np.float64)
        units = str(times.attrs.get("units", "s"))
        if units not in ("s", "second", "seconds", "1", ""):
            values = values * cf_units.conversion(units, "s")[0]
    step = (values[-1] - values[0]) / max(1, len(values) - 1)
    even = values[0] + step * np.arange(len(values))
    if len(values) > 1 and np.abs(values - even).max() < 1e-3 * abs(step):
        nanoseconds = round(values[0] * 1e9) + round(step * 1e9) * np.arange(len(values))
    else:
        nanoseconds = np.round(values * 1e9).astype(np.int64)
    return np.asarray(np.datetime64("1970-01-01", "ns") + nanoseconds.astype("timedelta64[ns]"))
