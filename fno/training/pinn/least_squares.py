"""Least squares by Gauss-Newton steps with Levenberg's and Marquardt's damping.

For rows r(p) with Jacobian J the step is ``-(J^T J + mu I)^-1 J^T r``; mu falls after a step that lowers the
sum of squares and rises until one does. The Jacobian of a coordinate network is put together from one
backward pass: rows do not know of each other, so the gradient of their sum by a layer's result holds each
row's own, and its product with the layer's input is the row's gradient by the layer's weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_SMALLEST, _LARGEST = 1e-14, 1e8


def row_jacobian(rows: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the gradient of each row by the parameters, shape (rows, parameters): weight and bias of each
    layer in turn.

    Args:
        rows: shape (rows,), row i computed from point i alone.
        layers: as a ``Jet`` holds them.
    """
    gradients = torch.autograd.grad(rows.sum(), [z for z, _ in layers])
    parts = []
    for g, (_, y) in zip(gradients, layers, strict=True):
        parts += [torch.bmm(g.permute(1, 2, 0), y.detach().permute(1, 0, 2)).flatten(1), g[0]]
    return torch.cat(parts, dim=1)


@dataclass
class GaussNewton:
    """The damping, kept from step to step.

    Attributes:
        damping: mu.
        tries: dampings tried in one step.
    """

    damping: float = 1e-2
    tries: int = 10

    def step(
        self, parameters: Tensor, rows: Tensor, jacobian: Tensor, loss: Callable[[Tensor], float]
    ) -> tuple[Tensor, bool]:
        """Return parameters with a lower loss, and whether there were any.

        Args:
            parameters: p.
            rows: r(p).
            jacobian: J.
            loss: sum of squares for any parameters.
        """
        before = float(rows.square().sum())
        wide = jacobian.shape[0] < jacobian.shape[1]
        square = jacobian @ jacobian.T if wide else jacobian.T @ jacobian
        right = rows if wide else jacobian.T @ rows
        for _ in range(self.tries):
            damped = square + self.damping * torch.eye(len(square), dtype=square.dtype)
            factor, failed = torch.linalg.cholesky_ex(damped)
            if not failed:
                solved = torch.cholesky_solve(right[:, None], factor)[:, 0]
                new = parameters - (jacobian.T @ solved if wide else solved)
                if loss(new) < before:
                    self.damping = max(self.damping / 4, _SMALLEST)
                    return new, True
            self.damping = min(self.damping * 4, _LARGEST)
        return parameters, False
