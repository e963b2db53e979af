"""GRIB files as opened by cfgrib, arranged by valid time, with ensemble members along ``number``.

cfgrib returns one data set per set of axes: analyses have only times, accumulations and forecasts have runs
(``time``) and lead times (``step``). If several runs provide a field for the same valid time, the fields must
be equal, and the one with the shortest step is read. Accumulations since the start of a run, such as those of
ERA5-Land, are converted to accumulations over each step.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..errors import InvalidDataError
from ..scalars import record
from .vocabulary import CONSTANT_SHORT_NAMES, ECMWF

log = logging.getLogger(__name__)

Messages = Mapping[tuple[int, str], Mapping[tuple[int, float], int]]
"""Start steps of messages, by (parameter, type of level) and (run [s since 1970], step [h])."""

_MAX_FIELDS = 10**7  # runs times steps
_SCALARS = ("time", "valid_time", "step", "number", "isobaricInhPa")


def matches(dataset: xr.Dataset) -> bool:
    """Return whether variables have the attributes of cfgrib."""
    return any("GRIB_shortName" in v.attrs for v in dataset.data_vars.values())


def arrange(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return the fields by valid time.

    Args:
        dataset: data set of cfgrib.
        source: path, for error messages.

    Raises:
        ValueError: several runs provide different fields for the same valid time.
    """
    return by_valid_time(dataset, source)


def open_messages(path: str) -> Messages:
    """Return the runs and steps of each parameter in a file."""
    from cfgrib.dataset import open_fileindex
    from cfgrib.messages import FileStream

    keys = ("paramId", "typeOfLevel", "time", "step", "startStep:int")
    index = open_fileindex(FileStream(path), indexpath="", index_keys=keys)
    messages: dict[tuple[int, str], dict[tuple[int, float], int]] = {}
    for values, _ in index.iter_index():
        message = dict(zip(index.index_keys, values, strict=True))
        of_parameter = messages.setdefault((int(message["paramId"]), str(message["typeOfLevel"])), {})
        of_parameter[int(message["time"]), float(message["step"])] = int(message["startStep:int"])
    return messages


def join(parts: Sequence[xr.Dataset], path: str, variables: Iterable[str] | None = None) -> xr.Dataset:
    """Merge the data sets that cfgrib returns for a file, on the valid times that all variables have.

    Args:
        parts: data sets of cfgrib.
        path: path of the file, to look up its messages and for error messages.
        variables: names to keep, of cfgrib, ECMWF or WeatherBench2; all if the file has none of them.

    Raises:
        InvalidDataError: several grids, a variable on several types of level, runs with different fields for
            the same valid time, or no common time.
    """
    for name in ("latitude", "longitude"):
        if any(
            name in part.coords and not np.array_equal(part[name].values, parts[0][name].values)
            for part in parts
        ):
            raise InvalidDataError(
                f"{path} has fields on grids of several {name}s; "
                "extract one grid, e.g. with grib_copy -w Ni=...,Nj=..."
            )
    messages = open_messages(path) if any("step" in part.dims for part in parts) else None
    requested = set(variables or ())
    selected = [
        str(name)
        for part in parts
        for name in part.data_vars
        if not requested or _names(part[name]) & requested
    ]
    pieces: dict[str, list[xr.Dataset]] = {}
    for part in parts:
        names = [str(name) for name in part.data_vars if not selected or name in selected]
        from_start = [
            name for name in names if "step" in part.dims and _accumulates_from_start(part[name], messages)
        ]
        for group in (from_start, [name for name in names if name not in from_start]):
            if group:
                piece = record(
                    part[group], [str(c) for c in part.coords if part[c].ndim == 0 and c not in _SCALARS]
                )
                if "isobaricInhPa" in piece.coords and piece["isobaricInhPa"].ndim == 0:
                    piece = piece.expand_dims("isobaricInhPa")
                if group is from_start:
                    piece = _accumulate_over_steps(piece, path)
                piece = by_valid_time(piece, path, messages)
                for name in group:
                    pieces.setdefault(name, []).append(piece[[name]])
    fields = []
    for name, variable_pieces in pieces.items():
        try:
            fields.append(
                xr.merge(variable_pieces, compat="no_conflicts", join="outer", combine_attrs="override")
                if len(variable_pieces) > 1
                else variable_pieces[0]
            )
        except (xr.MergeError, ValueError) as error:
            kinds = sorted({str(part[name].attrs.get("GRIB_typeOfLevel")) for part in variable_pieces})
            if len(kinds) == 1:
                raise InvalidDataError(
                    f"{path} has {name!r} several times with different values or axes ({str(error)[:80]}); "
                    "extract one of them"
                ) from error
            raise InvalidDataError(
                f"{path} has {name!r} on several kinds of level ({', '.join(kinds)}); "
                f"extract one kind, e.g. with grib_copy -w typeOfLevel={kinds[0]}"
            ) from error
    return xr.merge(
        _on_common_times(fields, path), compat="no_conflicts", join="outer", combine_attrs="override"
    )


