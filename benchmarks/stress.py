"""Kill a training run at random moments, and compare what it ends with to an undisturbed run, bit by bit.

    python benchmarks/stress.py                  # 30 kills, writes benchmarks/results/stress.json
    python benchmarks/stress.py --command "torchrun --nproc-per-node=2 -m fourcaster.forecast" --kills 10

Each start of the run is ended by SIGKILL or SIGTERM: while it imports, opens the store, trains, validates or
saves its state. With several ranks, the signal goes to the launcher, to one of the ranks, or to all. After
SIGTERM no completed step may be lost, and a single process must exit with 143 within ten seconds. After the
last kill the run is completed. Weights and log must then be those of the undisturbed run.
"""

import argparse
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import xarray as xr
from safetensors import safe_open
from stress_start import Forked, Forker, start_command

from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.write import write_store
from fourcaster.fno.training.log import MEASURED
from fourcaster.fno.training.state import load_state
from fourcaster.forecast.checkpoint.meta import read_meta

HERE = Path(__file__).parent
STARTUP = 0.2  # fraction of the kills before the first step
LONGEST = 10.0  # allowed time between SIGTERM and the end of the process [s]


@dataclass
class Stress:
    """A run that is killed again and again.

    Attributes:
        command: words of the command, before ``train``; None for ``forecast``, forked from one process.
        folder: working folder.
        epochs: number of epochs, of ten steps each.
        random: source of moments and signals.
        kills: number of kills by signal and phase.
        ends: seconds between SIGTERM and the end of the process.
        problems: what went wrong.
        forker: process from which ``forecast`` is forked.
        process: the process that was started last.
        seconds_per_step: duration of a step of the undisturbed run.
    """

    def __post_init__(self) -> None:
        if self.command is None:
            self.forker = Forker()

    command: Sequence[str] | None
    folder: Path
    epochs: int
    random: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    ends: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    forker: Forker | None = None
    process: subprocess.Popen[bytes] | Forked | None = None
    seconds_per_step: float = 0.0

    @property
    def state(self) -> Path:
        """State of the killed run."""
        return self.folder / "killed" / "state" / "training.safetensors"

    def start(self, name: str, *overrides: str) -> subprocess.Popen[bytes] | Forked:
        """Start a run, or resume it."""
        arguments = [
            "train",
            "quickstart",
            f"data.store={self.folder / 'store.zarr'}",
            "data.samples_per_epoch=160",
            "model.n_modes=[4,4]",
            "model.hidden_channels=6",
            "model.n_layers=2",
            "model.members=2",
            "model.window=2",
            "train.batch_size=16",
            f"train.epochs={self.epochs}",
            "train.rollout_steps=3",
            "train.noise=0.05",
            f"output={self.folder / name}",
            *overrides,
        ]
        log = self.folder / f"{name}.log"
        if self.forker is not None:
            self.process = self.forker.start(arguments, log)
        else:
            self.process = start_command(self.command or (), arguments, log)
        return self.process

    def close(self) -> None:
        """End what still runs."""
        if self.process is not None and self.process.poll() is None:
            self._end_group(self.process)
        if self.forker is not None:
            self.forker.close()

    def complete(self, name: str) -> float:
        """Run to the end, and return the seconds that it took."""
        started = time.monotonic()
        process = self.start(name)
        if process.wait() != 0:
            raise RuntimeError(f"{name} failed:\n{(self.folder / f'{name}.log').read_text()[-2000:]}")
        return time.monotonic() - started

    def step(self) -> int:
        """Return the number of steps in the state on disk, which may be replaced at any moment."""
        if not self.state.exists():
            return 0
        with safe_open(self.state, framework="pt") as file:
            return int(json.loads(file.metadata()["meta"])["step"])

    def kill(self, startup: float, steps: float) -> bool:
        """Start the run and kill it at a random moment.

        Args:
            startup: seconds before the first step.
            steps: largest number of steps to train before the kill.

        Returns:
            Whether it was killed; False if it ended before.
        """
        before = self.step()
        # A state after every step, or only at the end of epochs, of which a few must be left.
        minutes = self.random.choice((0, 5)) if 10 * self.epochs - before > 50 else 0
        process = self.start("killed", f"train.checkpoint_minutes={minutes}", "train.keep_last=1")
        early = self.random.random() < STARTUP
        if early:
            time.sleep(self.random.uniform(0, startup))
        else:
            self._wait_for_step(process, before + self.random.uniform(0, steps))
            time.sleep(self.random.uniform(0, 2 * self.seconds_per_step))
        number = self.random.choice((signal.SIGKILL, signal.SIGTERM))
        if process.poll() is not None:
            if process.returncode:
                self.problems.append(f"exit code {process.returncode} without a kill")
            return False
        trained = self.step()
        sent = time.monotonic()
        self._send(process, number)
        code = process.wait()
        self._end_group(process)
        seconds = time.monotonic() - sent
        self.kills[f"{number.name} {'before' if early else 'during'} training"] += 1
        if self.state.exists():
            load_state(self.state)  # which checks all of it
        after = self.step()
        if after < max(before, trained if number == signal.SIGTERM else 0):
            self.problems.append(f"{number.name} lost steps: {before}, {trained}, then {after}")
        single = self.command is None
        if number == signal.SIGTERM and not early:
            self.ends.append(seconds)
            if single and (code != 128 + number or seconds > LONGEST):
                self.problems.append(f"SIGTERM ended with {code} after {seconds:.1f} s")
        return True

    def _wait_for_step(self, process: subprocess.Popen[bytes] | Forked, step: float) -> None:
        """Wait until the state of a step is saved, after the start of the log, which precedes all steps."""
        log = self.state.with_name("log.jsonl")
        opened = time.time()
        while process.poll() is None:
            if log.exists() and log.stat().st_mtime > opened and self.step() >= step:
                return
            time.sleep(0.01)

    def _send(self, process: subprocess.Popen[bytes] | Forked, number: signal.Signals) -> None:
        """Send a signal to the process, to one of those that it started, or to all of them."""
        ranks = [p for p in psutil.Process(process.pid).children(recursive=True) if p.is_running()]
        target = self.random.choice(("launcher", "rank", "all")) if ranks else "launcher"
        if target == "all":
            os.killpg(process.pid, number)
        elif target == "rank":
            self.random.choice(ranks).send_signal(number)
        else:
            process.send_signal(number)

    @staticmethod
    def _end_group(process: subprocess.Popen[bytes] | Forked) -> None:
        """End ranks that outlived their launcher, as a batch queue does."""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        while psutil.pid_exists(process.pid):
            time.sleep(0.01)

    def differences(self) -> list[str]:
        """Return how the results of the two runs differ."""
        found = []
        first, second = (read_meta(self.folder / name / "checkpoint") for name in ("straight", "killed"))
        if first["sha256"] != second["sha256"]:
            found.append("the weights differ")
        if _records(self.folder / "straight") != _records(self.folder / "killed"):
            found.append("the logs differ")
        return found


