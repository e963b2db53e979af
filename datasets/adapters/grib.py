"""GRIB as cfgrib opens it: members under ``number``, fields by their time of validity, whatever the run and
step that they come from.

cfgrib gives a data set for each set of axes: analyses have times alone, accumulations and forecasts runs
(``time``) and lead times (``step``). Where several runs give a field for one time, it must be the same field,
and the one with the shortest step is read. Accumulations that count from the start of their run, such as
those of ERA5-Land, become those over each step.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..errors import InvalidDataError
from ..scalars import record
from .vocabulary import CONSTANT, ECMWF

log = logging.getLogger(__name__)

Messages = Mapping[tuple[int, str], Mapping[tuple[int, float], int]]
"""By parameter and kind of level: the first step of what each run (seconds since 1970) has at each step
(hours).
"""

_MOST = 10**7  # runs times steps
_SCALARS = ("time", "valid_time", "step", "number", "isobaricInhPa")


def matches(dataset: xr.Dataset) -> bool:
    """Return whether variables carry what cfgrib says of them."""
    return any("GRIB_shortName" in v.attrs for v in dataset.data_vars.values())


def arrange(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return the fields by their time of validity.

    Raises:
        ValueError: runs that give different fields for one time.
    """
    return by_validity(dataset, source)


def open_messages(path: str) -> Messages:
    """Return which runs and steps a file has of each parameter."""
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
    """Return the data sets that cfgrib makes of one file as one, on the times that all its variables have.

    Args:
        parts: data sets.
        path: of the file, to look up its messages and for errors.
        variables: names to keep, cfgrib's, ECMWF's or WeatherBench2's; all where none of them is there.

    Raises:
        InvalidDataError: several grids, kinds of level of one variable, runs that differ, or no common time.
    """
    for name in ("latitude", "longitude"):
        if any(
            name in part.coords and not np.array_equal(part[name].values, parts[0][name].values)
            for part in parts
        ):
            raise InvalidDataError(
                f"{path} has fields on grids of several {name}s; keep one grid, e.g. with grib_copy -w Ni=...,Nj=..."
            )
    messages = open_messages(path) if any("step" in part.dims for part in parts) else None
    wanted = set(variables or ())
    every = [
        str(name) for part in parts for name in part.data_vars if not wanted or _names(part[name]) & wanted
    ]
    pieces: dict[str, list[xr.Dataset]] = {}
    for part in parts:
        names = [str(name) for name in part.data_vars if not every or name in every]
        from_start = [
            name for name in names if "step" in part.dims and _counts_from_start(part[name], messages)
        ]
        for alike in (from_start, [name for name in names if name not in from_start]):
            if alike:
                bare = record(
                    part[alike], [str(c) for c in part.coords if part[c].ndim == 0 and c not in _SCALARS]
                )
                bare = (
                    bare.expand_dims("isobaricInhPa")
                    if "isobaricInhPa" in bare.coords and bare["isobaricInhPa"].ndim == 0
                    else bare
                )
                bare = by_validity(
                    _accumulated_over_steps(bare, path) if alike is from_start else bare, path, messages
                )
                for name in alike:
                    pieces.setdefault(name, []).append(bare[[name]])
    fields = []
    for name, of_one in pieces.items():
        try:
            fields.append(
                xr.merge(of_one, compat="no_conflicts", join="outer", combine_attrs="override")
                if len(of_one) > 1
                else of_one[0]
            )
        except (xr.MergeError, ValueError) as error:
            kinds = sorted({str(part[name].attrs.get("GRIB_typeOfLevel")) for part in of_one})
            if len(kinds) == 1:
                raise InvalidDataError(
                    f"{path} has {name!r} several times with different values or axes ({str(error)[:80]}); keep one of them"
                ) from error
            raise InvalidDataError(
                f"{path} has a variable of one name on several kinds of level ({', '.join(kinds)}); "
                f"keep one kind, e.g. with grib_copy -w typeOfLevel={kinds[0]}"
            ) from error
    return xr.merge(
        _on_common_times(fields, path), compat="no_conflicts", join="outer", combine_attrs="override"
    )


def by_validity(part: xr.Dataset, source: str, messages: Messages | None = None) -> xr.Dataset:
    """Return one of cfgrib's data sets with the times that its fields are valid at as ``time``; lazy.

    Args:
        part: data set.
        source: named in errors.
        messages: what the file holds; by default every run has every step, or missing values in its place.

    Raises:
        InvalidDataError: several runs give different fields for one time.
    """
    if "step" in part.dims and "time" in part.dims:
        return _flat(part, source, messages)
    if "step" in part.dims:
        part = part.drop_vars("time").swap_dims(step="valid_time").rename(valid_time="time")
    elif "valid_time" in part.coords and "time" in part.coords:
        part = part.assign_coords(time=part["valid_time"].variable).drop_vars("valid_time")
    return part.drop_vars("step", errors="ignore")


