"""Series of sensors in a file: readings of one instance of an equation whose start and numbers are not known."""

from pathlib import Path

import numpy as np
import torch

from ..datasets.adapters.opening import open_raw
from ..datasets.pde.loaders import Layout
from ..fno.training.objectives.inverse import Sensors


def read_sensors(path: str | Path, layout: Layout, start: float) -> Sensors:
    """Read sensors.

    Args:
        path: netCDF or zarr with the solved variable on (station, time), its attribute ``noise`` (standard
            deviation of a reading), and the coordinates ``x`` (station) and ``time``. Readings that are
            missing are NaN.
        layout: of the equation.
        start: left end of the domain.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: something is missing, outside of the domain, or later than the simulations.
    """
    dataset, name = open_raw(str(path)), layout.fields[0]
    if len(layout.axes) != 1 or layout.edges != ("wrap",) or not layout.times or len(layout.fields) != 1:
        raise ValueError("an experiment needs an equation of one field on a periodic line")
    for wanted in (name, layout.axes[0], "time"):
        if wanted not in dataset.variables:
            raise ValueError(
                f"{path} has no {wanted}; sensors are {name} (station, time) with the coordinates {layout.axes[0]} (station) and time"
            )
    field = dataset[name]
    if set(field.dims) != {"station", "time"}:
        raise ValueError(
            f"{path}: {name} has the dimensions {', '.join(map(str, field.dims))}, expected station, time"
        )
    noise = float(field.attrs.get("noise", np.nan))
    if not noise > 0:
        raise ValueError(f"{path}: {name} needs the attribute noise, the standard deviation of a reading")
    places, times = (
        (dataset[layout.axes[0]].values - start) / layout.lengths[0],
        dataset["time"].values.astype(float),
    )
    if (
        places.min() < 0
        or places.max() >= 1
        or times.min() < 0
        or times.max() > layout.times[-1] * (1 + 1e-9)
        or (np.diff(times) <= 0).any()
    ):
        raise ValueError(
            f"{path}: sensors must lie in [{start:g}, {start + layout.lengths[0]:g}) and be read at rising times in [0, {layout.times[-1]:g}]"
        )
    readings = field.transpose("station", "time").values.astype(float)
    if np.isfinite(readings).sum() < 2:
        raise ValueError(f"{path}: {name} holds no readings")
    return Sensors(torch.from_numpy(places), torch.from_numpy(times), torch.from_numpy(readings), noise)
