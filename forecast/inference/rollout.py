"""Forecasts by repeated steps of a trained model."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...datasets.adapters.cf import canonical_source
from ...datasets.adapters.opening import open_raw
from ...datasets.durations import format_duration, parse_timedelta64
from ...datasets.errors import IncompleteDataError
from ...datasets.forcings import forcings
from ...datasets.identity import Identity, at_place, identity, match_variables
from ...datasets.ingest.select import Selection
from ...datasets.schema import check_grid
from ...datasets.store.fields import Fields
from ...datasets.suggestions import suggest
from ...datasets.units import conversion
from ..checkpoint.weather import Checkpoint
from .perturbations import Ensemble, perturbations, within

Float = NDArray[np.float32]
Times = NDArray[np.datetime64]


@dataclass(frozen=True)
class InitialStates:
    """States that forecasts can start from, in the order, units and grid of a model.

    Attributes:
        fields: states.
        source: named in errors.
    """

    fields: Fields
    source: str

    def positions(self, times: Times, window: int, step: np.timedelta64) -> NDArray[np.int64]:
        """Return where the window of each initial time lies, shape (time, window).

        Raises:
            ValueError: a state of a window is not there.
        """
        offsets = np.arange(1 - window, 1) * step
        wanted = times[:, None] + offsets.astype("timedelta64[ns]")
        found = np.searchsorted(self.fields.times, wanted).clip(max=len(self.fields.times) - 1)
        missing = self.fields.times[found] != wanted
        if missing.any():
            first = wanted[missing][0].astype("datetime64[m]")
            held = [t.astype("datetime64[m]") for t in self.fields.times[[0, -1]]]
            raise ValueError(
                f"{self.source} lacks {first}, needed for the input of {window} states {format_duration(step)} apart; "
                f"it holds {held[0]} ... {held[1]}"
            )
        return np.asarray(found)


def initial_states(
    checkpoint: Checkpoint, init: str | Path | xr.Dataset, *, follow_links: bool = False
) -> InitialStates:
    """Open data that holds input windows and fit it to a checkpoint.

    Args:
        checkpoint: model that will take it.
        init: CF file, zarr store, or a data set in memory.
        follow_links: follow links within a file or store that lead outside of it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a variable, level, unit or grid point that the model needs is not there.
    """
    source = "the data set" if isinstance(init, xr.Dataset) else str(init)
    if isinstance(init, xr.Dataset):
        return _fitted(checkpoint, init, source)
    with ExitStack() as file:  # closes it where it is refused
        states = _fitted(checkpoint, file.enter_context(open_raw(source, follow_links=follow_links)), source)
        file.pop_all()
    return states


def _fitted(checkpoint: Checkpoint, raw: xr.Dataset, source: str) -> InitialStates:
    """Return states with the variables, units, levels and grid of a model; raise ``ValueError`` where they do
    not fit.
    """
    if "prediction_timedelta" in raw.dims:
        raw = _as_series(raw, source)
    wanted = _variables(checkpoint)
    selected = {alias: None for own in wanted.values() for alias in own.names}
    found = canonical_source(raw, source, select=Selection(variables=tuple(selected)))
    dataset = check_grid(found.dataset, checkpoint.grid, source)
    if (np.diff(dataset["time"].values) <= np.timedelta64(0)).any():
        raise ValueError(
            f"{source} has unsorted or duplicate times; mend it with ds.sortby('time').drop_duplicates('time')"
        )
    matches = match_variables(wanted, {str(n): identity(v) for n, v in dataset.data_vars.items()})
    parts = {}
    for name in wanted:
        if name not in matches:
            raise ValueError(
                f"{source} has no variable {name!r}, which the model needs; {suggest(name, sorted(found.names))}"
            )
        variable = dataset[matches[name]].rename(name)
        needed = [c for c in checkpoint.channels if c.variable == name]
        try:
            factor, offset = conversion(variable.attrs["units"], needed[0].units)
        except ValueError as error:
            raise ValueError(f"{source}: {name!r} {error}, the units of the model") from error
        levels = [c.level for c in needed if c.level is not None]
        # Members are samples of the same quantity: a forecast may start from any of them.
        scalars = {key: text for key, text in needed[0].scalars.items() if key != "number"}
        variable = at_place(
            variable, levels=levels or None, scalars=scalars, source=source, owner="the model"
        )
        parts[name] = (
            variable if (factor, offset) == (1.0, 0.0) else (variable * factor + offset).astype(np.float32)
        )
    return InitialStates(Fields(xr.Dataset(parts), cache_bytes=2**28), source)


def _variables(checkpoint: Checkpoint) -> dict[str, Identity]:
    """Return what each variable of a model is known by, in the model's order."""
    variables = {}
    for c in checkpoint.channels:
        attrs = checkpoint.attrs.get(c.variable, {}) | {"units": c.units}
        variables[c.variable] = Identity(c.variable, attrs, c.level is not None or "level" in c.scalars)
    return variables


