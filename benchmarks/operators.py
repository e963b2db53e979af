"""Compare time and memory of the operators with those of peer libraries, interleaved in one process.

    make bench-operators

prints a table with goals, marks those that are missed, and writes ``benchmarks/results/operators.json``.
Ratios are medians of the peer's time over ours: process CPU time on CPUs (so that two threads count twice,
for both), wall time on GPUs. Each library gets its fastest memory format: channels last for ours, channels
first for neuraloperator, (batch, H, W, channel) for AFNO layers. Spectral convolutions have no bias;
gradients are those of input and weights. Peers that are not installed are reported and skipped.
"""

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import json
import math
import platform
import resource
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from fourcaster.fno import AFNO, AFNO2D, FNO, InverseRealSHT, RealSHT, SpectralConv
from fourcaster.forecast.cli.process import keep_freed_memory

warnings.filterwarnings("ignore")
RESULTS = Path(__file__).parent / "results" / "operators.json"

SPECTRAL = [  # batch, channels, H, W, modes; goals forward, forward + backward
    ((8, 32, 64, 64, 12), (1.6, 2.5)),
    ((4, 64, 32, 64, 15), (3.0, 3.5)),
    ((2, 64, 121, 240, 24), (4.0, 4.0)),
    ((1, 64, 181, 360, 32), (5.0, 5.0)),
    ((1, 32, 721, 1440, 32), (5.0, 6.0)),
]
MODELS = [((4, 32, 64), (None, 2.4)), ((2, 120, 240), (None, 1.6))]
MIXERS = [((4, 16, 32, 256), (None, 2.2)), ((1, 45, 90, 512), (None, 2.2)), ((1, 90, 180, 768), (None, 2.2))]
SPHERES = [
    ((16, 64, 128, 64), "legendre-gauss"),
    ((64, 121, 240, 61), "equiangular"),
    ((32, 180, 360, 180), "legendre-gauss"),
    ((4, 361, 720, 181), "equiangular"),
]


class _StubClass(type):
    def __getattr__(cls, attribute: str) -> str:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        return attribute


class _Torchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import hook that replaces torchvision by empty modules where it is not installed.

    physicsnemo imports torchvision, but the layers compared here do not use it.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return (
            importlib.machinery.ModuleSpec(name, self, is_package=True)
            if name.split(".", maxsplit=1)[0] == "torchvision"
            else None
        )

    def create_module(self, spec: Any) -> types.ModuleType:
        class StubModule(types.ModuleType):
            def __getattr__(self, attribute: str) -> Any:
                if attribute.startswith("__"):
                    raise AttributeError(attribute)
                return _StubClass(attribute, (nn.Module,), {})

        return StubModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def peer(name: str) -> Any:
    """Import a peer library and return it, or None if that fails."""
    try:
        if name.startswith("physicsnemo") and importlib.util.find_spec("torchvision") is None:
            sys.meta_path.append(_Torchvision())
        return importlib.import_module(name)
    except Exception as error:  # noqa: BLE001  the import of a peer may raise anything
        print(f"skipping {name}: {type(error).__name__} {str(error)[:120]}")
        return None


