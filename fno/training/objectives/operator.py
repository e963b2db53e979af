"""Objectives of solution operators: error against known solutions, residual of the equation, or both.

The combination is that of Li et al. 2021 (arXiv:2111.03794).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ...batch import Instances
from ...errors import SettingError
from ...losses.data import relative_l2
from ...physics.evolution import EvolutionEquation
from ...physics.steady import SteadyEquation
from ...transforms.fourier import resample
from ...transforms.radau import interpolation
from ..checks import check_finite
from ..protocols import Loss

_FINEST = 64  # largest refinement


@dataclass(frozen=True)
class SolvingLoss:
    """Weights of the loss of a solution operator.

    Args:
        data: weight of the relative error against known solutions.
        equation: weight of the residual of the equation, in units of the solution.
        refine: factor by which the grid of the residual is finer than that of the data along each axis.
        warmup: fraction of the training over which the windows of time are added one by one.
        experiment: weight of the residual at samples of the posterior of an inverse problem.

    Raises:
        SettingError: a setting is out of its range, or ``data`` and ``equation`` are both zero.
    """

    data: float = 1.0
    equation: float = 0.0
    refine: int = 1
    warmup: float = 0.1
    experiment: float = 0.0

    def __post_init__(self) -> None:
        check_finite(self)
        for name in ("data", "equation", "experiment"):
            if getattr(self, name) < 0:
                raise SettingError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.data + self.equation == 0:
            raise SettingError("data must be positive where equation is 0")
        if not 1 <= self.refine <= _FINEST:
            raise SettingError(f"refine must be in [1, {_FINEST}], got {self.refine}")
        if not 0 <= self.warmup < 1:
            raise SettingError(f"warmup must be in [0, 1), got {self.warmup}")


class WindowSolver(Protocol):
    """A solution operator that advances a state by one window of time.

    Attributes:
        window: length of the window.
        nodes: number of nodes in time after the initial one.
        solution: typical magnitude of each field.
    """

    window: float
    nodes: int
    solution: Tensor

    def __call__(self, state: Tensor, inputs: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the solution at the start and the nodes of a window, shape (batch, node, field, *grid).

        Args:
            state: initial state, shape (batch, field, *grid).
            inputs: input fields, shape (batch, input, *grid).
            parameters: coefficients, each of shape (batch,).
        """

    def integrate_windows(
        self, state: Tensor, inputs: Tensor, parameters: Mapping[str, Tensor], *, windows: int
    ) -> Iterator[Tensor]:
        """Yield the solution at the start and the nodes of consecutive windows; arguments as for a call."""


