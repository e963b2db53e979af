"""Compare solution operators with numerical solvers, and estimate the unknown viscosity of a simulated pipe.

    python benchmarks/solving.py                            # 45 minutes; writes results/solving.json
    python benchmarks/solving.py --seeds 3                  # three seeds of each
    python benchmarks/solving.py --only burgers pipe        # these parts; keeps the other rows of the file
    python benchmarks/solving.py --tiny --output x.json     # very few samples, one minute, large errors

Burgers: trained on the equation alone, tested on initial states of another seed, then refined at test time.
Heat sinks: one operator for all shapes, tested on shapes of another seed. The pipe: six noisy sensors observe
one flow of unknown viscosity, which is simulated on a finer grid. Errors are relative L2 errors, averaged
over the test samples; times are CPU seconds on one thread. Each operator is compared with the numerical
solver of the reference solutions, and with the same solver on a coarser grid.

Two baselines show the gain by the operator of heat sinks: the temperature of the energy budget alone, by
which the operator is normalized, and a linear regression on the same training samples.
"""

import argparse
import json
import logging
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import xarray as xr
from solving_baselines import Values, features_and_temperature, ridge

from fourcaster.datasets.pde.loaders import StoredInstances, open_simulations
from fourcaster.datasets.pde.simulate import make_system, simulate
from fourcaster.forecast import load_config, score, solve, train

RESULT = Path(__file__).parent / "results" / "solving.json"
VISCOSITIES = (0.006, 0.01, 0.02)

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Sizes:
    """Numbers of samples and steps.

    Attributes:
        burgers: number of test samples of Burgers' equation.
        refined: number of these that are refined.
        steps: numbers of refinement steps.
        sinks: numbers of heat sinks for training and for the test.
        pipes: number of simulations of the pipe.
        viscosities: true viscosities of the experiments.
        noise: standard deviation of the noise of a sensor; the flow is of order one half.
        settings: overrides of the recipes.
    """

    burgers: int = 50
    refined: int = 10
    steps: tuple[int, ...] = (30, 100)
    sinks: tuple[int, int] = (1200, 200)
    pipes: int = 400
    viscosities: tuple[float, ...] = VISCOSITIES
    noise: float = 0.01
    settings: tuple[str, ...] = ()


# An operator trained for a few steps agrees with the sensors only if these are noisy.
TINY = Sizes(
    burgers=2,
    refined=1,
    steps=(2,),
    sinks=(24, 4),
    pipes=24,
    viscosities=VISCOSITIES[:1],
    noise=0.5,
    settings=("train.epochs=2", "model.hidden_channels=6", "model.n_layers=1", "train.batch_size=4"),
)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of ``work`` and its CPU time [s]."""
    start = time.process_time()
    return work(), time.process_time() - start


def train_recipe(recipe: str, folder: Path, seed: int, *overrides: str) -> tuple[Path, float]:
    """Train a recipe, and return the checkpoint and the CPU time [s]."""
    result, seconds = timed(
        lambda: train(load_config(recipe, [f"train.seed={seed}", f"output={folder}", *overrides]))
    )
    return result.checkpoint, seconds


def mean_error(solution: xr.Dataset, truth: xr.Dataset) -> float:
    """Return the mean relative L2 error over the samples."""
    return float(next(iter(score(solution, truth).data_vars.values())).mean())


def coarse_solver(
    name: str, parameters: dict[str, Any], variable: str, *, truth: xr.Dataset, seed: int, every: int
) -> dict[str, float]:
    """Return the mean error and the CPU time per sample [s] of a solver on a coarser grid.

    Solutions on a periodic line are interpolated by Fourier series, others by repeating each cell ``every``
    times along both axes.
    """
    system = make_system(name, parameters)
    errors = []
    seconds = 0.0
    for sample in range(min(20, truth.sizes["sample"])):
        solution, duration = timed(partial(system.solve, np.random.default_rng([seed, sample])))
        values = solution[variable]
        exact = truth[variable].values[sample]
        if truth[variable].dims[-1] == "x" and "time" in truth.dims:
            n = exact.shape[-1]
            values = np.fft.irfft(
                np.fft.rfft(values, norm="forward")[..., : values.shape[-1] // 2], n=n, norm="forward"
            )
        elif every > 1:
            values = np.kron(values, np.ones((every, every)))
        errors.append(np.sqrt(np.nansum((values - exact) ** 2) / np.nansum(exact**2)))
        seconds += duration
    return {"error": float(np.mean(errors)), "seconds": seconds / len(errors)}


def burgers(folder: Path, seed: int, sizes: Sizes) -> Rows:
    """Train on Burgers' equation without data, and evaluate with and without refinement."""
    parameters = {"viscosity": 0.01, "resolution": 128, "frames": 100}
    count = sizes.burgers
    samples = ["data.samples=16"] if sizes is TINY else []
    _, solver_seconds = timed(
        lambda: simulate("burgers", folder / "test.zarr", parameters, samples=count, seed=1)
    )
    checkpoint, seconds = train_recipe("pino/burgers", folder / "run", seed, *sizes.settings, *samples)
    truth = xr.open_zarr(folder / "test.zarr").load()
    solution, duration = timed(lambda: solve(checkpoint, truth))
    refined_truth = truth.isel(sample=slice(0, sizes.refined))
    rows = [
        {
            "label": "Burgers, from the equation alone",
            "goal": 0.0138,
            "stretch": 0.0038,
            "error": mean_error(solution, truth),
            "seconds": duration / count,
        }
    ]
    for steps in sizes.steps:
        refined, duration = timed(partial(solve, checkpoint, refined_truth, refine=steps))
        rows.append(
            {
                "label": f"the same, refined by {steps} steps a window",
                "goal": None,
                "stretch": 0.001,
                "error": mean_error(refined, refined_truth),
                "seconds": duration / sizes.refined,
            }
        )
    classical = coarse_solver(
        "burgers", parameters | {"resolution": 64, "refine": 1}, "u", truth=truth, seed=1, every=2
    )
    shared = {"training_seconds": seconds, "solver_seconds": solver_seconds / count, "coarse": classical}
    return [{**row, **shared} for row in rows]


