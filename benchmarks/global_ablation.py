"""What each part of the global recipe brings: variants of a smaller one, scored on the validation period.

    python benchmarks/global_ablation.py simulated.nc
    python benchmarks/global_ablation.py simulated.nc --only "one state" "no noise"

Each variant differs from ``configs/global_sfno.yaml``, at the size given by ``SMALL``, in one setting. The
error is the area-weighted RMSE of forecasts from every second time of the validation period, divided by the
standard deviation of the anomaly and averaged over the variables; nothing is scored on the last year.
``benchmarks/results/global_ablation.json`` receives the errors and the CPU time of training.
"""

import argparse
import json
import platform
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
import zarr
from global_skill import LEADS, open_truth, rmse

RESULT = Path(__file__).parent / "results" / "global_ablation.json"
SMALL = [
    "model.lmax=21",
    "model.hidden_channels=24",
    "train.batch_size=32",
    "train.learning_rate=4.0e-3",
    "train.epochs=8",
    "train.rollout_steps=3",
]
BASE = "the recipe at reduced size"
STATES = "states in place of anomalies"
VARIANTS: dict[str, list[str]] = {
    BASE: [],
    STATES: [],
    "one state as input (window 1)": ["model.window=1"],
    "single steps (no rollout)": ["train.rollout_steps=1"],
    "no noise": ["train.noise=0", "train.noise_spectrum=white"],
    "white noise": ["train.noise_spectrum=white"],
    "spectral loss": ["loss.kind=spectral"],
    "no local branch": ["model.local=false"],
    "no damping": ["model.damping=0"],
    "mean of two networks": ["model.members=2"],
}


def without_seasons(store: Path, target: Path) -> Path:
    """Copy a store, with the mean in time and space in place of the seasonal cycle.

    Anomalies are then departures of the state from a constant, in units of its standard deviation.
    """
    if not target.exists():
        part = target.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(store, part)
        group = zarr.open_group(str(part), mode="r+", use_consolidated=False)
        for path, array in group["climatology"].arrays():
            mean = f"statistics/{path}_mean"
            if mean in group:
                array[...] = group[mean][...]
                for moment in ("std", "tendency_std"):
                    group[f"statistics/{path}_anomaly_{moment}"][...] = group[f"statistics/{path}_{moment}"][
                        ...
                    ]
        zarr.consolidate_metadata(str(part))
        part.rename(target)
    return target


def error(folder: Path, store: Path, truth: xr.Dataset, scales: dict[str, float]) -> dict[str, float]:
    """Return the mean relative RMSE by lead time [h], over the validation period of a model."""
    meta = json.loads((folder / "checkpoint" / "meta.json").read_text())
    first, last = (np.datetime64(time) for time in meta["provenance"]["validation_period"])
    end = last - np.timedelta64(max(LEADS), "h")
    times = f"{first.astype('datetime64[h]')}/{end.astype('datetime64[h]')}/24h"
    forecast = folder / "forecast.zarr"
    command = [Path(sys.executable).parent / "forecast", "run", folder / "checkpoint", "--init", store]
    subprocess.run(
        [*command, "--time", times, "--lead", f"{max(LEADS)}h", "-o", forecast, "--overwrite"], check=True
    )
    errors = rmse(xr.open_zarr(forecast, consolidated=False), truth)
    return {
        str(lead): float(np.mean([errors[name][str(lead)] / scale for name, scale in scales.items()]))
        for lead in LEADS
    }


def main() -> None:
    """Train and score the variants, and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--only", nargs="+", choices=VARIANTS, help="variants to train; keeps the other rows")
    arguments = parser.parse_args()
    command = Path(sys.executable).parent / "forecast"
    arguments.folder.mkdir(parents=True, exist_ok=True)
    store = arguments.folder / f"{arguments.data.stem}.zarr"
    if not store.exists():
        subprocess.run([command, "ingest", arguments.data, "-o", store], check=True)
    statistics = xr.open_zarr(store, group="statistics", consolidated=False)
    names = [str(name) for name in xr.open_zarr(store).data_vars if f"{name}_anomaly_std" in statistics]
    scales = {name: float(statistics[f"{name}_anomaly_std"]) for name in names}
    truth = open_truth(arguments.data, names)
    previous = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    rows: dict[str, Any] = {row["label"]: row for row in previous}
    for label in arguments.only or VARIANTS:
        folder = arguments.folder / label.replace(" ", "_")
        source = without_seasons(store, arguments.folder / "states.zarr") if label == STATES else store
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        settings = [f"data.store={source}", f"output={folder}", *SMALL, *VARIANTS[label]]
        subprocess.run([command, "train", "global_sfno", *settings], check=True)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime
        rows[label] = {
            "label": label,
            "settings": VARIANTS[label],
            "error": error(folder, source, truth, scales),
            "cpu_seconds": round(seconds, 1),
        }
        result = {
            "data": arguments.data.name,
            "small": SMALL,
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
            "rows": [rows[name] for name in VARIANTS if name in rows],
        }
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(rows[label]), flush=True)


if __name__ == "__main__":
    main()
