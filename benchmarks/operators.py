"""Compare time and memory of the operators with those of peer libraries, interleaved in one process.

    make bench-operators

This prints a table with goals, marks those that are missed, and writes ``benchmarks/results/operators.json``.
Ratios are medians of the peer's time over ours: process CPU time on CPUs (so that two threads count twice,
for both), wall time on GPUs. Each library gets its fastest memory format: channels last for ours, channels
first for neuraloperator, (batch, H, W, channel) for AFNO layers. Spectral convolutions have no bias;
gradients are those of input and weights. Peers that are not installed are reported and skipped.
"""

import argparse
import json
import math
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from operator_cases import Case, cases
from torch import Tensor

from fourcaster.fno import SpectralConv
from fourcaster.forecast.cli.process import keep_freed_memory

warnings.filterwarnings("ignore")
RESULTS = Path(__file__).parent / "results" / "operators.json"

# Prints the increase of the resident memory by one pass. Before it, the other side is removed, freed memory
# is returned to the system, and the recorded peak is reset.
PEAK_SCRIPT = """
import ctypes, gc, sys

sys.path.insert(0, sys.argv[1])
import operator_cases

operator_cases.torch.set_num_threads(1)
case = dict(operator_cases.cases("cpu"))[sys.argv[2]]()
side = sys.argv[3]
other = "theirs" if side == "ours" else "ours"
case.sides.pop(other)
case.gradient.pop(other)
gc.collect()
ctypes.CDLL("libc.so.6").malloc_trim(0)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")


def read(name):
    with open("/proc/self/status") as file:
        return 1024 * int(next(line for line in file if line.startswith(name)).split()[1])


before = read("VmRSS")
case.run(side, backward=True)
print("PEAK", read("VmHWM") - before)
"""