def heat_sinks(folder: Path, sizes: Sizes) -> tuple[xr.Dataset, float]:
    """Simulate heat sinks, and return those for the test and the CPU time of one of them [s]."""
    training, test = sizes.sinks
    simulate("heat_sink", folder / "train.zarr", {}, samples=training, seed=0)
    _, seconds = timed(lambda: simulate("heat_sink", folder / "test.zarr", {}, samples=test, seed=1))
    return xr.open_zarr(folder / "test.zarr").load(), seconds / test


def heat_sink(folder: Path, seed: int, sizes: Sizes) -> Rows:
    """Train an operator for the temperature in heat sinks of any shape."""
    truth, solver_seconds = heat_sinks(folder, sizes)
    checkpoint, seconds = train_recipe(
        "operator/heat_sink", folder / "run", seed, f"data.store={folder}/train.zarr", *sizes.settings
    )
    solution, duration = timed(lambda: solve(checkpoint, truth))
    row = {
        "label": "heat sinks, one operator for all shapes",
        "goal": None,
        "stretch": None,
        "error": mean_error(solution, truth),
        "seconds": duration / truth.sizes["sample"],
        "training_seconds": seconds,
        "solver_seconds": solver_seconds,
    }
    row["coarse"] = coarse_solver("heat_sink", {"refine": 1}, "temperature", truth=truth, seed=1, every=1)
    return [row]


def heat_sink_baselines(folder: Path, seed: int, sizes: Sizes) -> Rows:
    """Predict the temperature of the same heat sinks by the energy budget and by linear regression.

    The budget yields one temperature for all metal, ``q L / (h P)`` (see ``reference_size``). The ridge
    regression predicts, separately for each cell, the temperature relative to that of the budget from the
    shape, the logarithm of the heat transfer coefficient, its square and their products. It is fitted to the
    operator's training samples with metal in the cell; the validation samples select its penalty.
    """
    truth, solver_seconds = heat_sinks(folder, sizes)
    features, temperature, budget = features_and_temperature(folder / "train.zarr")
    test_features, _, test_budget = features_and_temperature(folder / "test.zarr")
    count = StoredInstances(open_simulations(folder / "train.zarr"), 1).training

    def regression() -> Values:
        relative = temperature / budget[:, None]
        scale = budget[count:, None]
        return ridge(features, relative, test_features, count=count, scale=scale) * test_budget[:, None]

    predicted, seconds = timed(regression)
    budget_alone = np.broadcast_to(test_budget[:, None], predicted.shape)
    shared = {"goal": None, "stretch": None, "seconds": 0.0, "solver_seconds": solver_seconds, "coarse": None}
    rows = []
    for label, values, training_seconds in (
        ("the built-in budget alone", budget_alone, 0.0),
        ("linear regression on the same samples", predicted, seconds),
    ):
        solution = truth.assign(
            temperature=truth["temperature"].copy(data=values.reshape(truth["temperature"].shape))
        )
        rows.append(
            {
                "label": f"heat sinks, {label}",
                "error": mean_error(solution, truth),
                "training_seconds": training_seconds,
                **shared,
            }
        )
    return rows


