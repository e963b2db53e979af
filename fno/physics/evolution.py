"""Equations that solution operators are trained on: ``u_t = F(u)`` on a periodic box, for one window of time
after the other.

A residual grows with the square of the wave number where the equation diffuses, so that its mean square is
all about the smallest waves. It is therefore measured in units of the solution: a wave that decays at the
rate lambda has its residual over a window of length D multiplied by ``D / (1 + D lambda)``, which is the
error that the residual stands for.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..grids import Box
from .derivatives import Collocated, Derivative, Mixed, Spectral
from .flow import force, navier_stokes
from .reaction import allen_cahn, cahn_hilliard, reaction, reaction_diffusion
from .transport import advection, burgers

Value = float | str | Tensor | None
Parameters = Mapping[str, Value]


@dataclass(frozen=True)
class _Form:
    """One equation.

    Attributes:
        residual: of u, shape (batch, node, *grid), given its derivatives and the numbers that ``names``
            lists.
        names: its numbers.
        damping: rate at which the waves of squared wave number k2 decay, given the numbers.
    """

    residual: Callable[..., Tensor]
    names: tuple[str, ...]
    damping: Callable[..., Tensor]


def _flow(w: Tensor, d: Derivative, space: Spectral, viscosity: float | Tensor, forcing: str) -> Tensor:
    return navier_stokes(w, d, space, viscosity, force(forcing, space.box, w))


def _viscous(k2: Tensor, viscosity: Tensor, **_: Any) -> Tensor:
    return viscosity * k2


_FORMS: dict[str, _Form] = {
    "advection": _Form(advection, ("beta",), lambda k2, **_: 0 * k2),
    "burgers": _Form(burgers, ("viscosity",), _viscous),
    "shock_pipe": _Form(burgers, ("viscosity",), _viscous),
    "reaction": _Form(reaction, ("rho",), lambda k2, **_: 0 * k2),
    "reaction_diffusion": _Form(reaction_diffusion, ("nu", "rho"), lambda k2, nu, **_: nu * k2),
    "allen_cahn": _Form(allen_cahn, ("diffusivity", "rate"), lambda k2, diffusivity, **_: diffusivity * k2),
    "cahn_hilliard": _Form(cahn_hilliard, ("gamma_1", "gamma_2"), lambda k2, gamma_1, **_: gamma_1 * k2**2),
    "navier_stokes": _Form(_flow, ("viscosity", "forcing"), _viscous),
}
EVOLUTIONS = tuple(_FORMS)


def equation_numbers(name: str) -> tuple[str, ...]:
    """Return the names of the numbers of an equation, none where there is no residual of it."""
    return _FORMS[name].names if name in _FORMS else ()


class EvolutionEquation:
    """The residual of an equation on the nodes of a window of time.

    Args:
        name: one of ``EVOLUTIONS``.
        parameters: those of the simulated system; of them the numbers of the equation are taken.
        box: axes and lengths of space, at any resolution; all must wrap.
        window: length of the window.

    Raises:
        InputError: no such equation, a number is missing, or an axis does not wrap.
    """

    def __init__(self, name: str, parameters: Parameters, box: Box, window: float) -> None:
        if name not in _FORMS:
            raise InputError(
                f"there is no residual of {name!r} that an operator could be trained on; there are {', '.join(EVOLUTIONS)}"
            )
        if not all(box.periodic):
            raise InputError(
                f"the residual of {name} needs axes that wrap; of {', '.join(box.axes)} not all do"
            )
        self.form, self.box, self.window = _FORMS[name], box, window
        self.parameters = dict(parameters)

    def numbers(self, given: Parameters) -> dict[str, Any]:
        """Return the numbers of the equation, those in ``given`` before those of the system.

        Raises:
            InputError: one is missing.
        """
        held = {**self.parameters, **given}
        if missing := [name for name in self.form.names if held.get(name) is None]:
            raise InputError(
                f"the equation needs {', '.join(missing)}, which neither the system nor the data give"
            )
        return {name: held[name] for name in self.form.names}

    def residual(self, u: Tensor, given: Parameters) -> Tensor:
        """Return what is left of the equation at the nodes, first one too, in its own units.

        Args:
            u: values at the Radau nodes of the window, shape (batch, node, *grid).
            given: numbers that differ between instances, shape (batch, 1, ..., 1), before those of the
                system.
        """
        box = Box(self.box.axes, tuple(u.shape[2:]), self.box.lengths, self.box.periodic)
        space = Spectral(box)
        time = Collocated("t", self.window, -1 - len(box.axes))
        d = Mixed({"t": time, **dict.fromkeys(box.axes, space)})
        extra = (space,) if self.form.residual is _flow else ()
        return self.form.residual(u, d, *extra, **self.numbers(given))

    def rates(self, like: Tensor, given: Parameters) -> Tensor:
        """Return the rates at which the linear part of the equation damps waves, shape (batch or 1, 1,
        *waves).

        Args:
            like: a field, shape (batch, any, *grid).
            given: as for ``residual``.
        """
        dims = list(range(2, like.ndim))
        k2 = torch.zeros((), dtype=like.dtype, device=like.device)
        for dim, length in zip(dims, self.box.lengths, strict=True):
            n = like.shape[dim]
            waves = (torch.fft.rfftfreq if dim == dims[-1] else torch.fft.fftfreq)(
                n, 1 / n, dtype=like.dtype, device=like.device
            )
            k2 = k2 + ((2 * math.pi / length * waves) ** 2).reshape(-1, *[1] * (dims[-1] - dim))
        return self.form.damping(k2[None, None], **self.numbers(given))

    def scaled(self, residual: Tensor, given: Parameters) -> Tensor:
        """Return a residual in units of the solution, see above."""
        dims, rate = list(range(2, residual.ndim)), self.rates(residual, given).detach()
        spectrum = torch.fft.rfftn(residual, dim=dims) * (self.window / (1 + self.window * rate))
        result: Tensor = torch.fft.irfftn(spectrum, s=residual.shape[2:], dim=dims)
        return result
