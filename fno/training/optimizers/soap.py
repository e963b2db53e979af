"""SOAP: Adam in the eigenbasis of the covariance of gradients."""

from typing import Any

import torch
from torch import Tensor, nn

from .matrices import MatrixLayout
from .mixed import MatrixOptimizer, Shapes, mixed_groups
from .options import OptimizerOptions

_SIDES = ("left", "right")
_SMALLEST = 1e-30  # trace of a covariance that has eigenvectors


class SOAP(MatrixOptimizer):
    """SOAP for matrices, AdamW for all other parameters (Vyas et al. 2024, arXiv:2409.11321, algorithm 3).

        L <- b2 L + (1 - b2) G G^H,    R <- b2 R + (1 - b2) G^H G
        M <- b1 M + (1 - b1) G,    G' = P^H G Q,    M' = P^H M Q
        V <- b2 V + (1 - b2) |G'|^2,    N' = M' / (1 - b1^t) / (sqrt(V / (1 - b2^t)) + eps)
        W <- (1 - lr w) W - lr P N' Q^H

    with the eigenvectors P of L and Q of R, which every ``frequency`` steps are improved by one power
    iteration with a QR decomposition, in the order of the eigenvalues that they estimate. As in the authors'
    program, the first gradient only starts L and R, with exact eigenvectors, and changes no weights;
    gradients that are zero before it, as they are below a last layer of zeros, are ignored.

    The complex matrix over channels of each mode of a spectral weight has complex eigenvectors, and V is the
    mean of the squares of real and imaginary part, so that an update does not depend on the phase of an
    eigenvector. A side of more than ``largest`` rows or columns keeps its own basis.

    Args:
        model: model to train.
        options: options of the optimizer.
        betas: decay b1 of the mean and b2 of the squares and covariances of gradients.
        eps: added to the root mean square.
        frequency: steps between improvements of the eigenvectors.
        largest: largest side of a matrix that is rotated.
    """

    def __init__(
        self,
        model: nn.Module,
        options: OptimizerOptions,
        *,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        frequency: int = 10,
        largest: int = 1024,
    ) -> None:
        self.largest = largest
        super().__init__(mixed_groups(model, options), options, betas=betas, eps=eps, frequency=frequency)

    def update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Update one parameter in place; arguments as for ``MatrixOptimizer``."""
        layout: MatrixLayout = group["layout"]
        state = self.state[parameter]
        if not state:
            for name, shape in self.matrix_state_shapes(parameter, layout).items():
                state[name] = torch.zeros(shape) if name == "step" else parameter.new_zeros(shape)
        g = layout.matrices(gradient)
        complex_matrix = g.is_complex()
        first = not state["step"]
        if first and not gradient.any():
            return
        state["step"] += 1
        sides = [side for side in _SIDES if f"{side}_basis" in state]
        covariances = {side: _numbers(state[f"{side}_covariance"], complex_matrix) for side in sides}
        bases = {side: _numbers(state[f"{side}_basis"], complex_matrix) for side in sides}
        if not first:
            mean = state["exp_avg"].lerp_(gradient, 1 - group["betas"][0])
            step = self._direction(g, layout.matrices(mean), state=state, bases=bases, group=group)
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(layout.tensor(step, parameter.shape), alpha=-group["lr"])
        decay = group["betas"][1]
        for side in sides:
            covariances[side].lerp_(g @ g.mH if side == "left" else g.mH @ g, 1 - decay)
            if first:
                bases[side].copy_(torch.linalg.eigh(_normalised(covariances[side])).eigenvectors.flip(-1))
            elif int(state["step"] - 1) % group["frequency"] == 0:
                order, basis = _improve(covariances[side], bases[side])
                axis = -2 if side == "left" else -1
                index = order[..., None] if side == "left" else order[..., None, :]
                squares = state["exp_avg_sq"]
                squares.copy_(squares.take_along_dim(index, dim=axis))
                bases[side].copy_(basis)

    @staticmethod
    def _direction(
        g: Tensor,
        mean: Tensor,
        *,
        state: dict[str, Tensor],
        bases: dict[str, Tensor],
        group: dict[str, Any],
    ) -> Tensor:
        """Return the matrices P N' Q^H for a gradient and the mean gradient."""
        b1, b2 = group["betas"]
        number = int(state["step"]) - 1
        left = bases.get("left")
        right = bases.get("right")

        def rotate(x: Tensor) -> Tensor:
            x = x if left is None else left.mH @ x
            return x if right is None else x @ right

        rotated = rotate(g)
        squares = torch.view_as_real(rotated).square().mean(-1) if rotated.is_complex() else rotated.square()
        square = state["exp_avg_sq"].lerp_(squares, 1 - b2)
        scale = (square / (1 - b2**number)).sqrt() + group["eps"]
        n = rotate(mean) / (1 - b1**number) / scale
        n = n if left is None else left @ n
        direction: Tensor = n if right is None else n @ right.mH
        return direction

    def matrix_state_shapes(self, parameter: Tensor, layout: MatrixLayout) -> Shapes:
        """Return the shape of each tensor of the state; arguments as for ``MatrixOptimizer``.

        ``step`` is the number of gradients other than zero; complex matrices are stored as real pairs, which
        come last.
        """
        count, rows, columns = layout.shape(parameter)
        pair = () if layout.pair is None else (2,)
        shapes: Shapes = {
            "step": (),
            "exp_avg": tuple(parameter.shape),
            "exp_avg_sq": (count, rows, columns),
        }
        for side, size in zip(_SIDES, (rows, columns), strict=True):
            if size <= self.largest:
                shapes[f"{side}_covariance"] = (count, size, size, *pair)
                shapes[f"{side}_basis"] = (count, size, size, *pair)
        return shapes


def _numbers(stored: Tensor, complex_matrix: bool) -> Tensor:
    """Return a view of stored matrices as numbers, complex if they are stored as pairs."""
    return torch.view_as_complex(stored) if complex_matrix else stored


def _improve(covariance: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return the order of the estimated eigenvalues, and orthonormal vectors nearer to the eigenvectors."""
    product = _normalised(covariance) @ basis
    estimates = (basis.conj() * product).sum(-2).real
    order = estimates.argsort(dim=-1, descending=True, stable=True)
    improved = torch.linalg.qr(product.take_along_dim(order[..., None, :], dim=-1)).Q
    # Without a gradient in a mode there is nothing to improve.
    return order, torch.where(_trace(covariance) > _SMALLEST, improved, basis)


def _trace(covariance: Tensor) -> Tensor:
    """Return the traces of covariances, shape (count, 1, 1)."""
    return covariance.diagonal(dim1=-2, dim2=-1).real.sum(-1)[..., None, None]


def _normalised(covariance: Tensor) -> Tensor:
    """Return covariances of trace one: squares of small gradients are too small to be factorized."""
    return covariance / _trace(covariance).clamp_min(_SMALLEST)
