"""The Python interface: load a checkpoint, run it, train one."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..datasets.adapters.opening import open_raw
from ..datasets.schema import axes_of, nearest
from .checkpoint import Checkpoint, load_checkpoint, read_meta
from .device import pick_device
from .output_grid import OutputGrid, output_grid
from .rollout import initial_states, parse_lead, parse_times, rollout
from .writers import template, write_forecast

Times = Sequence[str] | str | NDArray[np.datetime64] | None
Init = str | Path | xr.Dataset
Progress = Callable[[int, int, str], None]


class Forecaster:
    """A trained model that makes forecasts.

    Args:
        checkpoint: what ``load_checkpoint`` returned.
        device: where the model is.
        identity: checksum of the weights.

    Attributes:
        checkpoint: model, channels, grid and step.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu", identity: str = "") -> None:
        self.checkpoint, self.device, self.identity = checkpoint, device, identity

    def rollout(
        self, init: Init, times: Times = None, lead: str = "10d", grid: float | str | None = None, area: str | None = None, members: int = 1
    ) -> Iterator[xr.Dataset]:
        """Yield the forecast one lead time after the other, from zero, without end to memory.

        Args:
            init: CF file, zarr store or data set that holds the input states.
            times: initial times; the latest possible by default.
            lead: how far, e.g. ``72h`` or ``10d``.
            grid: as in ``run``.
            area: as in ``run``.
            members: as in ``run``.

        Yields:
            A data set with dimensions time, prediction_timedelta (of length one), [number], [level], latitude, longitude.

        Raises:
            ValueError: ``init`` does not fit the model, or ``lead`` is no multiple of its step.
        """
        point, states = self.checkpoint, initial_states(self.checkpoint, init)
        steps, at = parse_lead(lead, point.step), parse_times(times, states, self.checkpoint.stepper.window)
        names, target = list(dict.fromkeys(c.variable for c in point.channels)), self._target(grid, area)
        for k, fields in enumerate(rollout(point, states, at, steps, self.device, members)):
            dataset = template(point, target, at, 0, names, len(at), members)
            shift = k * point.step.astype("timedelta64[ns]")
            dataset = dataset.assign_coords(prediction_timedelta=dataset["prediction_timedelta"] + shift, valid_time=dataset["valid_time"] + shift)
            for name in names:
                part = target.apply(np.take(fields, [i for i, c in enumerate(point.channels) if c.variable == name], axis=-3))
                dataset[name].data = part[:, None] if "level" in dataset[name].dims else part[:, None, ..., 0, :, :]
            yield dataset

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
    ) -> xr.Dataset:
        """Make a forecast.

        Args:
            init: CF file, zarr store or data set that holds the input states.
            times: initial times, e.g. ``"2014-03-01T06"``, a list, or ``"2014-01-01/2014-02-01/12h"``; the latest
                possible by default.
            lead: how far, e.g. ``72h`` or ``10d``.
            grid: degrees between points, or ``HxW`` points such as ``"32x64"``, to which the forecast is interpolated (see ``output_grid``);
                the model's own points by default.
            area: ``NORTH/WEST/SOUTH/EAST`` in degrees to keep; all by default.
            output: write to this zarr store (or netCDF file, if it ends in ``.nc``) as the forecast proceeds, and
                return it opened lazily; by default the forecast is returned in memory.
            variables: variables to keep; all by default.
            batch_size: forecasts that are run together, members counted, where there is an output.
            overwrite: replace an existing output.
            progress: called with (done, in all, text).
            members: members of an ensemble, from perturbed initial states (``forecast.ensemble.perturbations``); the first is not perturbed.

        Returns:
            The forecast, dimensions time, prediction_timedelta, [number], [level], latitude, longitude.

        Raises:
            FileExistsError: the output exists.
            ValueError: ``init`` does not fit the model, or an argument is not understood.
        """
        held = list(dict.fromkeys(c.variable for c in self.checkpoint.channels))
        if members < 1:
            raise ValueError(f"an ensemble of {members} members has none; 1 makes a single forecast")
        for name in variables or ():
            if name not in held:
                raise ValueError(f"the model has no variable {name!r}; {nearest(name, held)}")
        if output is None:
            parts = [part[list(variables or held)] for part in self.rollout(init, times, lead, grid, area, members)]
            return xr.concat(parts, "prediction_timedelta", data_vars="minimal", coords="minimal", compat="override")
        path, states = Path(output), initial_states(self.checkpoint, init)
        steps, at = parse_lead(lead, self.checkpoint.step), parse_times(times, states, self.checkpoint.stepper.window)
        states.positions(at, self.checkpoint.stepper.window, self.checkpoint.step)
        write_forecast(
            self.checkpoint,
            self._target(grid, area),
            lambda batch: rollout(self.checkpoint, states, batch, steps, self.device, members, batch_size),
            at, steps, path, list(variables) if variables else None, max(1, batch_size // members), overwrite,
            f"{self.identity} {_describe(init)}", progress, members,
        )  # fmt: skip
        return open_forecast(path)

    def _target(self, grid: float | str | None, area: str | None) -> OutputGrid:
        return output_grid(self.checkpoint.grid, self.checkpoint.dtypes, grid, area)


def load(checkpoint: str | Path, device: str | None = None) -> Forecaster:
    """Load a checkpoint.

    Args:
        checkpoint: folder that training made.
        device: ``cpu`` or ``cuda``; a GPU where there is one by default.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: it is damaged, or the device does not exist.
    """
    device = pick_device(device)
    return Forecaster(load_checkpoint(checkpoint, device), device, read_meta(checkpoint)["sha256"])


def open_forecast(path: str | Path) -> xr.Dataset:
    """Open a forecast lazily.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is not a forecast.
    """
    dataset = open_raw(str(path))
    lacking = {"time", "prediction_timedelta", *axes_of(dataset)} - set(dataset.dims)
    if lacking:
        raise ValueError(f"{path} is not a forecast: it has no {sorted(lacking)[0]}; make one with `forecast run`")
    return dataset


def _describe(init: Init) -> str:
    if isinstance(init, xr.Dataset):
        return hashlib.sha256(repr(init).encode()).hexdigest()
    if "://" in str(init):
        return str(init)
    path = Path(init).absolute()
    stamped = next((file for name in ("zarr.json", ".zmetadata", ".zgroup") if (file := path / name).exists()), path)
    return f"{path} {stamped.stat().st_mtime_ns}"
