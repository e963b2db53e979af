"""Solution operators beside the numerical solvers that made their truth, and an experiment whose viscosity is not known.

    python benchmarks/solving.py               # three quarters of an hour on one thread; writes benchmarks/results/solving.json
    python benchmarks/solving.py --seeds 3     # three seeds of each

Burgers: learned from the equation alone, tested on initial states of another seed, then refined at test time. Heat sinks: one operator for
all shapes, tested on shapes of another seed. The pipe: six sensors with noise see one flow of unknown viscosity; the truth is a
simulation on a finer grid, made here. Errors are relative L2, means over the test samples; seconds are of the CPU, on one thread. Beside
each operator stand its numerical solver as it made the truth, and the same solver on a coarser grid.
"""

import argparse
import json
import logging
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import xarray as xr

from fourcaster.datasets.pde.simulate import make_system, simulate
from fourcaster.forecast import load_config, score, solve, train

RESULT = Path(__file__).parent / "results" / "solving.json"
NOISE = 0.01  # of a sensor; the flow is of order one half
VISCOSITIES = (0.006, 0.01, 0.02)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what ``work`` gives and the seconds of CPU that it took."""
    start = time.process_time()
    return work(), time.process_time() - start


def trained(recipe: str, folder: Path, seed: int, *overrides: str) -> tuple[Path, float]:
    """Train a recipe, and return the checkpoint and the seconds it took."""
    result, seconds = timed(lambda: train(load_config(recipe, [f"train.seed={seed}", f"output={folder}", *overrides])))
    return result.checkpoint, seconds


def mean_error(solution: xr.Dataset, truth: xr.Dataset) -> float:
    """Return the mean relative L2 error over the samples."""
    return float(next(iter(score(solution, truth).data_vars.values())).mean())


def coarse(name: str, parameters: dict[str, Any], variable: str, truth: xr.Dataset, seed: int, every: int) -> dict[str, float]:
    """Return error and seconds of a sample of a solver on a grid ``every`` times coarser, interpolated by Fourier series or repeated."""
    system, errors, seconds = make_system(name, parameters), [], 0.0
    for sample in range(min(20, truth.sizes["sample"])):
        values, took = timed(partial(system.solve, np.random.default_rng([seed, sample])))
        values, exact = values[variable], truth[variable].values[sample]
        if truth[variable].dims[-1] == "x" and "time" in truth.dims:
            n = exact.shape[-1]
            values = np.fft.irfft(np.fft.rfft(values, norm="forward")[..., : values.shape[-1] // 2], n=n, norm="forward")
        elif every > 1:
            values = np.kron(values, np.ones((every, every)))
        errors.append(np.sqrt(np.nansum((values - exact) ** 2) / np.nansum(exact**2)))
        seconds += took
    return {"error": float(np.mean(errors)), "seconds": seconds / len(errors)}


def burgers(folder: Path, seed: int) -> list[dict[str, Any]]:
    """Burgers' equation without any data, and refined."""
    more = {"viscosity": 0.01, "resolution": 128, "frames": 100}
    _, solver = timed(lambda: simulate("burgers", folder / "test.zarr", more, samples=50, seed=1))
    checkpoint, seconds = trained("pino/burgers", folder / "run", seed)
    truth = xr.open_zarr(folder / "test.zarr").load()
    solved, each = timed(lambda: solve(checkpoint, truth))
    few = truth.isel(sample=slice(0, 10))
    rows = [
        {"label": "Burgers, from the equation alone", "goal": 0.0138, "stretch": 0.0038, "error": mean_error(solved, truth), "seconds": each / 50},
    ]
    for steps in (30, 100):
        refined, took = timed(partial(solve, checkpoint, few, refine=steps))
        label = f"the same, refined by {steps} steps a window"
        rows.append({"label": label, "goal": None, "stretch": 0.001, "error": mean_error(refined, few), "seconds": took / 10})
    classical = coarse("burgers", more | {"resolution": 64, "refine": 1}, "u", truth, 1, 2)
    return [{**row, "training_seconds": seconds, "solver_seconds": solver / 50, "coarse": classical} for row in rows]


