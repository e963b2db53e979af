"""Adaptive weights of the terms of a physics-informed loss: residual, initial state and boundary values.

A weighting is updated with the current terms at intervals, and returns a weight for each. All weights are
initially one. Their state is saved with a training run.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

Kind = Literal["fixed", "gradient_norm", "ntk", "causal"]


class Weighting(Protocol):
    """The weights of the terms and of the collocation points."""

    def update(self, rows: Mapping[str, Tensor], jacobians: Mapping[str, Tensor]) -> None:
        """Adapt the weights to the current terms.

        Args:
            rows: rows r_i of each term i, whose sum of squares is the term, each of shape (row,).
            jacobians: gradients J_i of the rows, each of shape (row, parameter).
        """

    def terms(self) -> dict[str, float]:
        """Return the weights of the terms; terms that are missing have the weight one."""

    def points(self, rows: Tensor, times: Tensor) -> Tensor:
        """Return the weight of each collocation point.

        Args:
            rows: rows of the residual, shape (point,).
            times: times of the points as fractions of the window, shape (point,).
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the weighting, as JSON can represent it."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""


class Fixed:
    """Constant weights of one."""

    def __init__(self) -> None:
        self.weights: dict[str, float] = {}

    def update(self, rows: Mapping[str, Tensor], jacobians: Mapping[str, Tensor]) -> None:
        """Leave the weights as they are."""

    def terms(self) -> dict[str, float]:
        """Return the weights of the terms; terms that are missing have the weight one."""
        return dict(self.weights)

    def points(self, rows: Tensor, times: Tensor) -> Tensor:
        """Return weights of one, shape (point,)."""
        return torch.ones_like(rows)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of the terms."""
        return {"weights": dict(self.weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the weights of the terms.

        Raises:
            TypeError: a weight is not a finite number that is at least zero.
        """
        weights = dict(state["weights"])
        for name, weight in weights.items():
            if not isinstance(weight, float) or not math.isfinite(weight) or weight < 0:
                raise TypeError(f"the weight of {str(name)[:80]!r} is {str(weight)[:80]!r}")
        self.weights = weights


class GradientNorm(Fixed):
    """Weights that balance the gradients of the terms (Wang, Teng and Perdikaris 2021, arXiv:2001.04536):

        w_i = sum_j |grad L_j| / |grad L_i|,    grad L_i = 2 J_i^T r_i

    as an exponential moving average over updates.

    Args:
        memory: fraction of the old weight that an update keeps.
    """

    def __init__(self, memory: float = 0.9) -> None:
        super().__init__()
        self.memory = memory

    def update(self, rows: Mapping[str, Tensor], jacobians: Mapping[str, Tensor]) -> None:
        """Update the weights from the norms of the gradients."""
        self._balance({name: float((2 * jacobians[name].T @ rows[name]).norm()) for name in rows})

    def _balance(self, sizes: Mapping[str, float]) -> None:
        """Move each weight towards the sum of all sizes divided by the size of its term."""
        total = sum(sizes.values())
        largest = max(sizes.values())
        for name, size in sizes.items():
            new = total / max(size, 1e-8 * largest, 1e-300)
            old = self.weights.get(name)
            self.weights[name] = new if old is None else self.memory * old + (1 - self.memory) * new


class NeuralTangentKernel(GradientNorm):
    """Weights that balance the convergence of the terms (Wang, Yu and Perdikaris 2022, arXiv:2007.14527):

        w_i = tr K / tr K_i,    K_i = J_i J_i^T

    as an exponential moving average over updates.
    """

    def update(self, rows: Mapping[str, Tensor], jacobians: Mapping[str, Tensor]) -> None:
        """Update the weights from the traces of the kernels."""
        self._balance({name: float(j.square().sum()) for name, j in jacobians.items()})


class Causal(Fixed):
    """Weights of collocation points that respect causality (Wang et al. 2022, arXiv:2203.07404):

        w(t) = exp(-epsilon L(t))

    with L(t) the residual loss of all parts of the window before t, so that late times are fitted once early
    times are.

    Args:
        epsilon: factor of L(t); the larger it is, the better early times must be fitted before later ones
            count.
        parts: number of parts of the window; the weight is constant in each.
    """

    def __init__(self, epsilon: float = 1.0, parts: int = 32) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.parts = parts

    def points(self, rows: Tensor, times: Tensor) -> Tensor:
        """Return the weight of each collocation point; arguments as for ``Weighting``."""
        part = (times * self.parts).long().clamp(0, self.parts - 1)
        total = torch.zeros(self.parts, dtype=rows.dtype).index_add_(0, part, rows.detach().square())
        count = torch.bincount(part, minlength=self.parts).clamp_min(1)
        loss = total / count * len(rows)  # rows are divided by the root of their number
        before = torch.cumsum(loss, 0) - loss
        return torch.exp(-self.epsilon * before)[part]


WEIGHTINGS: dict[Kind, type[Fixed]] = {
    "fixed": Fixed,
    "gradient_norm": GradientNorm,
    "ntk": NeuralTangentKernel,
    "causal": Causal,
}