def write_observations(path: Path, viscosity: float, *, seed: int, noise: float) -> None:
    """Write the observations of a simulated flow by six sensors at random positions."""
    system = make_system(
        "shock_pipe", {"resolution": 256, "viscosity": viscosity, "viscosity_high": viscosity, "frames": 100}
    )
    rng = np.random.default_rng([77, seed])
    u = system.solve(rng)["u"]
    positions = np.sort(rng.choice(256, 6, replace=False))
    observations = u[:, positions].T + noise * rng.standard_normal((6, 101))
    coords = {"x": ("station", positions / 256), "time": np.linspace(0, 1, 101)}
    xr.Dataset({"u": (("station", "time"), observations, {"noise": noise})}, coords).to_netcdf(path)


def pipe(folder: Path, seed: int, sizes: Sizes) -> Rows:
    """Estimate the unknown viscosity of the experiments."""
    simulate("shock_pipe", folder / "pipe.zarr", {"resolution": 128}, samples=sizes.pipes, seed=0)
    rows = []
    for number, viscosity in enumerate(sizes.viscosities):
        write_observations(folder / f"{number}.nc", viscosity, seed=number, noise=sizes.noise)
        data = [f"data.store={folder}/pipe.zarr", f"data.experiment={folder}/{number}.nc"]
        checkpoint, seconds = train_recipe(
            "operator/shock_pipe", folder / f"run{number}", seed, *data, *sizes.settings
        )
        provenance = json.loads((checkpoint / "meta.json").read_text())["provenance"]
        estimate = provenance["recovered"]["viscosity"]
        rows.append(
            {
                "label": "viscosity of a pipe",
                "true": viscosity,
                **estimate,
                "training_seconds": seconds,
                "operator": provenance["validation_score"],
            }
        )
    return rows


PARTS: dict[str, Callable[[Path, int, Sizes], Rows]] = {
    "heat_sink": heat_sink,
    "heat_sink_baselines": heat_sink_baselines,
    "burgers": burgers,
    "pipe": pipe,
}


def update(path: Path, kind: str, rows: Rows, seeds: int) -> None:
    """Replace the rows of one part in a file of results, and keep the others."""
    others = (
        [row for row in json.loads(path.read_text())["rows"] if row["kind"] != kind] if path.exists() else []
    )
    machine = {"machine": platform.machine(), "torch": torch.__version__, "threads": 1, "seeds": seeds}
    order = list(PARTS)
    ordered = sorted(others + rows, key=lambda row: order.index(row["kind"]))
    path.write_text(json.dumps(machine | {"rows": ordered}, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts, print their rows and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(PARTS),
        default=list(PARTS),
        help="parts to run; the rows of the others are kept",
    )
    parser.add_argument(
        "--tiny", action="store_true", help="very few samples, to test the script; needs --output"
    )
    parser.add_argument("--output", type=Path, default=RESULT, help="file to write or update")
    options = parser.parse_args(arguments)
    if options.tiny and options.output == RESULT:
        parser.error("--tiny needs --output, so that it does not replace published results")
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)
    for kind in options.only:
        seeds = []
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                seeds.append(PARTS[kind](Path(folder), seed, TINY if options.tiny else Sizes()))
        rows = []
        for same in zip(*seeds, strict=True):
            medians = {
                name: median(row[name] for row in same)
                for name in ("error", "seconds", "training_seconds", "value")
                if name in same[0]
            }
            rows.append(
                {
                    "kind": kind,
                    **same[0],
                    **medians,
                    "all": [row.get("error", row.get("value")) for row in same],
                }
            )
            print(json.dumps(rows[-1]), flush=True)
        update(options.output, kind, rows, options.seeds)


if __name__ == "__main__":
    main()
