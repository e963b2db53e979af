"""Muon: momentum, orthogonalised matrix by matrix."""

from typing import Any

import torch
from torch import Tensor, nn

from .matrices import MatrixLayout
from .mixed import MatrixOptimizer, Shapes, mixed_groups
from .options import OptimizerOptions

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_SMALLEST = 1e-7  # norm that a matrix is divided by
_RMS = 0.2  # of the update of a real number, about that of AdamW


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Return matrices with the same singular vectors and all singular values near one.

    With X = G / |G|, each step is X <- a X + b (X X^H) X + c (X X^H)^2 X, a Newton-Schulz iteration whose
    coefficients move small singular values to one as fast as possible; it ends with values between about 0.7
    and 1.2 (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/). It is computed in the precision
    of the input, where ``torch.optim.Muon`` uses bfloat16.

    Args:
        matrices: real or complex, shape (..., rows, columns).
        steps: number of steps.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mH if tall else matrices
    x = x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp_min(_SMALLEST)
    for _ in range(steps):
        gram = x @ x.mH
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mH if tall else x
    return result


class Muon(MatrixOptimizer):
    """Muon for matrices, AdamW for all other parameters.

        M <- mu M + (1 - mu) G,    W <- (1 - lr w) W - 0.2 lr sqrt(s) NS((1 - mu) G + mu M)

    with the Newton-Schulz iteration NS of ``orthogonalise`` (Jordan et al. 2024), weight decay w and
    s = max(rows, columns) for real matrices. The factor gives an update a root mean square of about 0.2 of
    the learning rate, which is that of AdamW in long runs (Liu et al. 2025, arXiv:2502.16982).

    ``torch.optim.Muon`` takes matrices of two dimensions alone. Here the complex matrix over channels of each
    mode of a spectral weight is orthogonalised as one, to a unitary matrix if it is square; s is then
    2 max(rows, columns), since each of its numbers is a pair.

    Args:
        model: model to train.
        options: options of the optimizer.
        momentum: decay mu of the mean gradient.
    """

    def __init__(self, model: nn.Module, options: OptimizerOptions, momentum: float = 0.95) -> None:
        super().__init__(mixed_groups(model, options), options, momentum=momentum)

    def update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Update one parameter in place; arguments as for ``MatrixOptimizer``."""
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum = group["momentum"]
        mean = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        layout: MatrixLayout = group["layout"]
        update = orthogonalise(layout.matrices(gradient.lerp(mean, momentum)))
        size = max(layout.shape(parameter)[1:]) * (2 if layout.pair is not None else 1)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(layout.tensor(update, parameter.shape), alpha=-_RMS * group["lr"] * size**0.5)

    def matrix_state_shapes(self, parameter: Tensor, layout: MatrixLayout) -> Shapes:
        """Return the shape of each tensor of the state; arguments as for ``MatrixOptimizer``."""
        return {"momentum_buffer": tuple(parameter.shape)}
