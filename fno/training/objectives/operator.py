"""What a solution operator is trained for: to agree with solutions, to satisfy the equation, or both (Li et
al. 2021, arXiv:2111.03794).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ...batch import Instances
from ...losses.data import relative_l2
from ...physics.evolution import EvolutionEquation
from ...physics.steady import SteadyEquation
from ...transforms.fourier import resample
from ...transforms.radau import interpolation
from ..loop import Loss
from ..settings import check_finite

_FINEST = 64


@dataclass(frozen=True)
class SolvingLoss:
    """Terms of the loss of a solution operator.

    Args:
        data: weight of the relative error against known solutions.
        equation: weight of the equation's residual, in units of the solution.
        refine: points of the grid that the equation is asked to hold on for one of the data, along each axis.
        warmup: share of the training over which windows of time are added one after the other.
        experiment: weight of the equation's residual at an experiment, in units of the solution.

    Raises:
        ValueError: a negative weight, or all are zero.
    """

    data: float = 1.0
    equation: float = 0.0
    refine: int = 1
    warmup: float = 0.1
    experiment: float = 0.0

    def __post_init__(self) -> None:
        check_finite(self)
        if min(self.data, self.equation, self.experiment) < 0 or self.data + self.equation == 0:
            raise ValueError(
                f"loss.data and loss.equation must not be negative, and one positive, got {self.data} and {self.equation}"
            )
        if not 1 <= self.refine <= _FINEST or not 0 <= self.warmup < 1:
            raise ValueError(
                f"loss.refine must be in [1, {_FINEST}] and loss.warmup in [0, 1), got {self.refine} and {self.warmup}"
            )


class Solver(Protocol):
    """What an evolving solution operator is to its objective."""

    window: float
    nodes: int
    solution: Tensor

    def __call__(self, state: Tensor, inputs: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the solution at the nodes of a window."""

    def integrate_windows(
        self, state: Tensor, inputs: Tensor, parameters: Mapping[str, Tensor], windows: int
    ) -> Iterator[Tensor]:
        """Yield that of one window after the other."""


