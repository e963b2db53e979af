"""Measure how fast ``forecast jobs run-due`` answers when nothing is due.

    python benchmarks/jobs_start.py            # writes benchmarks/results/jobs_start.json

The command and its baseline, a Python process that imports pydantic, yaml and typer, run in turn. The limit
is 1.2 times the baseline plus 0.5 s. The CPU times show whether a miss is due to other load on the machine.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "jobs_start.json"
CHECKPOINT = ROOT / "tests" / "data" / "ledger_v1" / "checkpoint"
BASELINE = "import pydantic, yaml, typer"
COMMAND = "from fourcaster.forecast.cli.main import main; main()"
FACTOR = 1.2
ALLOWANCE = 0.5  # s


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(write_jobs_file(Path(folder)), arguments.rounds)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def write_jobs_file(folder: Path) -> Path:
    """Write a jobs file with a job that is not due yet, and return its path."""
    (folder / "store.zarr").mkdir()
    job = {
        "name": "idle",
        "checkpoint": str(CHECKPOINT),
        "source": "store.zarr",
        "cycle": "0 */6 * * *",
        "start": "2199-01-01",
        "lead": "12h",
        "output": "out/{name}/{cycle:%Y%m%dT%H}.zarr",
    }
    path = folder / "jobs.yaml"
    path.write_text(yaml.safe_dump({"jobs": [job]}))
    return path


def measure(jobs_file: Path, rounds: int) -> dict[str, object]:
    """Return the median durations [s] of the command and of its baseline, which run in turn."""
    command = [sys.executable, "-c", COMMAND, "jobs", "run-due", str(jobs_file)]
    baseline = [sys.executable, "-c", BASELINE]
    for _ in range(2):  # the first run creates the ledger and checks the checkpoint
        seconds(command)
    seconds(baseline)
    pairs = [(seconds(command), seconds(baseline)) for _ in range(rounds)]
    command_seconds, command_cpu = (statistics.median(pair[0][i] for pair in pairs) for i in range(2))
    baseline_seconds, baseline_cpu = (statistics.median(pair[1][i] for pair in pairs) for i in range(2))
    limit = FACTOR * baseline_seconds + ALLOWANCE
    return {
        "command": "forecast jobs run-due",
        "baseline": BASELINE,
        "rounds": rounds,
        "command_seconds": round(command_seconds, 3),
        "baseline_seconds": round(baseline_seconds, 3),
        "ratio": round(command_seconds / baseline_seconds, 2),
        "limit_seconds": round(limit, 3),
        "met": command_seconds < limit,
        "command_cpu_seconds": round(command_cpu, 3),
        "baseline_cpu_seconds": round(baseline_cpu, 3),
        "python": platform.python_version(),
    }


def seconds(command: list[str]) -> tuple[float, float]:
    """Return the duration and the CPU time of a command [s]."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    duration = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return duration, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
