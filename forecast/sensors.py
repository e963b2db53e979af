"""Time series of sensors: readings of one solution whose initial state and coefficients are unknown."""

from pathlib import Path

import numpy as np
import torch

from ..datasets.adapters.opening import open_raw
from ..datasets.pde.loaders import Layout
from ..fno.training.objectives.sensors import Sensors


def read_sensors(path: str | Path, layout: Layout, start: float) -> Sensors:
    """Read sensors.

    Args:
        path: netCDF or zarr with the variable of the equation (station, time), its attribute ``noise``
            (standard deviation of a reading), and the coordinates ``x`` (station) and ``time``. Missing
            readings are NaN.
        layout: of the variables of the equation.
        start: left end of the domain.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: something is missing, outside of the domain, or later than the simulations.
    """
    dataset = open_raw(str(path))
    name = layout.fields[0]
    axis = layout.axes[0]
    if len(layout.axes) != 1 or layout.edges != ("wrap",) or not layout.times or len(layout.fields) != 1:
        raise ValueError("an experiment needs an equation of one field on a periodic line")
    for variable in (name, axis, "time"):
        if variable not in dataset.variables:
            raise ValueError(
                f"{path} has no {variable}; sensors are {name} (station, time) with the coordinates {axis} "
                "(station) "
                "and time"
            )
    field = dataset[name]
    if set(field.dims) != {"station", "time"}:
        raise ValueError(
            f"{path}: {name} has the dimensions {', '.join(map(str, field.dims))}, expected station, time"
        )
    noise = float(field.attrs.get("noise", np.nan))
    if not noise > 0:
        raise ValueError(f"{path}: {name} needs the attribute noise, the standard deviation of a reading")
    places = (dataset[axis].values - start) / layout.lengths[0]
    times = dataset["time"].values.astype(float)
    if (
        places.min() < 0
        or places.max() >= 1
        or times.min() < 0
        or times.max() > layout.times[-1] * (1 + 1e-9)
        or (np.diff(times) <= 0).any()
    ):
        raise ValueError(
            f"{path}: sensors must lie in [{start:g}, {start + layout.lengths[0]:g}) and be read at "
            "increasing times in "
            f"[0, {layout.times[-1]:g}]"
        )
    readings = field.transpose("station", "time").values.astype(float)
    if np.isfinite(readings).sum() < 2:
        raise ValueError(f"{path}: {name} has no readings")
    return Sensors(
        torch.from_numpy(places)[:, None],
        torch.from_numpy(times),
        torch.from_numpy(readings)[None],
        noise,
    )
