"""Weights of the terms of a physics-informed loss: how much the equation counts against its initial and
boundary values.

A weighting looks at the terms now and then, and gives each a number. All of them start with ones, and their
state can be saved.
"""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

Kind = Literal["fixed", "gradient_norm", "ntk", "causal"]


class Weighting(Protocol):
    """What training calls."""

    def update(self, rows: Mapping[str, Tensor], jacobians: Mapping[str, Tensor]) -> None:
        """Look at the terms: rows whose squares add up to each, and their gradients, shape (rows,
        parameters).
        """

    def terms(self) -> dict[str, float]:
        """Return the weight of each term that is not one."""

    def points(self, rows: Tensor, times: Tensor) -> Tensor:
        """Return the weight of each row of the equation's residual, given the times of its points as shares
        of the window.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to go on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""


class Fixed:
    """Ones."""

    def __init__(self) -> None:
        self.weights: dict[str, float] = {}

    def update(self, rows: Mapping[str, Tensor], jacobians: Mapping[str, Tensor]) -> None:
        """Do nothing."""

    def terms(self) -> dict[str, float]:
        """Return the weight of each term that is not one."""
        return dict(self.weights)

    def points(self, rows: Tensor, times: Tensor) -> Tensor:
        """Return ones."""
        return torch.ones_like(rows)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights."""
        return {"weights": dict(self.weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the weights."""
        self.weights = dict(state["weights"])


class GradientNorm(Fixed):
    """Let all terms pull alike: ``w_i = sum_j |grad L_j| / |grad L_i|``, averaged over updates (Wang, Teng
    and Perdikaris 2021).

    Args:
        memory: share of the old weight that an update keeps.
    """

    def __init__(self, memory: float = 0.9) -> None:
        super().__init__()
        self.memory = memory

    def update(self, rows: Mapping[str, Tensor], jacobians: Mapping[str, Tensor]) -> None:
        """Compare the gradients of the terms."""
        self._take({name: float((2 * jacobians[name].T @ rows[name]).norm()) for name in rows})

    def _take(self, sizes: Mapping[str, float]) -> None:
        total, largest = sum(sizes.values()), max(sizes.values())
        for name, size in sizes.items():
            new = total / max(size, 1e-8 * largest, 1e-300)
            self.weights[name] = (
                self.memory * self.weights[name] + (1 - self.memory) * new if name in self.weights else new
            )


class NeuralTangentKernel(GradientNorm):
    """Let all terms converge alike: ``w_i = tr K / tr K_i``, ``K_i = J_i J_i^T`` (Wang, Yu and Perdikaris
    2022).
    """

    def update(self, rows: Mapping[str, Tensor], jacobians: Mapping[str, Tensor]) -> None:
        """Compare the traces of the terms' kernels."""
        self._take({name: float(j.square().sum()) for name, j in jacobians.items()})


class Causal(Fixed):
    """Ask the equation to hold late only where it holds before: ``w(t) = exp(-epsilon sum of the loss before
    t)`` (Wang et al. 2022).

    Args:
        epsilon: strictness, against a loss of one part of the window.
        parts: of the window, in each of which the weight is the same.
    """

    def __init__(self, epsilon: float = 1.0, parts: int = 32) -> None:
        super().__init__()
        self.epsilon, self.parts = epsilon, parts

    def points(self, rows: Tensor, times: Tensor) -> Tensor:
        """Return the weight of each row."""
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
