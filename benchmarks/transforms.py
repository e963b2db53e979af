"""Measure both methods of truncated Fourier transforms and fit the cost model that chooses between them.

    python benchmarks/transforms.py            # prints the fit, writes benchmarks/results/transforms.json

The fitted constants are copied by hand into ``fno/transforms/costs.py``, so that no run depends on a
measurement. The held-out grids are not used in the fit.
"""

import argparse
import json
import math
import platform
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from fourcaster.fno.transforms.costs import COSTS
from fourcaster.fno.transforms.fourier import (
    Method,
    analyse,
    choose_method,
    kept_modes,
    synthesise,
    work,
)

FIT = [
    (64, 64),
    (32, 64),
    (25, 53),
    (120, 240),
    (121, 240),
    (181, 360),
    (96, 96),
    (128, 256),
    (60, 128),
    (361, 720),
    (512,),
    (32, 32, 32),
]
HELD_OUT = [(48, 96), (73, 144), (91, 180), (100, 127), (256, 256), (24, 40, 36), (1024,)]
SHARES = (0.06, 0.12, 0.25, 0.5, 1.0)


def measure(size: tuple[int, ...], share: float, device: str) -> dict[str, Any]:
    """Time forward and inverse transforms, interleaved, and return the times [ns] per point and channel."""
    modes = kept_modes([max(1, round(share * n)) for n in size], size)
    batch = max(1, round(2**20 / (math.prod(size) * 32)))
    x = torch.randn(batch, *size, 32, device=device)
    times: dict[Method, list[float]] = {"dft": [], "fft": []}
    for _ in range(5):
        for method, durations in times.items():
            start = time.perf_counter()
            synthesise(analyse(x, modes, method), modes, size, method=method)
            if device != "cpu":
                torch.cuda.synchronize()
            durations.append(time.perf_counter() - start)
    kept = tuple(len(m) for m in modes)
    flops, butterflies = work(kept, size)
    nanoseconds = {
        str(method): median(durations[1:]) / 2 / x.numel() * 1e9 for method, durations in times.items()
    }
    return {
        "size": size,
        "kept": kept,
        "flops": flops,
        "butterflies": butterflies,
        **nanoseconds,
        "chosen": choose_method(kept, size, device),
    }


def wasted(row: dict[str, Any], rate: float, base: float, log: float) -> float:
    """Return the relative loss of time on one grid if the method is chosen with these constants."""
    chosen = "dft" if row["flops"] / rate < base + log * row["butterflies"] else "fft"
    return float(row[chosen] / min(row["dft"], row["fft"]) - 1)


def main() -> None:
    """Measure both methods, fit the cost model, and print and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "transforms.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = {
        name: [measure(s, share, arguments.device) for s in sizes for share in SHARES]
        for name, sizes in (("fit", FIT), ("held_out", HELD_OUT))
    }
    fit = rows["fit"]
    base, log = np.linalg.lstsq(
        np.array([[1, row["butterflies"]] for row in fit]), np.array([row["fft"] for row in fit]), rcond=None
    )[0]
    rate = min(
        np.arange(20.0, 400.0, 2.0), key=lambda rate: sum(wasted(row, float(rate), base, log) for row in fit)
    )
    print(
        f"fit: product_rate={rate:.0f}, fft_base={base:.2f}, fft_log={log:.3f}; committed: "
        f"{COSTS.get(arguments.device)}"
    )
    loss = {}
    for name, part in rows.items():
        losses = [row[row["chosen"]] / min(row["dft"], row["fft"]) - 1 for row in part]
        loss[name] = {
            "mean": float(np.mean(losses)),
            "worst": float(np.max(losses)),
            "right": float(np.mean(np.array(losses) < 0.05)),
        }
        print(
            f"{name}: the choice is the faster method or within 5 % of it in {loss[name]['right']:.0%}, and "
            f"costs {loss[name]['mean']:.1%} on average, {loss[name]['worst']:.0%} at worst"
        )
    result = {
        "device": arguments.device,
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": 1,
    }
    result |= {
        "fit": {"product_rate": float(rate), "fft_base": float(base), "fft_log": float(log)},
        "loss": loss,
        "rows": rows,
    }
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
