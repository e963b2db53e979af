"""Forecasts of this and other packages, opened lazily in canonical form."""

from pathlib import Path

import xarray as xr

from ...datasets.adapters.forecasts import canonical_forecast
from ...datasets.adapters.opening import open_lazily


def open_forecast(
    forecast: str | Path | xr.Dataset, lead_units: str | None = None, *, follow_links: bool = False
) -> xr.Dataset:
    """Open a forecast of this or another package lazily, with canonical axes, order and units.

    Args:
        forecast: path, or a data set in memory.
        lead_units: unit of lead times that are numbers without one, e.g. ``hours``.
        follow_links: follow links within it that lead outside of it.

    Returns:
        Dimensions time, prediction_timedelta, [number], [level], latitude, longitude.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is not a forecast.
    """
    if isinstance(forecast, xr.Dataset):
        return canonical_forecast(forecast, source_name(forecast), lead_units)
    dataset = open_lazily(str(forecast), follow_links=follow_links)
    return canonical_forecast(dataset, str(forecast), lead_units)


def source_name(forecast: str | Path | xr.Dataset) -> str:
    """Return the name of a forecast for messages: its path, its source, or "the forecast"."""
    if isinstance(forecast, xr.Dataset):
        return str(forecast.encoding.get("source", "the forecast"))
    return str(forecast)