class EvolutionObjective:
    """The objective of an operator that evolves a state window by window.

    Each window starts from where the operator itself has come, without a gradient through the way there, so
    that it learns on the states that it will see.

    Args:
        model: the operator.
        loss: weights of the terms.
        equation: needed where the equation counts.
        times: times of the solutions in the data after the initial one.
        windows: number of windows.
    """

    def __init__(
        self,
        model: Solver,
        loss: SolvingLoss,
        equation: EvolutionEquation | None,
        times: Sequence[float],
        windows: int,
    ) -> None:
        self.model, self.weights, self.equation, self.windows = model, loss, equation, windows
        shares = torch.tensor(list(times), dtype=torch.float64) / model.window
        self.at = [shares[(shares > w + 1e-9) & (shares <= w + 1 + 1e-9)] - w for w in range(windows)]

    def loss(self, batch: Instances, share: float, generator: torch.Generator) -> Loss:
        """Return the loss of a batch."""
        w, count = self.weights, self.windows
        if w.warmup:
            count = max(1, min(count, math.ceil(count * share / w.warmup)))
        with torch.no_grad():
            starts = [
                batch.state,
                *(
                    u[:, -1]
                    for u in self.model.integrate_windows(
                        batch.state, batch.inputs, batch.parameters, count - 1
                    )
                ),
            ]
        state, inputs = torch.cat(starts), batch.inputs.repeat(count, *[1] * (batch.inputs.ndim - 1))
        numbers = {name: t.repeat(count) for name, t in batch.parameters.items()}
        total, terms = torch.zeros((), device=state.device), {}
        u = self.model(state, inputs, numbers) if w.data or w.refine == 1 else state
        if w.data and batch.solution is not None:
            parts = [interpolate_in_time(v, at) for v, at in zip(u.chunk(count), self.at, strict=False)]
            made = torch.cat(parts, dim=1)
            data = relative_l2(made, batch.solution[:, : made.shape[1]]).mean()
            total, terms = total + w.data * data, {"data": data}
        if w.equation and self.equation is not None:
            if w.refine > 1:
                fine = [n * w.refine for n in state.shape[2:]]
                u = self.model(_resampled(state, fine), _resampled(inputs, fine), numbers)
            residual, scaled = self.residuals(u, numbers)
            size = (scaled.square().mean() / self.model.solution.square().mean()).sqrt()
            total, terms = total + w.equation * size, terms | {"equation": residual.square().mean().sqrt()}
        return Loss(total, terms)

    def residuals(self, u: Tensor, numbers: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the residual at the nodes after the first, as it is and in units of the solution."""
        if self.equation is None:
            raise ValueError("without known solutions, an operator needs an equation to be judged by")
        given = {name: t.reshape(-1, *[1] * (u.ndim - 2)).to(u) for name, t in numbers.items()}
        residual = self.equation.residual(u[:, :, 0], given)[:, 1:]
        return residual, self.equation.scaled(residual, given)

    def errors(self, batch: Instances) -> Tensor:
        """Return the mean square of the relative error, or where no solution is known of the residual in
        units of the solution.
        """
        windows = list(
            self.model.integrate_windows(batch.state, batch.inputs, batch.parameters, self.windows)
        )
        if batch.solution is not None:
            made = torch.cat(
                [interpolate_in_time(u, at) for u, at in zip(windows, self.at, strict=True)], dim=1
            )
            return relative_l2(made, batch.solution).square().mean().reshape(1, 1)
        squares = torch.stack([self.residuals(u, batch.parameters)[1].square().mean() for u in windows])
        return (squares.mean() / self.model.solution.square().mean()).reshape(1, 1)


class SteadyObjective:
    """The objective of an operator for a steady equation.

    Args:
        model: the operator.
        loss: weights of the terms.
        equation: needed where the equation counts.
    """

    def __init__(
        self, model: Callable[..., Tensor], loss: SolvingLoss, equation: SteadyEquation | None
    ) -> None:
        self.model, self.weights, self.equation = model, loss, equation

    def loss(self, batch: Instances, share: float, generator: torch.Generator) -> Loss:
        """Return the loss of a batch."""
        w, total, terms = self.weights, torch.zeros((), device=batch.state.device), {}
        if w.data and batch.solution is not None:
            data = relative_l2(self.model(batch.state, batch.inputs, batch.parameters), batch.solution).mean()
            total, terms = total + w.data * data, {"data": data}
        if w.equation and self.equation is not None:
            fine = _between(batch, w.refine)
            u, a = self.model(fine.state, fine.inputs, fine.parameters)[:, 0, 0], fine.inputs[:, 0]
            residual = self.equation.residual(u, a)
            errors = self.equation.scaled(residual, a).flatten(1).norm(dim=1) / u[
                ..., 1:-1, 1:-1
            ].detach().flatten(1).norm(dim=1)
            total, terms = (
                total + w.equation * errors.mean(),
                terms | {"equation": residual.square().mean().sqrt()},
            )
        return Loss(total, terms)

    def errors(self, batch: Instances) -> Tensor:
        """Return the mean square of the relative error, or where no solution is known of the residual in
        units of the solution.
        """
        u = self.model(batch.state, batch.inputs, batch.parameters)
        if batch.solution is not None:
            return relative_l2(u, batch.solution).square().mean().reshape(1, 1)
        if self.equation is None:
            raise ValueError("without known solutions, an operator needs an equation to be judged by")
        a, u = batch.inputs[:, 0], u[:, 0, 0]
        scaled = self.equation.scaled(self.equation.residual(u, a), a)
        return (scaled.square().mean() / u.square().mean()).reshape(1, 1)


def _between(batch: Instances, refine: int) -> Instances:
    """Return instances on nodes ``refine`` times as dense, each taking the values of the nearest old one."""
    if refine == 1:
        return batch
    state, inputs = batch.state, batch.inputs
    for dim in range(2, inputs.ndim):
        n = inputs.shape[dim]
        near = (torch.arange((n - 1) * refine + 1, device=inputs.device) / refine).round().long()
        state, inputs = state.index_select(dim, near), inputs.index_select(dim, near)
    return replace(batch, state=state, inputs=inputs, solution=None)


def interpolate_in_time(u: Tensor, at: Tensor) -> Tensor:
    """Return the solution at shares of the window, from its values at the nodes."""
    matrix = torch.as_tensor(interpolation(u.shape[1] - 1, at.numpy()), dtype=u.dtype, device=u.device)
    return torch.einsum("mk,bk...->bm...", matrix, u)


def _resampled(x: Tensor, size: Sequence[int]) -> Tensor:
    if not x.shape[1]:
        return x.new_zeros(len(x), 0, *size)
    return resample(x.movedim(1, -1), tuple(size)).movedim(-1, 1)
