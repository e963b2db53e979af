"""Train a global recipe, and score its forecasts of the last year and a free run.

    python benchmarks/global_skill.py global_sfno simulated.nc
    python benchmarks/global_skill.py global_sfno simulated.nc runs/sfno model.local=false

The model is trained on all years but the last. ``benchmarks/results/<recipe>.json`` receives the area-
weighted RMSE of forecasts from all times of the last year at 12 h to 5 days, computed from the forecast and
the original file without any code of the package, with those of persistence, damped persistence,
climatology (by ``forecast verify``) and ridge regression (see ``ridge.py``), and the mean error and spectra
of a run of two years. Arguments after the folder are passed to ``forecast train``; the result is then
written to the folder only.
"""

import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import ridge
import safetensors.torch
import torch
import xarray as xr
from numpy.typing import NDArray

RESULTS = Path(__file__).parent / "results"
LEADS = (12, 24, 72, 120)
REFERENCES = ("persistence", "damped_persistence", "climatology")
FREE_RUN_DAYS = 730
Array = NDArray[np.float64]


def area_weights(latitude: Array) -> Array:
    """Return the area of cells around evenly spaced latitudes [degrees], with mean 1."""
    half = abs(latitude[1] - latitude[0]) / 2
    edges = np.deg2rad(np.clip(np.stack([latitude - half, latitude + half]), -90, 90))
    weights: Array = np.sin(edges[1]) - np.sin(edges[0])
    return weights / weights.mean()


def open_truth(path: Path, names: list[str]) -> xr.Dataset:
    """Return the original fields."""
    source = xr.open_dataset(path)
    renamed = {n: {"lat": "latitude", "lon": "longitude"}[n] for n in ("lat", "lon") if n in source.dims}
    return source.rename(renamed)[names]


def rmse(forecast: xr.Dataset, truth: xr.Dataset) -> dict[str, dict[str, float]]:
    """Return the area-weighted RMSE by variable and lead time [h]."""
    weights = area_weights(forecast["latitude"].values)[:, None]
    times = {time: i for i, time in enumerate(truth["time"].values)}
    errors: dict[str, dict[str, float]] = {}
    for name in map(str, forecast.data_vars):
        actual = truth[name].values
        errors[name] = {}
        for lead in LEADS:
            delta = np.timedelta64(lead, "h")
            positions = [times[time + delta] for time in forecast["time"].values]
            predicted = forecast[name].sel(prediction_timedelta=delta).values.astype("f8")
            square = np.square(predicted - actual[positions]) * weights
            errors[name][str(lead)] = float(np.sqrt(square.mean()))
    return errors


