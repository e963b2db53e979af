"""Measure what optimizers, schedules and means to save time or memory bring in training.

    python benchmarks/training_cost.py speedy_t30_5625_years1-4.nc

This writes ``benchmarks/results/training_cost.json``: the error on validation data of a small SFNO after
equal epochs on simulated global data, each optimizer with the better of two learning rates; CPU time of a
training step; and the increase of the resident memory by a step. Nothing is scored on the test period.
"""

import argparse
import ctypes
import gc
import json
import logging
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from fourcaster import forecast
from fourcaster.fno import SFNO
from fourcaster.fno.batch import Batch
from fourcaster.fno.models.ensemble import Ensemble
from fourcaster.fno.models.stepper import Scales, Stepper
from fourcaster.fno.training import ForecastObjective, TrainSettings
from fourcaster.fno.training.trainer import Trainer

RESULTS = Path(__file__).parent / "results" / "training_cost.json"
CONFIG = """
data: {{store: {store}, train_period: "1982-01-01:1984-12-31", samples_per_epoch: {samples}}}
model: {{kind: sfno, lmax: 12, hidden_channels: 16, n_layers: 2, window: 2}}
train: {{epochs: {epochs}, batch_size: 16, warmup_steps: 20, ema: 0.95, validation_steps: 2,
  validation_samples: 32, {options}}}
output: {output}
"""
RATES = {"adamw": (4e-3, 1.2e-2), "muon": (1.2e-2, 3.6e-2), "soap": (4e-3, 1.2e-2)}
CHOICES = {  # with AdamW at its best learning rate
    "one cycle": "schedule: onecycle",
    "warm restarts": "schedule: restarts, cycles: 2",
    "no decay of biases, norms and vectors": "decay_all: false",
    "no averaged weights": "ema: 0",
    "no clipping": "clip: 1.0e+9",
    "bf16": "precision: bf16",
}
BASE = "AdamW, float32"
COMPILED = "torch.compile"
PARTS = ("memory", "steps", "errors", "compiled")
VARIANTS: dict[str, dict[str, Any]] = {
    BASE: {},
    "fused": {"fused": True},
    "Muon": {"optimizer": "muon"},
    "SOAP": {"optimizer": "soap"},
    "bf16": {"precision": "bf16"},
    "accumulation of 4 parts": {"accumulation": 4},
    "checkpointed blocks": {"activation_checkpointing": "blocks"},
    "checkpointed steps": {"activation_checkpointing": "steps"},
    COMPILED: {"compile": True},
}
MEMORY = [
    BASE,
    "Muon",
    "SOAP",
    "bf16",
    "accumulation of 4 parts",
    "checkpointed blocks",
    "checkpointed steps",
]


def train(store: Path, folder: Path, *, epochs: int, samples: int, options: str) -> dict[str, float]:
    """Return the validation error and the CPU time [s] of a run."""
    path = folder.with_suffix(".yaml")
    path.write_text(
        CONFIG.format(store=store, output=folder, epochs=epochs, samples=samples, options=options)
    )
    start = time.process_time()
    score = forecast.train(forecast.load_config(path)).best_score
    return {"error": score, "cpu_seconds": round(time.process_time() - start, 1)}


def errors(data: Path, folder: Path, *, epochs: int, samples: int) -> list[dict[str, Any]]:
    """Return the validation error of each optimizer and choice."""
    store = folder / "store.zarr"
    if not store.exists():
        forecast.ingest([str(data)], store, train_period="1982-01-01:1984-12-31")
    rows: list[dict[str, Any]] = []

    def run(name: str, options: str) -> dict[str, Any]:
        output = folder / f"run{len(rows)}-{time.monotonic_ns()}"
        result = train(store, output, epochs=epochs, samples=samples, options=options)
        print(f"{name:40s} {options:50s} {result}", flush=True)
        return {"name": name, **result}

    for optimizer, rates in RATES.items():
        runs = {r: run(optimizer, f"optimizer: {optimizer}, learning_rate: {r:.5f}") for r in rates}
        best = min(runs, key=lambda r: runs[r]["error"])
        rows.append(runs[best] | {"learning_rate": best, "all": {str(r): runs[r]["error"] for r in rates}})
    rate = f"{rows[0]['learning_rate']:.5f}"
    rows += [run(name, f"learning_rate: {rate}, {options}") for name, options in CHOICES.items()]
    return ratios(rows, "error")