def by_valid_time(part: xr.Dataset, source: str, messages: Messages | None = None) -> xr.Dataset:
    """Return a data set of cfgrib, lazily, with valid time as its axis ``time``.

    Args:
        part: data set.
        source: path, for error messages.
        messages: messages in the file; by default every run has every step, or missing values in its place.

    Raises:
        InvalidDataError: several runs provide different fields for the same valid time.
    """
    if "step" in part.dims and "time" in part.dims:
        return _flatten_runs(part, source, messages)
    if "step" in part.dims:
        part = part.drop_vars("time").swap_dims(step="valid_time").rename(valid_time="time")
    elif "valid_time" in part.coords and "time" in part.coords:
        part = part.assign_coords(time=part["valid_time"].variable).drop_vars("valid_time")
    return part.drop_vars("step", errors="ignore")


def _flatten_runs(part: xr.Dataset, source: str, messages: Messages | None) -> xr.Dataset:
    """Return the fields of all runs and steps along one axis of valid times."""
    runs = part["time"].values
    steps = part["step"].values
    if len(runs) * len(steps) > _MAX_FIELDS:
        raise InvalidDataError(
            f"{source} has {len(runs)} runs and {len(steps)} steps, more than {_MAX_FIELDS} fields; "
            "split it by run first"
        )
    valid_times = runs[:, None] + steps[None]
    run, step = np.nonzero(_available(part, messages))
    order = np.lexsort((steps[step], valid_times[run, step]))
    run = run[order]
    step = step[order]
    times = valid_times[run, step]
    repeated = np.flatnonzero(np.append(False, times[1:] == times[:-1]))
    dropped: set[int] = set()
    first: dict[np.datetime64, int] = {}
    for at in repeated.tolist():
        before = first.setdefault(times[at], at - 1)
        a, b = (
            part.isel(time=int(run[i]), step=int(step[i])).drop_vars(
                ("time", "step", "valid_time"), errors="ignore"
            )
            for i in (before, at)
        )
        for empty, i in ((a, before), (b, at)):
            if messages is None and all(bool(v.isnull().all()) for v in empty.data_vars.values()):
                dropped.add(i)
                first[times[at]] = at if i == before else before
                break
        else:
            if not a.equals(b):
                sources = " and ".join(
                    f"{str(runs[run[i]])[:16]} at step {steps[step[i]] / np.timedelta64(1, 'h'):g} h"
                    for i in (before, at)
                )
                raise InvalidDataError(
                    f"{source} has different {', '.join(map(str, part.data_vars))} for "
                    f"{str(times[at])[:16]}, by the runs of {sources}; "
                    "extract some steps or one run, e.g. with grib_copy -w step=0 or -w dataTime=0"
                )
            dropped.add(at)
    keep = np.setdiff1d(np.arange(len(times)), list(dropped))
    positions = {
        "time": xr.DataArray(run[keep], dims="validity"),
        "step": xr.DataArray(step[keep], dims="validity"),
    }
    selected = part.isel(positions).drop_vars(("time", "step", "valid_time"), errors="ignore")
    return selected.rename_dims(validity="time").assign_coords(time=("time", times[keep]))


