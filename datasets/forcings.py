"""Fields known in advance: sunlight, the calendar, where a point lies."""

import numpy as np
from numpy.typing import NDArray

from ..fno.grids import LatLon
from .climatology import year_phase

Float = NDArray[np.float32]
Times = NDArray[np.datetime64]

NAMES = ("insolation", "cos_year", "sin_year")


def insolation(times: Times, grid: LatLon) -> Float:
    """Return the cosine of the solar zenith angle, zero at night, shape (time, latitude, longitude).

        cos Z = sin(lat) sin(d) + cos(lat) cos(d) cos(h),   h = 15 deg (UTC hour - 12) + longitude

    with the declination d of Spencer (1971); the equation of time is left out.
    """
    g = year_phase(times)
    declination = (
        0.006918 - 0.399912 * np.cos(g) + 0.070257 * np.sin(g) - 0.006758 * np.cos(2 * g) + 0.000907 * np.sin(2 * g)
        - 0.002697 * np.cos(3 * g) + 0.00148 * np.sin(3 * g)
    )[:, None, None]  # fmt: skip
    seconds = (times - times.astype("datetime64[D]")) / np.timedelta64(1, "s")
    angle = 2 * np.pi * (seconds[:, None, None] / 86400 - 0.5) + np.deg2rad(grid.longitude)
    latitude = np.deg2rad(grid.latitude)[:, None]
    zenith = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(angle)
    return np.asarray(np.maximum(zenith, 0), dtype=np.float32)


def forcings(times: Times, grid: LatLon, step: np.timedelta64) -> Float:
    """Return the forcing fields, shape (time, 3, latitude, longitude): insolation, then cosine and sine of the year.

    With steps of a day or more the insolation is the mean over the day, since its value at one hour would only mark
    longitudes.
    """
    if step >= np.timedelta64(24, "h"):
        hours = np.arange(24) * np.timedelta64(1, "h")
        light = sum(insolation(times + hour, grid) for hour in hours) / np.float32(24)
    else:
        light = insolation(times, grid)
    phase = year_phase(times)
    result = np.empty((len(times), len(NAMES), *grid.shape), dtype=np.float32)
    result[:, 0] = light
    result[:, 1:] = np.stack([np.cos(phase), np.sin(phase)], axis=1)[:, :, None, None]
    return result


def static_fields(grid: LatLon) -> Float:
    """Return where each point lies, shape (3, latitude, longitude).

    Sine of latitude, then two longitude fields: cosine and sine round the globe; within a box its longitude and
    latitude scaled to [-1, 1].
    """
    latitude = np.broadcast_to(grid.latitude[:, None], grid.shape)
    longitude = np.broadcast_to(grid.longitude, grid.shape)
    if grid.periodic:
        rest = [np.cos(np.deg2rad(longitude)), np.sin(np.deg2rad(longitude))]
    else:
        rest = [2 * (v - v.min()) / (v.max() - v.min()) - 1 for v in (longitude, latitude)]
    return np.stack([np.sin(np.deg2rad(latitude)), *rest]).astype(np.float32)
