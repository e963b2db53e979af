"""Train physics-informed networks on equations with published failures, as published and with the recipes.

    python benchmarks/physics.py --quick        # one seed, about a minute of CPU per row: physics_quick.json
    python benchmarks/physics.py                # three seeds, the recipes unchanged: physics.json
    python benchmarks/physics.py --curriculum   # three seeds, beta increased: physics_curriculum.json

Results are written to benchmarks/results. "Plain" is the set-up of Krishnapriyan et al. 2021: four layers of
50 tanh units, 1000 fixed collocation points, L-BFGS, a single time window, and as many steps as fit into a
minute. Errors are relative L2 errors on a grid of 101 times by 256 points, against closed-form solutions or
the solvers of ``datasets.pde``, whose time is also reported. Times are CPU seconds on one thread.
"""

import argparse
import json
import logging
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from fourcaster.datasets.pde.simulate import make_system
from fourcaster.forecast import evaluate, load_config, train

RESULTS = Path(__file__).parent / "results"
PLAIN = [
    "model.width=50",
    "model.depth=4",
    "train.optimizer=adam_lbfgs",
    "train.windows=1",
    "train.points=1000",
    "train.sampling=uniform",
    "train.resample_every=0",
    "train.adam_steps=0",
    "train.lbfgs_steps=3000",
    "train.initial_points=256",
]
# label, recipe, overrides, further overrides with --quick, goal, stretch goal
ROWS: list[tuple[str, str, list[str], list[str], float | None, float | None]] = [
    *(
        (f"advection, beta = {beta}, plain", "advection", [f"equation.beta={beta}", *PLAIN], [], None, None)
        for beta in (10, 20, 30, 40)
    ),
    ("advection, beta = 30", "advection", [], [], 0.01, 1e-3),
    ("advection, beta = 40", "advection", ["equation.beta=40"], [], 0.02, 3e-3),
    ("reaction, rho = 5, plain", "reaction", PLAIN, [], None, None),
    ("reaction, rho = 5", "reaction", [], [], 0.03, 1e-2),
    ("reaction-diffusion, nu = 5, rho = 5, plain", "reaction_diffusion", PLAIN, [], None, None),
    ("reaction-diffusion, nu = 5, rho = 5", "reaction_diffusion", [], [], 0.03, 1e-2),
    ("Allen-Cahn, plain", "allen_cahn", PLAIN, [], None, None),
    ("Allen-Cahn", "allen_cahn", [], [], 2.3e-2, 1e-2),
    ("wave, c = 2, plain", "wave", PLAIN, [], None, None),
    ("wave, c = 2", "wave", [], [], 2e-2, 5e-3),
    ("Burgers, nu = 0.01 / pi", "burgers", [], ["train.points=1000"], None, None),
    (
        "Cahn-Hilliard",
        "cahn_hilliard",
        [],
        ["train.windows=10", "train.iterations=30", "train.points=1000"],
        None,
        None,
    ),
]
# One network for the whole period, and beta increased from 1 in stages (Krishnapriyan et al. 2021). Goals are
# the published errors, stretch goals half of these.
CURRICULUM = [
    "train.windows=1",
    "train.initial_points=256",
    "model.width=24",
    "train.points=1500",
    "train.resample_every=40",
    "train.iterations=40",
    "train.curriculum={beta: 1}",
]
CURRICULUM_ROWS: list[tuple[str, str, list[str], list[str], float | None, float | None]] = [
    (
        f"advection, beta = {beta}, curriculum",
        "advection",
        [f"equation.beta={beta}", f"train.curriculum_stages={n}", *CURRICULUM],
        [],
        goal,
        goal / 2,
    )
    for beta, n, goal in ((20, 12, 0.0098), (30, 15, 0.020), (40, 20, 0.053))
]


def reference(name: str, parameters: dict[str, float]) -> tuple[np.ndarray, float]:
    """Return the reference solution at the points of the comparison, and its CPU time [s].

    Spectral solvers store a filtered solution, so they run and store on four times as many points, every
    fourth of which is compared.
    """
    stride = 4 if name in ("burgers", "allen_cahn", "cahn_hilliard", "reaction_diffusion") else 1
    options: dict[str, float] = {"start": -1, "length": 2} if name == "burgers" else {}
    if stride > 1:
        options["refine"] = 1
    problem = {"initial": "standard", "resolution": 256 * stride, "frames": 100} | options | parameters
    start = time.process_time()
    solution = make_system(name, problem).solve(np.random.default_rng(0))
    return solution["u"][:, ::stride], time.process_time() - start


def run(
    recipe: str, overrides: list[str], seed: int, progress: Callable[..., None] | None = None
) -> dict[str, float]:
    """Train once and return the error, the CPU times [s] and the residuals."""
    with tempfile.TemporaryDirectory() as folder:
        config: Any = load_config(f"pinn/{recipe}", [*overrides, f"train.seed={seed}", f"output={folder}"])
        start = time.process_time()
        result = train(config, progress=progress)
        seconds = time.process_time() - start
        prediction = evaluate(result.checkpoint, "101x256")
        provenance = json.loads((result.checkpoint / "meta.json").read_text())["provenance"]
    exact, solver_seconds = reference(recipe, json.loads(prediction.attrs["parameters"]))
    error = float(np.linalg.norm(prediction["u"].values - exact) / np.linalg.norm(exact))
    residuals = {name: provenance[f"{name}_residual"] for name in ("training", "held_out")}
    return {"error": error, "cpu_seconds": seconds, "solver_cpu_seconds": solver_seconds, **residuals}


def main() -> None:
    """Train all rows, and print and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one seed and about a minute per row")
    parser.add_argument("--curriculum", action="store_true", help="run the rows with a curriculum instead")
    parser.add_argument("--only", default="", help="run the rows whose label contains this; writes nothing")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)
    rows = []
    for label, recipe, overrides, quick, goal, stretch in CURRICULUM_ROWS if arguments.curriculum else ROWS:
        if arguments.only not in label:
            continue
        seeds = [
            run(recipe, [*overrides, *(quick if arguments.quick else [])], seed)
            for seed in range(1 if arguments.quick else 3)
        ]
        medians = {name: median(s[name] for s in seeds) for name in seeds[0]}
        row = {
            "label": label,
            "goal": goal,
            "stretch": stretch,
            **medians,
            "errors": [s["error"] for s in seeds],
        }
        row["met"] = None if goal is None else medians["error"] <= goal
        rows.append(row)
        mark = (
            "" if goal is None else f"  goal {goal:g}{'' if row['met'] else ' MISSED'}, stretch {stretch:g}"
        )
        print(
            f"{label:44s} error {medians['error']:8.1e}  {medians['cpu_seconds']:6.1f} s  "
            f"residual {medians['training']:8.1e} training, "
            f"{medians['held_out']:8.1e} held out{mark}",
            flush=True,
        )
    if not arguments.only:
        RESULTS.mkdir(exist_ok=True)
        machine = {
            "machine": platform.machine(),
            "torch": torch.__version__,
            "threads": 1,
            "seeds": 1 if arguments.quick else 3,
        }
        suffix = "_curriculum" if arguments.curriculum else "_quick" if arguments.quick else ""
        (RESULTS / f"physics{suffix}.json").write_text(json.dumps(machine | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
