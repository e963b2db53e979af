"""Solution operators beside the numerical solvers that made their truth, and an experiment whose viscosity is
not known.

    python benchmarks/solving.py               # three quarters of an hour on one thread; writes
    benchmarks/results/solving.json python benchmarks/solving.py --seeds 3     # three seeds of each
    python benchmarks/solving.py --only burgers pipe    # these parts; the other rows of the file stay as they
    are python benchmarks/solving.py --tiny --output x.json # the same steps on very few samples in a minute;
    its errors are large

Burgers: learned from the equation alone, tested on initial states of another seed, then refined at test time.
Heat sinks: one operator for all shapes, tested on shapes of another seed. The pipe: six sensors with noise
see one flow of unknown viscosity; the truth is a simulation on a finer grid, made here. Errors are relative
L2, means over the test samples; seconds are of the CPU, on one thread. Beside each operator stand its
numerical solver as it made the truth, and the same solver on a coarser grid.

Two baselines show what the operator of heat sinks adds: the size of the solution from the energy budget
alone, which is built into it, and a linear regression on the samples that it is trained on.
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
from numpy.typing import NDArray

from fourcaster.datasets.pde.loaders import StoredInstances, open_simulations
from fourcaster.datasets.pde.simulate import make_system, simulate
from fourcaster.fno.physics.steady import reference_size
from fourcaster.forecast import load_config, score, solve, train

RESULT = Path(__file__).parent / "results" / "solving.json"
VISCOSITIES = (0.006, 0.01, 0.02)
PENALTIES = (
    100.0,
    300.0,
    1000.0,
    3000.0,
    10000.0,
)  # of the regression, one of which the validation samples choose

Rows = list[dict[str, Any]]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """How much is simulated and trained.

    Attributes:
        burgers: test samples of Burgers' equation.
        refined: of these, those that are refined.
        steps: of refinement.
        sinks: heat sinks to train on and to test on.
        pipes: simulations of the pipe.
        viscosities: of the experiments.
        noise: of a sensor; the flow is of order one half.
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


# An operator of a few steps agrees with sensors only if these are noisy.
TINY = Sizes(
    2,
    1,
    (2,),
    (24, 4),
    24,
    VISCOSITIES[:1],
    0.5,
    ("train.epochs=2", "model.hidden_channels=6", "model.n_layers=1", "train.batch_size=4"),
)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what ``work`` gives and the seconds of CPU that it took."""
    start = time.process_time()
    return work(), time.process_time() - start


def trained(recipe: str, folder: Path, seed: int, *overrides: str) -> tuple[Path, float]:
    """Train a recipe, and return the checkpoint and the seconds it took."""
    result, seconds = timed(
        lambda: train(load_config(recipe, [f"train.seed={seed}", f"output={folder}", *overrides]))
    )
    return result.checkpoint, seconds


def mean_error(solution: xr.Dataset, truth: xr.Dataset) -> float:
    """Return the mean relative L2 error over the samples."""
    return float(next(iter(score(solution, truth).data_vars.values())).mean())


def coarse(
    name: str, parameters: dict[str, Any], variable: str, truth: xr.Dataset, seed: int, every: int
) -> dict[str, float]:
    """Return error and seconds of a sample of a solver on a grid ``every`` times coarser, interpolated by
    Fourier series or repeated.
    """
    system, errors, seconds = make_system(name, parameters), [], 0.0
    for sample in range(min(20, truth.sizes["sample"])):
        values, took = timed(partial(system.solve, np.random.default_rng([seed, sample])))
        values, exact = values[variable], truth[variable].values[sample]
        if truth[variable].dims[-1] == "x" and "time" in truth.dims:
            n = exact.shape[-1]
            values = np.fft.irfft(
                np.fft.rfft(values, norm="forward")[..., : values.shape[-1] // 2], n=n, norm="forward"
            )
        elif every > 1:
            values = np.kron(values, np.ones((every, every)))
        errors.append(np.sqrt(np.nansum((values - exact) ** 2) / np.nansum(exact**2)))
        seconds += took
    return {"error": float(np.mean(errors)), "seconds": seconds / len(errors)}


def burgers(folder: Path, seed: int, sizes: Sizes) -> Rows:
    """Burgers' equation without any data, and refined."""
    more = {"viscosity": 0.01, "resolution": 128, "frames": 100}
    count, drawn = sizes.burgers, ["data.samples=16"] if sizes is TINY else []
    _, solver = timed(lambda: simulate("burgers", folder / "test.zarr", more, samples=count, seed=1))
    checkpoint, seconds = trained("pino/burgers", folder / "run", seed, *sizes.settings, *drawn)
    truth = xr.open_zarr(folder / "test.zarr").load()
    solved, each = timed(lambda: solve(checkpoint, truth))
    few = truth.isel(sample=slice(0, sizes.refined))
    label = "Burgers, from the equation alone"
    rows = [
        {
            "label": label,
            "goal": 0.0138,
            "stretch": 0.0038,
            "error": mean_error(solved, truth),
            "seconds": each / count,
        }
    ]
    for steps in sizes.steps:
        refined, took = timed(partial(solve, checkpoint, few, refine=steps))
        label = f"the same, refined by {steps} steps a window"
        rows.append(
            {
                "label": label,
                "goal": None,
                "stretch": 0.001,
                "error": mean_error(refined, few),
                "seconds": took / sizes.refined,
            }
        )
    classical = coarse("burgers", more | {"resolution": 64, "refine": 1}, "u", truth, 1, 2)
    return [
        {**row, "training_seconds": seconds, "solver_seconds": solver / count, "coarse": classical}
        for row in rows
    ]


