"""Forcings and static inputs of models: insolation, calendar and position."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fno.grids import Grid, LatLon
from ..fno.registry import Registry
from .errors import DataError
from .statistics.climatology import year_phase

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Times = NDArray[np.datetime64]

NAMES = ("toa_radiation", "cos_year", "sin_year")
GROUP = "fourcaster.forcings"
"""Group of entry points in which other packages register forcings."""


Forcing = Callable[..., Any]
"""Function of UTC times and a grid that returns a field of order one, shape (time, latitude, longitude)."""


def sun(times: Times) -> tuple[Double, Double, Double]:
    """Return declination [rad], equation of time [rad] and (a / r)^2 of the sun, each of shape (time,).

    Here r is the distance of the sun and a its mean. Low-precision formulas of the Astronomical Almanac,
    accurate to 0.01 degrees and 0.1 minutes from 1950 to 2050. With n the days since 2000-01-01 12 UTC, mean
    longitude L and mean anomaly g in degrees,

        L = 280.460 + 0.9856474 n,   g = 357.528 + 0.9856003 n,
        longitude = L + 1.915 sin g + 0.020 sin 2 g,   obliquity = 23.439 - 4e-7 n,
        r = 1.00014 - 0.01671 cos g - 0.00014 cos 2 g.
    """
    n = (times - np.datetime64("2000-01-01T12")) / np.timedelta64(1, "D")
    mean_longitude = np.deg2rad(280.460 + 0.9856474 * n)
    anomaly = np.deg2rad(357.528 + 0.9856003 * n)
    obliquity = np.deg2rad(23.439 - 4e-7 * n)
    longitude = mean_longitude + np.deg2rad(1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    ascension = np.arctan2(np.cos(obliquity) * np.sin(longitude), np.cos(longitude))
    equation = np.remainder(mean_longitude - ascension + np.pi, 2 * np.pi) - np.pi
    distance = 1.00014 - 0.01671 * np.cos(anomaly) - 0.00014 * np.cos(2 * anomaly)
    return np.arcsin(np.sin(obliquity) * np.sin(longitude)), equation, 1 / distance**2


def toa_radiation(times: Times, grid: LatLon) -> Float:
    """Return the insolation at the top of the atmosphere as a fraction of the solar constant.

        (a / r)^2 max(0, sin(lat) sin(d) + cos(lat) cos(d) cos(h))
        h = 15 deg (UTC hour - 12) + longitude + equation of time

    with declination d and distance r of ``sun``. Multiply by 1361 W m**-2 for the flux.

    Args:
        times: UTC times, shape (time,).
        grid: grid of the result.

    Returns:
        Insolation, shape (time, latitude, longitude).
    """
    declination, equation, distance_factor = (x[:, None, None] for x in sun(times))
    return _cos_zenith(times, grid, declination, equation=equation, factor=distance_factor)


def insolation(times: Times, grid: LatLon) -> Float:
    """Return the cosine of the solar zenith angle, zero at night, shape (time, latitude, longitude).

    It uses the declination of Spencer (1971), without the equation of time and the distance, and is a forcing
    of older models.

    Args:
        times: UTC times, shape (time,).
        grid: grid of the result.
    """
    g = year_phase(times)
    declination = (
        0.006918
        - 0.399912 * np.cos(g)
        + 0.070257 * np.sin(g)
        - 0.006758 * np.cos(2 * g)
        + 0.000907 * np.sin(2 * g)
        - 0.002697 * np.cos(3 * g)
        + 0.00148 * np.sin(3 * g)
    )[:, None, None]
    return _cos_zenith(times, grid, declination, equation=np.zeros_like(declination))


def _cos_zenith(
    times: Times, grid: LatLon, declination: Double, *, equation: Double, factor: Double | float = 1.0
) -> Float:
    """Return ``factor`` times the cosine of the zenith angle, zero at night.

    Declination, equation of time [rad] and factor have the shape (time, 1, 1).
    """
    seconds = (times - times.astype("datetime64[D]")) / np.timedelta64(1, "s")
    angle = 2 * np.pi * (seconds[:, None, None] / 86400 - 0.5) + np.deg2rad(grid.longitude) + equation
    latitude = np.deg2rad(grid.latitude)[:, None]
    constant, amplitude = (factor * (part(latitude) * part(declination)) for part in (np.sin, np.cos))
    # The only array of full size.
    result: Float = amplitude.astype(np.float32) * np.cos(angle).astype(np.float32)
    result += constant.astype(np.float32)
    return np.maximum(result, 0, out=result)


def forcing_names(grid: Grid) -> tuple[str, ...]:
    """Return the names of the forcings of models on a grid; Cartesian flows have none."""
    return NAMES if isinstance(grid, LatLon) else ()


def forcings(times: Times, grid: Grid, step: np.timedelta64, *, names: Sequence[str] | None = None) -> Float:
    """Return forcing fields, shape (time, name, latitude, longitude), by default those of ``forcing_names``.

    With steps of a day or more, insolation is averaged over the day, since an instantaneous value would
    depend on longitude in the same way at each step.

    Args:
        times: UTC times, shape (time,).
        grid: grid of the result.
        step: time step of the model.
        names: names in ``FORCINGS``, or ``module:function``.

    Raises:
        RegistryError: there is no such forcing, or it may not be imported.
        DataError: one of another package returned another shape, or values that are not finite.
    """
    names = forcing_names(grid) if names is None else names
    result = np.empty((len(times), len(names), *grid.shape), dtype=np.float32)
    for i, name in enumerate(names):
        function = FORCINGS.recall(name)
        if name in INSOLATION and step >= np.timedelta64(24, "h") and isinstance(grid, LatLon):
            result[:, i] = _daily_mean(INSOLATION[name], times, grid)
        elif name in BUILTIN:
            result[:, i] = function(times, grid)
        else:
            result[:, i] = _checked(name, function, times, grid=grid)
    return result


def cos_year(times: Times, grid: Grid) -> Double:
    """Return the cosine of the phase of the year, shape (time, 1, 1)."""
    return np.asarray(np.cos(year_phase(times)))[:, None, None]


def sin_year(times: Times, grid: Grid) -> Double:
    """Return the sine of the phase of the year, shape (time, 1, 1)."""
    return np.asarray(np.sin(year_phase(times)))[:, None, None]


def _checked(name: str, function: Forcing, times: Times, *, grid: Grid) -> Float:
    """Return the field of another package's forcing; a class is constructed without arguments."""
    call = function() if isinstance(function, type) else function
    values = np.asarray(call(times, grid))
    try:
        field = np.broadcast_to(values, (len(times), *grid.shape)).astype(np.float32)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"the forcing {name} returned {values.dtype} of shape {values.shape}, expected numbers of shape "
            f"{(len(times), *grid.shape)}"
        ) from error
    if not np.isfinite(field).all():
        raise DataError(f"the forcing {name} returned values that are not finite")
    return field