def trainer(variant: dict[str, Any], folder: Path, *, lmax: int = 16) -> Trainer:
    """Return the trainer of a model of nine variables on the grid of 32 x 64 points."""
    torch.manual_seed(0)
    one = torch.ones(9)
    channels = Stepper.input_channels(9, window=2, forcings=4, static=4)
    network = SFNO(lmax, channels, 9, hidden_channels=32, n_layers=2)
    mask = torch.ones(9, 32, 64, dtype=torch.bool)
    stepper = Stepper(Ensemble([network]), Scales(0 * one, one, one, one), torch.zeros(4, 32, 64), mask=mask)
    settings = replace(TrainSettings(epochs=10**4), **variant)
    objective = ForecastObjective(stepper, torch.ones(9, 32, 64))
    return Trainer(stepper, objective, _Source(), settings=settings, folder=folder, fingerprint="")


class _Source:
    """The number of steps, which is all that a single step needs."""

    def steps_per_epoch(self) -> int:
        return 10


def batch(steps: int, samples: int = 16) -> Batch:
    """Return random states, with a number of states after the window."""
    generator = torch.Generator().manual_seed(0)
    state = torch.randn(samples, 2 + steps, 9, 32, 64, generator=generator)
    return Batch(state, torch.zeros_like(state), torch.zeros(samples, 2 + steps, 4, 32, 64))


def step_times(folder: Path, names: Sequence[str], repeats: int) -> list[dict[str, Any]]:
    """Return the CPU time [ms] of a training step of each variant, the least of interleaved repetitions.

    That of an optimizer step is the mean of ten, since SOAP has new eigenvectors in every tenth.
    """
    one = batch(1)
    trainers = {name: trainer(VARIANTS[name], folder) for name in names}
    first: dict[str, float] = {}
    for name, each in trainers.items():
        first[name] = _cpu(lambda each=each: each.train_step(one))
        _cpu(lambda each=each: each.train_step(one))
    times: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(repeats):
        for name, each in trainers.items():
            times[name].append(_cpu(lambda each=each: each.train_step(one)))
    rows: list[dict[str, Any]] = []
    for name, each in trainers.items():
        row: dict[str, Any] = {"name": name, "ms": round(1e3 * min(times[name]), 1)}
        if name in (BASE, "fused", "Muon", "SOAP"):
            updates = [_cpu(each.optimizer.step) for _ in range(10)]
            row["optimizer_ms"] = round(1e3 * sum(updates) / len(updates), 2)
        if name == COMPILED:
            row["start_seconds"] = round(first[name], 1)
        rows.append(row)
    return ratios(rows, "ms")


def _cpu(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def memory(name: str) -> dict[str, Any]:
    """Return the increase of the resident memory [MB] by one step of a variant, in a process of its own."""
    with get_context("fork").Pool(1) as pool:
        return {"name": name, "megabytes": pool.apply(memory_of, (name,))}


def memory_of(name: str) -> float:
    """Return the increase of the resident memory [MB] by the second step of a variant, on rollouts."""
    with tempfile.TemporaryDirectory() as folder:
        each = trainer(VARIANTS[name], Path(folder))
        each.train_step(batch(1, samples=4))
        each.optimizer.zero_grad()
        four = batch(4)
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        each.train_step(four)
        return round((_status("VmHWM") - before) / 1e6, 1)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def main(arguments: list[str] | None = None) -> None:
    """Measure everything, or the memory of one variant, and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="netCDF file with the years 1982 to 1985")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=256, help="samples of an epoch")
    parser.add_argument("--repeats", type=int, default=4, help="repetitions of timed steps")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="keep the other parts")
    parser.add_argument("--folder", type=Path, help="folder that keeps the store; a temporary one by default")
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    result: dict[str, Any] = {}
    if tuple(chosen.only) != PARTS and chosen.output.exists():
        result = json.loads(chosen.output.read_text())
    result |= {
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
        "epochs": chosen.epochs,
        "samples": chosen.samples,
    }
    chosen.output.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = chosen.folder or Path(name)
        parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
            "memory": lambda: ratios([memory(variant) for variant in MEMORY], "megabytes"),
            "steps": lambda: step_times(folder, [v for v in VARIANTS if v != COMPILED], chosen.repeats),
            "errors": lambda: errors(chosen.data, folder, epochs=chosen.epochs, samples=chosen.samples),
            "compiled": lambda: step_times(folder, [BASE, COMPILED], chosen.repeats),
        }
        for part in chosen.only:
            result[part] = parts[part]()
            for row in result[part]:
                print(row, flush=True)
            chosen.output.write_text(json.dumps(result, indent=1) + "\n")


def ratios(rows: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Return rows with the ratio of a value to that of the first row."""
    return [row | {"ratio": row[key] / rows[0][key]} for row in rows]


if __name__ == "__main__":
    main()
