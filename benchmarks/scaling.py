"""Measure what processes send to each other in a training step and what each stores, next to formulas.

    python benchmarks/scaling.py        # writes benchmarks/results/scaling.json

An SFNO is trained for a few steps by 1, 2 and 4 gloo processes on this machine. Bytes are those that the
loopback interface counts, as the least of several repetitions, since other programs use it too. Stored bytes
are counted tensor by tensor: parameters, gradients and moments, and what autograd saves for the backward
pass. Times are not measured: processes that share the cores of one machine are no faster than one.

The same formulas are evaluated for 73 channels on 721 x 1440 points and up to 512 devices.
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from fourcaster.fno import SFNO
from fourcaster.fno.batch import Batch
from fourcaster.fno.models.stepper import Scales, Stepper
from fourcaster.fno.parallel.bands import Bands
from fourcaster.fno.parallel.latitudes import divide_latitudes
from fourcaster.fno.parallel.placement import Placement
from fourcaster.fno.parallel.processes import Processes
from fourcaster.fno.training import ForecastObjective, TrainSettings
from fourcaster.fno.training.objectives.bands import BandForecastObjective
from fourcaster.fno.training.trainer import Trainer

ROWS, COLUMNS = 32, 64
CHANNELS = 6
WIDTH = 16
LAYERS = 4
LMAX = 16
BATCH = 4
STEPS = 2
REPEATS = 2
LAYOUTS = [
    {"processes": 1, "parallel": "ddp", "bands": 1},
    {"processes": 2, "parallel": "ddp", "bands": 1},
    {"processes": 4, "parallel": "ddp", "bands": 1},
    {"processes": 2, "parallel": "fsdp", "bands": 1},
    {"processes": 4, "parallel": "fsdp", "bands": 1},
    {"processes": 2, "parallel": "ddp", "bands": 2},
    {"processes": 4, "parallel": "ddp", "bands": 4},
    {"processes": 4, "parallel": "ddp", "bands": 2},
]
FLOAT = 4  # bytes
LARGE = {"rows": 721, "columns": 1440, "channels": 73, "width": 256, "layers": 8, "lmax": 361}
LARGE_LAYOUTS = [
    (1, "ddp", 1),
    (64, "ddp", 1),
    (64, "fsdp", 4),
    (512, "ddp", 1),
    (512, "fsdp", 4),
    (512, "fsdp", 8),
]


def build(rows: int, columns: int, *, channels: int, width: int, layers: int, lmax: int) -> Stepper:
    """Return an untrained model of one time step with one input state and four forcings."""
    count = Stepper.input_channels(channels, window=1, forcings=4, static=1)
    network = SFNO(lmax, count, channels, hidden_channels=width, n_layers=layers)
    ones = torch.ones(channels)
    mask = torch.ones(channels, rows, columns, dtype=torch.bool)
    scales = Scales(0 * ones, ones, ones, ones)
    return Stepper(network, scales, torch.ones(1, rows, columns), mask=mask, window=1)


class NoSource:
    """A source of no batches, since the benchmark calls the steps itself."""

    def steps_per_epoch(self) -> int:
        """Return a number of steps that sets the learning rate."""
        return 1000

    def epoch(self, epoch: int, rollout: int, start: int) -> Iterator[Batch]:
        """Yield nothing."""
        return iter(())

    def validation(self, steps: int, samples: int) -> Iterator[Batch]:
        """Yield nothing."""
        return iter(())


def loopback_bytes() -> int:
    """Return the bytes that the loopback interface has sent."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if "lo:" in line)
    return int(line.split()[9])


def local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process stores."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def measure_all(rank: int, folder: str) -> None:
    """Measure the layouts one after another; as many of the processes as one needs take part."""
    torch.set_num_threads(1)
    for number, layout in enumerate(LAYOUTS):
        if rank < layout["processes"]:
            path = Path(folder, str(number))
            path.mkdir(exist_ok=True)
            measure(rank, layout, str(path))


