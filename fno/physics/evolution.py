"""Residuals of evolution equations ``u_t = F(u)`` on a periodic box, for the training of solution operators.

The residual of a diffusive equation grows with the squared wave number, so that its mean square is dominated
by the shortest waves. It is therefore scaled to units of the solution: the residual of a wave that decays at
the rate lambda, over a window of length D, is multiplied by ``D / (1 + D lambda)``, which estimates the error
of the solution.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..grids import Box
from . import equations
from .derivatives import Collocated, Mixed, Spectral
from .equations import Equation

Value = float | str | Tensor | None
Parameters = Mapping[str, Value]


class EvolutionEquation:
    """The residual of an evolution equation at the Radau nodes of a window of time.

    Args:
        equation: the equation or its name; it needs a linear symbol.
        parameters: parameters of the simulated system; the coefficients of the equation are taken from them.
        box: axes and lengths of space, at any resolution; all axes must be periodic.
        window: length of the window, in the time unit of the equation.

    Raises:
        InputError: the equation is unknown or has no linear symbol, or an axis is not periodic.
    """

    def __init__(self, equation: str | Equation, parameters: Parameters, *, box: Box, window: float) -> None:
        equation = equations.get(equation) if isinstance(equation, str) else equation
        if not equation.collocatable:
            supported = [name for name in equations.names() if equations.get(name).collocatable]
            raise InputError(
                f"there is no residual of {equation.name!r} that an operator could be trained on; "
                f"there are {', '.join(supported)}"
            )
        if not all(box.periodic):
            raise InputError(
                f"the residual of {equation.name} needs periodic axes; "
                f"of {', '.join(box.axes)} not all are periodic"
            )
        self.equation = equation
        self.box = box
        self.window = window
        self.parameters = dict(parameters)

    def _with_system(self, coefficients: Parameters) -> dict[str, Any]:
        """Return all coefficients of the equation: those of the samples, and of the system otherwise.

        Raises:
            InputError: a coefficient has no value.
        """
        values = {**self.parameters, **coefficients}
        names = self.equation.coefficient_names
        if missing := [name for name in names if values.get(name) is None]:
            raise InputError(
                f"the equation needs {', '.join(missing)}, which neither the system nor the samples define"
            )
        return {name: values[name] for name in names}

    def residual(self, u: Tensor, coefficients: Parameters) -> Tensor:
        """Return the residual at the start and the nodes, in the units of the equation.

        Args:
            u: values at the start and the Radau nodes of the window, shape (batch, node, *grid).
            coefficients: coefficients that differ between samples, shape (batch, 1, ..., 1); they take
                precedence over those of the system.
        """
        box = Box(self.box.axes, tuple(u.shape[2:]), self.box.lengths, self.box.periodic)
        time = Collocated("t", self.window, -1 - len(box.axes))
        d = Mixed({"t": time, **dict.fromkeys(box.axes, Spectral(box))})
        residual: Tensor = self.equation.evaluate(u, d, **self._with_system(coefficients))
        return residual

    def rates(self, like: Tensor, coefficients: Parameters) -> Tensor:
        """Return the rates at which the linear part damps waves, shape (batch or 1, 1, *waves).

        Args:
            like: field that determines grid, type and device, shape (batch, any, *grid).
            coefficients: see ``residual``.
        """
        dims = list(range(2, like.ndim))
        k2 = torch.zeros((), dtype=like.dtype, device=like.device)
        for dim, length in zip(dims, self.box.lengths, strict=True):
            n = like.shape[dim]
            frequencies = torch.fft.rfftfreq if dim == dims[-1] else torch.fft.fftfreq
            waves = frequencies(n, 1 / n, dtype=like.dtype, device=like.device)
            k2 = k2 + ((2 * math.pi / length * waves) ** 2).reshape(-1, *[1] * (dims[-1] - dim))
        assert self.equation.damping is not None
        return self.equation.damping(k2[None, None], **self._with_system(coefficients))

    def scaled(self, residual: Tensor, coefficients: Parameters) -> Tensor:
        """Return a residual in units of the solution; see the module.

        Args:
            residual: residual, shape (batch, node, *grid).
            coefficients: see ``residual``.
        """
        dims = list(range(2, residual.ndim))
        rate = self.rates(residual, coefficients).detach()
        spectrum = torch.fft.rfftn(residual, dim=dims) * (self.window / (1 + self.window * rate))
        result: Tensor = torch.fft.irfftn(spectrum, s=residual.shape[2:], dim=dims)
        return result
