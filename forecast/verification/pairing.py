"""Channels that a forecast and the truth have in common, and the forecast in the truth's order and units."""

import logging
from dataclasses import dataclass

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...datasets.adapters.channel_names import identify
from ...datasets.errors import DataError
from ...datasets.scalars import check_same_place, level_of, scalars_of
from ...datasets.suggestions import suggest
from ...datasets.units import conversion

log = logging.getLogger(__name__)

Float = NDArray[np.float32]
Key = tuple[str, int | None]
"""Variable and level [hPa] of a channel."""

_BLOCK_BYTES = 2**28


@dataclass(frozen=True)
class Pairs:
    """Channels of the truth and the channels of the forecast that they are compared with.

    Attributes:
        channels: channel of the truth -> channel of the forecast, in the truth's order.
        left_out: names of the channels of the forecast that the truth lacks.
    """

    channels: dict[Key, Key]
    left_out: list[str]


def channel_keys(dataset: xr.Dataset) -> list[Key]:
    """Return variable and level of each channel of a data set."""
    return [
        (str(name), level)
        for name, array in dataset.data_vars.items()
        for level in (array["level"].values.tolist() if "level" in array.dims else [None])
    ]


def quantity(dataset: xr.Dataset, key: Key) -> Key:
    """Return WeatherBench2's name and the level [hPa] of a channel.

    The level may be a coordinate, an attribute, or part of the variable's name.
    """
    name, level = key
    attrs = dataset[name].attrs
    term, level_in_name = identify(name, attrs)
    levels = (level, level_of(attrs), level_in_name)
    return term, next((candidate for candidate in levels if candidate is not None), None)


def pair_channels(forecast: xr.Dataset, truth: xr.Dataset, names: tuple[str, str]) -> Pairs:
    """Pair channels of the same name and level, or else of the same quantity and level.

    Args:
        forecast: canonical forecast.
        truth: canonical data set.
        names: names of both in errors.

    Raises:
        ValueError: no channel is common, or one is at another height or level than the truth's of the same
            name.
    """
    forecast_keys = channel_keys(forecast)
    by_quantity = {quantity(forecast, key): key for key in reversed(forecast_keys)}
    channels = {}
    for key in channel_keys(truth):
        match = key if key in forecast_keys else by_quantity.get(quantity(truth, key))
        if match is not None:
            channels[key] = match
    if not channels:
        name, level = forecast_keys[0]
        place = "" if level is None else f" at {level} hPa"
        hint = suggest(name, truth.data_vars)
        raise ValueError(f"the truth {names[1]} has no variable {name!r}{place} of {names[0]}; {hint}")
    for (truth_name, truth_level), (name, level) in channels.items():
        if truth_level == level:
            scalars = scalars_of(forecast[name].attrs)
            scalars.pop("number", None)  # a member is verified against any analysis
            truth_scalars = scalars_of(truth[truth_name].attrs)
            check_same_place(name, scalars, truth_scalars, source=names[0], owner=f"the truth {names[1]}")
    used = set(channels.values())
    left_out = [
        name if level is None else f"{name} {level} hPa"
        for name, level in forecast_keys
        if (name, level) not in used
    ]
    return Pairs(channels, left_out)


def find_channel(dataset: xr.Dataset, variable: str, *, level: int | None, source: str) -> xr.DataArray:
    """Return one channel by name and level, or by quantity: ``z500`` finds geopotential at 500 hPa.

    Args:
        dataset: canonical data set or forecast.
        variable: name of the variable.
        level: pressure [hPa], or None.
        source: name of the data set in errors.

    Raises:
        ValueError: there is no such variable or level, the variable has no levels, or it has several and none
            is chosen.
    """
    keys = channel_keys(dataset)
    key = (variable, level)
    if key not in keys:
        term, level_in_name = identify(variable, {})
        target = (term, level if level_in_name is None else level_in_name)
        matches = [other for other in keys if quantity(dataset, other) == target]
        contradicts = level_in_name is not None and level not in (None, level_in_name)
        levels = [own_level for name, own_level in keys if name == variable]
        if variable in dataset and level is None and len(levels) == 1:
            key = (variable, levels[0])
        elif matches and not contradicts:
            key = matches[0]
        elif variable not in dataset:
            hint = suggest(variable, dataset.data_vars)
            raise ValueError(f"{source} has no variable {variable!r}; {hint}")
        elif levels == [None]:
            raise DataError(f"{variable!r} of {source} has no levels; leave out the level", option="level")
        else:
            lacks = "" if level is None else f"{variable!r} of {source} has no level {level} hPa; "
            listed = ", ".join(map(str, levels))
            raise DataError(
                f"{lacks}choose one of the levels {listed} hPa of {variable!r}",
                option="level",
                example=str(levels[0]),
            )
    array = dataset[key[0]]
    return array if key[1] is None else array.sel(level=key[1])