def measure(rank: int, layout: dict[str, Any], folder: str) -> None:
    """Take steps as one of several processes, and write what was counted."""
    if layout["processes"] > 1:
        store = f"file://{folder}/store"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=layout["processes"])
    torch.manual_seed(0)
    processes = Processes.current()
    placement = Placement(processes, layout["bands"])
    stepper = build(ROWS, COLUMNS, channels=CHANNELS, width=WIDTH, layers=LAYERS, lmax=LMAX)
    parameters = sum(p.numel() for p in stepper.parameters())
    weights = torch.ones(CHANNELS, ROWS, COLUMNS)
    own = slice(placement.part, None, placement.parts)
    shapes = [(BATCH, 2, n, ROWS, COLUMNS) for n in (CHANNELS, CHANNELS, 4)]
    tensors = [torch.randn(shape)[own] for shape in shapes]
    if layout["bands"] > 1:
        bands = Bands(placement.group(), ROWS)
        divide_latitudes(stepper, bands.group, ROWS)
        objective: ForecastObjective = BandForecastObjective(stepper, weights, bands=bands)
        tensors = [bands.take(t, 3) for t in tensors]
    else:
        objective = ForecastObjective(stepper, weights)
    settings = TrainSettings(
        batch_size=BATCH, parallel=layout["parallel"], latitude_bands=layout["bands"], epochs=1
    )
    trainer = Trainer(
        stepper,
        objective,
        NoSource(),
        settings=settings,
        folder=Path(folder),
        fingerprint="",
        processes=processes,
    )
    batch = Batch(*tensors)
    saved: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = local(tensor).untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        trainer.train_step(batch)
    own_parameters = {local(p).untyped_storage().data_ptr() for p in stepper.parameters()}
    sent = []
    for _ in range(REPEATS):
        processes.wait()
        before = loopback_bytes()
        for _ in range(STEPS):
            trainer.train_step(batch)
        processes.wait()
        sent.append((loopback_bytes() - before) / STEPS)
    states = [local(t) for t in stepper.parameters()]
    states += [local(p.grad) for p in stepper.parameters() if p.grad is not None]
    states += [local(t) for s in trainer.optimizer.state.values() for t in s.values() if t.ndim]
    result = {
        "sent": min(sent),
        "state": sum(t.numel() * t.element_size() for t in states),
        "activations": sum(n for pointer, n in saved.items() if pointer not in own_parameters),
        "parameters": parameters,
    }
    Path(folder, f"{rank}.json").write_text(json.dumps(result))
    if processes.count > 1:
        dist.barrier()
        dist.destroy_process_group()


def sent_for_gradients(parameters: float, processes: int, parallel: str) -> float:
    """Return the bytes that a process sends for gradients and parameters: 2 or 3 (n - 1) / n P."""
    times = 3 if parallel == "fsdp" else 2
    return times * (processes - 1) / processes * FLOAT * parameters


def sent_for_bands(
    samples: float, bands: int, *, rows: int, width: int, layers: int, lmax: int, **_: int
) -> float:
    """Return the bytes that a process sends in all-to-alls: four of 2 lmax numbers a row for each layer."""
    row = 2 * lmax * width * FLOAT
    return 4 * layers * samples * row * rows / bands * (bands - 1) / bands


def parameters_of(*, channels: int, width: int, layers: int, lmax: int, **_: int) -> float:
    """Return the number of parameters, without biases: spectral weights, dense layers of blocks and ends."""
    block = 2 * lmax * width**2 + 2 * width**2
    count = Stepper.input_channels(channels, window=1, forcings=4, static=1)
    return layers * block + 2 * width * (count + width) + 2 * width * (width + channels)


def paper(fields: float) -> list[dict[str, Any]]:
    """Return the cost of a step on a large grid, with one sample for each part of the batch.

    Args:
        fields: fields of the width of the network that autograd saves for each layer and sample.
    """
    rows = []
    parameters = parameters_of(**LARGE)
    field = LARGE["width"] * LARGE["rows"] * LARGE["columns"] * FLOAT
    for count, parallel, bands in LARGE_LAYOUTS:
        share = count if parallel == "fsdp" else 1
        rows.append(
            {
                "devices": count,
                "parallel": parallel,
                "bands": bands,
                "batch": count // bands,
                "gradients_sent": sent_for_gradients(parameters, count, parallel),
                "bands_sent": sent_for_bands(1, bands, **LARGE),
                "state": 6 * FLOAT * parameters / share,  # with the average and the best weights
                "activations": LARGE["layers"] * fields * field / bands,
            }
        )
    return rows


def main() -> None:
    """Measure all layouts, and write and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "scaling.json")
    arguments = parser.parse_args()
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    sizes = {"rows": ROWS, "columns": COLUMNS, "channels": CHANNELS}
    sizes |= {"width": WIDTH, "layers": LAYERS, "lmax": LMAX}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(measure_all, (folder,), nprocs=max(layout["processes"] for layout in LAYOUTS))
        counted = [
            [
                json.loads(Path(folder, str(number), f"{rank}.json").read_text())
                for rank in range(layout["processes"])
            ]
            for number, layout in enumerate(LAYOUTS)
        ]
    for layout, results in zip(LAYOUTS, counted, strict=True):
        count = layout["processes"]
        parts = count // layout["bands"]
        expected = count * sent_for_gradients(results[0]["parameters"], count, layout["parallel"])
        expected += count * sent_for_bands(BATCH / parts, layout["bands"], **sizes)
        row = layout | {
            "sent_bytes": round(min(result["sent"] for result in results)),
            "expected_bytes": round(expected),
            "state_bytes": max(result["state"] for result in results),
            "activation_bytes": max(result["activations"] for result in results),
            "parameters": results[0]["parameters"],
        }
        rows.append(row)
        print(json.dumps(row))
    field = BATCH * WIDTH * ROWS * COLUMNS * FLOAT
    fields = rows[0]["activation_bytes"] / field / LAYERS
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__}
    result = {
        "machine": machine,
        "model": sizes | {"batch": BATCH},
        "rows": rows,
        "large": LARGE | {"parameters": parameters_of(**LARGE), "fields_saved_per_layer": round(fields, 2)},
        "paper": paper(fields),
    }
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
