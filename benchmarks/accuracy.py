"""Compare the accuracy of our operators with neuraloperator's, at equal samples, epochs and parameters.

    make bench-accuracy
    .bench/bin/python benchmarks/accuracy.py --only darcy --seeds 1    # keeps the other rows of the file
    .bench/bin/python benchmarks/accuracy.py --tiny --output x.json    # a few samples, one epoch

Both sides are trained in one process, one after the other for each seed, on the same samples in the same
order; ours has at most the parameters of the peer. Errors are relative L2 errors, averaged over the test
samples. The settings of both sides were chosen on a part of the training samples that was left out of
training, never on the test samples. Classical methods get the same inputs.

The samples of Darcy flow and of Burgers in space and time are read from the folder of the environment
variable ``FOURCASTER_TEST_DATA``; all others are simulated, and kept with ``--folder``.
"""

import argparse
import json
import platform
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import accuracy_cases as cases
import torch
from accuracy_ablation import darcy_ablation
from accuracy_cases import Case, Sizes
from accuracy_networks import parameters
from accuracy_training import train

from fourcaster.fno.random import Stream, seeded_torch

RESULT = Path(__file__).parent / "results" / "accuracy.json"
PARTS: dict[str, Callable[[Sizes], list[Case]]] = {
    "darcy": lambda sizes: [cases.darcy(sizes)],
    "darcy_mixed": lambda sizes: [cases.darcy_mixed(sizes, fold) for fold in (0, 1)],
    "darcy_long": lambda sizes: [cases.darcy_long(sizes)],
    "burgers": lambda sizes: [cases.burgers(sizes)],
    "space_time": lambda sizes: [cases.space_time(sizes)],
    "navier_stokes": lambda sizes: [cases.navier_stokes(sizes)],
    "ablation": lambda sizes: [darcy_ablation(sizes)],
}
"""Cases of each part; those of one part differ in their samples, and their errors are averaged."""


def compare(part: str, folds: Sequence[Case], seeds: Sequence[int]) -> dict[str, Any]:
    """Train every side of a part with every seed, interleaved, and return its row.

    Args:
        part: name of the part.
        folds: its cases.
        seeds: seeds of the initial weights and the order of samples.
    """
    first = folds[0]
    sides: dict[str, dict[str, Any]] = {
        name: {"errors": {test: [] for test in first.tests}, "seconds": []} for name in first.sides
    }
    for seed in seeds:
        for name, result in sides.items():
            errors: dict[str, list[float]] = {test: [] for test in first.tests}
            for case in folds:
                side = case.sides[name]
                with seeded_torch(seed, Stream.INITIAL_WEIGHTS):
                    network = side.make()
                seconds = train(network, case.groups, side.recipe, seed=seed)
                for test, score in case.tests.items():
                    errors[test].append(score(network))
                result["parameters"] = parameters(network)
                result["seconds"].append(round(seconds, 1))
                result["epochs"] = side.recipe.epochs
            for test, values in errors.items():
                result["errors"][test].append(mean(values))
            print(part, seed, name, {test: round(mean(v), 5) for test, v in errors.items()}, flush=True)
    return {
        "part": part,
        "label": first.label,
        "samples": [len(group) for group in first.groups],
        "seeds": list(seeds),
        "goals": first.goals,
        "sides": sides,
        "classical": {
            name: {test: mean(case.classical[name][test] for case in folds) for test in errors}
            for name, errors in first.classical.items()
        },
    }


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the seeds of two; those of ``new`` replace the same ones of ``old``."""
    kept = [i for i, seed in enumerate(old["seeds"]) if seed not in new["seeds"]]
    row = {**new, "seeds": [old["seeds"][i] for i in kept] + new["seeds"]}
    for name, side in row["sides"].items():
        for test, values in side["errors"].items():
            side["errors"][test] = [old["sides"][name]["errors"][test][i] for i in kept] + values
    return row


def main(arguments: list[str] | None = None) -> None:
    """Compare the selected parts, and write the rows of all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="keep the other rows")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds to train with")
    parser.add_argument("--add", action="store_true", help="keep the results of other seeds")
    parser.add_argument("--folder", type=Path, help="folder that keeps simulated samples")
    parser.add_argument("--tiny", action="store_true", help="a few samples and one epoch")
    parser.add_argument("--output", type=Path, default=RESULT)
    chosen = parser.parse_args(arguments)
    if chosen.tiny and chosen.output == RESULT:
        parser.error("--tiny needs --output, since its errors are large")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    rows: list[dict[str, Any]] = []
    if chosen.output.exists():
        rows = json.loads(chosen.output.read_text())["rows"]
    with tempfile.TemporaryDirectory() as temporary:
        sizes = Sizes(chosen.folder or Path(temporary), tiny=chosen.tiny)
        for part in chosen.only:
            row = compare(part, PARTS[part](sizes), chosen.seeds)
            old = [each for each in rows if each["part"] == part]
            rows = [each for each in rows if each["part"] != part]
            rows.append(merged(old[0], row) if chosen.add and old else row)
            rows.sort(key=lambda each: list(PARTS).index(each["part"]))
            result = {
                "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
                "rows": rows,
            }
            chosen.output.parent.mkdir(exist_ok=True)
            chosen.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
