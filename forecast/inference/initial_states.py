"""Initial states of forecasts, read from any data set that contains the variables of a model."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...datasets.adapters.cf import canonical_source
from ...datasets.adapters.opening import open_raw
from ...datasets.durations import format_duration, format_time
from ...datasets.identity import Identity, identity, match_variables, select_place
from ...datasets.ingest.select import Selection
from ...datasets.schema import Channel, check_grid
from ...datasets.store.fields import Fields
from ...datasets.stored_forcings import StoredForcings
from ...datasets.suggestions import suggest
from ...datasets.units import conversion
from ...fno.grids import nearest_points
from ..checkpoint.weather import Checkpoint

TimeArray = NDArray[np.datetime64]

_CACHE_BYTES = 2**28


@dataclass(frozen=True)
class InitialStates:
    """States from which forecasts can start, in the order, units and grid of a model.

    Attributes:
        fields: states.
        source: name of the data in errors.
        forcings: inputs that are not forecast; None without any.
    """

    fields: Fields
    source: str
    forcings: StoredForcings | None = None

    def positions(self, times: TimeArray, window: int, step: np.timedelta64) -> NDArray[np.int64]:
        """Return the positions of the input windows that end at ``times``, shape (time, window).

        Args:
            times: initial times, shape (time,).
            window: number of states in a window.
            step: time between the states of a window.

        Raises:
            ValueError: a state of a window is missing.
        """
        offsets = np.arange(1 - window, 1) * step
        needed = times[:, None] + offsets.astype("timedelta64[ns]")
        positions = np.searchsorted(self.fields.times, needed).clip(max=len(self.fields.times) - 1)
        missing = self.fields.times[positions] != needed
        if missing.any():
            first, last = (format_time(time) for time in self.fields.times[[0, -1]])
            raise ValueError(
                f"{self.source} lacks {format_time(needed[missing][0])}, needed for the input of {window} "
                f"states {format_duration(step)} apart; it has {first} ... {last}"
            )
        return np.asarray(positions)


def initial_states(
    checkpoint: Checkpoint, init: str | Path | xr.Dataset, *, follow_links: bool = False
) -> InitialStates:
    """Open data with input states and convert them to the variables, units and grid of a model.

    Args:
        checkpoint: model.
        init: CF file, zarr store, or a data set in memory.
        follow_links: follow links within a file or store that lead outside of it.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a variable, level or grid point of the model is missing, or units are of another
            dimension.
    """
    if isinstance(init, xr.Dataset):
        return _convert(checkpoint, init, "the data set")
    source = str(init)
    with ExitStack() as on_error:
        raw = on_error.enter_context(open_raw(source, follow_links=follow_links))
        states = _convert(checkpoint, raw, source)
        on_error.pop_all()  # the states are read later, so the file stays open
    return states


def _convert(checkpoint: Checkpoint, raw: xr.Dataset, source: str) -> InitialStates:
    """Return the states in a data set, as ``initial_states`` does."""
    if "prediction_timedelta" in raw.dims:
        raw = _by_valid_time(raw, source)
    scales = checkpoint.stored_forcings
    forcing_channels = [] if scales is None else scales.channels
    identities = _identities(checkpoint, [*checkpoint.channels, *forcing_channels])
    names = {alias: None for own in identities.values() for alias in own.names}
    canonical = canonical_source(raw, source, select=Selection(variables=tuple(names)))
    available = sorted(canonical.names)
    dataset = check_grid(canonical.dataset, checkpoint.grid, source)
    if (np.diff(dataset["time"].values) <= np.timedelta64(0)).any():
        raise ValueError(
            f"{source} has unsorted or duplicate times; correct it with "
            "ds.sortby('time').drop_duplicates('time')"
        )
    matches = match_variables(identities, {str(n): identity(v) for n, v in dataset.data_vars.items()})
    variables = {}
    for name in identities:
        if name not in matches:
            hint = suggest(name, available)
            raise ValueError(f"{source} has no variable {name!r}, which the model needs; {hint}")
        channels = [c for c in [*checkpoint.channels, *forcing_channels] if c.variable == name]
        variables[name] = _convert_variable(dataset[matches[name]].rename(name), channels, source)
    names_of_forcings = {c.variable for c in forcing_channels}
    states, forcings = (
        Fields(xr.Dataset(own), cache_bytes=_CACHE_BYTES) if own else None
        for own in (
            {name: v for name, v in variables.items() if name not in names_of_forcings},
            {name: v for name, v in variables.items() if name in names_of_forcings},
        )
    )
    assert states is not None
    if forcings is None or scales is None:
        return InitialStates(states, source)
    return InitialStates(states, source, StoredForcings(forcings, scales, source))


def compare_states(checkpoint: Checkpoint, init: str | Path) -> tuple[list[str], Fields | None]:
    """Return all differences between a model and a data set that prevent a start from it.

    Args:
        checkpoint: model.
        init: CF file or zarr store.

    Returns:
        What is wrong with variables, units, levels and grid, one line each, and the states; None where no
        variable can be read.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it cannot be read at all.
    """
    source = str(init)
    problems = []
    raw = open_raw(source)
    if "prediction_timedelta" in raw.dims:
        raw = _by_valid_time(raw, source)
    scales = checkpoint.stored_forcings
    needed = [*checkpoint.channels, *(() if scales is None else scales.channels)]
    identities = _identities(checkpoint, needed)
    names = {alias: None for own in identities.values() for alias in own.names}
    canonical = canonical_source(raw, source, select=Selection(variables=tuple(names)))
    dataset = canonical.dataset
    for axis in checkpoint.grid.axes:
        if axis not in dataset.dims:
            problems.append(f"{source} has no axis {axis}, which the grid of the model has")
            continue
        expected = checkpoint.grid.coordinates[axis]
        _, distance, matches = nearest_points(expected, dataset[axis].values, circular=axis == "longitude")
        if not matches.all():
            values = dataset[axis].values
            problems.append(
                f"{source} is not on the model's grid: its {axis} is {values[0]:g} ... {values[-1]:g} "
                f"({len(values)} points), that of the model {expected[0]:g} ... {expected[-1]:g} "
                f"({len(expected)} points), off by up to {distance.max():g}; regrid it first"
            )
    matches_by_name = match_variables(identities, {str(n): identity(v) for n, v in dataset.data_vars.items()})
    variables = {}
    for name in identities:
        if name not in matches_by_name:
            hint = suggest(name, sorted(canonical.names))
            problems.append(f"{source} has no variable {name!r}, which the model needs; {hint}")
            continue
        array = dataset[matches_by_name[name]].rename(name)
        channels = [c for c in needed if c.variable == name]
        stored = array["level"].values.tolist() if "level" in array.dims else []
        present = [c for c in channels if c.level is None or not stored or c.level in stored]
        if stored and (lacking := [c.level for c in channels if c not in present]):
            levels = ", ".join(map(str, lacking))
            problems.append(
                f"{source}: {name!r} lacks the level{'s' * (len(lacking) > 1)} {levels} hPa, which the model "
                f"needs; it has {', '.join(map(str, stored))} hPa"
            )
        if not present:
            continue
        try:
            variables[name] = _convert_variable(array, present, source)
        except ValueError as error:
            problems.append(str(error))
    return problems, Fields(xr.Dataset(variables)) if variables else None


def _convert_variable(array: xr.DataArray, channels: Sequence[Channel], source: str) -> xr.DataArray:
    """Return a variable in the units and on the levels of a model's channels."""
    try:
        factor, offset = conversion(array.attrs["units"], channels[0].units)
    except ValueError as error:
        raise ValueError(f"{source}: {str(array.name)!r} {error}, the units of the model") from error
    levels = [channel.level for channel in channels if channel.level is not None]
    # Members are samples of the same quantity: a forecast may start from any of them.
    scalars = {key: text for key, text in channels[0].scalars.items() if key != "number"}
    array = select_place(array, levels=levels or None, scalars=scalars, source=source, owner="the model")
    return array if (factor, offset) == (1.0, 0.0) else (array * factor + offset).astype(np.float32)


