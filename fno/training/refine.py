"""Test-time optimisation: an operator's weights fitted further to the equation of one instance (Li et al.
2021, arXiv:2111.03794).

The weights of a copy in float64 take steps of L-BFGS on the residual alone, window by window, each starting
from where the refined solution has come. Nothing of it is kept but the solution.
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
    model: nn.Module, equation: EvolutionEquation, instance: Instances, windows: int, steps: int
) -> Iterator[Tensor]:
    """Yield the refined solution of one instance at the nodes of one window after the other, shape (1, K + 1,
    field, *grid).

    Args:
        model: an ``EvolutionOperator``; it is left as it is.
        equation: what the solution should satisfy.
        instance: one instance.
        windows: number of windows.
        steps: of L-BFGS for each window.
    """
    own, instance = copy.deepcopy(model).double(), _double(instance)
    state = instance.state
    for _ in range(windows):
        own.load_state_dict(model.state_dict())
        given = {name: t.reshape(-1, *[1] * (state.ndim - 1)) for name, t in instance.parameters.items()}

        def solve(start: Tensor = state) -> Tensor:
            made: Tensor = own(start, instance.inputs, instance.parameters)
            return made

        def size(u: Tensor, given: dict[str, Tensor] = given) -> Tensor:
            return equation.scaled(equation.residual(u[:, :, 0], given)[:, 1:], given).square().sum()

        u = _minimise(own, solve, size, steps)
        state = u[:, -1]
        yield u


def refine_steady(model: nn.Module, equation: SteadyEquation, instance: Instances, steps: int) -> Tensor:
    """Return the refined solution of one instance, shape (1, 1, 1, *grid); arguments as for
    ``refine_evolution``.
    """
    own, instance = copy.deepcopy(model).double(), _double(instance)
    a = instance.inputs[:, 0]
    return _minimise(
        own,
        lambda: own(instance.state, instance.inputs, instance.parameters),
        lambda u: equation.scaled(equation.residual(u[:, 0, 0], a), a).square().sum(),
        steps,
    )


def _double(instance: Instances) -> Instances:
    numbers = {name: t.double() for name, t in instance.parameters.items()}
    return Instances(instance.state.double(), instance.inputs.double(), numbers)


def _minimise(
    model: nn.Module, solve: Callable[[], Tensor], size: Callable[[Tensor], Tensor], steps: int
) -> Tensor:
    """Fit the weights, and return the best solution on the way.

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
        square = size(u)
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
