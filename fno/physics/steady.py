"""Equations without time that solution operators are trained on: ``-div(a grad u) = f`` on a square, u = 0 on
its edge.

And how large solutions of steady systems are.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .darcy import darcy

STEADY = ("darcy", "heat_conduction")


class SteadyEquation:
    """The residual of steady flow or conduction, and the same in units of the solution.

    A residual r stands for the error e with ``-mean(a) Laplacian e = r``, whose size does not depend on the
    grid as that of r does.

    Args:
        name: one of ``STEADY``.
        source: f.
        length: side of the square.

    Raises:
        InputError: another equation.
    """

    def __init__(self, name: str, source: float, length: float) -> None:
        if name not in STEADY:
            raise InputError(
                f"there is no residual of {name!r} that an operator could be trained on; there are {', '.join(STEADY)}"
            )
        self.source, self.length = source, length

    def residual(self, u: Tensor, a: Tensor) -> Tensor:
        """Return what is left of the equation at the inner nodes, shape (..., n - 2, m - 2); shapes as in
        ``darcy``.
        """
        return darcy(u, a, self.length / (u.shape[-1] - 1), self.source)

    def scaled(self, residual: Tensor, a: Tensor) -> Tensor:
        """Return the error that a residual stands for."""
        sines, rates = [], []
        for n in residual.shape[-2:]:
            s, k2 = _sines(n)
            sines.append(torch.as_tensor(s, dtype=residual.dtype, device=residual.device))
            rates.append(
                torch.as_tensor(
                    k2 / (self.length / (n + 1)) ** 2, dtype=residual.dtype, device=residual.device
                )
            )
        rate = a.mean(dim=(-2, -1), keepdim=True) * (rates[0][:, None] + rates[1])
        waves = sines[0] @ residual @ sines[1] / rate
        return sines[0] @ waves @ sines[1]


def overall_size(
    name: str, system: Mapping[str, Any], inputs: Tensor, parameters: Mapping[str, Tensor]
) -> Tensor:
    """Return how large the solution of each instance is by its budget as a whole, shape (batch, 1, 1, 1); one
    for other systems.

    Of Darcy flow and conduction that is ``f L^2 / mean(a)``, of a heat sink ``q L / (h P)``, the temperature
    at which the air, that meets metal on a length P, takes up what comes in over the length L.

    Args:
        name: system.
        system: its parameters.
        inputs: given fields, shape (batch, input, *grid).
        parameters: given numbers, each of shape (batch,).
    """
    if name in STEADY:
        return float(system["source"]) / inputs[:, :1].mean(dim=(-2, -1), keepdim=True)
    if name == "heat_sink":
        metal = torch.nn.functional.pad(inputs[:, :1], (0, 0, 0, 1))  # air above
        faces = metal.diff(dim=-2).abs().sum(dim=(-2, -1), keepdim=True) + metal.diff(dim=-1).abs().sum(
            dim=(-2, -1), keepdim=True
        )
        share = faces / inputs.shape[-1]
        return float(system["flux"]) / (parameters["transfer"].to(inputs).reshape(-1, 1, 1, 1) * share)
    return inputs.new_ones(len(inputs), 1, 1, 1)


@lru_cache(maxsize=16)
def _sines(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the orthogonal sine transform of n inner nodes, and the eigenvalues of minus the second
    difference.
    """
    k = np.arange(1, n + 1)
    matrix = math.sqrt(2 / (n + 1)) * np.sin(math.pi * np.outer(k, k) / (n + 1))
    return matrix, 4 * np.sin(math.pi * k / (2 * (n + 1))) ** 2
