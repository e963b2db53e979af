"""Residuals of steady diffusion ``-div(a grad u) = f`` on a square with u = 0 on its boundary."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from . import equations
from .derivatives import FiniteVolumes
from .equations import Equation


class SteadyEquation:
    """The residual of a steady equation, and the same in units of the solution.

    A residual r corresponds to the error e with ``-mean(a) Laplacian e = r``. Unlike the size of r, that of e
    does not depend on the grid.

    Args:
        equation: the equation or its name; its first coefficient must be the field a.
        source: source f.
        length: side of the square.

    Raises:
        InputError: the equation is unknown, not steady, or has no residual.
    """

    def __init__(self, equation: str | Equation, source: float, length: float) -> None:
        equation = equations.get(equation) if isinstance(equation, str) else equation
        if not equation.steady or equation.residual is None:
            supported = [
                n for n in equations.names() if equations.get(n).steady and equations.get(n).residual
            ]
            raise InputError(
                f"there is no residual of {equation.name!r} that an operator could be trained on; "
                f"there are {', '.join(supported)}"
            )
        self.equation = equation
        self.source = source
        self.length = length

    def residual(self, u: Tensor, a: Tensor) -> Tensor:
        """Return the residual at the inner nodes, shape (..., n - 2, m - 2).

        Args:
            u: solution, shape (..., n, m).
            a: coefficient, shape (..., n, m).
        """
        d = FiniteVolumes([self.length / (n - 1) for n in u.shape[-2:]])
        field = self.equation.coefficient_names[0]
        residual: Tensor = self.equation.evaluate(u, d, **{field: a, "source": self.source})
        return residual

    def scaled(self, residual: Tensor, a: Tensor) -> Tensor:
        """Return the error that a residual corresponds to, at the inner nodes.

        Args:
            residual: residual at the inner nodes, shape (..., n - 2, m - 2).
            a: coefficient, shape (..., n, m).
        """
        sines = []
        rates = []
        for n in residual.shape[-2:]:
            s, k2 = _sines(n)
            sines.append(torch.as_tensor(s, dtype=residual.dtype, device=residual.device))
            k2 = k2 / (self.length / (n + 1)) ** 2
            rates.append(torch.as_tensor(k2, dtype=residual.dtype, device=residual.device))
        rate = a.mean(dim=(-2, -1), keepdim=True) * (rates[0][:, None] + rates[1])
        waves = sines[0] @ residual @ sines[1] / rate
        return sines[0] @ waves @ sines[1]


def reference_size(name: str, system: Mapping[str, Any]) -> Callable[[Tensor, Mapping[str, Tensor]], Tensor]:
    """Return the function that estimates the size of each sample's solution by its global budget.

    It maps input fields, shape (batch, input, y, x), and the coefficients that differ between samples, each
    of shape (batch,), to sizes of shape (batch, 1, 1, 1). For equations without an estimate these are one.

    Args:
        name: name of the equation.
        system: parameters of the simulated system.
    """
    size = equations.get(name).reference_size
    if size is None:
        return lambda inputs, _: inputs.new_ones(len(inputs), 1, 1, 1)
    return partial(size, system)


@lru_cache(maxsize=16)
def _sines(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sine transform of n inner nodes and the eigenvalues of the negative second difference.

    The spacing of the nodes is one; the shapes are (n, n) and (n,).
    """
    k = np.arange(1, n + 1)
    matrix = math.sqrt(2 / (n + 1)) * np.sin(math.pi * np.outer(k, k) / (n + 1))
    return matrix, 4 * np.sin(math.pi * k / (2 * (n + 1))) ** 2
