"""Nonlinear least squares by Gauss-Newton steps with Levenberg-Marquardt damping.

For residuals r(p) with Jacobian J, a step is

    p <- p - (J^T J + mu D)^-1 J^T r,    D = I (Levenberg) or diag(J^T J) (Marquardt)

The damping mu falls after a step that lowers the sum of squares, and rises until one does (Marquardt 1963,
https://doi.org/10.1137/0111030).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import NonFiniteError

_SMALLEST_DAMPING = 1e-14
_LARGEST_DAMPING = 1e8


@dataclass
class LevenbergMarquardt:
    """The solver; its damping persists from step to step.

    Attributes:
        damping: mu.
        tries: largest number of values of the damping to try in a step.
        scaling: matrix D, the identity or the diagonal of ``J^T J``; the latter makes steps independent of
            the scales of the parameters.
    """

    damping: float = 1e-2
    tries: int = 10
    scaling: Literal["identity", "diagonal"] = "identity"

    def step(
        self, parameters: Tensor, residuals: Tensor, jacobian: Tensor, *, loss: Callable[[Tensor], float]
    ) -> tuple[Tensor, bool]:
        """Return new parameters with a lower loss and True, or ``parameters`` and False if no step lowers it.

        Args:
            parameters: p, shape (parameter,).
            residuals: r(p), shape (residual,).
            jacobian: J, shape (residual, parameter).
            loss: function that returns the sum of squares for parameters of shape (parameter,).
        """
        before = float(residuals.square().sum())
        # With fewer residuals than parameters, (J^T J + mu I)^-1 J^T = J^T (J J^T + mu I)^-1 is cheaper.
        wide = self.scaling == "identity" and jacobian.shape[0] < jacobian.shape[1]
        square = jacobian @ jacobian.T if wide else jacobian.T @ jacobian
        right = residuals if wide else jacobian.T @ residuals
        if self.scaling == "identity":
            scale = torch.eye(len(square), dtype=square.dtype)
        else:
            scale = torch.diag(square.diagonal())
        for _ in range(self.tries):
            factor, failed = torch.linalg.cholesky_ex(square + self.damping * scale)
            if not failed:
                solved = torch.cholesky_solve(right[:, None], factor)[:, 0]
                new = parameters - (jacobian.T @ solved if wide else solved)
                if loss(new) < before:
                    self.damping = max(self.damping / 4, _SMALLEST_DAMPING)
                    return new, True
            self.damping = min(self.damping * 4, _LARGEST_DAMPING)
        return parameters, False


def least_squares(
    residuals: Callable[[Tensor], Tensor],
    jacobian: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    steps: int = 40,
    tolerance: float = 1e-4,
) -> Tensor:
    """Return parameters at a local minimum of the sum of squares.

    Args:
        residuals: r(p), for parameters of shape (parameter,).
        jacobian: its derivative, shape (residual, parameter).
        start: initial parameters, of order one.
        steps: largest number of steps.
        tolerance: norm of a step below which the iteration has converged.

    Raises:
        NonFiniteError: residuals or Jacobian are not finite.
    """
    solver = LevenbergMarquardt(damping=1.0, scaling="diagonal")
    parameters = start
    for _ in range(steps):
        r = residuals(parameters)
        j = jacobian(parameters)
        if not (torch.isfinite(r).all() and torch.isfinite(j).all()):
            raise NonFiniteError("the residuals of the least squares, or their derivatives, are not finite")
        new, improved = solver.step(parameters, r, j, loss=lambda p: float(residuals(p).square().sum()))
        converged = not improved or float((new - parameters).norm()) < tolerance
        parameters = new
        if converged:
            break
    return parameters


def difference_jacobian(
    function: Callable[[Tensor], Tensor], parameters: Tensor, *, step: float = 1e-2, batch: int = 128
) -> Tensor:
    """Return the Jacobian of a function by central differences.

    Args:
        function: maps a batch of parameters, shape (batch, parameter), to values of shape (batch, value).
        parameters: point of the derivative, shape (parameter,).
        step: half of the distance between the two points of a difference.
        batch: largest number of points in one call.

    Returns:
        Shape (value, parameter).
    """
    shifts = step * torch.eye(len(parameters), dtype=parameters.dtype)
    columns = []
    for part in shifts.split(max(1, batch // 2)):
        ahead, behind = function(torch.cat([parameters + part, parameters - part])).chunk(2)
        columns.append(ahead - behind)
    return torch.cat(columns).T / (2 * step)