def _available(part: xr.Dataset, messages: Messages | None) -> NDArray[np.bool_]:
    """Return which runs have which steps, shape (run, step)."""
    available = np.zeros((part.sizes["time"], part.sizes["step"]), dtype=bool)
    for variable in part.data_vars.values():
        variable_messages = _messages_of(variable, messages)
        if variable_messages is None:
            return np.ones_like(available)
        seconds = part["time"].values.astype("datetime64[s]").astype(np.int64).tolist()
        hours = (part["step"].values / np.timedelta64(1, "h")).tolist()
        available |= np.array([[(s, h) in variable_messages for h in hours] for s in seconds])
    return available


def _accumulates_from_start(variable: xr.DataArray, messages: Messages | None) -> bool:
    """Return whether a variable is accumulated since the start of its run, at several steps."""
    variable_messages = _messages_of(variable, messages) or {}
    return (
        variable.attrs.get("GRIB_stepType") == "accum"
        and len({step for (_, step), start in variable_messages.items() if start == 0 < step}) > 1
    )


def _accumulate_over_steps(part: xr.Dataset, source: str) -> xr.Dataset:
    """Convert accumulations since the start of a run to accumulations over each step, by differences."""
    part = part.isel(step=np.flatnonzero(part["step"].values > np.timedelta64(0)))
    hours = part["step"].values / np.timedelta64(1, "h")
    lengths = np.diff(hours, prepend=0.0)
    names = ", ".join(map(str, part.data_vars))
    if not np.allclose(lengths, lengths[0]):
        raise InvalidDataError(
            f"{source}: {names} accumulate from the start of each run, "
            f"and the steps of {', '.join(f'{h:g}' for h in hours[:6])} h "
            "are not evenly spaced from 0; extract one step, e.g. with grib_copy -w step=..."
        )
    log.info(
        "%s: %s, accumulated since the start of each run, converted to accumulations over %g h",
        source,
        names,
        lengths[0],
    )
    lazy = part.chunk({str(d): 1 if d in _SCALARS and d != "step" else -1 for d in part.dims})
    return lazy.map(
        lambda variable: (variable - variable.shift(step=1, fill_value=0)).assign_attrs(variable.attrs)
    )


def _on_common_times(fields: Sequence[xr.Dataset], path: str) -> list[xr.Dataset]:
    """Return each variable at the times common to all of them, and constant fields without time."""
    counts = [field["time"].size if "time" in field.coords else 0 for field in fields]
    changing = []
    constant = []
    for field, count in zip(fields, counts, strict=True):
        attrs = next(iter(field.data_vars.values())).attrs
        if (
            count == 1 < max(counts)
            and attrs.get("GRIB_shortName") in CONSTANT_SHORT_NAMES
            and attrs.get("GRIB_typeOfLevel") == "surface"
        ):
            constant.append((field.squeeze("time") if "time" in field.dims else field).drop_vars("time"))
        else:
            changing.append(field.expand_dims("time") if count and "time" not in field.dims else field)
    times = [field["time"].values for field in changing if "time" in field.dims]
    if len(times) < 2 or all(np.array_equal(t, times[0]) for t in times):
        return [*changing, *constant]
    common = times[0]
    for more in times[1:]:
        common = np.intersect1d(common, more)
    spans = ", ".join(
        f"{next(iter(f.data_vars))} {str(f['time'].values.min())[:16]} ... {str(f['time'].values.max())[:16]}"
        for f in changing
    )
    if not len(common):
        raise InvalidDataError(
            f"{path} has variables without a common time ({spans}); select some of them",
            option="variables",
        )
    if len(common) < max(len(t) for t in times):
        log.warning(
            "%s: variables have different times (%s); the %d common ones are kept", path, spans, len(common)
        )
    return [
        *(field.isel(time=np.flatnonzero(np.isin(field["time"].values, common))) for field in changing),
        *constant,
    ]


def _messages_of(variable: xr.DataArray, messages: Messages | None) -> Mapping[tuple[int, float], int] | None:
    """Return the messages of a variable, or None if they are unknown."""
    key = (int(variable.attrs.get("GRIB_paramId", -1)), str(variable.attrs.get("GRIB_typeOfLevel")))
    return None if messages is None else messages.get(key)


def _names(variable: xr.DataArray) -> set[str]:
    """Return the names of a variable in cfgrib, ECMWF's database and WeatherBench2."""
    short = str(variable.attrs.get("GRIB_shortName"))
    return {str(variable.name), short} | ({ECMWF[short].name} if short in ECMWF else set())
