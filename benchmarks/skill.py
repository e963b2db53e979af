"""Train a recipe on the NCEP series and compute its error in the test year with xarray alone.

    python benchmarks/skill.py quickstart air_temperature.nc
    python benchmarks/skill.py ncep_temperature air_temperature.nc

This writes ``benchmarks/results/skill_<recipe>.json``: wall seconds of training, wall and CPU seconds of all
commands, and cos-latitude weighted RMSE by lead time, computed from the forecast and the original netCDF
without any code of the package.
"""

import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import xarray as xr

RESULTS = Path(__file__).parent / "results"


def rmse(forecast_path: Path, truth_path: Path) -> dict[str, float]:
    """Return the RMSE [K] by lead time [h]."""
    forecast = xr.open_zarr(forecast_path, consolidated=False)["air"].load()
    truth = xr.open_dataset(truth_path)["air"].rename(lat="latitude", lon="longitude")
    weights = np.cos(np.deg2rad(forecast["latitude"].astype("f8")))
    errors = {}
    for lead in forecast["prediction_timedelta"].values:
        predicted = forecast.sel(prediction_timedelta=lead)
        actual = truth.sel(time=predicted["time"].values + lead).values
        square = xr.DataArray(
            (predicted.values.astype("f8") - actual) ** 2, dims=("time", "latitude", "longitude")
        )
        square = square.assign_coords(latitude=forecast["latitude"])
        error = float(np.sqrt(square.weighted(weights).mean()))
        errors[f"{lead / np.timedelta64(1, 'h'):g}"] = round(error, 4)
    return errors


def references(command: Path, folder: Path) -> dict[str, dict[str, float]]:
    """Return the RMSE [K] of the reference forecasts by lead time [h], as reported by ``forecast verify``."""
    process = subprocess.run(
        [command, "verify", folder / "forecast.zarr", "--truth", folder / "store.zarr", "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    rows = json.loads(process.stdout)
    names = ("persistence", "damped_persistence", "climatology")
    return {name: {f"{row['lead_hours']:g}": round(row["rmse"][name], 4) for row in rows} for name in names}


def main() -> None:
    """Train the recipe, run forecasts of the test year, and print and write the errors."""
    recipe = sys.argv[1]
    data = Path(sys.argv[2])
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else Path("runs") / f"skill_{recipe}"
    command = Path(sys.executable).parent / "forecast"
    store = folder / "store.zarr"
    start = time.monotonic()
    if recipe == "quickstart":
        subprocess.run([command, "quickstart", "--data", data, "--out", folder], check=True)
        seconds = json.loads((folder / "quickstart.json").read_text())["seconds"]["train"]
    else:
        if not store.exists():
            subprocess.run([command, "ingest", data, "-o", store], check=True)
        training_start = time.monotonic()
        subprocess.run([command, "train", recipe, f"data.store={store}", f"output={folder}"], check=True)
        seconds = round(time.monotonic() - training_start, 1)
        times = "2014-01-01/2014-12-28T18/30h"
        subprocess.run(
            [
                command,
                "run",
                folder / "checkpoint",
                "--init",
                store,
                "--time",
                times,
                "--lead",
                "72h",
                "-o",
                folder / "forecast.zarr",
            ],
            check=True,
        )
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    all_seconds = round(time.monotonic() - start, 1)
    forecast = xr.open_zarr(folder / "forecast.zarr", consolidated=False)
    meta = json.loads((folder / "checkpoint" / "meta.json").read_text())
    result = {
        "recipe": recipe,
        "rmse_kelvin": rmse(folder / "forecast.zarr", data),
        "references_rmse_kelvin": references(command, folder),
        "initial_times": forecast.sizes["time"],
        "first_initial_time": str(forecast["time"].values[0]),
        "last_initial_time": str(forecast["time"].values[-1]),
        "train_seconds": seconds,
        "all_seconds": all_seconds,
        "all_cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "best_epoch": meta["provenance"]["best_epoch"],
        "validation_period": meta["provenance"]["validation_period"],
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"skill_{recipe}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