def measure(case: Case, device: str, seconds: float) -> dict[str, Any]:
    """Time both sides alternately, and return median times [ms] and ratios."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    result: dict[str, Any] = {"name": case.name, "against": case.against}
    for backward, kind in ((False, "forward"), (True, "forward_backward")):
        start = time.perf_counter()
        case.run("ours", backward=backward)
        case.run("theirs", backward=backward)
        rounds = max(3, min(40, round(seconds / (time.perf_counter() - start))))
        times: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(rounds):
            for side, durations in times.items():
                if device != "cpu":
                    torch.cuda.synchronize()
                start_of_round = clock()
                case.run(side, backward=backward)
                if device != "cpu":
                    torch.cuda.synchronize()
                durations.append(clock() - start_of_round)
        milliseconds = {side: 1e3 * median(durations) for side, durations in times.items()}
        goal = case.goals[backward]
        ratio = milliseconds["theirs"] / milliseconds["ours"]
        result[kind] = {
            "ms": milliseconds,
            "ratio": round(ratio, 2),
            "goal": goal,
            "met": goal is None or ratio >= goal,
            "rounds": rounds,
        }
    result["saved_bytes"] = {side: case.saved_bytes(side) for side in case.sides}
    return result


def floor(device: str) -> dict[str, float]:
    """Return the peak rates of this machine: matrix products [GFLOP/s], copies [GB/s, read + written]."""
    a, b = (torch.randn(1536, 1536, device=device) for _ in range(2))
    x = torch.randn(2**24, device=device)
    y = torch.empty_like(x)
    best = {"product_gflops": 2 * 1536**3 / 1e9, "copy_gbytes": 8 * 2**24 / 1e9}
    work: dict[str, Callable[[], Any]] = {"product_gflops": lambda: a @ b, "copy_gbytes": lambda: y.copy_(x)}
    for name, amount in best.items():
        durations = []
        for _ in range(12):
            start = time.perf_counter()
            work[name]()
            if device != "cpu":
                torch.cuda.synchronize()
            durations.append(time.perf_counter() - start)
        best[name] = round(amount / min(durations[2:]), 1)
    return best


def limit(case: Case, rates: dict[str, float]) -> float | None:
    """Return the least time of a forward spectral convolution [ms], or None for another operator.

    This is the time of its products or of its memory traffic at the peak rates, whichever is longer.
    """
    conv, x = case.sides["ours"]
    if not isinstance(conv, SpectralConv) or not isinstance(conv.weight, Tensor):
        return None
    b, c, h, w = x.shape
    k, l = conv.weight.shape[:2]
    flops = 2 * b * c * (2 * h * w * 2 * l + 2 * k * h * 2 * l * 2) + 8 * b * k * l * c * c
    memory = 4 * (2 * x.numel() + conv.weight.numel())
    return 1e3 * max(flops / rates["product_gflops"] / 1e9, memory / rates["copy_gbytes"] / 1e9)


def peak(name: str, side: str, device: str) -> int:
    """Return the increase of the resident memory [bytes] by one forward and backward pass of one side.

    It is measured in a separate process; -1 if that fails.
    """
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PEAK_SCRIPT, str(Path(__file__).parent), name, side],
        capture_output=True,
        text=True,
        check=False,
    )
    peaks = [line for line in process.stdout.splitlines() if line.startswith("PEAK")]
    return int(peaks[-1].split()[1]) if peaks else -1


def mark(part: dict[str, Any]) -> str:
    """Return a ratio with its goal, marked if it is missed."""
    goal = "" if part["goal"] is None else f" (goal {part['goal']:g}{'' if part['met'] else ', MISSED'})"
    return f"{part['ratio']:5.2f}{goal}"


def main() -> None:
    """Measure all cases and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=4.0, help="duration of each measurement [s]")
    parser.add_argument("--only", default="", help="run the cases whose name contains this; writes nothing")
    parser.add_argument("--no-peak", action="store_true", help="do not measure peak memory")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    keep_freed_memory()
    result: dict[str, Any] = {
        "device": arguments.device,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "rows": [],
    }
    if arguments.device != "cpu":
        result["machine"] = torch.cuda.get_device_name()
    for threads in (1, 2) if arguments.device == "cpu" else (1,):
        torch.set_num_threads(threads)
        rates = floor(arguments.device)
        result[f"floor_{threads}"] = rates
        print(
            f"\n{threads} thread(s): products {rates['product_gflops']:g} GFLOP/s, copies "
            f"{rates['copy_gbytes']:g} GB/s"
        )
        for name, set_up in cases(arguments.device):
            if arguments.only not in name or (case := set_up()) is None:
                continue
            row = {"threads": threads} | measure(case, arguments.device, arguments.seconds)
            least = limit(case, rates)
            if least is not None:
                wall = row["forward"]["ms"]["ours"] / (threads if arguments.device == "cpu" else 1)
                row["forward_over_floor"] = round(wall / least, 2)
            if threads == 1 and arguments.device == "cpu" and not arguments.no_peak:
                row["peak_bytes"] = {side: peak(name, side, arguments.device) for side in case.sides}
            result["rows"].append(row)
            saved = row["saved_bytes"]
            saved_ratio = saved["ours"] / max(1, saved["theirs"])
            print(
                f"{row['name']:44s} forward {mark(row['forward']):26s} f+b "
                f"{mark(row['forward_backward']):26s} saved {saved_ratio:5.2f} of theirs",
                flush=True,
            )
    result["peak_rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if not arguments.only:
        arguments.output.parent.mkdir(exist_ok=True)
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    missed = [
        row
        for row in result["rows"]
        for kind in ("forward", "forward_backward")
        if row["threads"] == 1 and not row[kind]["met"]
    ]
    print(f"\n{len(missed)} goals missed on one thread" if missed else "\nall goals met on one thread")
    assert not math.isnan(sum(row["forward"]["ratio"] for row in result["rows"]))


if __name__ == "__main__":
    main()
