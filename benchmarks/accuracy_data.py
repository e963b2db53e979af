"""Samples of the accuracy benchmark, and the errors of classical methods on its test samples.

Darcy flow and Burgers in space and time are read from the folder of the environment variable
``FOURCASTER_TEST_DATA``; Burgers on a line and the flow on a torus are simulated with fixed seeds.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accuracy_training import Samples
from numpy.typing import NDArray
from torch import Tensor

from fourcaster.datasets.pde.darcy import conductances_of_cells, solve_network
from fourcaster.datasets.pde.etdrk4 import ETDRK4
from fourcaster.datasets.pde.line import Burgers
from fourcaster.datasets.pde.resample import resample
from fourcaster.datasets.pde.simulate import make_system
from fourcaster.datasets.pde.torus import NavierStokes, SpectralTorus

HISTORY = 10  # states of the flow that a network gets, and number of those that it predicts
VISCOSITY = 0.01  # of Burgers' equation
FITTED = 60  # training samples from which the finite volumes get the coefficient
Array = NDArray[np.float64]


def _stored(name: str) -> Samples:
    folder = os.environ.get("FOURCASTER_TEST_DATA")
    if not folder:
        raise SystemExit("set FOURCASTER_TEST_DATA to the folder that contains darcy_train_16.npz")
    with np.load(Path(folder) / f"{name}.npz") as file:
        x, y = (torch.from_numpy(file[key]).float()[:, None] for key in "xy")
    return Samples(x, y)


def darcy(part: str, size: int) -> Samples:
    """Return Darcy flow: where the coefficient is the second value, and the solution.

    Args:
        part: ``train`` or ``test``.
        size: points along each side.
    """
    return _stored(f"darcy_{part}_{size}")


def space_time(part: str) -> Samples:
    """Return the solution of Burgers' equation, shape (sample, 1, 17, 16), and its initial state.

    Args:
        part: ``train`` or ``test``.
    """
    return _stored(f"burgers_{part}_16")


def burgers(folder: Path, *, count: int, seed: int) -> Samples:
    """Return u at time one on 128 points of a periodic line of length one, from a random u at time zero.

    Args:
        folder: folder of the cached samples.
        count: number of samples.
        seed: seed of all samples.
    """
    path = folder / f"burgers_{count}_{seed}.npy"
    if not path.exists():
        system = make_system("burgers", {"viscosity": VISCOSITY, "resolution": 128, "length": 1.0})
        first = [system.sample_inputs(np.random.default_rng([seed, i]))["u"] for i in range(count)]
        _save(path, np.stack([np.stack(first), burgers_solution(np.stack(first), [1.0], refine=2)[:, 0]], 1))
    u = torch.from_numpy(np.load(path)).float()
    return Samples(u[:, :1], u[:, 1:])


def burgers_solution(u: Array, times: Sequence[float], *, refine: int, step: float = 2e-3) -> Array:
    """Return the solution of Burgers' equation, shape (sample, time, x), for all samples at once.

    Args:
        u: initial states on a periodic line of length one, shape (sample, x).
        times: times of the states, multiples of the step.
        refine: points of the solver per point of the initial states.
        step: time step of the solver.
    """
    system = make_system("burgers", {"viscosity": VISCOSITY, "length": 1.0})
    assert isinstance(system, Burgers)
    points = refine * u.shape[-1]
    k = 2 * np.pi * np.arange(points // 2 + 1, dtype=np.float64)
    keep = np.arange(len(k)) < points / 3
    stepper = ETDRK4(system.linear_symbol(k), step)
    states = np.fft.rfft(resample(u, points))
    frames = []
    for i in range(round(times[-1] / step) + 1):
        if any(round(time / step) == i for time in times):
            frames.append(resample(np.fft.irfft(states, n=points), u.shape[-1]))
        states = stepper(states, lambda states: keep * system.nonlinear_term(states, k, points))
    return np.stack(frames, axis=1)


def navier_stokes(folder: Path, *, count: int, seed: int) -> Samples:
    """Return ten states of the vorticity at t = 1 ... 10, and those at t = 11 ... 20, on 32 x 32 points.

    Args:
        folder: folder of the cached samples.
        count: number of trajectories.
        seed: seed of all trajectories.
    """
    path = folder / f"navier_stokes_{count}_{seed}.npy"
    if not path.exists():
        system = make_system("navier_stokes", {"resolution": 32})
        first = [system.sample_inputs(np.random.default_rng([seed, i]))["vorticity"] for i in range(count)]
        _save(path, flow(np.stack(first), 2 * HISTORY))
    w = torch.from_numpy(np.load(path)).float()
    return Samples(w[:, :HISTORY], w[:, HISTORY:])


def flow(states: Array, count: int, *, points: int = 32, substeps: int = 6) -> Array:
    """Return the vorticity after 1 ... ``count`` units of time, shape (sample, time, y, x).

    Args:
        states: initial states, shape (sample, y, x).
        count: number of units of time.
        points: points along each side of the solver.
        substeps: steps of the solver per unit of time.
    """
    system = make_system("navier_stokes", {"viscosity": 1e-3, "resolution": points})
    assert isinstance(system, NavierStokes)
    torus = SpectralTorus(points, system.side)
    force = np.fft.rfft2(system.force(points))
    stepper = ETDRK4(-system.viscosity * torus.k2, 1 / substeps)
    w = np.fft.rfft2(resample(states, points, (-2, -1)))
    frames = []
    for _ in range(count):
        for _ in range(substeps):
            w = stepper(w, lambda w: torus.advection(w) + force)
        frames.append(resample(torus.to_grid(w), states.shape[-1], (-2, -1)))
    return np.stack(frames, axis=1)


def _save(path: Path, array: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def steps(trajectories: Samples) -> Samples:
    """Return every state after the first ten, with the ten before it."""
    w = torch.cat([trajectories.x, trajectories.y], dim=1)
    starts = range(w.shape[1] - HISTORY)
    x = torch.cat([w[:, i : i + HISTORY] for i in starts])
    return Samples(x, torch.cat([w[:, i + HISTORY : i + HISTORY + 1] for i in starts]))


def finite_volumes(a: Tensor, contrast: float) -> Tensor:
    """Return the solution for a coefficient of one where ``a`` is one, and of ``contrast`` elsewhere.

    Args:
        a: shape (sample, 1, n, n), on nodes j / n; those at j = n are not stored.
        contrast: ratio of the two values.
    """
    padded = np.pad(a[:, 0].double().numpy(), ((0, 0), (0, 1), (0, 1)), mode="edge")
    ones = np.ones(padded.shape[1:])
    solutions = [
        solve_network(*conductances_of_cells(np.where(each > 0.5, 1.0, contrast), 1), ones) for each in padded
    ]
    return torch.from_numpy(np.stack(solutions)[:, None, :-1, :-1])


def fitted_contrast(samples: Samples) -> tuple[float, float]:
    """Return the contrast and the scale of the solution with the least error on training samples.

    The values of the coefficient are not documented; they are fitted on a few samples.
    """
    best = (np.inf, 0.0, 0.0)
    target = samples.y[:FITTED].double()
    for contrast in np.geomspace(0.03, 0.12, 13):
        u = finite_volumes(samples.x[:FITTED], float(contrast))
        scale = float((u * target).sum() / u.square().sum())
        misfit = float((scale * u - target).square().sum())
        best = min(best, (misfit, float(contrast), scale))
    return best[1], best[2]


def persistence(samples: Samples) -> Tensor:
    """Return the last known state at all later times."""
    return samples.x[:, -1:].expand_as(samples.y)


def interpolated(coarse: Tensor) -> Tensor:
    """Return fields on nodes j / n, zero at j = n, interpolated linearly to twice as many points.

    Args:
        coarse: shape (sample, 1, n, n).
    """
    padded = torch.nn.functional.pad(coarse, (0, 1, 0, 1))
    size = 2 * coarse.shape[-1] + 1
    fine = torch.nn.functional.interpolate(padded, size=(size, size), mode="bilinear", align_corners=True)
    return fine[..., :-1, :-1]
