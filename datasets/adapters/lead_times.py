"""Decoding of lead times stored as durations, or as numbers with units in an attribute or in the name."""

import re

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .. import units as cf_units
from ..errors import DataError

NAMES = (
    "prediction_timedelta",
    "lead_time",
    "leadtime",
    "lead",
    "step",
    "forecast_period",
    "forecast_hour",
    "forecast_hours",
    "fhour",
    "lead_hour",
    "lead_hours",
    "lead_time_hours",
    "lead_day",
    "lead_days",
)
_MAX_LEAD = 100 * 366 * 86400.0  # s
_SECOND = np.timedelta64(1, "s")
_IN_NAME = re.compile(r"(hour|day)s?$")


def is_duration(variable: xr.DataArray) -> bool:
    """Return whether values are durations, or numbers with a unit of time and without a reference date."""
    units = str(variable.attrs.get("units", ""))
    return variable.dtype.kind == "m" or (variable.dtype.kind in "iuf" and _seconds_in(units) is not None)


def decode_leads(lead: xr.DataArray, source: str, lead_units: str | None = None) -> NDArray[np.timedelta64]:
    """Return lead times as ``timedelta64[ns]``.

    Args:
        lead: lead times, as durations or numbers.
        source: path, for error messages.
        lead_units: unit of the numbers, e.g. ``hours``, if the data do not specify it.

    Raises:
        ValueError: numbers have no unit of time, or ``lead_units`` is passed for data with units.
    """
    name = str(lead.name)
    values = lead.values
    if values.dtype.kind == "m":
        if lead_units is not None:
            raise DataError(
                f"{source}: {name} contains durations, which need no units; leave out lead_units",
                option="lead_units",
            )
        return np.asarray(values.astype("timedelta64[ns]"))
    if values.dtype.kind not in "iuf" or not np.isfinite(values.astype(np.float64)).all():
        raise ValueError(
            f"{source}: {name} contains {values.dtype} values {values[:3]}, which are not lead times; "
            "store durations or hours"
        )
    stated = str(lead.attrs.get("units", ""))
    if lead_units is not None and stated:
        raise DataError(
            f"{source}: {name} already has the units {stated[:60]!r}; leave out lead_units",
            option="lead_units",
        )
    in_name = _IN_NAME.search(name.lower())
    units = lead_units or stated or (in_name[1] if in_name else _units_by_size(values))
    if units is None:
        raise DataError(
            f"{source}: {name} contains the numbers {', '.join(f'{v:g}' for v in values[:4])} without units; "
            "set their attribute units, or pass e.g. lead_units='hours'",
            option="lead_units",
            example="hours",
        )
    seconds = _seconds_in(units)
    if seconds is None:
        raise ValueError(
            f"{source}: {name} has the units {units[:60]!r}, expected a unit of time, e.g. hours"
        )
    if float(np.abs(values.astype(np.float64)).max(initial=0)) * seconds > _MAX_LEAD:
        raise DataError(
            f"{source}: {name} has lead times of more than a century in {units[:60]}; "
            "correct its units, or pass lead_units",
            option="lead_units",
        )
    if values.dtype.kind in "iu" and seconds < 1:
        return np.asarray((values.astype(np.int64) * round(seconds * 1e9)).astype("timedelta64[ns]"))
    return np.asarray(
        np.round(values.astype(np.float64) * seconds * 1e9).astype(np.int64).astype("timedelta64[ns]")
    )


def _units_by_size(values: NDArray[np.number]) -> str | None:
    """Return ``nanoseconds`` for multiples of 10^9, too large for other units, or None if it is unclear."""
    sizes = np.abs(values[values != 0])
    if not sizes.size:
        return "hours"  # zero in any unit
    if values.dtype.kind in "iu" and sizes.min() >= 1e9 and not (sizes % 10**9).any():
        return "nanoseconds"
    return None


def _seconds_in(units: str) -> float | None:
    """Return the length [s] of a unit of time, or None if it is not one."""
    units = units.strip().lower()
    units = {"ns": "nanosecond", "hr": "hour", "hrs": "hour"}.get(units, units)
    try:
        factor, _ = cf_units.conversion(units, "s")
    except ValueError:
        return None
    return factor