def _as_series(made: xr.Dataset, source: str) -> xr.Dataset:
    """Return a forecast of one initial time as a series in valid time."""
    if "time" in made.coords and not made["time"].dims:
        made = made.expand_dims("time")
    if empty := [name for name in ("time", "prediction_timedelta") if made.sizes.get(name) == 0]:
        raise ValueError(f"{source} has no values along {empty[0]!r}; name a forecast or a series of states")
    kinds = [
        made[name].dtype.kind if name in made.coords else "" for name in ("time", "prediction_timedelta")
    ]
    if "time" not in made.dims or kinds != ["M", "m"]:
        raise ValueError(
            f"{source} lacks initial times or lead times, so it is not a forecast; name a forecast or a series of states"
        )
    if made.sizes["time"] > 1:
        raise ValueError(
            f"{source} holds {made.sizes['time']} forecasts; select the one to go on from, e.g. ds.isel(time=[-1])"
        )
    valid = made["time"].values[0] + made["prediction_timedelta"].values
    if "number" in made.dims:
        raise ValueError(
            f"{source} holds {made.sizes['number']} members; select the one to go on from, e.g. ds.isel(number=0)"
        )
    made = (
        made.isel(time=0)
        .drop_vars(["time", "valid_time"], errors="ignore")
        .rename(prediction_timedelta="time")
    )
    return made.assign_coords(time=valid)


def rollout(
    checkpoint: Checkpoint,
    states: InitialStates,
    times: Times,
    steps: int,
    device: str,
    *,
    ensemble: Ensemble = Ensemble(),
    bounds: NDArray[np.float64] | None = None,
    at_once: int = 32,
) -> Iterator[Float]:
    """Yield the forecast of several initial times step by step, from step 0, the initial state itself.

    Memory does not grow with ``steps``: background and forcing are made a step at a time.

    Args:
        checkpoint: model.
        states: initial states.
        times: initial times, shape (time,).
        steps: number of steps.
        device: where the model is.
        ensemble: members, and how they are perturbed.
        bounds: least and largest value of each channel, shape (2, channel), that the initial states of an
            ensemble are kept within.
        at_once: forecasts that the model is given at a time, members counted.

    Yields:
        Fields in physical units, shape (time, channel, H, W), or (time, member, channel, H, W) of an
        ensemble.

    Raises:
        ValueError: a state is missing.
        IncompleteDataError: one has missing values where the model needs them.
    """
    stepper, step = checkpoint.stepper, checkpoint.step.astype("timedelta64[ns]")
    found = states.positions(times, stepper.window, checkpoint.step)
    initial = states.fields.read(found.ravel()).reshape(*found.shape, *states.fields.shape[1:])
    mask = stepper.mask.cpu().numpy()
    if (bad := ~np.isfinite(initial) & mask).any():
        sample, at, channel = np.argwhere(bad.any(axis=(3, 4)))[0]
        raise IncompleteDataError(
            f"{states.source}: {checkpoint.channels[channel]} has missing values at {states.fields.times[found[sample, at]]}; fill them first"
        )
    members = ensemble.members
    shape = (len(times), *((members,) if members > 1 else ()), *initial.shape[2:])
    _refuse_more_than_memory(members, initial.nbytes)
    if members > 1:
        added = perturbations(checkpoint, states, times, members, ensemble.amplitude, ensemble.seed)
        if bounds is not None:
            added = within(added, initial[:, -1], bounds)
        added = added.reshape(-1, 1, *initial.shape[2:])
        times, found = np.repeat(times, members), np.repeat(found, members, axis=0)
        initial = np.repeat(initial, members, axis=0) + added
    yield np.where(mask, initial[:, -1], np.nan).astype(np.float32).reshape(shape)

    def drivers() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        now, then = _known(checkpoint, times), None
        for k in range(1, steps + 1):
            then = _known(checkpoint, times + k * step)
            pair = (np.stack([a, b], axis=1) for a, b in zip(now, then, strict=True))
            background, forcing = (torch.from_numpy(part).to(device) for part in pair)
            latest.append(background[:, 1])
            yield background, forcing
            now = then

    latest: list[torch.Tensor] = []
    backgrounds = np.stack([checkpoint.cycle.at(t) for t in states.fields.times[found]])
    with torch.inference_mode():
        window = stepper.anomaly(
            torch.from_numpy(initial).to(device), torch.from_numpy(backgrounds).to(device)
        )
        for anomaly in stepper.rollout(window, drivers(), at_once):
            state = stepper.state(anomaly, latest.pop()).cpu().numpy()
            if not np.isfinite(state[:, mask]).all():
                raise ValueError(
                    f"the forecast from {times[0].astype('datetime64[m]')} left the range of numbers; train the model longer or at a lower rate"
                )
            yield state.reshape(shape)


