"""Set up the soak test: store, trained model, four jobs and an accelerated clock.

The ``prepare`` command of a job can fail, see ``PREPARE``.
"""

import json
import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import xarray as xr
import yaml

from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.write import write_store
from fourcaster.forecast.tasks.dispatch import make_config, train

START = datetime(2001, 1, 3)
DAYS = 14
PREPARE = """#!/bin/sh
# Executes the fault in the file of this job, once.
if mv "fault-$1" "taken-$1.$$" 2>/dev/null; then
  read kind < "taken-$1.$$"
  case "$kind" in
    hangs) sleep 600 ;;
    full) prlimit --pid $PPID --fsize=2000 ;;
    fails) exit 7 ;;
  esac
fi
"""


def prepare(folder: Path) -> None:
    """Write a store, a trained model and the jobs file."""
    rng = np.random.default_rng(0)
    times = 120
    rows = 12
    columns = 24
    phase = np.deg2rad(np.arange(columns) * 15.0)[None, None] * 3 - 0.4 * np.arange(times)[:, None, None]
    latitude = np.linspace(60, 5, rows)
    wave = np.cos(phase) * np.cos(np.deg2rad(latitude))[None, :, None]
    coords = {
        "time": np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(6, "h"),
        "latitude": latitude,
        "longitude": np.arange(columns) * 15.0,
    }
    values = (280 + 5 * wave + rng.normal(size=wave.shape)).astype("f4")
    xr.Dataset({"t2m": (("time", "latitude", "longitude"), values, {"units": "K"})}, coords).to_netcdf(
        folder / "source.nc"
    )
    write_store(open_sources([folder / "source.nc"]), folder / "store.zarr")
    model = {"kind": "fno", "n_modes": [4, 4], "hidden_channels": 8, "n_layers": 2}
    train(
        make_config(
            {
                "data": {"store": str(folder / "store.zarr")},
                "model": model,
                "train": {"epochs": 1},
                "output": str(folder / "run"),
            },
            [],
        )
    )
    (folder / "prepare.sh").write_text(PREPARE)
    (folder / "late.zarr").symlink_to("store.zarr")
    command = ["sh", "prepare.sh", "{name}"]
    hook = ["sh", "-c", "echo '{state} {cycle:%Y%m%dT%H}' >> 'notified-{name}'"]
    plots = [{"variable": "t2m", "lead": "12h"}]
    jobs = [
        {"name": "hanging", "deadline": "8s", "retries": 0, "prepare": command},
        {"name": "late", "source": "late.zarr", "deadline": "18h", "prepare": ["true"]},
        {"name": "bucket", "output": "s3://soak/out/{name}/{cycle:%Y%m%dT%H}.zarr", "prepare": command},
        {
            "name": "maps",
            "output": "out/{name}/{cycle:%Y%m%dT%H}.nc",
            "prepare": command,
            "plots": plots,
            "keep": 8,
            "truth": "store.zarr",
        },
    ]
    defaults = {
        "checkpoint": "run/checkpoint",
        "source": "store.zarr",
        "cycle": "0 */6 * * *",
        "start": START.isoformat(),
        "lead": "12h",
        "output": "out/{name}/{cycle:%Y%m%dT%H}.zarr",
        "retries": 2,
        "backoff": "1s",
        "on_success": hook,
        "on_failure": hook,
    }
    top = {"workers": 2, "poll": "1s", "lease": "10s"}
    (folder / "jobs.yaml").write_text(
        yaml.safe_dump(top | {"defaults": defaults, "jobs": jobs}, sort_keys=False)
    )


def clock_of(folder: Path) -> Callable[[], datetime]:
    """Return the accelerated clock, which all schedulers read from one file."""

    def now() -> datetime:
        state = json.loads((folder / "clock.json").read_text())
        elapsed = (time.time() - state["epoch"]) * state["factor"] + state["offset"]
        return START + timedelta(seconds=min(elapsed, DAYS * 86400))

    return now


def set_clock(folder: Path, **values: float) -> None:
    """Set values of the clock, such as its ``offset`` [s]."""
    path = folder / "clock.json"
    state = json.loads(path.read_text()) if path.exists() else {"offset": 0.0}
    (folder / "clock.new").write_text(json.dumps(state | values))
    os.replace(folder / "clock.new", path)
