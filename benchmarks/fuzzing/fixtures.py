"""Small valid inputs of every kind, which the cases alter."""

import os
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import torch
import xarray as xr
import yaml

SIMULATION = {
    "viscosity": 0.03,
    "alpha": 3.0,
    "sigma": 125.0,
    "duration": 0.5,
    "frames": 10,
    "resolution": 32,
}
MODEL = ["model.hidden_channels=4", "model.n_layers=1"]
CHECKPOINTS = ("run/checkpoint", "pinn/checkpoint", "operator/checkpoint", "network")


def source(times: int = 60, shape: tuple[int, int] = (5, 8)) -> xr.Dataset:
    """Return temperature [K] and eastward wind [m/s] on a regional grid, every six hours."""
    rng = np.random.default_rng(0)
    coords = {
        "time": np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(6, "h"),
        "lat": ("lat", np.linspace(60, 40, shape[0]), {"units": "degrees_north"}),
        "lon": ("lon", np.linspace(200, 235, shape[1]), {"units": "degrees_east"}),
    }
    noise = rng.standard_normal((2, times, *shape)).cumsum(axis=1) * 0.1
    dims = ("time", "lat", "lon")
    return xr.Dataset(
        {
            "t2m": (dims, (280 + noise[0]).astype("f4"), {"units": "K", "standard_name": "air_temperature"}),
            "u10": (dims, noise[1].astype("f4"), {"units": "m/s"}),
        },
        coords,
    )


def network_weights() -> dict[str, torch.Tensor]:
    """Return random weights with the parameter names of neuraloperator's FNO."""
    torch.manual_seed(0)
    width = 4
    state = {"lifting.fcs.0.weight": torch.randn(6, 3, 1), "lifting.fcs.0.bias": torch.randn(6)}
    state |= {"lifting.fcs.1.weight": torch.randn(width, 6, 1), "lifting.fcs.1.bias": torch.randn(width)}
    state |= {"projection.fcs.0.weight": torch.randn(6, width, 1), "projection.fcs.0.bias": torch.randn(6)}
    state |= {"projection.fcs.1.weight": torch.randn(1, 6, 1), "projection.fcs.1.bias": torch.randn(1)}
    state["fno_blocks.convs.0.weight.tensor"] = torch.randn(width, width, 4, 3, dtype=torch.complex64)
    state["fno_blocks.convs.0.bias"] = torch.randn(width, 1, 1)
    state["fno_blocks.fno_skips.0.conv.weight"] = torch.randn(width, width, 1)
    state["fno_blocks.channel_mlp.0.fcs.0.weight"] = torch.randn(2, width, 1)
    state["fno_blocks.channel_mlp.0.fcs.0.bias"] = torch.randn(2)
    state["fno_blocks.channel_mlp.0.fcs.1.weight"] = torch.randn(width, 2, 1)
    state["fno_blocks.channel_mlp.0.fcs.1.bias"] = torch.randn(width)
    state["fno_blocks.channel_mlp_skips.0.weight"] = torch.randn(1, width, 1, 1)
    return state


def build(folder: Path) -> None:
    """Write all fixtures to a folder."""
    folder.mkdir(parents=True)
    os.chdir(folder)
    data = source()
    data.to_netcdf("source.nc")
    data.isel(time=slice(8)).to_netcdf("classic.nc", format="NETCDF3_CLASSIC")
    data.to_zarr("source.zarr", zarr_format=3, consolidated=True)
    data.to_zarr("source2.zarr", zarr_format=2, consolidated=True)
    with h5py.File("plain.h5", "w") as file:
        file["t2m"] = data["t2m"].values
    torch.save(network_weights(), "weights.pt")
    coefficients = [f"{name}={value}" for name, value in SIMULATION.items()]
    verb("ingest", "source.nc", "-o", "store.zarr")
    verb(
        "train",
        "quickstart",
        "data.store=store.zarr",
        "output=run",
        "train.epochs=1",
        "model.members=1",
        "model.n_modes=[3,3]",
        *MODEL,
    )
    verb(
        "run",
        "run/checkpoint",
        "--init",
        "store.zarr",
        "--time",
        "2001-01-08/2001-01-10/12h",
        "--lead",
        "24h",
        "-o",
        "forecast.zarr",
    )
    verb(
        "run",
        "run/checkpoint",
        "--init",
        "store.zarr",
        "--time",
        "2001-01-08",
        "--lead",
        "12h",
        "-o",
        "forecast.nc",
    )
    verb("verify", "forecast.zarr", "--truth", "store.zarr", "-o", "scores.nc")
    pinn_overrides = [
        "train.windows=1",
        "train.points=40",
        "train.iterations=1",
        "train.initial_points=8",
        "model.width=4",
        "model.depth=1",
    ]
    verb("train", "pinn/advection", "output=pinn", *pinn_overrides)
    verb("simulate", "burgers", "-o", "simulation.zarr", "samples=4", *coefficients)
    equation_overrides = [f"equation.{text}" for text in coefficients]
    operator_overrides = [
        "data.samples=4",
        "train.epochs=1",
        "train.batch_size=4",
        "model.windows=1",
        "model.nodes=3",
        "model.n_modes=[6]",
    ]
    verb("train", "pino/burgers", *equation_overrides, "output=operator", *operator_overrides, *MODEL)
    verb("run", "operator/checkpoint", "--init", "simulation.zarr", "-o", "solution.zarr")
    verb(
        "import",
        "weights.pt",
        "--format",
        "neuraloperator",
        "-o",
        "network",
        "n_modes=4,4",
        "hidden_channels=4",
    )
    for name in ("run", "pinn", "operator"):
        shutil.rmtree(f"{name}/state", ignore_errors=True)
    Path("config.yaml").write_text(yaml.safe_dump(config(), sort_keys=False))
    Path("import.yaml").write_text("n_modes: [4, 4]\nhidden_channels: 4\n")


def config() -> dict:
    """Return the configuration of a training run that takes a second."""
    return {
        "data": {"store": "../fixtures/store.zarr"},
        "model": {"kind": "fno", "n_modes": [3, 3], "hidden_channels": 4, "n_layers": 1},
        "train": {"epochs": 1, "batch_size": 8, "validation_steps": 2},
        "output": "out/run",
    }


def job() -> dict:
    """Return a jobs file with one job that has one due cycle at 2001-01-08T00:30."""
    return {
        "poll": "1s",
        "jobs": [
            {
                "name": "tiny",
                "checkpoint": "../../../fixtures/run/checkpoint",
                "source": "../../../fixtures/store.zarr",
                "cycle": "0 0 * * *",
                "start": "2001-01-08T00:00",
                "lead": "6h",
                "output": "published/{name}/{cycle:%Y%m%dT%H}.zarr",
                "backoff": "1s",
                "retries": 0,
                "plots": [],
            }
        ],
    }


def verb(*words: str) -> None:
    """Run a verb of the command in this process, and exit if it fails."""
    from fourcaster.forecast.cli.main import app

    try:
        app(list(words), prog_name="forecast")
    except SystemExit as end:
        if end.code:
            sys.exit(f"the fixtures could not be written: forecast {' '.join(words)} ended with {end.code}")
