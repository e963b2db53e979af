"""Layouts of WeatherBench2's ERA5 stores and of ARCO-ERA5, which uses the same names.

WeatherBench2: ``time, level, latitude, longitude`` with decreasing latitudes, or ``time, level, longitude,
latitude`` with increasing latitudes (Rasp et al. 2024, arXiv:2308.15560). ARCO-ERA5: hourly times from 1900
to 2050, with data between the attributes ``valid_time_start`` and ``valid_time_stop`` (Carver and Merose
2023).
"""

import numpy as np
import xarray as xr

from .vocabulary import WEATHERBENCH


def matches(dataset: xr.Dataset) -> bool:
    """Return whether a data set has variables with WeatherBench2 names."""
    if not {"time", "latitude", "longitude"} <= set(dataset.dims):
        return False
    return any(str(name) in WEATHERBENCH for name in dataset.data_vars)


def is_arco(dataset: xr.Dataset) -> bool:
    """Return whether a data set has the attributes of ARCO-ERA5."""
    return "valid_time_stop" in dataset.attrs and "time" in dataset.dims


def arrange_arco(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Drop the times without data.

    Args:
        dataset: data set as opened.
        source: path, for error messages.

    Raises:
        ValueError: the attributes that state the period of the data are not dates.
    """
    times = dataset["time"].values
    try:
        stop = np.datetime64(str(dataset.attrs["valid_time_stop"])[:10]) + np.timedelta64(1, "D")
        start = np.datetime64(str(dataset.attrs.get("valid_time_start", "0001-01-01"))[:10])
    except ValueError as error:
        raise ValueError(f"{source}: valid_time_start or valid_time_stop is not a date ({error})") from error
    return dataset.isel(time=slice(*np.searchsorted(times, [start, stop]).tolist()))