def _records(run: Path) -> list[dict[str, Any]]:
    """Return the log of a run without measured times."""
    lines = [json.loads(line) for line in (run / "state" / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in MEASURED} for line in lines]


def make_store(path: Path) -> None:
    """Write a store of a noisy travelling wave."""
    rng = np.random.default_rng(0)
    latitude = np.linspace(60, 30, 7, dtype=np.float32)
    longitude = np.linspace(200, 255, 12, dtype=np.float32)
    phase = np.deg2rad(longitude) * 6 - 0.4 * np.arange(240)[:, None, None]
    wave = np.cos(phase) * np.cos(np.deg2rad(latitude))[:, None]
    values = 280 + 5 * wave + 0.05 * rng.standard_normal((240, 7, 12)).cumsum(axis=0)
    time_axis = np.datetime64("2001-01-01", "ns") + np.arange(240) * np.timedelta64(6, "h")
    coordinates = {
        "time": time_axis,
        "lat": ("lat", latitude, {"units": "degrees_north"}),
        "lon": ("lon", longitude, {"units": "degrees_east"}),
    }
    field_values = (("time", "lat", "lon"), values.astype(np.float32), {"units": "K"})
    source = path.with_name("source.nc")
    xr.Dataset({"t2m": field_values}, coordinates).to_netcdf(source)
    write_store(open_sources([source]), path)


def stress(
    folder: Path, *, command: Sequence[str] | None = None, kills: int = 30, epochs: int = 60, seed: int = 0
) -> dict[str, Any]:
    """Kill a run, complete it, and compare it with an undisturbed one.

    Args:
        folder: working folder.
        command: words of the command, before ``train``; ``forecast`` by default.
        kills: number of kills.
        epochs: number of epochs, of ten steps each.
        seed: seed of moments and signals.

    Returns:
        The result as JSON values; ``sound`` is False if anything went wrong.
    """
    make_store(folder / "store.zarr")
    run = Stress(command, folder, epochs, random.Random(seed))
    try:
        done = _kill_and_complete(run, kills)
    finally:
        run.close()
    problems = run.problems + run.differences()
    return {
        "sound": not problems,
        "problems": problems,
        "command": "forecast" if command is None else shlex.join(command),
        "kills": done,
        "kills by signal and phase": dict(sorted(run.kills.items())),
        "steps": 10 * epochs,
        "longest time between SIGTERM and exit [s]": round(max(run.ends, default=0.0), 2),
        "same weights and log": not run.differences(),
    }


def _kill_and_complete(run: Stress, kills: int) -> int:
    """Complete an undisturbed run, and one that is killed; return the number of kills."""
    seconds = run.complete("straight")
    log = run.folder / "straight" / "state" / "log.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    training = (records[-1]["time"] - records[0]["time"]) * run.epochs / max(1, run.epochs - 1)
    run.seconds_per_step = training / (10 * run.epochs)
    startup = max(1.0, seconds - training)
    done = 0
    while done < kills:
        # About half of the remaining steps, spread evenly over the remaining kills.
        left = 10 * run.epochs - run.step()
        if not run.kill(startup, steps=left / (kills - done)):
            run.problems.append(f"the run ended after {done} of {kills} kills")
            break
        done += 1
    run.complete("killed")
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--command", help="command line in place of `forecast`, e.g. with torchrun")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=60, help="epochs of ten steps each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "stress.json")
    parser.add_argument("--keep", type=Path, help="work in this folder and do not remove it")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    command = shlex.split(arguments.command) if arguments.command else None
    try:
        result = stress(
            folder, command=command, kills=arguments.kills, epochs=arguments.epochs, seed=arguments.seed
        )
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(0 if result["sound"] else 1)


if __name__ == "__main__":
    main()
