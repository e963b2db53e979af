"""Fields known in advance: insolation, calendar and position."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..fno.grids import Grid, LatLon
from .statistics.climatology import year_phase

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Times = NDArray[np.datetime64]

NAMES = ("toa_radiation", "cos_year", "sin_year")


def sun(times: Times) -> tuple[Double, Double, Double]:
    """Return declination [rad], equation of time [rad] and squared ratio of mean to actual distance of the
    sun.

    The low-precision formulas of the Astronomical Almanac, good to 0.01 degrees and 0.1 minutes from 1950 to
    2050: with n the days since noon of 1 January 2000, mean longitude L and mean anomaly g in degrees,

        L = 280.460 + 0.9856474 n,   g = 357.528 + 0.9856003 n,
        longitude = L + 1.915 sin g + 0.020 sin 2 g,   obliquity = 23.439 - 4e-7 n,
        r = 1.00014 - 0.01671 cos g - 0.00014 cos 2 g.
    """
    n = (times - np.datetime64("2000-01-01T12")) / np.timedelta64(1, "D")
    mean_longitude, anomaly, obliquity = (
        np.deg2rad(280.460 + 0.9856474 * n),
        np.deg2rad(357.528 + 0.9856003 * n),
        np.deg2rad(23.439 - 4e-7 * n),
    )
    longitude = mean_longitude + np.deg2rad(1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    ascension = np.arctan2(np.cos(obliquity) * np.sin(longitude), np.cos(longitude))
    equation = np.remainder(mean_longitude - ascension + np.pi, 2 * np.pi) - np.pi
    distance = 1.00014 - 0.01671 * np.cos(anomaly) - 0.00014 * np.cos(2 * anomaly)
    return np.arcsin(np.sin(obliquity) * np.sin(longitude)), equation, 1 / distance**2


def toa_radiation(times: Times, grid: LatLon) -> Float:
    """Return the sunlight on a level surface at the top of the atmosphere, as a share of the solar constant.

        (a / r)^2 max(0, sin(lat) sin(d) + cos(lat) cos(d) cos(h)),   h = 15 deg (UTC hour - 12) + longitude +
        equation of time

    with declination d and distance r of ``sun``; shape (time, latitude, longitude). Times 1361 W m**-2 it is
    the flux.
    """
    declination, equation, nearness = (x[:, None, None] for x in sun(times))
    return _cos_zenith(times, grid, declination, equation=equation, factor=nearness)


def insolation(times: Times, grid: LatLon) -> Float:
    """Return the cosine of the solar zenith angle, zero at night, for models that were trained on it: shape
    (time, latitude, longitude).

    With the declination d of Spencer (1971), and without the equation of time and the distance.
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
    seconds = (times - times.astype("datetime64[D]")) / np.timedelta64(1, "s")
    angle = 2 * np.pi * (seconds[:, None, None] / 86400 - 0.5) + np.deg2rad(grid.longitude) + equation
    latitude = np.deg2rad(grid.latitude)[:, None]
    constant, wave = (factor * (part(latitude) * part(declination)) for part in (np.sin, np.cos))
    result: Float = wave.astype(np.float32) * np.cos(angle).astype(np.float32)  # the one array of full size
    result += constant.astype(np.float32)
    return np.maximum(result, 0, out=result)


def forcing_names(grid: Grid) -> tuple[str, ...]:
    """Return the forcings of models on a grid: none of a Cartesian flow."""
    return NAMES if isinstance(grid, LatLon) else ()


def forcings(times: Times, grid: Grid, step: np.timedelta64, *, names: Sequence[str] | None = None) -> Float:
    """Return forcing fields, shape (time, name, latitude, longitude): sunlight, cosine and sine of the year.

    With steps of a day or more sunlight is the mean over the day, since its value at one hour would only mark
    longitudes.
    """
    names = forcing_names(grid) if names is None else names
    phase = year_phase(times)
    result = np.empty((len(times), len(names), *grid.shape), dtype=np.float32)
    for i, name in enumerate(names):
        if name in _SUNLIGHT and isinstance(grid, LatLon):
            result[:, i] = (
                _over_the_day(_SUNLIGHT[name], times, grid)
                if step >= np.timedelta64(24, "h")
                else _SUNLIGHT[name](times, grid)
            )
        else:
            result[:, i] = {"cos_year": np.cos, "sin_year": np.sin}[name](phase)[:, None, None]
    return result


_SUNLIGHT: dict[str, Callable[[Times, LatLon], Float]] = {
    "toa_radiation": toa_radiation,
    "insolation": insolation,
}


def _over_the_day(light: Callable[[Times, LatLon], Float], times: Times, grid: LatLon) -> Float:
    total = np.zeros((len(times), *grid.shape), np.float32)
    for hour in range(24):
        total += light(times + hour * np.timedelta64(1, "h"), grid)
    return total / np.float32(24)


def normalised(field: NDArray[np.floating], grid: Grid) -> Float:
    """Return a static field minus its mean, divided by its standard deviation; missing values become zero."""
    weights = np.where(np.isfinite(field), grid.area_weights[:, None], 0.0)
    known = np.nan_to_num(field.astype(np.float64))
    mean = (weights * known).sum() / max(weights.sum(), 1e-300)
    std = np.sqrt((weights * (known - mean) ** 2).sum() / max(weights.sum(), 1e-300))
    return np.where(weights > 0, (known - mean) / (std if std > 0 else 1.0), 0).astype(np.float32)


def static_fields(grid: Grid) -> Float:
    """Return where each point lies, shape (3, latitude, longitude), or one field for each axis of a plane
    that does not wrap.

    Sine of latitude, then two longitude fields: cosine and sine round the globe; within a box its longitude
    and latitude scaled to [-1, 1].
    """
    if not isinstance(grid, LatLon):
        places = [
            np.linspace(-1, 1, n).reshape(shape)
            for n, shape in zip(grid.shape, ((-1, 1), (1, -1)), strict=True)
        ]
        kept = [
            np.broadcast_to(p, grid.shape)
            for p, periodic in zip(places, grid.periodic, strict=True)
            if not periodic
        ]
        return np.array(kept, np.float32).reshape(-1, *grid.shape)
    latitude = np.broadcast_to(grid.latitude[:, None], grid.shape)
    longitude = np.broadcast_to(grid.longitude, grid.shape)
    if grid.full_circle:
        rest = [np.cos(np.deg2rad(longitude)), np.sin(np.deg2rad(longitude))]
    else:
        rest = [2 * (v - v.min()) / (v.max() - v.min()) - 1 for v in (longitude, latitude)]
    return np.stack([np.sin(np.deg2rad(latitude)), *rest]).astype(np.float32)