def _identities(checkpoint: Checkpoint, channels: Sequence[Channel]) -> dict[str, Identity]:
    """Return what identifies each variable of a model in other data, in the model's order."""
    identities = {}
    for channel in channels:
        name = channel.variable
        attrs = checkpoint.attrs.get(name, {}) | {"units": channel.units}
        has_level = channel.level is not None or "level" in channel.scalars
        identities[name] = Identity(name, attrs, has_level)
    return identities


def _by_valid_time(forecast: xr.Dataset, source: str) -> xr.Dataset:
    """Return a forecast of one initial time as a series in valid time."""
    if "time" in forecast.coords and not forecast["time"].dims:
        forecast = forecast.expand_dims("time")
    for name in ("time", "prediction_timedelta"):
        if forecast.sizes.get(name) == 0:
            raise ValueError(f"{source} has no values along {name!r}; give a forecast or a series of states")
    kinds = [
        forecast[name].dtype.kind if name in forecast.coords else ""
        for name in ("time", "prediction_timedelta")
    ]
    if "time" not in forecast.dims or kinds != ["M", "m"]:
        raise ValueError(
            f"{source} lacks initial times or lead times, so it is not a forecast; give a forecast or a "
            "series of states"
        )
    if forecast.sizes["time"] > 1:
        count = forecast.sizes["time"]
        raise ValueError(
            f"{source} has {count} forecasts; select the one to start from, e.g. ds.isel(time=[-1])"
        )
    if "number" in forecast.dims:
        count = forecast.sizes["number"]
        raise ValueError(
            f"{source} has {count} members; select the one to start from, e.g. ds.isel(number=0)"
        )
    valid_time = forecast["time"].values[0] + forecast["prediction_timedelta"].values
    series = forecast.isel(time=0).drop_vars(["time", "valid_time"], errors="ignore")
    return series.rename(prediction_timedelta="time").assign_coords(time=valid_time)