def in_units(array: xr.DataArray, units: str, source: str) -> xr.DataArray:
    """Return an array in other units; one without units is taken to have them already.

    Args:
        array: array with an attribute ``units``, or without.
        units: units to convert to.
        source: name of the array's data set in errors.

    Raises:
        ValueError: the units are of another dimension.
    """
    own_units = array.attrs.get("units")
    try:
        factor, offset = conversion(own_units, units) if own_units else (1.0, 0.0)
    except ValueError as error:
        raise ValueError(f"{str(array.name)!r} of {source} {error}, the units of the truth") from error
    unchanged = (factor, offset) == (1.0, 0.0)
    converted = array if unchanged else (array * factor + offset).astype(np.float32)
    return converted.assign_attrs(array.attrs | {"units": units})


class PairedForecast:
    """The channels of a forecast that are compared with the truth, in its order and units.

    Args:
        forecast: canonical forecast, on the points that are scored.
        truth: canonical data set.
        pairs: common channels.
        names: names of both in errors.

    Attributes:
        ensemble: whether the forecast has a dimension ``number``.
        members: number of members.
        bytes_per_lead: size of the fields of one initial and lead time [B].
    """

    def __init__(
        self, forecast: xr.Dataset, truth: xr.Dataset, pairs: Pairs, *, names: tuple[str, str]
    ) -> None:
        levels: dict[str, list[int]] = {}
        units: dict[str, str] = {}
        for (truth_name, _), (name, level) in pairs.channels.items():
            levels.setdefault(name, []).extend([] if level is None else [level])
            units[name] = str(truth[truth_name].attrs["units"])
        assumed = [f"{name} [{units[name]}]" for name in levels if not forecast[name].attrs.get("units")]
        if assumed:
            listed = ", ".join(assumed)
            log.warning("%s has no units of %s; those of the truth are assumed", names[0], listed)
        self.ensemble = "number" in forecast.dims
        self.members = forecast.sizes.get("number", 1)
        number = ["number"] if self.ensemble else []
        arrays = []
        for name, own_levels in levels.items():
            array = in_units(forecast[name], units[name], names[0])
            array = array.sel(level=own_levels) if own_levels else array.expand_dims("level", -3)
            if self.ensemble and "number" not in array.dims:
                array = array.expand_dims(number=forecast["number"])
            arrays.append(array.transpose("time", "prediction_timedelta", *number, "level", ...))
        self._arrays = arrays
        positions: dict[Key, int] = {}
        for name, own_levels in levels.items():
            for level in own_levels or (None,):
                positions[name, level] = len(positions)
        self._order = [positions[key] for key in pairs.channels.values()]
        self._block: tuple[slice, range, Float] | None = None
        self._leads = forecast.sizes["prediction_timedelta"]
        self.bytes_per_lead = 4 * sum(int(np.prod(a.shape[2:])) for a in self._arrays)

    def read(self, times: slice, lead: int) -> Float:
        """Return the fields of some initial times at one lead, shape (time, [member], channel, y, x).

        Leads are read in blocks, of which the last is kept.
        """
        if self._block is None or self._block[0] != times or lead not in self._block[1]:
            count = max(1, _BLOCK_BYTES // max(1, self.bytes_per_lead * (times.stop - times.start)))
            leads = range(lead, min(self._leads, lead + count))
            where = {"time": times, "prediction_timedelta": slice(leads.start, leads.stop)}
            parts = dask.compute(*(a.isel(where).data for a in self._arrays), scheduler="threads")
            self._block = times, leads, np.concatenate(parts, axis=-3)[..., self._order, :, :]
        _, leads, values = self._block
        return np.asarray(values[:, lead - leads.start], dtype=np.float32)
