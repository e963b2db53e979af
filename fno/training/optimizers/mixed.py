"""Base class of optimizers that treat matrices in their own way and all other parameters with AdamW."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ..freezing import trainable
from .matrices import MatrixLayout, matrix_layouts
from .options import BETAS, OptimizerOptions, without_decay

Shapes = dict[str, tuple[int, ...]]


class MatrixOptimizer(Optimizer):
    """Update matrices by ``update``, which a subclass defines, and all other parameters by AdamW.

    Every parameter group has the key ``layout``: the ``MatrixLayout`` of its parameters, or None for AdamW.

    Args:
        groups: parameter groups, see ``mixed_groups``.
        options: options of the optimizer.
        matrix_defaults: further values of the groups of matrices.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], options: OptimizerOptions, **matrix_defaults: Any
    ) -> None:
        self._rest = AdamW(
            [nn.Parameter(torch.zeros(1))],
            lr=options.learning_rate,
            betas=BETAS,
            fused=options.fused or None,
        )
        defaults = dict(self._rest.defaults)
        own = matrix_defaults | {"fused": None}
        complete = [(own if group["layout"] is not None else {}) | group for group in groups]
        super().__init__(complete, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the parameters that have a gradient.

        Args:
            closure: not supported.

        Raises:
            ValueError: there is a closure.
        """
        if closure is not None:
            raise ValueError(f"{type(self).__name__} takes no closure: call backward before step")
        # The state of both kinds of group is that of this optimizer, so that it is saved and restored as one.
        self._rest.param_groups = [group for group in self.param_groups if group["layout"] is None]
        self._rest.state = self.state
        self._rest.step()
        for group in self.param_groups:
            if group["layout"] is not None:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self.update(parameter, parameter.grad, group)

    def update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Update one parameter in place.

        Args:
            parameter: parameter to change.
            gradient: its gradient.
            group: its group, with the values ``lr``, ``weight_decay`` and ``layout``.
        """
        raise NotImplementedError

    def matrix_state_shapes(self, parameter: Tensor, layout: MatrixLayout) -> Shapes:
        """Return the shape of each tensor of the state of a matrix.

        Args:
            parameter: a parameter of matrices.
            layout: its layout.
        """
        raise NotImplementedError


def mixed_groups(model: nn.Module, options: OptimizerOptions) -> list[dict[str, Any]]:
    """Return the parameter groups of a model: one for each layout of matrices and weight decay.

    Args:
        model: model to train.
        options: options of the optimizer.
    """
    layouts = matrix_layouts(model)
    excluded = set() if options.decay_all else without_decay(model)
    groups: dict[Any, list[nn.Parameter]] = {}
    for parameter in trainable(model):
        groups.setdefault((layouts.get(parameter), parameter not in excluded), []).append(parameter)
    return [
        {"params": parameters, "layout": layout, "weight_decay": options.weight_decay if decay else 0.0}
        for (layout, decay), parameters in groups.items()
    ]


def state_shapes(optimizer: Optimizer) -> list[Shapes] | None:
    """Return the shapes of the state of each parameter, in the order of the groups; None if unknown.

    Args:
        optimizer: an optimizer of this package or of another.
    """
    if not isinstance(optimizer, MatrixOptimizer | AdamW):
        return None
    shapes: list[Shapes] = []
    for group in optimizer.param_groups:
        for p in group["params"]:
            if isinstance(optimizer, MatrixOptimizer) and group["layout"] is not None:
                shapes.append(optimizer.matrix_state_shapes(p, group["layout"]))
            else:
                shapes.append({"step": (), "exp_avg": tuple(p.shape), "exp_avg_sq": tuple(p.shape)})
    return shapes
