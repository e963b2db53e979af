"""Small data sets, configurations and checks shared by the tests."""

import resource
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from fourcaster.fno.models.pinn import CoordinateNetwork
from fourcaster.fno.physics import equations
from fourcaster.forecast.config.weather import WeatherConfig
from fourcaster.forecast.tasks.dispatch import make_config

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"


def make_source(
    times: int = 160,
    step_hours: int = 6,
    shape: tuple[int, int] = (7, 12),
    seed: int = 0,
    start: str = "2001-01-01",
) -> xr.Dataset:
    """Return temperature and wind of a noisy travelling wave, in COARDS layout."""
    rng = np.random.default_rng(seed)
    lat = np.linspace(60, 30, shape[0]).astype("f4")
    lon = np.linspace(200, 255, shape[1]).astype("f4")
    time = np.datetime64(start, "ns") + np.arange(times) * np.timedelta64(step_hours, "h")
    phase = np.deg2rad(lon)[None, None] * 6 - 0.4 * np.arange(times)[:, None, None]
    wave = np.cos(phase) * np.cos(np.deg2rad(lat))[None, :, None]
    noise = rng.standard_normal((2, times, *shape)).cumsum(axis=1) * 0.05
    coords = {
        "time": time,
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "lon": ("lon", lon, {"units": "degrees_east"}),
    }
    dims = ("time", "lat", "lon")
    return xr.Dataset(
        {
            "u10": (dims, (3 * wave + noise[1]).astype("f4"), {"units": "m/s"}),
            "t2m": (
                dims,
                (280 + 5 * wave + noise[0]).astype("f4"),
                {"units": "degK", "long_name": "temperature"},
            ),
        },
        coords,
    )


def tiny_config(store: Path, output: Path, *overrides: str) -> WeatherConfig:
    values = {
        "data": {"store": str(store)},
        "model": {"kind": "fno", "n_modes": [4, 4], "hidden_channels": 8, "n_layers": 2},
        "train": {"epochs": 2, "batch_size": 16, "validation_steps": 3, "noise": 0.05, "rollout_steps": 2},
        "output": str(output),
    }
    return make_config(values, overrides)


def coordinate_network(start=0.0, stop=1.0, seed=0, problem="advection", **options):
    """Return an untrained coordinate network for an equation."""
    torch.manual_seed(seed)
    p = equations.get(problem).problem()
    return CoordinateNetwork(
        {"t": start, "x": p.low}, {"t": stop, "x": p.high}, ("x",) if p.periodic else (), **options
    )


def values_on_grid(model, name, times=21, points=40):
    """Evaluate a network on a grid of times and points; return the values and the coordinates."""
    problem = equations.get(name).problem()
    t = torch.linspace(0, 1, times, dtype=torch.float64)
    x = problem.low + (problem.high - problem.low) * torch.arange(points, dtype=torch.float64) / (
        points - (not problem.periodic)
    )
    with torch.no_grad():
        return model(torch.cartesian_prod(t, x)).reshape(times, points), t[:, None], x


def relative_error(u, exact):
    """Return the relative L2 error."""
    return ((u - exact).norm() / exact.norm()).item()


@contextmanager
def resource_limits(megabytes=400, seconds=60):
    """Limit the additional memory of a block, and fail if the block takes too long."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    start = time.monotonic()
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.monotonic() - start < seconds


def stopping_after(calls):
    """Return a function that requests a stop when it is called for the n-th time."""
    remaining = [calls]

    def stop():
        remaining[0] -= 1
        return remaining[0] == 0

    return stop
