"""Forecasts of a variable that a network diagnoses from those of a forecast model, such as precipitation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import nn

from ...datasets.schema import Channel
from ...datasets.store import atomic
from ...datasets.store.netcdf import forecast_attributes
from ...datasets.store.open import write_dataset
from ...datasets.target_scales import LogTransform
from ...fno.models.stepper_states import normalised_state
from ...fno.progress import Progress
from .forecaster import Forecaster, Init
from .initial_times import InitialTimes, parse_lead


class DiagnosticForecaster:
    """A forecast model and a network that diagnoses a variable from its forecasts.

    Args:
        forecaster: the forecast model.
        network: maps normalised states to the transformed target.
        target: the diagnosed channel.
        attrs: its CF attributes.
        transform: transformation of its values.
        mask: points where it has values, shape (1, H, W).
    """

    def __init__(
        self,
        forecaster: Forecaster,
        network: nn.Module,
        *,
        target: Channel,
        attrs: Mapping[str, Any],
        transform: LogTransform,
        mask: NDArray[np.bool_],
    ) -> None:
        self.forecaster = forecaster
        self.network = network
        self.target = target
        self.attrs = dict(attrs)
        self.transform = transform
        self.mask = mask

    def run(
        self,
        init: Init,
        times: InitialTimes = None,
        lead: str = "10d",
        *,
        output: str | Path | None = None,
        overwrite: bool = False,
        follow_links: bool = False,
        progress: Progress | None = None,
    ) -> xr.Dataset:
        """Diagnose the variable at each lead time of a forecast, the initial time included.

        Args:
            init: CF file, zarr store or data set with the input states.
            times: initial times; the latest possible by default.
            lead: lead time of the last step, e.g. ``72h``.
            output: zarr store, or netCDF file if it ends in ``.nc``; by default the result is only returned.
            overwrite: replace an existing output.
            follow_links: follow links within ``init`` that lead outside of it.
            progress: called with (steps done, total steps, text).

        Raises:
            FileExistsError: the output exists.
            ValueError: ``init`` does not fit the forecast model, or an argument is malformed.
        """
        if output is None:
            return self._run(init, times, lead, follow_links=follow_links, progress=progress)
        inputs = [init, self.forecaster.checkpoint.path]
        with atomic.reserved(output, "forecast", overwrite=overwrite, inputs=inputs) as path:
            dataset = self._run(init, times, lead, follow_links=follow_links, progress=progress)
            write_dataset(dataset, path, overwrite=overwrite, kind="forecast")
        return dataset

    def _run(
        self, init: Init, times: InitialTimes, lead: str, *, follow_links: bool, progress: Progress | None
    ) -> xr.Dataset:
        """Return the variable in memory."""
        total = parse_lead(lead, self.forecaster.checkpoint.step) + 1
        parts = []
        steps = self.forecaster.rollout(init, times, lead, bounds=False, follow_links=follow_links)
        for forecast in steps:
            parts.append(self._diagnose(forecast))
            if progress:
                progress(len(parts), total, f"lead time {len(parts)} of {total}")
        return xr.concat(
            parts,
            "prediction_timedelta",
            data_vars="minimal",
            coords="minimal",
            compat="override",
            combine_attrs="override",
        )

    @torch.inference_mode()
    def _diagnose(self, forecast: xr.Dataset) -> xr.Dataset:
        """Return the variable for the forecast of one lead time."""
        checkpoint = self.forecaster.checkpoint
        fields = []
        for channel in checkpoint.channels:
            variable = forecast[channel.variable]
            chosen = variable if channel.level is None else variable.sel(level=channel.level, drop=True)
            fields.append(chosen.values[:, 0])
        state = torch.from_numpy(np.stack(fields, axis=1)).to(self.forecaster.device)
        result = self.network(normalised_state(checkpoint.stepper, state)).cpu().numpy()
        values = np.where(self.mask, self.transform.inverse(result), np.nan).astype(np.float32)
        dims = ("time", "prediction_timedelta", *checkpoint.grid.axes)
        attrs = forecast_attributes(self.target.variable, self.attrs, self.target.units)
        coords = {name: c for name, c in forecast.coords.items() if "level" not in c.dims}
        return xr.Dataset({self.target.variable: (dims, values, attrs)}, coords, forecast.attrs)
