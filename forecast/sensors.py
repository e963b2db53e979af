"""Time series of sensors: readings of one solution whose initial state and coefficients are unknown."""

from pathlib import Path

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ..datasets.adapters.opening import open_raw
from ..datasets.pde.loaders import SolutionLayout
from ..fno.training.objectives.sensors import Sensors


def read_sensors(path: str | Path, layout: SolutionLayout) -> Sensors:
    """Read sensors of an equation on a periodic domain.

    Args:
        path: netCDF or zarr with one or more variables of the equation (station, time), each with the
            attribute ``noise`` (standard deviation of a reading), and the coordinates ``time`` and, for every
            axis of the equation, that of the stations, such as ``x`` (station). Missing readings are NaN.
        layout: layout of the variables of the equation.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: something is missing, outside of the domain, or later than the simulations.
    """
    if not layout.evolves or layout.inputs or set(layout.edges) != {"periodic"}:
        raise ValueError(
            "sensors need an equation that depends on time, on a periodic domain, without prescribed fields"
        )
    dataset = open_raw(str(path))
    measured = [name for name in layout.fields if name in dataset.variables]
    missing = [name for name in (*layout.axes, "time") if name not in dataset.variables]
    if not measured:
        missing.insert(0, " or ".join(layout.fields))
    if missing:
        raise ValueError(
            f"{path} has no {missing[0]}; sensors are {' or '.join(layout.fields)} (station, time) with the "
            f"coordinates {', '.join(layout.axes)} (station) and time"
        )
    positions = _positions(dataset, layout, path)
    readings = np.full((len(layout.fields), len(positions), dataset["time"].size), np.nan)
    noise = np.ones((len(layout.fields), 1, 1))
    for name in measured:
        i = layout.fields.index(name)
        readings[i], noise[i] = _readings(dataset[name], path)
    times = dataset["time"].values.astype(float)
    last = layout.times[-1]
    if not ((times >= 0) & (times <= last * (1 + 1e-9))).all() or not (np.diff(times) > 0).all():
        raise ValueError(f"{path}: sensors must be read at increasing times in [0, {last:g}]")
    if np.isfinite(readings).sum() < 2:
        raise ValueError(f"{path}: {', '.join(measured)} has no readings")
    return Sensors(
        torch.from_numpy(positions),
        torch.from_numpy(times),
        torch.from_numpy(readings),
        torch.from_numpy(noise),
    )


def _positions(dataset: xr.Dataset, layout: SolutionLayout, path: str | Path) -> NDArray[np.float64]:
    """Return coordinates of the stations in units of the domain, shape (station, axis)."""
    positions = []
    for axis, origin, length in zip(layout.axes, layout.origins, layout.lengths, strict=True):
        if dataset[axis].dims != ("station",):
            dims = ", ".join(map(str, dataset[axis].dims)) or "none"
            raise ValueError(f"{path}: {axis} has the dimensions {dims}, expected station")
        position = (dataset[axis].values.astype(float) - origin) / length
        if not ((position >= 0) & (position < 1)).all():
            raise ValueError(f"{path}: sensors must lie in {origin:g} <= {axis} < {origin + length:g}")
        positions.append(position)
    return np.stack(positions, axis=1)


def _readings(field: xr.DataArray, path: str | Path) -> tuple[NDArray[np.float64], float]:
    """Return readings, shape (station, time), and the standard deviation of each."""
    if set(field.dims) != {"station", "time"}:
        raise ValueError(
            f"{path}: {field.name} has the dimensions {', '.join(map(str, field.dims))}, expected "
            "station, time"
        )
    noise = float(field.attrs.get("noise", np.nan))
    if not noise > 0:
        raise ValueError(
            f"{path}: {field.name} needs the attribute noise, the standard deviation of a reading"
        )
    return field.transpose("station", "time").values.astype(float), noise
