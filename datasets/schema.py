"""The canonical data set: names, order of dimensions, units, and checks of time and grid.

Dimensions are ``time, [number,] [level,] latitude, longitude``, or ``time, y, x`` for Cartesian flows.
Variables have CF ``units``; those on pressure levels have WeatherBench2's names, others keep the names of
their source.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from ..fno.grids import Box, Grid, LatLon, nearest_points
from .durations import format_duration, format_time
from .errors import DataError
from .scalars import ATTRIBUTE, describe_scalars, scalars_of
from .store import names as naming

DIMENSIONS = naming.DIMENSIONS

# WeatherBench2 name and units of variables on pressure levels, by CF standard name.
LEVEL_VARIABLES = {
    "air_temperature": ("temperature", "K"),
    "geopotential": ("geopotential", "m**2 s**-2"),
    "eastward_wind": ("u_component_of_wind", "m s**-1"),
    "northward_wind": ("v_component_of_wind", "m s**-1"),
    "specific_humidity": ("specific_humidity", "kg kg**-1"),
    "relative_humidity": ("relative_humidity", "%"),
    "lagrangian_tendency_of_air_pressure": ("vertical_velocity", "Pa s**-1"),
    "atmosphere_relative_vorticity": ("vorticity", "s**-1"),
    "divergence_of_wind": ("divergence", "s**-1"),
}
# Units by standard name, including variables on single levels.
STANDARD_UNITS = {standard: units for standard, (_, units) in LEVEL_VARIABLES.items()} | {
    "air_pressure_at_sea_level": "Pa",
    "surface_air_pressure": "Pa",
    "sea_surface_temperature": "K",
    "surface_temperature": "K",
    "geopotential_height": "m",
    "wind_speed": "m s**-1",
}

# Plausible ranges on Earth by standard name or unit, wide enough to detect only wrong units.
PLAUSIBLE = {
    "K": (100.0, 400.0),
    "geopotential": (-2e4, 8e5),
    "specific_humidity": (-1e-3, 0.1),
    "relative_humidity": (-20.0, 250.0),
    "eastward_wind": (-250.0, 250.0),
    "northward_wind": (-250.0, 250.0),
    "wind_speed": (0.0, 350.0),
    "air_pressure_at_mean_sea_level": (8e4, 1.2e5),
    "air_pressure_at_sea_level": (8e4, 1.2e5),
    "surface_air_pressure": (3e4, 1.2e5),
}


@dataclass(frozen=True)
class Channel:
    """One field of the state: a variable, on one level if it has levels.

    Attributes:
        variable: name of the variable.
        level: pressure [hPa]; None for a variable without levels.
        units: CF units.
        place: scalar coordinates such as ``height=10 m``, see ``scalars``; empty if there are none.
    """

    variable: str
    level: int | None
    units: str
    place: str = ""

    def __str__(self) -> str:
        name = self.variable if self.level is None else f"{self.variable} {self.level} hPa"
        return f"{name} at {describe_scalars(self.scalars)}" if self.place else name

    @property
    def scalars(self) -> dict[str, str]:
        """Scalar coordinates by name."""
        return scalars_of({ATTRIBUTE: self.place})


def channels(dataset: xr.Dataset) -> list[Channel]:
    """Return the channels of a canonical data set, in the order of its variables and levels."""
    result = []
    for name, variable in dataset.data_vars.items():
        levels = dataset["level"].values.tolist() if "level" in variable.dims else [None]
        place = str(variable.attrs.get(ATTRIBUTE, ""))
        result += [Channel(str(name), level, str(variable.attrs.get("units", "")), place) for level in levels]
    return result


def implausible(channel: Channel, standard_name: str, *, least: float, largest: float) -> str:
    """Return a warning if a range of values is implausible for the name or units, otherwise an empty text.

    Args:
        channel: channel of the values.
        standard_name: its CF standard name, or an empty text.
        least: smallest value, in the units of the channel.
        largest: largest value.
    """
    low, high = PLAUSIBLE.get(standard_name) or PLAUSIBLE.get(channel.units) or (-np.inf, np.inf)
    if low <= least and largest <= high:
        return ""
    hint = (
        "; they look like degrees Celsius" if channel.units == "K" and least > -100 and largest < 70 else ""
    )
    return (
        f"{channel} runs from {least:g} to {largest:g} {channel.units}, outside {low:g} ... {high:g}{hint}; "
        "if its units are wrong, correct them when it is read"
    )


def axes_of(dataset: xr.Dataset) -> tuple[str, str]:
    """Return the names of the rows and columns of a canonical data set."""
    return ("y", "x") if "y" in dataset.dims else ("latitude", "longitude")


def grid_of(dataset: xr.Dataset) -> Grid:
    """Return the grid of a canonical data set."""
    if "y" in dataset.dims:
        periodic = tuple("modulo" in dataset[axis].attrs for axis in ("y", "x"))
        return Box.from_coordinates({axis: dataset[axis].values for axis in ("y", "x")}, periodic)
    return LatLon(dataset["latitude"].values, dataset["longitude"].values)


def describe_axes(dataset: xr.Dataset) -> str:
    """Describe the size and extent of the grid of a data set, e.g. for a summary."""
    rows, columns = (dataset[name].values for name in axes_of(dataset))
    first, second = axes_of(dataset)
    return (
        f"{len(rows)} x {len(columns)}, {first} {rows[0]:g} ... {rows[-1]:g}, "
        f"{second} {columns[0]:g} ... {columns[-1]:g}"
    )


def time_step(times: np.ndarray, source: str, allow_gaps: bool = False) -> tuple[np.timedelta64, list[int]]:
    """Check the time axis and return its step and the positions of the first times after gaps.

    Args:
        times: times as datetime64, shape (time,).
        source: name of the source for messages.
        allow_gaps: return gaps instead of raising an error.

    Raises:
        ValueError: there are fewer than two times, or unsorted, duplicate or irregular times.
    """
    if len(times) < 2:
        raise ValueError(
            f"{source} has {len(times)} time{'' if len(times) == 1 else 's'}; at least two are needed"
        )
    steps = np.diff(times)
    zero = np.timedelta64(0, "ns")
    if (steps == zero).any():
        duplicate = times[1:][steps == zero][0]
        raise ValueError(
            f"{source} contains the time {format_time(duplicate)} twice; "
            "drop one, e.g. with ds.drop_duplicates('time')"
        )
    if (steps < zero).any():
        unsorted = times[1:][steps < zero][0]
        raise ValueError(
            f"{source} has unsorted times ({format_time(unsorted)} comes after a later one); "
            "sort with ds.sortby('time')"
        )
    values, counts = np.unique(steps, return_counts=True)
    step = values[counts.argmax()]
    gaps = (np.flatnonzero(steps != step) + 1).tolist()
    if gaps and not allow_gaps:
        before = times[gaps[0] - 1]
        after = times[gaps[0]]
        monthly = steps.min() / np.timedelta64(1, "D") >= 28 and steps.max() / np.timedelta64(1, "D") <= 31
        hint = (
            "months are not a constant time step; use a daily or hourly source"
            if monthly
            else "fill them, or allow gaps to record them"
        )
        count = f"{len(gaps)} interval{'s' if len(gaps) > 1 else ''}"
        raise DataError(
            f"{source} has irregular times: {count} other than the usual {format_duration(step)}, "
            f"the first from {format_time(before)} to {format_time(after)}; {hint}",
            option=None if monthly else "allow_gaps",
        )
    return step, gaps


def check_grid(dataset: xr.Dataset, grid: Grid, source: str) -> xr.Dataset:
    """Return a data set on exactly a model's grid, selecting and reordering points if necessary.

    Points match within ``fno.grids.COORDINATE_TOLERANCE`` of the spacing; the result has the coordinates of
    ``grid``.

    Args:
        dataset: canonical data set.
        grid: grid of the model.
        source: name of the source for messages.

    Raises:
        ValueError: the data set lacks a coordinate of the grid.
    """
    if axes_of(dataset) != grid.axes:
        raise ValueError(
            f"{source} is on {' and '.join(axes_of(dataset))}, but the model on {' and '.join(grid.axes)}"
        )
    unit = "degrees" if isinstance(grid, LatLon) else "m"
    for name, expected in grid.coordinates.items():
        values = dataset[name].values
        positions, distance, matches = nearest_points(expected, values, circular=name == "longitude")
        if not matches.all():
            raise ValueError(
                f"{source} is not on the model's grid: its {name} is {_describe_axis(values)}, that of the "
                f"model {_describe_axis(expected)}, off by up to {distance.max():g} {unit}; regrid it first"
            )
        coordinate = (name, expected, dataset[name].attrs)
        dataset = dataset.isel({name: positions}).assign_coords({name: coordinate})
    return dataset


def _describe_axis(values: np.ndarray) -> str:
    return f"{values[0]:g} ... {values[-1]:g} ({len(values)} points)"