def heat_sinks(folder: Path, sizes: Sizes) -> tuple[xr.Dataset, float]:
    """Simulate heat sinks to train on, and return those to test on and the seconds that one of these took."""
    training, test = sizes.sinks
    simulate("heat_sink", folder / "train.zarr", {}, samples=training, seed=0)
    _, seconds = timed(lambda: simulate("heat_sink", folder / "test.zarr", {}, samples=test, seed=1))
    return xr.open_zarr(folder / "test.zarr").load(), seconds / test


def heat_sink(folder: Path, seed: int, sizes: Sizes) -> Rows:
    """Temperature in heat sinks of any shape."""
    truth, solver = heat_sinks(folder, sizes)
    checkpoint, seconds = trained(
        "operator/heat_sink", folder / "run", seed, f"data.store={folder}/train.zarr", *sizes.settings
    )
    solved, each = timed(lambda: solve(checkpoint, truth))
    row = {
        "label": "heat sinks, one operator for all shapes",
        "goal": None,
        "stretch": None,
        "error": mean_error(solved, truth),
    }
    classical = coarse("heat_sink", {"refine": 1}, "temperature", truth, 1, 1)
    each /= truth.sizes["sample"]
    return [
        {**row, "seconds": each, "training_seconds": seconds, "solver_seconds": solver, "coarse": classical}
    ]


def heat_sink_baselines(folder: Path, seed: int, sizes: Sizes) -> Rows:
    """Temperature in the same heat sinks by the energy budget alone, and by linear regression on the same
    training samples.

    The budget gives one temperature for all metal, ``q L / (h P)`` (see ``reference_size``). The regression
    is of the temperature in units of the budget's, at each cell over the training samples with metal there,
    on the shape, the logarithm of the heat transfer, its square and their products: a ridge regression whose
    penalty the operator's validation samples choose.
    """
    truth, solver = heat_sinks(folder, sizes)
    features, temperature, budget = features_and_temperature(folder / "train.zarr")
    features_of_test, _, budget_of_test = features_and_temperature(folder / "test.zarr")
    count = StoredInstances(open_simulations(folder / "train.zarr"), 1).training

    def regression() -> Values:
        return (
            ridge(features, temperature / budget[:, None], features_of_test, count, budget[count:, None])
            * budget_of_test[:, None]
        )

    predicted, seconds = timed(regression)
    alone = np.broadcast_to(budget_of_test[:, None], predicted.shape)
    shared = {"goal": None, "stretch": None, "seconds": 0.0, "solver_seconds": solver, "coarse": None}
    rows = []
    for label, values, took in (
        ("the built-in budget alone", alone, 0.0),
        ("linear regression on the same samples", predicted, seconds),
    ):
        solved = truth.assign(
            temperature=truth["temperature"].copy(data=values.reshape(truth["temperature"].shape))
        )
        rows.append(
            {
                "label": f"heat sinks, {label}",
                "error": mean_error(solved, truth),
                "training_seconds": took,
                **shared,
            }
        )
    return rows


def features_and_temperature(path: Path) -> tuple[Values, Values, Values]:
    """Return of each heat sink features, shape (sample, feature), temperature [K], shape (sample, cell), and
    that of the budget [K].
    """
    store = open_simulations(path)
    sinks = store.read(np.arange(len(store)), double=True)
    budget = (
        reference_size("heat_sink", store.system.model_dump())(sinks.inputs, sinks.parameters)
        .flatten()
        .numpy()
    )
    metal = sinks.inputs[:, 0].flatten(1).numpy()
    transfer = np.log(sinks.parameters["transfer"].numpy())[:, None]
    if sinks.solution is None:
        raise ValueError(f"{path} has no solutions")
    return (
        np.concatenate([metal, metal * transfer, transfer, transfer**2], axis=1),
        sinks.solution[:, 0, 0].flatten(1).numpy(),
        budget,
    )


