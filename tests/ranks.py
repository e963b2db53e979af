"""Processes that compute together in tests: what they run, and how they are started."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from fourcaster.fno import FNO, SFNO, TFNO
from fourcaster.fno.batch import Batch
from fourcaster.fno.errors import StoppedError
from fourcaster.fno.models.stepper import Scales, Stepper
from fourcaster.fno.parallel.bands import Bands
from fourcaster.fno.parallel.latitudes import divide_latitudes
from fourcaster.fno.parallel.processes import Processes
from fourcaster.fno.parallel.strategies import whole_tensors
from fourcaster.fno.training import ForecastObjective, TrainSettings, train
from fourcaster.fno.training.loop import TrainingRecord

FIELDS = (2, 3)  # batch and channels of the fields in tests


def run_ranks(function: Callable[..., Any], ranks: int, *arguments: Any) -> list[Any]:
    """Return the results of ``function(rank, *arguments)`` on gloo processes of this machine.

    Args:
        function: function of a module that the processes can import.
        ranks: number of processes.
        *arguments: further arguments.
    """
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_run, (function, ranks, folder, arguments), nprocs=ranks)
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(ranks)]


def _run(
    rank: int, function: Callable[..., Any], ranks: int, folder: str, arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    torch.save(function(rank, *arguments), Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int]]] = {
    "sfno": (lambda: SFNO(5, 3, 2, hidden_channels=4, n_layers=2), (9, 16)),
    "sfno equivariant instance": (
        lambda: SFNO(4, 3, 2, hidden_channels=4, n_layers=2, equivariant=True, norm="instance"),
        (11, 13),
    ),
    "sfno gauss layer": (
        lambda: SFNO(7, 3, 2, hidden_channels=4, n_layers=2, grid="legendre-gauss", norm="layer"),
        (8, 15),
    ),
    "sfno least squares": (
        lambda: SFNO(8, 3, 2, hidden_channels=4, n_layers=1, analysis="least_squares"),
        (10, 16),
    ),
    "sfno of few orders": (lambda: SFNO(2, 3, 2, hidden_channels=4, n_layers=1), (6, 8)),
    "fno": (lambda: FNO((6, 5), 3, 2, hidden_channels=4, n_layers=2), (9, 13)),
    "fno padded": (
        lambda: FNO(
            (6, 6),
            3,
            2,
            hidden_channels=4,
            n_layers=2,
            domain_padding=(0.2, 0.0),
            reference_size=(11, 16),
            positions=True,
            norm="instance",
        ),
        (11, 16),
    ),
    "fno interpolated": (
        lambda: FNO(
            (6, 6),
            3,
            2,
            hidden_channels=4,
            n_layers=2,
            domain_padding=(0.3, 0.2),
            reference_size=(8, 10),
            edges=("cell", "node"),
            local=True,
        ),
        (11, 13),
    ),
    "fno injected": (
        lambda: FNO(
            (6, 6),
            3,
            2,
            hidden_channels=4,
            n_layers=2,
            domain_padding=(0.2, 0.0),
            reference_size=(11, 16),
            input_injection=True,
            outer_activation=False,
        ),
        (11, 16),
    ),
    "fno local": (lambda: FNO((4, 4), 3, 2, hidden_channels=4, n_layers=2, local=True), (9, 12)),
    "fno alias-free": (
        lambda: FNO(
            (3, 3),
            3,
            2,
            hidden_channels=4,
            n_layers=2,
            domain_padding=(0.2, 0.0),
            reference_size=(11, 10),
            activation="alias_free",
        ),
        (11, 10),
    ),
    "tfno": (lambda: TFNO((6, 6), 3, 2, hidden_channels=4, n_layers=2, rank=0.3), (9, 12)),
    "tfno cp": (
        lambda: TFNO((6, 6), 3, 2, hidden_channels=4, n_layers=2, factorization="cp", rank=0.3),
        (10, 12),
    ),
    "tfno depthwise": (
        lambda: TFNO((6, 6), 3, 2, hidden_channels=4, n_layers=2, factorization="depthwise"),
        (10, 9),
    ),
}
"""Models to divide into latitude bands, and the grid of their fields."""


def model_and_fields(name: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a model of ``MODELS``, its input, and a field that its output is compared with."""
    build, size = MODELS[name]
    torch.manual_seed(1)
    model = build().to(dtype)
    x = torch.randn(*FIELDS, *size, dtype=dtype)
    target = torch.randn(FIELDS[0], 2, *size, dtype=dtype)
    return model, x, target