class EvolutionObjective:
    """The objective of an operator that advances a state window by window.

    Each window starts from the operator's own solution at the end of the one before, without a gradient
    through it, so that training sees the states that occur in use.

    Args:
        model: solution operator.
        loss: weights of the terms.
        equation: equation of the residual; may be None if its weight is zero.
        times: times of the known solutions after the initial state, in the time unit of the equation.
        windows: number of windows.
    """

    def __init__(
        self,
        model: WindowSolver,
        loss: SolvingLoss,
        equation: EvolutionEquation | None,
        *,
        times: Sequence[float],
        windows: int,
    ) -> None:
        self.model = model
        self.weights = loss
        self.equation = equation
        self.windows = windows
        shares = torch.tensor(list(times), dtype=torch.float64) / model.window
        self.times = [shares[(shares > w + 1e-9) & (shares <= w + 1 + 1e-9)] - w for w in range(windows)]

    def loss(self, batch: Instances, share: float, generator: torch.Generator) -> Loss:
        """Return the loss of a batch; arguments as for ``Objective``."""
        weights = self.weights
        count = self.windows
        if weights.warmup:
            count = max(1, min(count, math.ceil(count * share / weights.warmup)))
        state = self.window_starts(batch, count)
        inputs = batch.inputs.repeat(count, *[1] * (batch.inputs.ndim - 1))
        coefficients = {name: t.repeat(count) for name, t in batch.parameters.items()}
        total = torch.zeros((), device=state.device)
        terms: dict[str, Tensor] = {}
        u = self.model(state, inputs, coefficients) if weights.data or weights.refine == 1 else state
        if weights.data and batch.solution is not None:
            solution = self._at_known_times(u.chunk(count))
            terms["data"] = relative_l2(solution, batch.solution[:, : solution.shape[1]]).mean()
            total = total + weights.data * terms["data"]
        if weights.equation and self.equation is not None:
            if weights.refine > 1:
                fine = [n * weights.refine for n in state.shape[2:]]
                u = self.model(_resample(state, fine), _resample(inputs, fine), coefficients)
            residual, scaled = self.residuals(u, coefficients)
            size = (scaled.square().mean() / self.model.solution.square().mean()).sqrt()
            total = total + weights.equation * size
            terms["equation"] = residual.square().mean().sqrt()
        return Loss(total, terms)

    @torch.no_grad()
    def window_starts(self, batch: Instances, count: int) -> Tensor:
        """Return the first states of consecutive windows, shape (count * batch, field, *grid).

        Args:
            batch: samples, whose initial states start the first window.
            count: number of windows.
        """
        solutions = self.model.integrate_windows(
            batch.state, batch.inputs, batch.parameters, windows=count - 1
        )
        return torch.cat([batch.state, *(u[:, -1] for u in solutions)])

    def residuals(self, u: Tensor, coefficients: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the residual at the nodes, in its own units and in units of the solution.

        Args:
            u: solution at the start and the nodes, shape (batch, node, 1, *grid).
            coefficients: coefficients of the equation, each of shape (batch,).

        Raises:
            ValueError: the objective has no equation.
        """
        if self.equation is None:
            raise ValueError("an operator without known solutions needs an equation to be validated against")
        expanded = {name: t.reshape(-1, *[1] * (u.ndim - 2)).to(u) for name, t in coefficients.items()}
        residual = self.equation.residual(u[:, :, 0], expanded)[:, 1:]
        return residual, self.equation.scaled(residual, expanded)

    def errors(self, batch: Instances) -> Tensor:
        """Return the mean square of the relative error, shape (1, 1).

        Without known solutions, it is the mean square of the residual in units of the solution.
        """
        solutions = self.model.integrate_windows(
            batch.state, batch.inputs, batch.parameters, windows=self.windows
        )
        if batch.solution is not None:
            solution = self._at_known_times(list(solutions))
            return relative_l2(solution, batch.solution).square().mean().reshape(1, 1)
        squares = torch.stack([self.residuals(u, batch.parameters)[1].square().mean() for u in solutions])
        return (squares.mean() / self.model.solution.square().mean()).reshape(1, 1)

    def _at_known_times(self, windows: Sequence[Tensor]) -> Tensor:
        """Return the solution at the times of the known solutions, for the first windows."""
        parts = [interpolate_in_time(u, times) for u, times in zip(windows, self.times, strict=False)]
        return torch.cat(parts, dim=1)


class SteadyObjective:
    """The objective of an operator for a steady equation.

    Args:
        model: solution operator.
        loss: weights of the terms.
        equation: equation of the residual; may be None if its weight is zero.
    """

    def __init__(
        self, model: Callable[..., Tensor], loss: SolvingLoss, equation: SteadyEquation | None
    ) -> None:
        self.model = model
        self.weights = loss
        self.equation = equation

    def loss(self, batch: Instances, share: float, generator: torch.Generator) -> Loss:
        """Return the loss of a batch; arguments as for ``Objective``."""
        weights = self.weights
        total = torch.zeros((), device=batch.state.device)
        terms: dict[str, Tensor] = {}
        if weights.data and batch.solution is not None:
            u = self.model(batch.state, batch.inputs, batch.parameters)
            terms["data"] = relative_l2(u, batch.solution).mean()
            total = total + weights.data * terms["data"]
        if weights.equation and self.equation is not None:
            fine = _refine(batch, weights.refine)
            u = self.model(fine.state, fine.inputs, fine.parameters)[:, 0, 0]
            coefficient = fine.inputs[:, 0]
            residual = self.equation.residual(u, coefficient)
            size = u[..., 1:-1, 1:-1].detach().flatten(1).norm(dim=1)
            errors = self.equation.scaled(residual, coefficient).flatten(1).norm(dim=1) / size
            total = total + weights.equation * errors.mean()
            terms["equation"] = residual.square().mean().sqrt()
        return Loss(total, terms)

    def errors(self, batch: Instances) -> Tensor:
        """Return the mean square of the relative error, shape (1, 1).

        Without known solutions, it is the mean square of the residual in units of the solution.

        Raises:
            ValueError: there are neither known solutions nor an equation.
        """
        u = self.model(batch.state, batch.inputs, batch.parameters)
        if batch.solution is not None:
            return relative_l2(u, batch.solution).square().mean().reshape(1, 1)
        if self.equation is None:
            raise ValueError("an operator without known solutions needs an equation to be validated against")
        u = u[:, 0, 0]
        coefficient = batch.inputs[:, 0]
        scaled = self.equation.scaled(self.equation.residual(u, coefficient), coefficient)
        return (scaled.square().mean() / u.square().mean()).reshape(1, 1)


def interpolate_in_time(u: Tensor, times: Tensor) -> Tensor:
    """Return the solution at given times of a window, by the polynomial through its nodes.

    Args:
        u: solution at the start and the nodes, shape (batch, node, field, *grid).
        times: times as fractions of the window, shape (time,).

    Returns:
        Shape (batch, time, field, *grid).
    """
    matrix = torch.as_tensor(interpolation(u.shape[1] - 1, times.numpy()), dtype=u.dtype, device=u.device)
    return torch.einsum("mk,bk...->bm...", matrix, u)


def _refine(batch: Instances, factor: int) -> Instances:
    """Return instances on a grid of nodes ``factor`` times as dense, with the values of the nearest node."""
    if factor == 1:
        return batch
    state = batch.state
    inputs = batch.inputs
    for dim in range(2, inputs.ndim):
        n = inputs.shape[dim]
        nearest = (torch.arange((n - 1) * factor + 1, device=inputs.device) / factor).round().long()
        state = state.index_select(dim, nearest)
        inputs = inputs.index_select(dim, nearest)
    return replace(batch, state=state, inputs=inputs, solution=None)


def _resample(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return periodic fields, shape (batch, field, *grid), on a grid of ``size`` points."""
    if not x.shape[1]:
        return x.new_zeros(len(x), 0, *size)
    return resample(x.movedim(1, -1), tuple(size)).movedim(-1, 1)