class Case:
    """A comparison of one of our modules with a peer's, each with its input and the gradient of its output.

    Args:
        name: name in the table.
        against: name of the peer.
        ours: our module.
        theirs: the peer's module.
        x: input of our module.
        y: the same input in the memory format of the peer.
        goals: ratios to reach, forward and forward + backward; None without a goal.
    """

    def __init__(
        self,
        name: str,
        against: str,
        ours: nn.Module,
        theirs: nn.Module,
        x: Tensor,
        y: Tensor,
        goals: tuple[float | None, float | None],
    ) -> None:
        self.name = name
        self.against = against
        self.goals = goals
        self.sides = {"ours": (ours, x), "theirs": (theirs, y)}
        self.gradient = {
            side: torch.randn_like(module(value)) for side, (module, value) in self.sides.items()
        }

    def run(self, side: str, *, backward: bool) -> None:
        """Run one side, forward only or forward and backward."""
        module, x = self.sides[side]
        if not backward:
            with torch.no_grad():
                module(x)
            return
        x.grad = None
        for p in module.parameters():
            p.grad = None
        module(x).backward(self.gradient[side])

    def saved_bytes(self, side: str) -> int:
        """Return the bytes saved for the backward pass, without weights and input."""
        module, x = self.sides[side]
        excluded = {p.untyped_storage().data_ptr() for p in module.parameters()}
        excluded.add(x.untyped_storage().data_ptr())
        saved: dict[int, int] = {}

        def pack(t: Tensor) -> Tensor:
            # Tensors without gradient are constants, which are stored once for all calls.
            if t.requires_grad and t.untyped_storage().data_ptr() not in excluded:
                saved[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            y = module(x)
        del y
        return sum(saved.values())


def cases(device: str) -> "list[tuple[str, Callable[[], Case | None]]]":
    """Return the name of each comparison and a function that sets it up."""
    neuralop = peer("neuralop")
    harmonics = peer("torch_harmonics")
    nemo = peer("physicsnemo.models.afno")
    comparisons: list[tuple[str, Callable[[], Case | None]]] = []

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device)

    def spectral(b: int, c: int, h: int, w: int, m: int, goals: Any) -> Case:
        ours = SpectralConv(c, c, (m, m), bias=False).to(device)
        theirs = neuralop.layers.spectral_convolution.SpectralConv(c, c, (m, m), bias=False).to(device)
        x = random(b, c, h, w).to(memory_format=torch.channels_last)
        y = random(b, c, h, w)
        return Case(
            f"SpectralConv {b},{c},{h},{w},{m}",
            "neuraloperator",
            ours,
            theirs,
            x.requires_grad_(),
            y.requires_grad_(),
            goals,
        )

    def model(b: int, h: int, w: int, goals: Any) -> Case:
        ours = FNO((16, 16), 3, 3, hidden_channels=64, n_layers=4, positions=True, last_activation=False).to(
            device
        )
        theirs = neuralop.models.FNO(
            n_modes=(16, 16), in_channels=3, out_channels=3, hidden_channels=64, n_layers=4
        ).to(device)
        counts = [
            sum(p.numel() * (2 if p.is_complex() else 1) for p in m.parameters()) for m in (ours, theirs)
        ]
        assert counts[0] == counts[1]
        x = random(b, 3, h, w)
        return Case(
            f"FNO {b} x {h} x {w}",
            "neuraloperator",
            ours,
            theirs,
            x.to(memory_format=torch.channels_last),
            x.clone(),
            goals,
        )

    def mixer(shape: tuple[int, ...], goals: Any) -> Case:
        ours = AFNO2D(shape[-1]).to(device)
        theirs = nemo.afno.AFNO2DLayer(shape[-1]).to(device)
        theirs.load_state_dict(ours.state_dict())
        x = random(*shape)
        assert (ours(x) - theirs(x)).abs().max() < 1e-4
        return Case(
            f"AFNO layer {','.join(map(str, shape))}",
            "physicsnemo (FourCastNet's layer)",
            ours,
            theirs,
            x.requires_grad_(),
            x.detach().clone().requires_grad_(),
            goals,
        )

    def blocks(goals: Any) -> Case:
        ours = AFNO(
            (360, 720), (8, 8), in_channels=4, out_channels=4, embed_dim=256, depth=4, num_blocks=8
        ).to(device)
        theirs = nemo.AFNO([360, 720], 4, 4, [8, 8], 256, 4, num_blocks=8).to(device)

        class Blocks(nn.Module):
            def __init__(self, inner: nn.Module) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, x: Tensor) -> Tensor:
                with torch.autocast(device.split(":", maxsplit=1)[0], torch.bfloat16):
                    for block in self.inner.blocks:
                        x = block(x)
                return x

        x = random(1, 45, 90, 256)
        return Case(
            "AFNO blocks, depth 4, bf16",
            "physicsnemo bf16",
            Blocks(ours),
            Blocks(theirs),
            x.requires_grad_(),
            x.detach().clone().requires_grad_(),
            goals,
        )

    def sphere(shape: tuple[int, ...], grid: Any) -> Case:
        b, nlat, nlon, l = shape
        ours = nn.Sequential(
            RealSHT(nlat, nlon, l, mmax=l, grid=grid), InverseRealSHT(nlat, nlon, l, mmax=l, grid=grid)
        ).to(device)
        transforms = (harmonics.RealSHT, harmonics.InverseRealSHT)
        theirs = nn.Sequential(
            *(transform(nlat, nlon, lmax=l, mmax=l, grid=grid) for transform in transforms)
        ).to(device)
        x = random(b, nlat, nlon)
        assert (ours(x) - theirs(x)).abs().max() < 1e-3
        return Case(
            f"SHT round trip {b},{nlat},{nlon},{l} {grid}",
            "torch-harmonics",
            ours,
            theirs,
            x.requires_grad_(),
            x.detach().clone().requires_grad_(),
            (1.0, 1.0),
        )

    if neuralop:
        importlib.import_module("neuralop.layers.spectral_convolution")
        importlib.import_module("neuralop.models")
        comparisons += [(f"spectral {s}", partial(spectral, *s, g)) for s, g in SPECTRAL]
        comparisons += [(f"model {s}", partial(model, *s, g)) for s, g in MODELS]
    if nemo:
        comparisons += [(f"mixer {s}", partial(mixer, s, g)) for s, g in MIXERS]
        comparisons += [("blocks", lambda: blocks((None, 1.3)))]
    if harmonics:
        comparisons += [(f"sphere {s}", partial(sphere, s, g)) for s, g in SPHERES]
    return comparisons


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
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[1]); import operators as o; "
        "o.torch.set_num_threads(1); "
        "case = dict(o.cases('cpu'))[sys.argv[2]](); side = sys.argv[3]; other = ({'ours', 'theirs'} - "
        "{side}).pop(); "
        "case.sides.pop(other); case.gradient.pop(other); "
        "import ctypes, gc; gc.collect(); ctypes.CDLL('libc.so.6').malloc_trim(0); "
        "open('/proc/self/clear_refs', 'w').write('5'); "
        "field = lambda n: int(next(l for l in open('/proc/self/status') if l.startswith(n)).split()[1]) * "
        "1024; "
        "before = field('VmRSS'); case.run(side, backward=True); print('PEAK', field('VmHWM') - before)"
    )
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(Path(__file__).parent), name, side],
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
