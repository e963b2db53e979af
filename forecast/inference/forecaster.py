"""The Python interface to a trained model: load it and run it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr
from dask.base import tokenize
from numpy.typing import NDArray

from ...datasets.adapters.opening import open_raw
from ...datasets.bounds import Bounds
from ...datasets.store import atomic
from ...datasets.suggestions import suggest
from ...fno.progress import Progress
from ..checkpoint.folder import StoredCheckpoint
from ..checkpoint.weather import Checkpoint, load_checkpoint
from ..device import pick_device
from .initial_states import InitialStates, TimeArray, initial_states
from .initial_times import InitialTimes, parse_lead, parse_times
from .layout import ForecastLayout
from .limits import Limits
from .output_grid import output_grid
from .perturbations import Ensemble
from .rollout import rollout
from .writers import write_forecast

Init = str | Path | xr.Dataset


class Forecaster:
    """A trained forecast model.

    Args:
        checkpoint: model, channels, grid and step.
        device: device of the model.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu") -> None:
        self.checkpoint = checkpoint
        self.device = device

    @classmethod
    def load(cls, source: str | Path | StoredCheckpoint, device: str | None = None) -> "Forecaster":
        """Load a checkpoint.

        Args:
            source: folder written by training, or a checkpoint whose metadata was read before.
            device: ``cpu`` or ``cuda``; by default a GPU if there is one.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it is damaged or of another task, or the device does not exist.
        """
        device = pick_device(device)
        return cls(load_checkpoint(source, device), device)

    def rollout(
        self,
        init: Init,
        times: InitialTimes = None,
        lead: str = "10d",
        *,
        grid: float | str | None = None,
        area: str | None = None,
        members: int = 1,
        seed: int | None = None,
        amplitude: float | None = None,
        bounds: bool = True,
        clip: Mapping[str, Bounds] | None = None,
        follow_links: bool = False,
    ) -> Iterator[xr.Dataset]:
        """Yield the forecast one lead time after the other, from zero, in constant memory.

        Args:
            init: CF file, zarr store or data set with the input states.
            times: initial times; the latest possible by default.
            lead: lead time of the last step, e.g. ``72h`` or ``10d``.
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
            ValueError: ``init`` does not fit the model, or ``lead`` is not a multiple of its step.
        """
        limits = Limits(self.checkpoint, physical=bounds, clip=clip)
        ensemble = Ensemble.of(members, seed, amplitude)
        prepared = self._prepare(
            init, times, lead, grid=grid, area=area, ensemble=ensemble, follow_links=follow_links
        )
        layout = prepared.layout
        step = self.checkpoint.step.astype("timedelta64[ns]")
        empty = replace(layout, steps=0).empty(prepared.times, len(prepared.times))
        for k, fields in enumerate(self._steps(prepared, prepared.times, limits=limits)):
            shifted = {name: empty[name] + k * step for name in ("prediction_timedelta", "valid_time")}
            dataset = empty.assign_coords(shifted)
            for name in layout.variables:
                dataset[name] = dataset[name].copy(data=layout.extract(fields, name)[:, None])
                dataset[name].attrs |= limits.attributes(name)
            yield dataset
        limits.report()

    def run(
        self,
        init: Init,
        times: InitialTimes = None,
        lead: str = "10d",
        *,
        output: str | Path | None = None,
        grid: float | str | None = None,
        area: str | None = None,
        variables: Sequence[str] | None = None,
        members: int = 1,
        seed: int | None = None,
        amplitude: float | None = None,
        bounds: bool = True,
        clip: Mapping[str, Bounds] | None = None,
        batch_size: int = 32,
        history: str | None = None,
        overwrite: bool = False,
        follow_links: bool = False,
        progress: Progress | None = None,
    ) -> xr.Dataset:
        """Make a forecast.

        Values outside the range of the training data are logged with a line for each channel. The attributes
        ``outside_training_range`` and ``clipped`` of the variables record them and the clipped values;
        ``read_records`` reads both.

        Args:
            init: CF file, zarr store or data set with the input states.
            times: initial times, e.g. ``"2014-03-01T06"``, a list, or ``"2014-01-01/2014-02-01/12h"``; the
                latest possible by default.
            lead: lead time of the last step, e.g. ``72h`` or ``10d``.
            output: zarr store, or netCDF file if it ends in ``.nc``, to write to as the forecast proceeds; it
                is returned opened lazily. By default the forecast is returned in memory.
            grid: degrees between points, or numbers of points such as ``"32x64"``, to which the forecast is
                interpolated (see ``output_grid``); the model's own points by default.
            area: area to keep, ``NORTH/WEST/SOUTH/EAST`` [degrees]; the whole domain by default.
            variables: names of the variables to keep; all by default.
            members: number of members of an ensemble from perturbed initial states (see ``perturbations``);
                the first is unperturbed, except where there are two.
            seed: seed of the perturbations; 0 by default.
            amplitude: root mean square of the perturbations in standard deviations of the anomalies; 0.1 by
                default.
            bounds: clip humidity, precipitation, water contents, fractions, ... to their physical bounds
                (``datasets.bounds``) in the output; the model continues from its own values.
            clip: lower and upper bound of variables by name, of which either may be None, instead of the
                physical ones.
            batch_size: number of forecasts that are run together when there is an output; members count.
            history: line for the attribute ``history``, by default the current time and the command; a fixed
                one makes repeated outputs identical byte for byte.
            overwrite: replace an existing output.
            follow_links: follow links within ``init`` that lead outside of it.
            progress: called with (steps done, total steps, text).

        Returns:
            The forecast, dimensions time, prediction_timedelta, [number], [level], latitude, longitude.

        Raises:
            FileExistsError: the output exists.
            ValueError: ``init`` does not fit the model, or an argument is malformed.
        """
        limits = Limits(self.checkpoint, physical=bounds, clip=clip)
        ensemble = Ensemble.of(members, seed, amplitude)

        def prepare() -> _Prepared:
            return self._prepare(
                init,
                times,
                lead,
                grid=grid,
                area=area,
                variables=variables,
                ensemble=ensemble,
                history=history,
                follow_links=follow_links,
            )

        if output is None:
            dataset = self._run_in_memory(prepare(), limits)
            limits.report()
            return dataset
        with atomic.reserved(
            output, "forecast", overwrite=overwrite, inputs=[init, self.checkpoint.path]
        ) as path:
            prepared = prepare()
            window = self.checkpoint.stepper.window
            prepared.states.positions(prepared.times, window, self.checkpoint.step)  # fails before writing
            if (forcings := prepared.states.forcings) is not None:
                forcings.check(prepared.times, prepared.layout.steps, self.checkpoint.step)
            write_forecast(
                prepared.layout,
                lambda batch: self._steps(prepared, batch, limits=limits, batch_size=batch_size),
                prepared.times,
                output=path,
                limits=limits,
                batch_size=max(1, batch_size // members),
                overwrite=overwrite,
                identity=f"{self.checkpoint.identity} {_fingerprint(init)} {limits.bounds.tolist()}",
                progress=progress,
            )
        limits.report()
        return open_raw(str(path))

    def _prepare(
        self,
        init: Init,
        times: InitialTimes,
        lead: str,
        *,
        grid: float | str | None,
        area: str | None,
        ensemble: Ensemble,
        follow_links: bool,
        variables: Sequence[str] | None = None,
        history: str | None = None,
    ) -> "_Prepared":
        """Check the arguments and open the input states."""
        checkpoint = self.checkpoint
        names = list(dict.fromkeys(channel.variable for channel in checkpoint.channels))
        for name in variables or ():
            if name not in names:
                raise ValueError(f"the model has no variable {name!r}; {suggest(name, names)}")
        layout = ForecastLayout(
            checkpoint,
            output_grid(checkpoint.grid, checkpoint.dtypes, grid, area=area),
            parse_lead(lead, checkpoint.step),
            list(dict.fromkeys(variables or names)),
            ensemble,
            history,
        )
        states = initial_states(checkpoint, init, follow_links=follow_links)
        return _Prepared(layout, states, parse_times(times, states, checkpoint.stepper.window))

    def _steps(
        self, prepared: "_Prepared", times: TimeArray, *, limits: Limits, batch_size: int = 32
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the clipped fields of each lead time on the model's grid, as ``rollout`` does."""
        fields = rollout(
            self.checkpoint,
            prepared.states,
            times,
            steps=prepared.layout.steps,
            device=self.device,
            ensemble=prepared.layout.ensemble,
            bounds=limits.bounds,
            batch_size=batch_size,
        )
        return limits.watch(fields)

    def _run_in_memory(self, prepared: "_Prepared", limits: Limits) -> xr.Dataset:
        """Return the forecast with all its lead times in memory."""
        layout = prepared.layout
        parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in layout.variables}
        for fields in self._steps(prepared, prepared.times, limits=limits):
            for name, fields_of_variable in parts.items():
                fields_of_variable.append(layout.extract(fields, name)[:, None])
        dataset = layout.empty(prepared.times, len(prepared.times))
        for name, fields_of_variable in parts.items():
            dataset[name] = dataset[name].copy(data=np.concatenate(fields_of_variable, axis=1))
            dataset[name].attrs |= limits.attributes(name)
        return dataset


@dataclass(frozen=True)
class _Prepared:
    """Layout of a forecast, the states from which it starts, and its initial times."""

    layout: ForecastLayout
    states: InitialStates
    times: TimeArray


def _fingerprint(init: Init) -> str:
    """Return a text that changes when the input states do.

    Values in memory are hashed. Lazy ones are identified by their task graphs, which name the files that are
    read; other lazy arrays have another identity in each process, so that no partial forecast is resumed.
    """
    if isinstance(init, xr.Dataset):
        return str(tokenize(init.chunk()))
    if "://" in str(init):
        return str(init)
    path = Path(init).absolute()
    candidates = (path / name for name in ("zarr.json", ".zmetadata", ".zgroup"))
    stamped = next((file for file in candidates if file.exists()), path)
    return f"{path} {stamped.stat().st_mtime_ns}"
