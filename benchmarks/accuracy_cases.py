"""Cases of the accuracy benchmark: samples, networks and their training, tests, goals, classical rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import accuracy_data as data
import numpy as np
import torch
from accuracy_networks import DarcyOperator, FlowOperator, LineOperator, Repeated, Shape, peer
from accuracy_training import (
    Recipe,
    Samples,
    Scaled,
    along_the_forcing,
    dihedral,
    error,
    mirrored,
)
from torch import Tensor, nn

from fourcaster.datasets.pde.simulate import make_system
from fourcaster.datasets.pde.torus import NavierStokes

Test = Callable[[nn.Module], float]
INTERPOLATED = "32, its coarse prediction interpolated"
ZERO_SHOT = "32, zero-shot"


@dataclass(frozen=True)
class Side:
    """A network and its training.

    Attributes:
        make: builds the network.
        recipe: how it is trained.
    """

    make: Callable[[], nn.Module]
    recipe: Recipe


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        label: what is learned.
        groups: training samples on each grid.
        sides: ``ours``, ``theirs``, or variants by name.
        tests: error of a trained network by name.
        goals: largest error that is aimed at, by test.
        classical: error of methods without training, by method and test.
    """

    label: str
    groups: Sequence[Samples]
    sides: dict[str, Side]
    tests: dict[str, Test]
    goals: dict[str, float]
    classical: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Sizes:
    """Numbers of samples.

    Attributes:
        folder: folder of simulated samples.
        tiny: a few samples and one epoch, for tests of the program.
    """

    folder: Path
    tiny: bool = False

    def some(self, samples: Samples, count: int = 32) -> Samples:
        """Return all samples, or a few."""
        return samples[:count] if self.tiny else samples

    def epochs(self, count: int) -> int:
        """Return a number of epochs, or one."""
        return 1 if self.tiny else count


DARCY = Shape(width=24, modes=(8, 8), reference=(16, 16), periodic=False, series="cosine")
BURGERS = Shape(width=32, modes=(28,), reference=(128,))
SPACE_TIME = Shape(width=48, modes=(16,), reference=(16,))
FLOW = Shape(width=24, modes=(18, 18), reference=(32, 32), local=False)
DARCY_RECIPE = Recipe(15, optimizer="muon", learning_rate=1e-2, symmetry=dihedral, loss="h1")


def darcy(sizes: Sizes) -> Case:
    """Darcy flow at 16 x 16, and at 32 x 32 without training there."""
    train = sizes.some(data.darcy("train", 16))
    scale = float(train.y.std())
    recipe = replace(DARCY_RECIPE, epochs=sizes.epochs(15))
    return _darcy(
        "Darcy 16 x 16",
        sizes,
        [train],
        {
            "ours": Side(lambda: Scaled(DarcyOperator(DARCY), scale), recipe),
            "theirs": _their_darcy(24, scale, recipe.epochs),
        },
        goals={"16": 0.085, ZERO_SHOT: 0.10},
    )


def darcy_long(sizes: Sizes) -> Case:
    """Darcy flow with more parameters and epochs."""
    train = sizes.some(data.darcy("train", 16))
    scale = float(train.y.std())
    recipe = replace(DARCY_RECIPE, epochs=sizes.epochs(50))
    return _darcy(
        "Darcy 16 x 16, 50 epochs",
        sizes,
        [train],
        {
            "ours": Side(lambda: Scaled(DarcyOperator(replace(DARCY, width=32)), scale), recipe),
            "theirs": _their_darcy(32, scale, recipe.epochs),
        },
        goals={"16": 0.075},
    )


def darcy_mixed(sizes: Sizes, fold: int) -> Case:
    """Darcy flow with half of the few samples at 32 x 32 in training, tested on the other half.

    There are 50 samples at 32 x 32, so a fold trains on 25 of them, each twice in an epoch: 5 % of what is
    seen.

    Args:
        sizes: numbers of samples.
        fold: half of the samples at 32 x 32 that is tested, 0 or 1.
    """
    train = sizes.some(data.darcy("train", 16))
    fine = data.darcy("test", 32)
    known = fine[1 - fold :: 2]
    twice = Samples(*(torch.cat([field, field]) for field in (known.x, known.y)))
    tested = fine[fold::2]
    scale = float(train.y.std())
    recipe = replace(DARCY_RECIPE, epochs=sizes.epochs(15))
    return Case(
        "Darcy, 5 % of the samples at 32 x 32",
        [train, twice],
        {
            "ours": Side(lambda: Scaled(DarcyOperator(DARCY, spacing=True), scale), recipe),
            "theirs": _their_darcy(24, scale, recipe.epochs),
        },
        {"32": lambda net: error(net, tested)},
        {"32": 0.06},
        {"finite volumes": {"32": _finite_volumes(train, tested)}},
    )


def _darcy(
    label: str, sizes: Sizes, groups: list[Samples], sides: dict[str, Side], *, goals: dict[str, float]
) -> Case:
    coarse = sizes.some(data.darcy("test", 16), 4)
    fine = sizes.some(data.darcy("test", 32), 4)
    tests: dict[str, Test] = {
        "16": lambda net: error(net, coarse),
        ZERO_SHOT: lambda net: error(net, fine),
        INTERPOLATED: lambda net: error(lambda a: data.interpolated(net(a[..., ::2, ::2])), fine),
    }
    volumes = {
        "16": _finite_volumes(groups[0], coarse),
        ZERO_SHOT: _finite_volumes(groups[0], fine),
        INTERPOLATED: _of_all(data.interpolated(coarse.y), fine),
    }
    exact = volumes.pop(INTERPOLATED)
    classical = {"finite volumes": volumes, "true coarse solution, interpolated": {INTERPOLATED: exact}}
    return Case(label, groups, sides, tests, goals, classical)