INSOLATION: dict[str, Callable[[Times, LatLon], Float]] = {
    "toa_radiation": toa_radiation,
    "insolation": insolation,
}
BUILTIN = (*INSOLATION, "cos_year", "sin_year")
"""Forcings of this package."""

FORCINGS: Registry[Forcing] = Registry(
    {**INSOLATION, "cos_year": cos_year, "sin_year": sin_year},
    group=GROUP,
    noun="forcing",
    expected="a function of times and a grid",
)
"""Forcings by name."""


def _daily_mean(insolation_at: Callable[[Times, LatLon], Float], times: Times, grid: LatLon) -> Float:
    """Return the mean over the 24 hours from each time on."""
    total = np.zeros((len(times), *grid.shape), np.float32)
    for hour in range(24):
        total += insolation_at(times + hour * np.timedelta64(1, "h"), grid)
    return total / np.float32(24)


def normalised(field: NDArray[np.floating], grid: Grid) -> Float:
    """Return a static field minus its mean, divided by its standard deviation; missing values become zero.

    Args:
        field: field, shape (rows, columns).
        grid: grid of the field, by whose areas mean and standard deviation are weighted.
    """
    weights = np.where(np.isfinite(field), grid.area_weights[:, None], 0.0)
    filled = np.nan_to_num(field.astype(np.float64))
    mean = (weights * filled).sum() / max(weights.sum(), 1e-300)
    std = np.sqrt((weights * (filled - mean) ** 2).sum() / max(weights.sum(), 1e-300))
    return np.where(weights > 0, (filled - mean) / (std if std > 0 else 1.0), 0).astype(np.float32)


def static_fields(grid: Grid) -> Float:
    """Return fields of the position of each point.

    On the globe these are sine of latitude, cosine and sine of longitude, in a region sine of latitude, then
    longitude and latitude scaled to [-1, 1], each of shape (3, latitude, longitude). On a Cartesian grid they
    are the coordinates of axes that are not periodic, scaled to [-1, 1], shape (axes, y, x).
    """
    if not isinstance(grid, LatLon):
        coordinates = [
            np.linspace(-1, 1, n).reshape(shape)
            for n, shape in zip(grid.shape, ((-1, 1), (1, -1)), strict=True)
        ]
        fields = [
            np.broadcast_to(p, grid.shape)
            for p, periodic in zip(coordinates, grid.periodic, strict=True)
            if not periodic
        ]
        return np.array(fields, np.float32).reshape(-1, *grid.shape)
    latitude = np.broadcast_to(grid.latitude[:, None], grid.shape)
    longitude = np.broadcast_to(grid.longitude, grid.shape)
    if grid.full_circle:
        scaled = [np.cos(np.deg2rad(longitude)), np.sin(np.deg2rad(longitude))]
    else:
        scaled = [2 * (v - v.min()) / (v.max() - v.min()) - 1 for v in (longitude, latitude)]
    return np.stack([np.sin(np.deg2rad(latitude)), *scaled]).astype(np.float32)