def heat_sink(folder: Path, seed: int) -> list[dict[str, Any]]:
    """Temperature in heat sinks of any shape."""
    simulate("heat_sink", folder / "train.zarr", {}, samples=1200, seed=0)
    _, solver = timed(lambda: simulate("heat_sink", folder / "test.zarr", {}, samples=200, seed=1))
    checkpoint, seconds = trained("operator/heat_sink", folder / "run", seed, f"data.store={folder}/train.zarr")
    truth = xr.open_zarr(folder / "test.zarr").load()
    solved, each = timed(lambda: solve(checkpoint, truth))
    row = {"label": "heat sinks, one operator for all shapes", "goal": None, "stretch": None, "error": mean_error(solved, truth)}
    classical = coarse("heat_sink", {"refine": 1}, "temperature", truth, 1, 1)
    return [{**row, "seconds": each / 200, "training_seconds": seconds, "solver_seconds": solver / 200, "coarse": classical}]


def sensors(path: Path, viscosity: float, seed: int) -> None:
    """Write what six sensors at random places see of a flow."""
    system = make_system("shock_pipe", {"resolution": 256, "viscosity": viscosity, "viscosity_high": viscosity, "frames": 100})
    rng = np.random.default_rng([77, seed])
    u = system.solve(rng)["u"]
    at = np.sort(rng.choice(256, 6, replace=False))
    readings = u[:, at].T + NOISE * rng.standard_normal((6, 101))
    coords = {"x": ("station", at / 256), "time": np.linspace(0, 1, 101)}
    xr.Dataset({"u": (("station", "time"), readings, {"noise": NOISE})}, coords).to_netcdf(path)


def pipe(folder: Path, seed: int) -> list[dict[str, Any]]:
    """The unknown viscosity of three experiments."""
    simulate("shock_pipe", folder / "pipe.zarr", {"resolution": 128}, samples=400, seed=0)
    rows = []
    for number, viscosity in enumerate(VISCOSITIES):
        sensors(folder / f"{number}.nc", viscosity, number)
        given = [f"data.store={folder}/pipe.zarr", f"data.experiment={folder}/{number}.nc"]
        checkpoint, seconds = trained("operator/shock_pipe", folder / f"run{number}", seed, *given)
        provenance = json.loads((checkpoint / "meta.json").read_text())["provenance"]
        found = provenance["recovered"]["viscosity"]
        rows.append(
            {"label": "viscosity of a pipe", "true": viscosity, **found, "training_seconds": seconds, "operator": provenance["validation_score"]}
        )
    return rows


def main() -> None:
    """Run the rows and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="burgers, heat_sink or pipe; the other rows stay as they are")
    given = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)
    for kind, work in (("burgers", burgers), ("heat_sink", heat_sink), ("pipe", pipe)):
        if given.only not in kind:
            continue
        seeds = []
        for seed in range(given.seeds):
            with tempfile.TemporaryDirectory() as folder:
                seeds.append(work(Path(folder), seed))
        made = []
        for rows in zip(*seeds, strict=True):
            middle = {name: median(row[name] for row in rows) for name in ("error", "seconds", "training_seconds", "value") if name in rows[0]}
            made.append({"kind": kind, **rows[0], **middle, "all": [row.get("error", row.get("value")) for row in rows]})
            print(json.dumps(made[-1]), flush=True)
        held = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
        machine = {"machine": platform.machine(), "torch": torch.__version__, "threads": 1, "seeds": given.seeds}
        RESULT.write_text(json.dumps(machine | {"rows": [row for row in held if row["kind"] != kind] + made}, indent=1) + "\n")


if __name__ == "__main__":
    main()
