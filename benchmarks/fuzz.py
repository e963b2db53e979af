"""Run every verb of the command on invalid inputs of every kind, and count the outcomes.

    python benchmarks/fuzz.py                       # writes benchmarks/results/fuzz.json, in 15 minutes
    python benchmarks/fuzz.py --only yaml --seed 7  # one kind, other inputs

Each case is a command line in a separate process. It must end within a minute, with exit code 0 or with one
line and exit code 2, use at most 2 GiB of memory, start no process, run no code of its input, write nothing
outside its folder, and not change its inputs. The inputs of failed cases are saved in the folder
``--failures``.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing import (  # noqa: F401  these register kinds of input
    corpus_checkpoints,
    corpus_datasets,
    corpus_files,
    corpus_jobs,
    corpus_options,
    corpus_stores,
    corpus_yaml,
)
from fuzzing.cases import KINDS, Case
from fuzzing.runner import Outcome, Runner

HERE = Path(__file__).parent
PACKAGES = (
    "torch",
    "numpy",
    "xarray",
    "zarr",
    "numcodecs",
    "netCDF4",
    "h5py",
    "dask",
    "pydantic",
    "PyYAML",
    "safetensors",
    "typer",
    "hypothesis",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--minutes", type=float, default=14.0, help="time after which no further case is started [min]"
    )
    parser.add_argument(
        "--only", action="append", choices=sorted(KINDS), help="kind of input; all by default"
    )
    parser.add_argument("--most", type=int, help="largest number of cases of a kind")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "fuzz.json")
    parser.add_argument(
        "--failures", type=Path, default=Path("fuzz-failures"), help="folder for the inputs of failed cases"
    )
    parser.add_argument(
        "--fixtures", type=Path, help="folder of valid inputs, which is written if it does not exist"
    )
    arguments = parser.parse_args()
    cases = plan(arguments.only or sorted(KINDS), arguments.seed, arguments.most)
    start = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="forecast-fuzz-"))
    try:
        prepare(root, arguments.fixtures)
        shutil.rmtree(arguments.failures, ignore_errors=True)
        arguments.failures.mkdir(parents=True)
        outcomes = run_all(
            cases, root, arguments.failures.absolute(), start + 60 * arguments.minutes, arguments.processes
        )
        if any(outcome.faults for outcome in outcomes):
            shutil.copytree(root / "fixtures", arguments.failures / "fixtures", dirs_exist_ok=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    result = summary(cases, outcomes, arguments.seed, time.monotonic() - start)
    text = json.dumps(result, indent=1)
    arguments.output.write_text(text + "\n")
    print(text)
    sys.exit(0 if result["sound"] else 1)


def plan(kinds: list[str], seed: int, most: int | None) -> list[tuple[str, Case]]:
    """Return the cases of the kinds, interleaved so that each kind gets its share of a limited time."""
    order: list[tuple[float, str, Case]] = []
    for name in kinds:
        rng = random.Random(f"{seed} {name}")
        cases = list(KINDS[name](rng))
        rng.shuffle(cases)
        cases = cases[:most]
        order += [((i + rng.random()) / len(cases), name, case) for i, case in enumerate(cases)]
    order.sort(key=lambda entry: entry[0])
    return [(name, case) for _, name, case in order]


def prepare(root: Path, fixtures: Path | None) -> None:
    """Write the valid inputs and a home folder.

    Another process writes the inputs, so that this one starts no threads.
    """
    (root / "home" / ".cache").mkdir(parents=True)
    (root / "home" / "precious.txt").write_text("must not change\n")
    if fixtures is None or not fixtures.exists():
        code = (
            f"import sys; sys.path.insert(0, {str(HERE)!r}); from fuzzing.fixtures import build; "
            "from pathlib import Path; build(Path(sys.argv[1]))"
        )
        target = str((fixtures or root / "fixtures").absolute())
        subprocess.run(
            [sys.executable, "-c", code, target],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    if fixtures is not None:
        shutil.copytree(fixtures, root / "fixtures")


def run_all(
    cases: list[tuple[str, Case]], root: Path, failures: Path, end: float, processes: int
) -> list[Outcome]:
    """Run the cases in several processes until the time ``end`` of the monotonic clock."""
    import_modules()
    assert threading.active_count() == 1, "a process with threads cannot be forked safely"
    children = []
    for slot in range(processes):
        if child := os.fork():
            children.append(child)
            continue
        code = 1
        with contextlib.suppress(KeyboardInterrupt):
            work(cases[slot::processes], root, slot, failures, end)
            code = 0
        os._exit(code)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        raise RuntimeError(f"a process that runs cases ended with {codes}")
    lines = [line for slot in range(processes) for line in (root / f"results{slot}").read_text().splitlines()]
    return [Outcome(**json.loads(line)) for line in lines]


def work(cases: list[tuple[str, Case]], root: Path, slot: int, failures: Path, end: float) -> None:
    """Run cases one after the other and write their outcomes."""
    runner = Runner(root, slot, failures)
    with open(root / f"results{slot}", "w") as results:
        for kind, case in cases:
            if time.monotonic() > end:
                break
            outcome = runner.run(kind, case)
            results.write(json.dumps(asdict(outcome)) + "\n")
            results.flush()
            if outcome.faults:
                print(
                    f"{kind}: {outcome.label}: forecast {' '.join(outcome.words)!a}: {outcome.faults}",
                    file=sys.stderr,
                    flush=True,
                )


def import_modules() -> None:
    """Import all modules that the verbs import, without starting a thread."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import dask
    import matplotlib

    matplotlib.use("agg")
    dask.config.set(scheduler="threads", num_workers=2)
    for name in (
        "cli.main",
        "config.source",
        "doctor",
        "ingestion",
        "inspection",
        "interop",
        "quickstart",
        "inference.forecaster",
        "inference.open",
        "inference.operator",
        "inference.pinn",
        "inference.writers",
        "jobs.executors",
        "jobs.load",
        "jobs.scheduler",
        "jobs.status_page",
        "tasks.inverse",
        "tasks.network",
        "tasks.operator.training",
        "tasks.pinn",
        "tasks.weather.training",
        "verification.plots",
        "verification.report",
        "verification.verify",
    ):
        __import__(f"fourcaster.forecast.{name}")
    for name in (
        "cartopy.crs",
        "cartopy.feature",
        "matplotlib.pyplot",
        "cfgrib",
        "netCDF4",
        "h5py",
        "zarr",
        "pint",
        "cf_xarray",
        "scipy.sparse",
    ):
        with contextlib.suppress(ImportError):
            __import__(name)


