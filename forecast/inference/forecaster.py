"""The Python interface: load a checkpoint, run it, train one."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...datasets.adapters.forecasts import canonical_forecast
from ...datasets.adapters.opening import open_lazily, open_raw
from ...datasets.bounds import Bounds
from ...datasets.store import atomic
from ...datasets.suggestions import suggest
from ...fno.progress import Progress
from ..checkpoint.folder import StoredCheckpoint
from ..checkpoint.weather import Checkpoint, load_checkpoint
from ..device import pick_device
from .limits import Limits
from .output_grid import output_grid
from .perturbations import Ensemble
from .rollout import InitialStates, initial_states, parse_lead, parse_times, rollout
from .writers import Layout, write_forecast

Times = Sequence[str] | str | NDArray[np.datetime64] | None
Init = str | Path | xr.Dataset


class Forecaster:
    """A trained forecast model.

    Args:
        checkpoint: model, channels, grid and step.
        device: where the model is.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu") -> None:
        self.checkpoint = checkpoint
        self.device = device

    @classmethod
    def load(cls, source: str | Path | StoredCheckpoint, device: str | None = None) -> "Forecaster":
        """Load a checkpoint.

        Args:
            source: folder that training wrote, or one whose metadata was read before.
            device: ``cpu`` or ``cuda``; a GPU where there is one by default.

        Raises:
            FileNotFoundError: no checkpoint there.
            ValueError: of another task, damaged, or the device does not exist.
        """
        device = pick_device(device)
        return cls(load_checkpoint(source, device), device)

    def rollout(
        self,
        init: Init,
        times: Times = None,
        lead: str = "10d",
        grid: float | str | None = None,
        area: str | None = None,
        members: int = 1,
        *,
        seed: int | None = None,
        amplitude: float | None = None,
        bounds: bool = True,
        clip: Mapping[str, Bounds] | None = None,
        follow_links: bool = False,
    ) -> Iterator[xr.Dataset]:
        """Yield the forecast one lead time after the other, from zero, in constant memory.

        Args:
            init: CF file, zarr store or data set that holds the input states.
            times: initial times; the latest possible by default.
            lead: how far, e.g. ``72h`` or ``10d``.
            grid: as in ``run``.
            area: as in ``run``.
            members: as in ``run``.
            seed: as in ``run``.
            amplitude: as in ``run``.
            bounds: as in ``run``.
            clip: as in ``run``.
            follow_links: as in ``run``.

        Yields:
            A data set with dimensions time, prediction_timedelta (of length one), [number], [level],
            latitude, longitude. Its attributes record values outside the training range and clipped ones up
            to this lead time.

        Raises:
            ValueError: ``init`` does not fit the model, or ``lead`` is no multiple of its step.
        """
        limits = Limits(self.checkpoint, bounds, clip)
        layout, states, at = self._prepare(
            init, times, lead, grid, area, None, Ensemble.of(members, seed, amplitude), follow_links
        )
        step = self.checkpoint.step.astype("timedelta64[ns]")
        dataset = replace(layout, steps=0).empty(at, len(at))
        for k, fields in enumerate(self._steps(layout, states, at, limits)):
            part = dataset.assign_coords(
                {name: dataset[name] + k * step for name in ("prediction_timedelta", "valid_time")}
            )
            for name in layout.variables:
                part[name] = part[name].copy(data=layout.part(fields, name)[:, None])
                part[name].attrs |= limits.attributes(name)
            yield part
        limits.report()

    def run(
        self,
        init: Init,
        times: Times = None,
        lead: str = "10d",
        grid: float | str | None = None,
        area: str | None = None,
        output: str | Path | None = None,
        variables: Sequence[str] | None = None,
        batch_size: int = 32,
        overwrite: bool = False,
        progress: Progress | None = None,
        members: int = 1,
        *,
        seed: int | None = None,
        amplitude: float | None = None,
        bounds: bool = True,
        clip: Mapping[str, Bounds] | None = None,
        history: str | None = None,
        follow_links: bool = False,
    ) -> xr.Dataset:
        """Make a forecast.

        A line in the log reports each channel that leaves the range of the training data, and the variables'
        attributes ``outside_training_range`` and ``clipped`` record what was outside and what was clipped
        (``forecast.inference.limits.records`` reads them).

        Args:
            init: CF file, zarr store or data set that holds the input states.
            times: initial times, e.g. ``"2014-03-01T06"``, a list, or ``"2014-01-01/2014-02-01/12h"``; the
                latest possible by default.
            lead: how far, e.g. ``72h`` or ``10d``.
            grid: degrees between points, or ``HxW`` points such as ``"32x64"``, to which the forecast is
                interpolated (see ``output_grid``); the model's own points by default.
            area: ``NORTH/WEST/SOUTH/EAST`` in degrees to keep; all by default.
            output: write to this zarr store (or netCDF file, if it ends in ``.nc``) as the forecast proceeds,
                and return it opened lazily; by default the forecast is returned in memory.
            variables: variables to keep; all by default.
            batch_size: forecasts that are run together, members counted, where there is an output.
            overwrite: replace an existing output.
            progress: called with (steps done, steps to do, text).
            members: members of an ensemble, from perturbed initial states
                (``forecast.inference.perturbations.perturbations``); the first is not perturbed, except where
                there are two.
            seed: of the perturbations; 0 by default.
            amplitude: root mean square of the perturbations in standard deviations of the anomalies; 0.1 by
                default.
            bounds: clip humidity, precipitation, contents of water, fractions, ... to their physical bounds
                (``datasets.bounds``) in what is written; the model goes on from its own values.
            clip: least and largest value of variables by name, None for no bound, which take the place of the
                physical ones.
            history: line for the attribute ``history``; the time and the command by default. Give one where
                repeated runs are to be the same byte for byte.
            follow_links: follow links within ``init`` that lead outside of it.

        Returns:
            The forecast, dimensions time, prediction_timedelta, [number], [level], latitude, longitude.

        Raises:
            FileExistsError: the output exists.
            ValueError: ``init`` does not fit the model, or an argument is not understood.
        """
        ensemble, limits = Ensemble.of(members, seed, amplitude), Limits(self.checkpoint, bounds, clip)
        if output is not None:
            with atomic.reserved(
                output, "forecast", overwrite=overwrite, inputs=[init, self.checkpoint.path]
            ) as path:
                layout, states, at = self._prepare(
                    init, times, lead, grid, area, variables, ensemble, follow_links
                )
                states.positions(at, self.checkpoint.stepper.window, self.checkpoint.step)
                write_forecast(
                    replace(layout, history=history),
                    lambda batch: self._steps(layout, states, batch, limits, batch_size),
                    at,
                    path,
                    limits,
                    batch=max(1, batch_size // members),
                    overwrite=overwrite,
                    identity=f"{self.checkpoint.identity} {_describe(init)} {limits.bounds.tolist()}",
                    progress=progress,
                )
            limits.report()
            return open_raw(str(path))
        layout, states, at = self._prepare(init, times, lead, grid, area, variables, ensemble, follow_links)
        layout = replace(layout, history=history)
        parts = [
            layout.part(fields, name)[:, None]
            for fields in self._steps(layout, states, at, limits)
            for name in layout.variables
        ]
        dataset = layout.empty(at, len(at))
        for i, name in enumerate(layout.variables):
            dataset[name] = dataset[name].copy(data=np.concatenate(parts[i :: len(layout.variables)], axis=1))
            dataset[name].attrs |= limits.attributes(name)
        limits.report()
        return dataset

    def _prepare(
        self,
        init: Init,
        times: Times,
        lead: str,
        grid: float | str | None,
        area: str | None,
        variables: Sequence[str] | None,
        ensemble: Ensemble,
        follow_links: bool,
    ) -> tuple[Layout, InitialStates, NDArray[np.datetime64]]:
        """Return what a forecast is laid out like, the states it can start from, and its initial times."""
        point = self.checkpoint
        known = list(dict.fromkeys(c.variable for c in point.channels))
        for name in variables or ():
            if name not in known:
                raise ValueError(f"the model has no variable {name!r}; {suggest(name, known)}")
        target = output_grid(point.grid, point.dtypes, grid, area)
        steps = parse_lead(lead, point.step)
        states = initial_states(point, init, follow_links=follow_links)
        at = parse_times(times, states, point.stepper.window)
        return Layout(point, target, steps, list(dict.fromkeys(variables or known)), ensemble), states, at

    def _steps(
        self,
        layout: Layout,
        states: InitialStates,
        times: NDArray[np.datetime64],
        limits: Limits,
        at_once: int = 32,
    ) -> Iterator[NDArray[np.float32]]:
        fields = rollout(
            self.checkpoint,
            states,
            times,
            layout.steps,
            self.device,
            ensemble=layout.ensemble,
            bounds=limits.bounds,
            at_once=at_once,
        )
        return limits.watch(fields)


def open_forecast(
    forecast: str | Path | xr.Dataset, lead_units: str | None = None, *, follow_links: bool = False
) -> xr.Dataset:
    """Open a forecast of this or another package lazily, with canonical axes, order and units.

    Args:
        forecast: path, or a data set in memory.
        lead_units: unit of lead times that are numbers without one, e.g. ``hours``.
        follow_links: follow links within it that lead outside of it.

    Returns:
        Dimensions time, prediction_timedelta, [number], [level], latitude, longitude.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is not a forecast.
    """
    if isinstance(forecast, xr.Dataset):
        return canonical_forecast(forecast, source_name(forecast), lead_units)
    return canonical_forecast(
        open_lazily(str(forecast), follow_links=follow_links), str(forecast), lead_units
    )


def source_name(forecast: str | Path | xr.Dataset) -> str:
    """Return what messages call a forecast: its path, that of the file xarray opened, or "the forecast"."""
    if isinstance(forecast, xr.Dataset):
        return str(forecast.encoding.get("source", "the forecast"))
    return str(forecast)


def _describe(init: Init) -> str:
    if isinstance(init, xr.Dataset):
        return hashlib.sha256(repr(init).encode()).hexdigest()
    if "://" in str(init):
        return str(init)
    path = Path(init).absolute()
    stamped = next(
        (file for name in ("zarr.json", ".zmetadata", ".zgroup") if (file := path / name).exists()), path
    )
    return f"{path} {stamped.stat().st_mtime_ns}"