def _refuse_more_than_memory(members: int, size: int) -> None:
    """Raise ``ValueError`` where the initial states of an ensemble, of ``size`` bytes a member, would not fit
    into this machine.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    needed = _COPIES * members * size
    if members > 1 and needed > memory:
        raise ValueError(
            f"{members} members need some {needed / 2**30:.3g} GiB of memory, of {memory / 2**30:.3g} GiB there are; "
            "take fewer, or several ensembles, each with a seed of its own"
        )


def _known(checkpoint: Checkpoint, times: Times) -> tuple[Float, Float]:
    return checkpoint.cycle.at(times), forcings(
        times, checkpoint.grid, checkpoint.step, names=checkpoint.forcings
    )


_COPIES = (
    4  # of the initial states: perturbations, their sum with the states, the same on the device, the result
)
_MOST_TIMES = 1_000_000
_SPAN = (np.datetime64("1678-01-01"), np.datetime64("2262-01-01"))  # of times in nanoseconds


def parse_lead(lead: str, step: np.timedelta64) -> int:
    """Return the number of steps in a lead time such as ``72h`` or ``10d``.

    Raises:
        ValueError: not a duration, or not a positive multiple of the model's step.
    """
    duration = parse_timedelta64(lead)
    if step <= np.timedelta64(0) or duration % step or duration < step:
        raise ValueError(
            f"lead {lead} is not a positive multiple of the model's step of {format_duration(step)}"
        )
    return int(duration // step)


def parse_times(texts: Sequence[str] | str | Times | None, states: InitialStates, window: int) -> Times:
    """Return initial times: the ones given, a range ``START/STOP/STEP``, or the latest possible.

    Raises:
        ValueError: not times.
    """
    if texts is None:
        if len(states.fields.times) < window:
            raise ValueError(
                f"{states.source} holds {len(states.fields.times)} time(s), but the model's input is {window} states; give it more"
            )
        return states.fields.times[-1:]
    if isinstance(texts, np.ndarray | np.datetime64):
        return np.atleast_1d(texts).astype("datetime64[ns]")
    result: list[np.datetime64] = []
    for text in [texts] if isinstance(texts, str) else texts:
        first, *rest = str(text).split("/")
        if not rest:
            result.append(_moment(first, text))
            continue
        if len(rest) > 2:
            raise ValueError(
                f"{text!r} is not a time; a range is START/STOP/STEP, as in 2014-01-01/2014-02-01/12h"
            )
        every = parse_timedelta64(rest[1] if len(rest) > 1 else "24h").astype("timedelta64[ns]")
        if every <= np.timedelta64(0):
            raise ValueError(f"the step of {text!r} must be longer than nothing, e.g. 12h")
        start, stop = _moment(first, text), _moment(rest[0], text)
        count = (int(stop.astype(np.int64)) - int(start.astype(np.int64))) // int(
            every.astype(np.int64)
        ) + 1  # of any length
        if count + len(result) > _MOST_TIMES:
            raise ValueError(
                f"{text!r} names {count} times, of which there may be {_MOST_TIMES}; take a longer step"
            )
        result += list(start + np.arange(max(0, count)) * every)
    if not result:
        raise ValueError(f"{texts} holds no time; a range is START/STOP/STEP, with START before STOP")
    unique, counts = np.unique(np.array(result, dtype="datetime64[ns]"), return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"initial time {unique[counts > 1][0].astype('datetime64[m]')} is named twice; name each once"
        )
    return np.array(result, dtype="datetime64[ns]")


def _moment(text: str, given: object) -> np.datetime64:
    """Return a time in nanoseconds, in UTC; raise ``ValueError`` where a text is none."""
    import pandas as pd

    hint = "write e.g. 2014-03-01T06, or START/STOP/STEP as in 2014-01-01/2014-02-01/12h"
    try:
        time = pd.Timestamp(text)
        if time.tzinfo is not None:
            time = time.tz_convert(None)
        moment: np.datetime64 = np.datetime64(time.isoformat())
    except (ValueError, OverflowError, TypeError) as error:
        raise ValueError(f"{given!r} is not a time; {hint}") from error
    if not _SPAN[0] <= moment < _SPAN[1]:  # not a time is in no span either
        raise ValueError(f"{given!r} is not a time between {_SPAN[0]} and {_SPAN[1]}; {hint}")
    return moment.astype("datetime64[ns]")  # type: ignore[no-any-return]
