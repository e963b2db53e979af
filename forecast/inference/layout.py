"""The layout of a forecast, known before its first field: dimensions, coordinates and attributes.

It is what WeatherBench2 and WeatherBench-X read: ``time`` (initial time), ``prediction_timedelta``,
``[number]``, ``[level]``, ``latitude``, ``longitude``, and ``valid_time``.
"""

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ... import __version__
from ...datasets.store.netcdf import CONVENTIONS, PRESSURE_LEVEL, forecast_attributes, history
from ..checkpoint.weather import Checkpoint
from .initial_states import TimeArray
from .output_grid import OutputGrid
from .perturbations import Ensemble

Float = NDArray[np.float32]

_EARTH = {
    "latitude": {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north", "axis": "Y"},
    "longitude": {
        "standard_name": "longitude",
        "long_name": "longitude",
        "units": "degrees_east",
        "axis": "X",
    },
}
_INITIAL_TIME = {"standard_name": "forecast_reference_time", "long_name": "initial time"}
_LEAD_TIME = {"standard_name": "forecast_period", "long_name": "lead time"}
_VALID_TIME = {"standard_name": "time", "long_name": "valid time"}


@dataclass(frozen=True)
class ForecastLayout:
    """Layout of the forecasts of a model.

    Attributes:
        checkpoint: model.
        grid: grid to write on.
        steps: number of steps after the initial state.
        variables: names of the variables to write.
        ensemble: members and their perturbations.
        history: line for the attribute ``history``; by default the current time and the command.
    """

    checkpoint: Checkpoint
    grid: OutputGrid
    steps: int
    variables: list[str]
    ensemble: Ensemble
    history: str | None = None

    def channels(self, variable: str) -> list[int]:
        """Return the positions of a variable's channels."""
        return [i for i, channel in enumerate(self.checkpoint.channels) if channel.variable == variable]

    def extract(self, fields: Float, variable: str) -> Float:
        """Return a variable of one lead time on the output grid.

        Args:
            fields: all channels on the model's grid, shape (time, [member], channel, y, x).
            variable: name of the variable.

        Returns:
            Shape (time, [member], [level], row, column).
        """
        channels = self.channels(variable)
        values = self.grid.apply(np.take(fields, channels, axis=-3))
        return values if self.checkpoint.channels[channels[0]].level is not None else values[..., 0, :, :]

    def empty(self, times: TimeArray, batch_size: int) -> xr.Dataset:
        """Return a lazy forecast without values, in chunks of ``batch_size`` initial times."""
        coords = self._coordinates(times)
        number = ["number"] if self.ensemble.members > 1 else []
        variables = {}
        for name in self.variables:
            channels = [self.checkpoint.channels[i] for i in self.channels(name)]
            level = []
            if channels[0].level is not None:
                level = ["level"]
                levels = np.array([channel.level for channel in channels], np.int32)
                coords["level"] = ("level", levels, PRESSURE_LEVEL)
            dims = ["time", "prediction_timedelta", *number, *level, *self.grid.axes]
            shape = tuple(len(coords[dim][1]) for dim in dims)
            values = da.full(shape, np.nan, dtype=np.float32, chunks=(batch_size, 1, *shape[2:]))
            attrs = forecast_attributes(name, self.checkpoint.attrs.get(name, {}), channels[0].units)
            variables[name] = xr.DataArray(values, dims=dims, attrs=attrs)
        attributes = {
            "Conventions": CONVENTIONS,
            "title": "forecast",
            "source": f"fourcaster {__version__}, {self.checkpoint.config.model.kind}",
            "history": self.history or history(),
        }
        comment = {"comment": self.grid.note} if self.grid.note else {}
        return xr.Dataset(variables, coords, attributes | comment)

    def _coordinates(self, times: TimeArray) -> dict[str, Any]:
        """Return all coordinates except levels, which only some variables have."""
        leads = np.arange(self.steps + 1) * self.checkpoint.step.astype("timedelta64[ns]")
        valid_times = times[:, None] + leads
        coords: dict[str, Any] = {
            "time": ("time", times, _INITIAL_TIME),
            "prediction_timedelta": ("prediction_timedelta", leads, _LEAD_TIME),
            "valid_time": (("time", "prediction_timedelta"), valid_times, _VALID_TIME),
        }
        points = (self.grid.along_rows, self.grid.along_columns)
        for axis, along_axis in zip(self.grid.axes, points, strict=True):
            coords[axis] = (axis, along_axis, _EARTH.get(axis) or self.checkpoint.attrs.get(axis, {}))
        if self.ensemble.members > 1:
            members = np.arange(self.ensemble.members, dtype=np.int32)
            coords["number"] = ("number", members, self._member_attributes())
        return coords

    def _member_attributes(self) -> dict[str, str]:
        ensemble = self.ensemble
        first = (
            "0 is not perturbed" if ensemble.has_control else "both are one pair of opposite perturbations"
        )
        return {
            "standard_name": "realization",
            "long_name": f"member, {first}",
            "units": "1",
            "comment": (
                f"perturbations of {ensemble.amplitude:g} standard deviations of the anomalies, seed "
                f"{ensemble.seed}"
            ),
        }