def _verb(outcome: Outcome) -> str:
    """Return the verb of a case, as in ``jobs run``, or ``none`` if the command line has no valid verb."""
    words = outcome.words[: 2 if outcome.words[:1] == ["jobs"] else 1]
    return " ".join(words) if words and all(re.fullmatch("[a-z-]{2,10}", word) for word in words) else "none"


def summary(cases: list[tuple[str, Case]], outcomes: list[Outcome], seed: int, seconds: float) -> dict:
    """Return counts by kind and by verb, and the failed cases."""
    failed = [outcome for outcome in outcomes if outcome.faults]

    def counts(key: Callable[[Outcome], str]) -> dict[str, dict[str, int]]:
        names = sorted({key(outcome) for outcome in outcomes})
        return {name: dict(Counter(o.verdict for o in outcomes if key(o) == name)) for name in names}

    def extreme(key: str) -> list[dict]:
        rows = sorted(outcomes, key=lambda outcome: getattr(outcome, key), reverse=True)[:5]
        return [{"kind": o.kind, "label": o.label, "command": command(o), key: getattr(o, key)} for o in rows]

    return {
        "sound": not failed and bool(outcomes),
        "date": datetime.now(UTC).date().isoformat(),
        "seed": seed,
        "cases": len(outcomes),
        "planned": len(cases),
        "seconds": round(seconds, 1),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}",
        "versions": {name: version(name) for name in PACKAGES},
        "by kind": counts(lambda outcome: outcome.kind),
        "by verb": counts(_verb),
        "slowest": extreme("seconds"),
        "largest": extreme("bytes"),
        "failed": [
            {
                "kind": o.kind,
                "label": o.label,
                "command": command(o),
                "faults": o.faults,
                "message": o.message,
            }
            for o in failed
        ],
    }


def command(outcome: Outcome) -> str:
    """Return the command line of a case in printable form."""
    return "forecast " + " ".join(
        word if word.isprintable() and word.isascii() and " " not in word and word else ascii(word)
        for word in outcome.words
    )


if __name__ == "__main__":
    main()