def ridge_rmse(truth: xr.Dataset, names: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the RMSE of ridge regression by method, variable and lead time [h]."""
    values = np.stack([truth[name].values.astype(np.float32) for name in names], axis=1)
    mean = values.mean(axis=(0, 2, 3))
    std = values.std(axis=(0, 2, 3))
    normalised = (values - mean[:, None, None]) / std[:, None, None]
    series = ridge.Series(normalised, truth["time"].values, area_weights(truth["latitude"].values))
    years = sorted(set((truth["time"].values.astype("datetime64[Y]").astype(int) + 1970).tolist()))
    step = int((truth["time"].values[1] - truth["time"].values[0]) / np.timedelta64(1, "h"))
    scores = ridge.scores(series, years[:-1], years[-1], [lead // step for lead in LEADS])
    return {
        method: {
            name: {str(lead): float(by_lead[lead // step][i] * std[i]) for lead in LEADS}
            for i, name in enumerate(names)
        }
        for method, by_lead in scores.items()
    }


def reference_rmse(command: Path, forecast: Path, store: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Return the RMSE of the reference forecasts by method, variable and lead time [h]."""
    process = subprocess.run(
        [command, "verify", forecast, "--truth", store, "--json"], check=True, capture_output=True, text=True
    )
    result: dict[str, dict[str, dict[str, float]]] = {name: {} for name in REFERENCES}
    for row in json.loads(process.stdout):
        if row["lead_hours"] in LEADS:
            for name in REFERENCES:
                by_lead = result[name].setdefault(row["variable"], {})
                by_lead[f"{row['lead_hours']:g}"] = row["rmse"][name]
    return result


def zonal_spectrum(fields: Array, weights: Array) -> Array:
    """Return the area-weighted mean power by zonal wavenumber, shape (wavenumber,).

    Args:
        fields: shape (time, row, column).
        weights: area weights, shape (row,).
    """
    power = np.abs(np.fft.rfft(fields, axis=-1, norm="forward")) ** 2
    spectrum: Array = (power * weights[:, None]).mean(axis=(0, 1))
    return spectrum


def free_run_scores(run: xr.Dataset, truth: xr.Dataset) -> dict[str, Any]:
    """Return errors of the statistics of a long forecast, over whole years of it and of the truth.

    ``zonal_mean_bias`` is the root mean square over latitudes of the error of the zonal and time mean,
    divided by the standard deviation in time of the truth; ``spectral_error`` the largest relative
    error of the power by zonal wavenumber from 1 to 15.
    """
    weights = area_weights(run["latitude"].values)
    result: dict[str, Any] = {"days": FREE_RUN_DAYS, "finite": True, "variables": {}}
    for name in map(str, run.data_vars):
        forecast = run[name].isel(time=0, prediction_timedelta=slice(1, None)).values.astype("f8")
        actual = truth[name].values.astype("f8")
        result["finite"] &= bool(np.isfinite(forecast).all())
        bias = forecast.mean(axis=(0, 2)) - actual.mean(axis=(0, 2))
        deviation = np.sqrt((np.square(actual - actual.mean(axis=0)).mean(axis=(0, 2)) * weights).mean())
        ratio = zonal_spectrum(forecast, weights)[1:16] / zonal_spectrum(actual, weights)[1:16]
        result["variables"][name] = {
            "zonal_mean_bias": float(np.sqrt((np.square(bias) * weights).mean()) / deviation),
            "spectral_error": float(np.abs(ratio - 1).max()),
            "spectral_ratio": [round(float(r), 3) for r in ratio],
        }
    return result


def parameters(checkpoint: Path) -> int:
    """Return the number of real parameters of a checkpoint; a complex one counts twice."""
    tensors = safetensors.torch.load_file(checkpoint / "weights.safetensors")
    weights = [tensor for name, tensor in tensors.items() if name.startswith("network.")]
    return sum(tensor.numel() * (1 + tensor.is_complex()) for tensor in weights)


def main() -> None:
    """Train the recipe, forecast the last year and two years, and print and write the scores."""
    recipe = sys.argv[1]
    data = Path(sys.argv[2])
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else Path("runs") / recipe
    overrides = sys.argv[4:]
    command = Path(sys.executable).parent / "forecast"
    store = folder.parent / f"{data.stem}.zarr"
    if not store.exists():
        subprocess.run([command, "ingest", data, "-o", store], check=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    train = [command, "train", recipe, f"data.store={store}", f"output={folder}", *overrides]
    subprocess.run(train, check=True)
    seconds = time.monotonic() - start
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    meta = json.loads((folder / "checkpoint" / "meta.json").read_text())
    names = meta["config"]["data"]["variables"] or [str(n) for n in xr.open_zarr(store).data_vars]
    truth = open_truth(data, names)
    last_year = str(truth["time"].values[-1].astype("datetime64[Y]"))
    end = truth["time"].values[-1] - np.timedelta64(max(LEADS), "h")
    step = int((truth["time"].values[1] - truth["time"].values[0]) / np.timedelta64(1, "h"))
    times = f"{last_year}-01-01/{end.astype('datetime64[h]')}/{step}h"
    run = [command, "run", folder / "checkpoint", "--init", store]
    forecast = folder / "forecast.zarr"
    subprocess.run([*run, "--time", times, "--lead", f"{max(LEADS)}h", "-o", forecast], check=True)
    first = f"{last_year}-01-01"
    free = folder / "free_run.zarr"
    subprocess.run([*run, "--time", first, "--lead", f"{FREE_RUN_DAYS}d", "-o", free], check=True)
    scored = xr.open_zarr(forecast, consolidated=False)
    result = {
        "recipe": recipe,
        "overrides": overrides,
        "data": data.name,
        "simulated": "simulated" in json.dumps(meta["provenance"]["source"]).lower(),
        "rmse": rmse(scored, truth),
        "references": reference_rmse(command, forecast, store) | ridge_rmse(truth, names),
        "units": {name: truth[name].attrs.get("units", "") for name in names},
        "free_run": free_run_scores(xr.open_zarr(free, consolidated=False), truth),
        "initial_times": scored.sizes["time"],
        "parameters": parameters(folder / "checkpoint"),
        "train_seconds": round(seconds, 1),
        "train_cpu_seconds": round(usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime, 1),
        "best_epoch": meta["provenance"]["best_epoch"],
        "validation_period": meta["provenance"]["validation_period"],
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    target = folder / "scores.json" if overrides else RESULTS / f"{recipe}.json"
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
