"""Training of the accuracy benchmark: one loop for both sides, so that samples and seeds agree."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fourcaster.fno.losses.data import relative_l2
from fourcaster.fno.random import Stream, numpy_generator
from fourcaster.fno.training.optimizers import OptimizerOptions, build_optimizer
from fourcaster.fno.training.schedules import one_cycle

Symmetry = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""Maps input, target and a random integer to those of an equivalent problem."""


@dataclass(frozen=True)
class Samples:
    """Inputs and targets on one grid, shapes (sample, channel, *grid)."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor | slice) -> "Samples":
        return Samples(self.x[index], self.y[index])


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: passes through the samples.
        batch_size: samples of a step.
        learning_rate: peak of one cycle.
        optimizer: name of an optimizer of the package.
        weight_decay: decoupled weight decay.
        loss: relative L2 error, or that plus the relative error of the differences of neighbours.
        symmetry: equivalent problem for each batch.
    """

    epochs: int
    batch_size: int = 16
    learning_rate: float = 5e-3
    optimizer: str = "adamw"
    weight_decay: float = 1e-4
    loss: Literal["l2", "h1"] = "l2"
    symmetry: Symmetry | None = None


def batches(
    groups: Sequence[Samples], batch_size: int, *, seed: int, epoch: int
) -> Iterator[tuple[Samples, int]]:
    """Yield the batches of an epoch with a random integer each, those of all grids in random order.

    Args:
        groups: samples on each grid.
        batch_size: samples of a batch.
        seed: seed of the run.
        epoch: number of the epoch.
    """
    random = numpy_generator(seed, Stream.SAMPLE_ORDER, epoch)
    parts = [
        group[part]
        for group in groups
        for part in torch.from_numpy(random.permutation(len(group))).split(batch_size)
    ]
    for i in random.permutation(len(parts)):
        yield parts[i], int(random.integers(2**31))


def train(network: nn.Module, groups: Sequence[Samples], recipe: Recipe, *, seed: int) -> float:
    """Train a network in place, and return the CPU time [s].

    Args:
        network: network to train.
        groups: samples on each grid.
        recipe: how it is trained.
        seed: seed of the order of samples.
    """
    start = time.process_time()
    optimizer = build_optimizer(
        recipe.optimizer,
        network,
        OptimizerOptions(learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay),
    )
    total = recipe.epochs * sum(math.ceil(len(group) / recipe.batch_size) for group in groups)
    step = 0
    network.train()
    for epoch in range(recipe.epochs):
        for batch, number in batches(groups, recipe.batch_size, seed=seed, epoch=epoch):
            x, y = batch.x, batch.y
            if recipe.symmetry:
                x, y = recipe.symmetry(x, y, number)
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * one_cycle(step, total)
            loss = objective(network(x), y, recipe.loss)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
    network.eval()
    return time.process_time() - start


def objective(prediction: Tensor, target: Tensor, loss: Literal["l2", "h1"]) -> Tensor:
    """Return the mean over the samples of a relative error, see ``Recipe``."""
    value = relative_l2(prediction, target)
    if loss == "h1":
        slopes = [
            torch.cat([field.diff(dim=d).flatten(1) for d in range(2, field.ndim)], dim=1)
            for field in (prediction, target)
        ]
        value = value + relative_l2(*slopes)
    return value.mean()


class Scaled(nn.Module):
    """A network whose output is multiplied by the standard deviation of the solutions.

    Args:
        network: network of order one.
        scale: standard deviation of the solutions of training.
    """

    def __init__(self, network: nn.Module, scale: float) -> None:
        super().__init__()
        self.network = network
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Return the solution in its own units."""
        result: Tensor = self.scale * self.network(x)
        return result


@torch.no_grad()
def error(predict: Callable[[Tensor], Tensor], samples: Samples, *, batch_size: int = 50) -> float:
    """Return the mean relative L2 error over samples.

    Args:
        predict: maps inputs to predictions.
        samples: inputs and true solutions.
        batch_size: samples that are predicted at once.
    """
    parts = torch.arange(len(samples)).split(batch_size)
    errors = [relative_l2(predict(samples.x[part]), samples.y[part]) for part in parts]
    return float(torch.cat(errors).double().mean())


def dihedral(x: Tensor, y: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return the problem in one of the eight orientations of the square: Darcy's equation does not change.

    Nodes lie at j / n, and those at j = n are not stored: u = 0 there, and the coefficient, which has little
    effect on the edge, is that of the node before.

    Args:
        x: coefficient, shape (batch, 1, n, n).
        y: solution, same shape.
        number: random integer, whose last three bits select the orientation.
    """
    x = nn.functional.pad(x, (0, 1, 0, 1), mode="replicate")
    y = nn.functional.pad(y, (0, 1, 0, 1))
    dims = [d for d, bit in ((-1, 1), (-2, 2)) if number & bit]
    x, y = x.flip(dims), y.flip(dims)
    if number & 4:
        x, y = x.mT, y.mT
    return x[..., :-1, :-1], y[..., :-1, :-1]


def mirrored(x: Tensor, y: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return -u(-x) for half of the numbers: it solves Burgers' equation if u does.

    Args:
        x: initial states, shape (..., x).
        y: solutions, shape (..., x).
        number: random integer.
    """
    if number & 1:
        return -x.flip(-1).roll(1, -1), -y.flip(-1).roll(1, -1)
    return x, y


def along_the_forcing(x: Tensor, y: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return a flow translated by s in y and -s in x, which leaves a forcing f(x + y) as it is.

    Args:
        x: states, shape (batch, time, y, x).
        y: next state, shape (batch, 1, y, x).
        number: random integer, whose remainder is the translation s [points].
    """
    s = number % x.shape[-1]
    return x.roll((s, -s), (-2, -1)), y.roll((s, -s), (-2, -1))
