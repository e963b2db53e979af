"""Which channels of a forecast and of the truth are the same, and the forecast's values in the truth's order
and units.
"""

import logging
from dataclasses import dataclass

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...datasets.adapters.channel_names import identify
from ...datasets.scalars import check_same_place, level_of, scalars_of
from ...datasets.suggestions import suggest
from ...datasets.units import conversion

log = logging.getLogger(__name__)
Float = NDArray[np.float32]
Key = tuple[str, int | None]  # variable, level [hPa]
_BLOCK_BYTES = 2**28


@dataclass(frozen=True)
class Pairs:
    """Channels of the truth and those of the forecast that they are compared with.

    Attributes:
        channels: truth's (variable, level) -> forecast's (variable, level), in the truth's order.
        left_out: channels of the forecast that the truth does not have.
    """

    channels: dict[Key, Key]
    left_out: list[str]


def channel_keys(dataset: xr.Dataset) -> list[Key]:
    """Return variable and level of each channel of a data set."""
    return [
        (str(n), level)
        for n, v in dataset.data_vars.items()
        for level in (v["level"].values.tolist() if "level" in v.dims else [None])
    ]


def quantity(dataset: xr.Dataset, key: Key) -> Key:
    """Return WeatherBench2's name and the level of a channel, whether the level is an axis or part of the
    name.
    """
    name, level = key
    attrs = dataset[name].attrs
    term, in_name = identify(name, attrs)
    return term, next((at for at in (level, level_of(attrs), in_name) if at is not None), None)


def pair_channels(forecast: xr.Dataset, truth: xr.Dataset, names: tuple[str, str]) -> Pairs:
    """Pair channels of one name and level, else those that measure the same on the same level.

    Args:
        forecast: canonical forecast.
        truth: canonical data set.
        names: what errors call them.

    Raises:
        ValueError: no channel is common, or one is at another height or level than the truth's of the same
            name.
    """
    ours, theirs = channel_keys(forecast), channel_keys(truth)
    by_quantity = {quantity(forecast, key): key for key in reversed(ours)}
    found = {key: key if key in ours else by_quantity.get(quantity(truth, key)) for key in theirs}
    channels = {key: same for key, same in found.items() if same is not None}
    if not channels:
        first = ours[0]
        at = "" if first[1] is None else f" at {first[1]} hPa"
        raise ValueError(
            f"the truth {names[1]} has no variable {first[0]!r}{at} of {names[0]}; {suggest(first[0], truth.data_vars)}"
        )
    for (variable, level), (mine, level_here) in channels.items():
        if level == level_here:
            here, there = scalars_of(forecast[mine].attrs), scalars_of(truth[variable].attrs)
            here.pop("number", None)  # a member is verified against any analysis
            check_same_place(mine, here, there, source=names[0], owner=f"the truth {names[1]}")
    used = set(channels.values())
    left_out = [
        name if level is None else f"{name} {level} hPa" for name, level in ours if (name, level) not in used
    ]
    return Pairs(channels, left_out)


def find_channel(dataset: xr.Dataset, variable: str, level: int | None, called: str) -> xr.DataArray:
    """Return one channel: by name and level, or by what the name measures, so that ``z500`` is geopotential
    at 500 hPa.

    Raises:
        ValueError: no such variable or level, a level for a variable without, or none for one with several.
    """
    keys = channel_keys(dataset)
    wanted = (variable, level)
    if wanted not in keys:
        term, in_name = identify(variable, {})
        same = [
            key for key in keys if quantity(dataset, key) == (term, level if in_name is None else in_name)
        ]
        same = same if level in (None, in_name) or in_name is None else []
        levels = [at for name, at in keys if name == variable]
        if variable in dataset and level is None and len(levels) == 1:
            wanted = (variable, levels[0])
        elif same:
            wanted = same[0]
        elif variable not in dataset:
            raise ValueError(f"{called} has no variable {variable!r}; {suggest(variable, dataset.data_vars)}")
        elif levels == [None]:
            raise ValueError(f"{variable!r} of {called} has no levels; leave out --level")
        else:
            lacks = "" if level is None else f"{variable!r} of {called} has no level {level} hPa; "
            raise ValueError(f"{lacks}name one of the levels {', '.join(map(str, levels))} hPa with --level")
    array = dataset[wanted[0]]
    return array if wanted[1] is None else array.sel(level=wanted[1])


def in_units(array: xr.DataArray, units: str, called: str) -> xr.DataArray:
    """Return an array in other units; one without units is taken to have them already.

    Raises:
        ValueError: the units measure different things.
    """
    given = array.attrs.get("units")
    try:
        factor, offset = conversion(given, units) if given else (1.0, 0.0)
    except ValueError as error:
        raise ValueError(f"{str(array.name)!r} of {called} {error}, the units of the truth") from error
    changed = array if (factor, offset) == (1.0, 0.0) else (array * factor + offset).astype(np.float32)
    return changed.assign_attrs(array.attrs | {"units": units})


class PairedForecast:
    """The channels of a forecast that are compared with the truth, in its order and units.

    Args:
        forecast: canonical forecast, on the common points.
        truth: canonical data set.
        pairs: common channels.
        names: what errors call them.
    """

    def __init__(self, forecast: xr.Dataset, truth: xr.Dataset, pairs: Pairs, names: tuple[str, str]) -> None:
        levels: dict[str, list[int]] = {}
        units: dict[str, str] = {}
        for (theirs, _), (ours, level) in pairs.channels.items():
            levels.setdefault(ours, []).extend([] if level is None else [level])
            units[ours] = str(truth[theirs].attrs["units"])
        if assumed := [f"{name} [{units[name]}]" for name in levels if not forecast[name].attrs.get("units")]:
            log.warning(
                "%s gives no units of %s; those of the truth are assumed", names[0], ", ".join(assumed)
            )
        arrays = {}
        self.ensemble = "number" in forecast.dims
        for name, at in levels.items():
            array = in_units(forecast[name], units[name], names[0])
            array = array.sel(level=at) if at else array.expand_dims("level", -3)
            if self.ensemble and "number" not in array.dims:
                array = array.expand_dims(number=forecast["number"])
            arrays[name] = array.transpose(
                "time", "prediction_timedelta", *(["number"] if self.ensemble else []), "level", ...
            )
        self._arrays = list(arrays.values())
        start, places = 0, {}
        for name, at in levels.items():
            for i, level in enumerate(at or [None]):  # type: ignore[list-item]
                places[name, level] = start + i
            start += max(1, len(at))
        self._order = [places[key] for key in pairs.channels.values()]
        self._block: tuple[slice, range, Float] | None = None
        self.leads = forecast.sizes["prediction_timedelta"]
        self.bytes_of_a_lead = 4 * sum(int(np.prod(a.shape[2:])) for a in self._arrays)

    def read(self, times: slice, lead: int) -> Float:
        """Return the fields of some initial times at one lead, shape (time, [member], channel, H, W); leads
        are read in blocks.
        """
        if self._block is None or self._block[0] != times or lead not in self._block[1]:
            count = max(1, _BLOCK_BYTES // max(1, self.bytes_of_a_lead * (times.stop - times.start)))
            leads = range(lead, min(self.leads, lead + count))
            lazy = [
                a.isel(time=times, prediction_timedelta=slice(leads.start, leads.stop)).data
                for a in self._arrays
            ]
            parts = dask.compute(*lazy, scheduler="threads")
            self._block = times, leads, np.concatenate(parts, axis=-3)[..., self._order, :, :]
        _, leads, values = self._block
        return np.asarray(values[:, lead - leads.start], dtype=np.float32)