def ridge(features: Values, values: Values, features_of_test: Values, count: int, scale: Values) -> Values:
    """Return the prediction of a ridge regression at each cell.

    Args:
        features: of the training samples, shape (sample, feature).
        values: to predict, shape (sample, cell), NaN where there is none.
        features_of_test: of the samples to predict for.
        count: samples to fit; those after it choose the penalty.
        scale: of the values after these, in which their error counts.
    """
    mean, std = features[:count].mean(axis=0), features[:count].std(axis=0)
    features, features_of_test = (
        (x - mean) / np.where(std > 0, std, 1) for x in (features, features_of_test)
    )
    kernel = np.concatenate([features, features_of_test]) @ features[:count].T
    kept = values[count:] * scale
    best: tuple[float, Values] = (np.inf, np.zeros(0))
    for penalty in PENALTIES:
        predicted = np.ones(
            (len(kernel) - count, values.shape[1])
        )  # one, the budget, where no sample to fit has metal
        for cell in range(values.shape[1]):
            there = np.isfinite(values[:count, cell])
            if there.any():
                fit = values[:count][there, cell]
                products = kernel[:, there] - kernel[:, there].mean(
                    axis=1, keepdims=True
                )  # features relative to their mean there
                fitted = products[:count][there] - products[:count][there].mean(axis=0)
                others = products[count:] - products[:count][there].mean(axis=0)
                weights = np.linalg.solve(fitted + penalty * np.eye(len(fit)), fit - fit.mean())
                predicted[:, cell] = fit.mean() + others @ weights
        inside = predicted[: len(kept)] * scale
        error = float(np.mean(np.sqrt(np.nansum((inside - kept) ** 2, axis=1) / np.nansum(kept**2, axis=1))))
        best = min(best, (error, predicted[len(kept) :]), key=lambda pair: pair[0])
    return best[1]


def sensors(path: Path, viscosity: float, seed: int, noise: float) -> None:
    """Write what six sensors at random places see of a flow."""
    system = make_system(
        "shock_pipe", {"resolution": 256, "viscosity": viscosity, "viscosity_high": viscosity, "frames": 100}
    )
    rng = np.random.default_rng([77, seed])
    u = system.solve(rng)["u"]
    at = np.sort(rng.choice(256, 6, replace=False))
    readings = u[:, at].T + noise * rng.standard_normal((6, 101))
    coords = {"x": ("station", at / 256), "time": np.linspace(0, 1, 101)}
    xr.Dataset({"u": (("station", "time"), readings, {"noise": noise})}, coords).to_netcdf(path)


def pipe(folder: Path, seed: int, sizes: Sizes) -> Rows:
    """The unknown viscosity of three experiments."""
    simulate("shock_pipe", folder / "pipe.zarr", {"resolution": 128}, samples=sizes.pipes, seed=0)
    rows = []
    for number, viscosity in enumerate(sizes.viscosities):
        sensors(folder / f"{number}.nc", viscosity, number, sizes.noise)
        given = [f"data.store={folder}/pipe.zarr", f"data.experiment={folder}/{number}.nc"]
        checkpoint, seconds = trained(
            "operator/shock_pipe", folder / f"run{number}", seed, *given, *sizes.settings
        )
        provenance = json.loads((checkpoint / "meta.json").read_text())["provenance"]
        found = provenance["recovered"]["viscosity"]
        rows.append(
            {
                "label": "viscosity of a pipe",
                "true": viscosity,
                **found,
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
    """Replace the rows of one part in a result, and keep the others."""
    others = (
        [row for row in json.loads(path.read_text())["rows"] if row["kind"] != kind] if path.exists() else []
    )
    machine = {"machine": platform.machine(), "torch": torch.__version__, "threads": 1, "seeds": seeds}
    order = list(PARTS)
    every = sorted(others + rows, key=lambda row: order.index(row["kind"]))
    path.write_text(json.dumps(machine | {"rows": every}, indent=1) + "\n")


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
        help="parts to run; the other rows stay as they are",
    )
    parser.add_argument(
        "--tiny", action="store_true", help="very few samples, to try the script; needs --output"
    )
    parser.add_argument("--output", type=Path, default=RESULT, help="file to write or update")
    given = parser.parse_args(arguments)
    if given.tiny and given.output == RESULT:
        parser.error("--tiny needs --output, so that it does not replace published results")
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)
    for kind in given.only:
        seeds = []
        for seed in range(given.seeds):
            with tempfile.TemporaryDirectory() as folder:
                seeds.append(PARTS[kind](Path(folder), seed, TINY if given.tiny else Sizes()))
        rows = []
        for same in zip(*seeds, strict=True):
            middle = {
                name: median(row[name] for row in same)
                for name in ("error", "seconds", "training_seconds", "value")
                if name in same[0]
            }
            rows.append(
                {
                    "kind": kind,
                    **same[0],
                    **middle,
                    "all": [row.get("error", row.get("value")) for row in same],
                }
            )
            print(json.dumps(rows[-1]), flush=True)
        update(given.output, kind, rows, given.seeds)


if __name__ == "__main__":
    main()