def loss_and_gradients(name: str) -> dict[str, Tensor]:
    """Return output, loss, and gradients with respect to parameters and input on one process."""
    model, x, target = model_and_fields(name)
    x.requires_grad_()
    y = model(x)
    loss = (y - target).square().mean()
    loss.backward()
    return {"output": y.detach(), "loss": loss.detach(), "input": x.grad} | _gradients(model)


def banded_loss_and_gradients(rank: int) -> dict[str, dict[str, Any]]:
    """Return what ``loss_and_gradients`` does, computed on latitude bands, and the names of parameters."""
    results = {}
    for name, (_, (rows, _)) in MODELS.items():
        model, whole, target = model_and_fields(name)
        group = dist.group.WORLD
        bands = Bands(group, rows)
        divide_latitudes(model, group, rows)
        x = bands.take(whole, 2).requires_grad_()
        y = model(x)
        loss = bands.total((y - bands.take(target, 2)).square().sum()) / target.numel()
        loss.backward()
        gradients = _gradients(model)
        for gradient in gradients.values():
            dist.all_reduce(gradient)
        results[name] = {
            "output": bands.gather(y, 2),
            "loss": loss.detach(),
            "input": bands.gather(x.grad, 2),
            **gradients,
        }
    return results


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
    }


class DrawnBatches:
    """A source of random batches, of which each process has its part."""

    def __init__(self, processes: Processes, size: int = 6) -> None:
        self.processes = processes
        self.size = size

    def steps_per_epoch(self) -> int:
        return 4

    def epoch(self, epoch: int, rollout: int, start: int) -> Iterator[Batch]:
        for i in range(start, 4):
            yield self._batch(4 * epoch + i, self.size, rollout)

    def validation(self, steps: int, samples: int) -> Iterator[Batch]:
        yield self._batch(1000, self.size, steps)
        yield self._batch(1001, 1, steps)

    def _batch(self, number: int, size: int, steps: int) -> Batch:
        generator = torch.Generator().manual_seed(number)
        own = slice(self.processes.rank, None, self.processes.count)
        shapes = [(size, 1 + steps, channels, 7, 8) for channels in (2, 2, 1)]
        return Batch(*(torch.randn(shape, generator=generator)[own] for shape in shapes))


def run_training(folder: Path, kind: str, processes: Processes, stop_at: int = 0) -> TrainingRecord:
    """Train a small forecast model; process 1 asks to stop after step ``stop_at``."""
    torch.manual_seed(3)
    channels = Stepper.input_channels(2, window=1, forcings=1, static=1)
    network = FNO((4, 4), channels, 2, hidden_channels=4, n_layers=2, domain_padding=(0.2, 0))
    ones = torch.ones(2)
    mask = torch.ones(2, 7, 8, dtype=torch.bool)
    stepper = Stepper(network, Scales(0 * ones, ones, ones, ones), torch.ones(1, 7, 8), mask=mask, window=1)
    objective = ForecastObjective(stepper, torch.linspace(0.5, 1, 7)[:, None].expand(2, 7, 8), 0.1)
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return processes.any(steps == stop_at and processes.rank == processes.count - 1)

    settings = TrainSettings(
        epochs=3, batch_size=6, rollout_steps=2, validation_steps=2, warmup_steps=2, parallel=kind
    )
    record = train(
        stepper,
        objective,
        DrawnBatches(processes),
        settings=settings,
        folder=folder,
        stop=stop,
        processes=processes,
    )
    torch.save(whole_tensors(stepper.state_dict()), folder / f"weights{processes.rank}.pt")
    return record


def train_in_parts(rank: int, folder: str) -> dict[str, Any]:
    """Train with both kinds of parallelism, straight and with an interruption after step 5."""
    results: dict[str, Any] = {}
    for kind in ("ddp", "fsdp"):
        results[kind] = run_training(Path(folder) / kind, kind, Processes.current())
        try:
            run_training(Path(folder) / f"{kind}_stopped", kind, Processes.current(), stop_at=5)
        except StoppedError as error:
            results[f"{kind}_stopped"] = str(error)
    return results
