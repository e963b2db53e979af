"""Test-time optimisation of a solution operator (Li et al. 2021, arXiv:2111.03794).

L-BFGS minimises the residual of the equation for one instance over the weights of a float64 copy of the
operator, window by window; each window starts from the end of the refined solution of the one before. Only
the solution is kept.
"""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ..batch import Instances
from ..errors import NonFiniteError
from ..physics.evolution import EvolutionEquation
from ..physics.steady import SteadyEquation
from .finite import check_gradient


def refine_evolution(
    model: nn.Module, equation: EvolutionEquation, instance: Instances, *, windows: int, steps: int
) -> Iterator[Tensor]:
    """Yield the refined solution of one instance at the nodes of each window, shape (1, K + 1, field, *grid).

    Args:
        model: an ``EvolutionOperator``; it is not modified.
        equation: equation to satisfy.
        instance: a single instance.
        windows: number of windows.
        steps: L-BFGS iterations per window.

    Raises:
        NonFiniteError: the residual or its gradient is not finite.
    """
    copied = copy.deepcopy(model).double()
    instance = _to_double(instance)
    state = instance.state
    coefficients = {name: t.reshape(-1, *[1] * (state.ndim - 1)) for name, t in instance.parameters.items()}

    def squared_residual(u: Tensor) -> Tensor:
        residual = equation.residual(u[:, :, 0], coefficients)[:, 1:]
        return equation.scaled(residual, coefficients).square().sum()

    for _ in range(windows):
        copied.load_state_dict(model.state_dict())

        def solve(start: Tensor = state) -> Tensor:
            solution: Tensor = copied(start, instance.inputs, instance.parameters)
            return solution

        u = _minimise(copied, solve, squared_residual, steps=steps)
        state = u[:, -1]
        yield u


def refine_steady(model: nn.Module, equation: SteadyEquation, instance: Instances, *, steps: int) -> Tensor:
    """Return the refined solution of one instance, shape (1, 1, 1, *grid).

    Arguments and errors are those of ``refine_evolution``.
    """
    copied = copy.deepcopy(model).double()
    instance = _to_double(instance)
    coefficient = instance.inputs[:, 0]

    def squared_residual(u: Tensor) -> Tensor:
        return equation.scaled(equation.residual(u[:, 0, 0], coefficient), coefficient).square().sum()

    def solve() -> Tensor:
        solution: Tensor = copied(instance.state, instance.inputs, instance.parameters)
        return solution

    return _minimise(copied, solve, squared_residual, steps=steps)


def _to_double(instance: Instances) -> Instances:
    coefficients = {name: t.double() for name, t in instance.parameters.items()}
    return Instances(instance.state.double(), instance.inputs.double(), coefficients)


def _minimise(
    model: nn.Module,
    solve: Callable[[], Tensor],
    squared_residual: Callable[[Tensor], Tensor],
    *,
    steps: int,
) -> Tensor:
    """Minimise over the weights of a model, and return the best solution of all iterations.

    Raises:
        NonFiniteError: the residual or its gradient is not finite.
    """
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=steps, max_eval=2 * steps, history_size=50, line_search_fn="strong_wolfe"
    )
    best: list[tuple[float, Tensor]] = []
    first = 0.0

    def closure() -> Tensor:
        nonlocal first
        optimizer.zero_grad()
        u = solve()
        square = squared_residual(u)
        first = first or float(square.detach()) or 1.0
        if not torch.isfinite(square):
            raise NonFiniteError("the residual is not finite while refining; use fewer steps or a finer grid")
        value = float(square.detach())
        if not best or value < best[0][0]:
            best[:] = [(value, u.detach())]
        loss = square / first  # of order one, whatever the units
        loss.backward()
        check_gradient(model.named_parameters(), "while refining; use fewer steps or a finer grid")
        return loss

    optimizer.step(closure)
    return best[0][1]