def _flat(part: xr.Dataset, source: str, messages: Messages | None) -> xr.Dataset:
    """Return the fields of runs and steps along one axis, by their time of validity."""
    runs, steps = part["time"].values, part["step"].values
    if len(runs) * len(steps) > _MOST:
        raise InvalidDataError(
            f"{source} has {len(runs)} runs and {len(steps)} steps, more than are read together; split it by run first"
        )
    validity = runs[:, None] + steps[None]
    run, step = np.nonzero(_present(part, messages))
    order = np.lexsort((steps[step], validity[run, step]))
    run = run[order]
    step = step[order]
    times = validity[run, step]
    later = np.flatnonzero(np.append(False, times[1:] == times[:-1]))
    dropped: set[int] = set()
    first: dict[np.datetime64, int] = {}
    for at in later.tolist():
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
                known = " and ".join(
                    f"{str(runs[run[i]])[:16]} at step {steps[step[i]] / np.timedelta64(1, 'h'):g} h"
                    for i in (before, at)
                )
                raise InvalidDataError(
                    f"{source} has different {', '.join(map(str, part.data_vars))} for {str(times[at])[:16]}, by the runs of {known}; "
                    "keep some steps or one run, e.g. with grib_copy -w step=0 or -w dataTime=0"
                )
            dropped.add(at)
    keep = np.setdiff1d(np.arange(len(times)), list(dropped))
    places = {
        "time": xr.DataArray(run[keep], dims="validity"),
        "step": xr.DataArray(step[keep], dims="validity"),
    }
    chosen = part.isel(places).drop_vars(("time", "step", "valid_time"), errors="ignore")
    return chosen.rename_dims(validity="time").assign_coords(time=("time", times[keep]))


def _present(part: xr.Dataset, messages: Messages | None) -> NDArray[np.bool_]:
    """Return which runs have which steps, shape (run, step)."""
    present = np.zeros((part.sizes["time"], part.sizes["step"]), dtype=bool)
    for variable in part.data_vars.values():
        known = _of(variable, messages)
        if known is None:
            return np.ones_like(present)
        seconds = part["time"].values.astype("datetime64[s]").astype(np.int64).tolist()
        hours = (part["step"].values / np.timedelta64(1, "h")).tolist()
        present |= np.array([[(s, h) in known for h in hours] for s in seconds])
    return present


def _counts_from_start(variable: xr.DataArray, messages: Messages | None) -> bool:
    """Return whether a variable accumulates from the start of its run, over several steps."""
    known = _of(variable, messages) or {}
    return (
        variable.attrs.get("GRIB_stepType") == "accum"
        and len({step for (_, step), start in known.items() if start == 0 < step}) > 1
    )


def _accumulated_over_steps(part: xr.Dataset, source: str) -> xr.Dataset:
    """Return accumulations since the start of a run as those over each step: the differences along it."""
    part = part.isel(step=np.flatnonzero(part["step"].values > np.timedelta64(0)))
    hours = part["step"].values / np.timedelta64(1, "h")
    lengths = np.diff(hours, prepend=0.0)
    names = ", ".join(map(str, part.data_vars))
    if not np.allclose(lengths, lengths[0]):
        raise InvalidDataError(
            f"{source}: {names} accumulate from the start of each run, and the steps of {', '.join(f'{h:g}' for h in hours[:6])} h "
            "are not evenly spaced from 0; keep one step, e.g. with grib_copy -w step=..."
        )
    log.info(
        "%s: %s, accumulated since the start of each run, are read as those over %g h",
        source,
        names,
        lengths[0],
    )
    lazy = part.chunk({str(d): 1 if d in _SCALARS and d != "step" else -1 for d in part.dims})
    return lazy.map(
        lambda variable: (variable - variable.shift(step=1, fill_value=0)).assign_attrs(variable.attrs)
    )


def _on_common_times(fields: Sequence[xr.Dataset], path: str) -> list[xr.Dataset]:
    """Return each variable at the times that all have; those that do not change without time."""
    counts = [field["time"].size if "time" in field.coords else 0 for field in fields]
    changing = []
    still = []
    for field, count in zip(fields, counts, strict=True):
        attrs = next(iter(field.data_vars.values())).attrs
        if (
            count == 1 < max(counts)
            and attrs.get("GRIB_shortName") in CONSTANT
            and attrs.get("GRIB_typeOfLevel") == "surface"
        ):
            still.append((field.squeeze("time") if "time" in field.dims else field).drop_vars("time"))
        else:
            changing.append(field.expand_dims("time") if count and "time" not in field.dims else field)
    times = [field["time"].values for field in changing if "time" in field.dims]
    if len(times) < 2 or all(np.array_equal(t, times[0]) for t in times):
        return [*changing, *still]
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
            "%s: variables have different times (%s); the %d that all have are kept", path, spans, len(common)
        )
    return [
        *(field.isel(time=np.flatnonzero(np.isin(field["time"].values, common))) for field in changing),
        *still,
    ]


def _of(variable: xr.DataArray, messages: Messages | None) -> Mapping[tuple[int, float], int] | None:
    key = (int(variable.attrs.get("GRIB_paramId", -1)), str(variable.attrs.get("GRIB_typeOfLevel")))
    return None if messages is None else messages.get(key)


def _names(variable: xr.DataArray) -> set[str]:
    short = str(variable.attrs.get("GRIB_shortName"))
    return {str(variable.name), short} | ({ECMWF[short].name} if short in ECMWF else set())