def _finite_volumes(train: Samples, test: Samples) -> float:
    contrast, scale = data.fitted_contrast(train)
    return error(lambda a: scale * data.finite_volumes(a, contrast), test)


def _their_darcy(width: int, scale: float, epochs: int) -> Side:
    return Side(
        lambda: Scaled(peer((8, 8), 1, 1, width=width), scale),
        Recipe(epochs, learning_rate=5e-3, loss="h1"),
    )


def burgers(sizes: Sizes) -> Case:
    """Burgers' equation on a line: the solution at time one."""
    train = data.burgers(sizes.folder, count=16 if sizes.tiny else 1000, seed=0)
    test = data.burgers(sizes.folder, count=4 if sizes.tiny else 200, seed=1)
    epochs = sizes.epochs(30)
    scale = float(train.y.std())
    initial = test.x[:, 0].double().numpy()
    coarse = torch.from_numpy(data.burgers_solution(initial[:, ::2], [1.0], refine=2))
    return Case(
        "Burgers, 128 points",
        [train],
        {
            "ours": Side(
                lambda: LineOperator(BURGERS, frames=1, scale=float(train.x.std())),
                Recipe(epochs, learning_rate=1e-2, optimizer="muon", symmetry=mirrored),
            ),
            "theirs": Side(
                lambda: Scaled(peer((32,), 1, 1, width=32), scale), Recipe(epochs, learning_rate=5e-3)
            ),
        },
        {"128": lambda net: error(net, test)},
        {"128": 0.0030},
        {"spectral solver, 64 points": {"128": _of_all(coarse, _every_second(test))}},
    )


def _of_all(prediction: Tensor, samples: Samples) -> float:
    """Return the error of known predictions for all samples."""
    return error(lambda x: prediction, samples, batch_size=len(samples))


def _every_second(samples: Samples) -> Samples:
    return Samples(samples.x[..., ::2], samples.y[..., ::2])


def space_time(sizes: Sizes) -> Case:
    """Burgers' equation: all 17 times, on 16 points."""
    train = sizes.some(data.space_time("train"))
    test = sizes.some(data.space_time("test"), 4)
    epochs = sizes.epochs(30)
    scale = float(train.y.std())
    solution = torch.from_numpy(
        data.burgers_solution(test.x[:, 0].double().numpy(), np.arange(17) / 16, refine=4, step=1 / 1600)
    )[:, None]
    return Case(
        "Burgers, 17 times x 16 points",
        [train],
        {
            "ours": Side(
                lambda: LineOperator(SPACE_TIME, frames=16, scale=scale, initial=True),
                Recipe(epochs, batch_size=32, learning_rate=1e-2, optimizer="muon", symmetry=mirrored),
            ),
            "theirs": Side(
                lambda: Scaled(Repeated(peer((16, 16), 1, 1, width=24), 17), scale),
                Recipe(epochs, learning_rate=5e-3),
            ),
        },
        {"17 x 16": lambda net: error(net, test)},
        {"17 x 16": 0.0025},
        {"spectral solver, 64 points, from the initial state on 16": {"17 x 16": _of_all(solution, test)}},
    )


def navier_stokes(sizes: Sizes) -> Case:
    """Flow on a torus: ten states from the ten before them, one after the other."""
    train = data.navier_stokes(sizes.folder, count=4 if sizes.tiny else 100, seed=0)
    test = data.navier_stokes(sizes.folder, count=2 if sizes.tiny else 20, seed=1)
    pairs = data.steps(train)
    epochs = sizes.epochs(12)
    system = make_system("navier_stokes", {"resolution": 32})
    assert isinstance(system, NavierStokes)
    force = torch.from_numpy(system.force(32)).float()
    scale = float((pairs.y - pairs.x[:, -1:]).std())

    def rollout(net: nn.Module) -> Callable[[Tensor], Tensor]:
        def predict(states: Tensor) -> Tensor:
            for _ in range(data.HISTORY):
                states = torch.cat([states, net(states[:, -data.HISTORY :])], dim=1)
            return states[:, data.HISTORY :]

        return predict

    coarse = torch.from_numpy(data.flow(test.x[:, -1].double().numpy(), data.HISTORY, points=16, substeps=10))
    return Case(
        "Navier-Stokes, 10 to 10 states, 32 x 32",
        [pairs],
        {
            "ours": Side(
                lambda: FlowOperator(FLOW, history=data.HISTORY, force=force, scale=scale),
                Recipe(
                    epochs, batch_size=20, learning_rate=1e-2, optimizer="muon", symmetry=along_the_forcing
                ),
            ),
            "theirs": Side(
                lambda: Scaled(peer((12, 12), data.HISTORY, 1, width=38), float(pairs.y.std())),
                Recipe(epochs, batch_size=20, learning_rate=5e-3),
            ),
        },
        {"t = 11 ... 20": lambda net: error(rollout(net), test)},
        {"t = 11 ... 20": 0.035},
        {
            "persistence": {"t = 11 ... 20": _of_all(data.persistence(test), test)},
            "spectral solver, 16 x 16": {"t = 11 ... 20": _of_all(coarse, test)},
        },
    )
