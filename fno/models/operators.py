"""Solution operators: from what is given of an equation, initial state, fields or numbers, to its solution."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..precision import at_least_single, require_real
from ..transforms.radau import decay
from ..transforms.radau import nodes as radau_nodes
from .base import PreciseConstants, weights_dtype

Edge = Literal["wrap", "node", "cell"]


@dataclass(frozen=True)
class SolutionScales:
    """What the fields and numbers of a problem are like.

    Attributes:
        solution: standard deviation of each field of the solution.
        input_mean: mean of each given field.
        input_std: standard deviation of each given field.
        parameter_mean: mean of the logarithm of each number.
        parameter_std: its standard deviation.
    """

    solution: Sequence[float]
    input_mean: Sequence[float] = ()
    input_std: Sequence[float] = ()
    parameter_mean: Sequence[float] = ()
    parameter_std: Sequence[float] = ()


class _Problem(PreciseConstants):
    """A network and how it is given fields, numbers and places.

    Numbers enter by their logarithm, as fields that are the same everywhere.

    Args:
        network: maps (batch, ``channels``, *grid) to what a subclass asks for.
        scales: see ``SolutionScales``.
        parameters: names of the numbers, which must be positive.
        edges: how the grid lies along each axis: it wraps, has nodes on both edges, or cells between them.
        positions: whether the network is told places; an axis that wraps enters as a wave.
    """

    def __init__(
        self,
        network: nn.Module,
        scales: SolutionScales,
        parameters: Sequence[str],
        edges: Sequence[Edge],
        positions: bool,
    ) -> None:
        super().__init__()
        self.network, self.parameters_given, self.edges, self.positions = (
            network,
            tuple(parameters),
            tuple(edges),
            positions,
        )
        ones = [1] * len(edges)
        for name in ("solution", "input_mean", "input_std", "parameter_mean", "parameter_std"):
            self.register_buffer(
                name, torch.tensor(list(getattr(scales, name))).reshape(-1, *ones), persistent=False
            )
        self.solution: Tensor
        self.input_mean: Tensor
        self.input_std: Tensor
        self.parameter_mean: Tensor
        self.parameter_std: Tensor

    @staticmethod
    def channels(fields: int, inputs: int, parameters: int, edges: Sequence[Edge], positions: bool) -> int:
        """Return the number of channels that the network is given."""
        places = sum(2 if edge == "wrap" else 1 for edge in edges) if positions else 0
        return fields + inputs + parameters + places

    def places(self, like: Tensor) -> list[Tensor]:
        """Return coordinates in shares of the domain, one for each axis, shape (*grid)."""
        grid, offset = like.shape[2:], {"wrap": (0.0, 0), "node": (0.0, 1), "cell": (0.5, 0)}
        axes = []
        for n, edge in zip(grid, self.edges, strict=True):
            first, fewer = offset[edge]
            axes.append((torch.arange(n, dtype=like.dtype, device=like.device) + first) / (n - fewer))
        return list(torch.meshgrid(*axes, indexing="ij"))

    def predict(self, state: Tensor, inputs: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return what the network makes of a state, given fields and numbers, in the type of its weights.

        Raises:
            InputError: one of them is complex.
        """
        for tensor in parameters.values():
            require_real(tensor)
        x = self.network_input(at_least_single(state), at_least_single(inputs), parameters)
        result: Tensor = self.network(x.to(weights_dtype(self.network, x.dtype)))
        return result

    def network_input(self, state: Tensor, inputs: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return what the network is given."""
        grid, parts = state.shape[2:], [state, (inputs - self.input_mean) / self.input_std]
        for i, name in enumerate(self.parameters_given):
            number = parameters[name].to(state).reshape(-1, 1, *[1] * len(grid))
            parts.append(
                ((number.log() - self.parameter_mean[i]) / self.parameter_std[i]).expand(-1, -1, *grid)
            )
        if self.positions:
            for place, edge in zip(self.places(state), self.edges, strict=True):
                waves = (
                    [torch.cos(2 * math.pi * place), torch.sin(2 * math.pi * place)]
                    if edge == "wrap"
                    else [2 * place - 1]
                )
                parts += [wave.expand(len(state), 1, *grid) for wave in waves]
        return torch.cat(parts, dim=1)


class EvolutionOperator(_Problem):
    """The solution of ``u_t = F(u)`` over a window of time, and by repetition over any time.

        u(t + tau_k D) = R_k u(t) + tau_k s N_k(u(t) / s, given)    at the Radau nodes tau_1 ... tau_K = 1

    with D the window, s the scale of the solution and N_k the channels of the network. The solution in the
    window is the polynomial in time through the initial state, which holds exactly, and the nodes; so its
    derivative is known. R_k is one, or what the linear part of the equation makes of a wave: the solution of
    ``v' = -rate v`` at the nodes. The network sees no time, and any resolution.

    Args:
        network: maps (batch, ``channels``, *grid) to (batch, K * field, *grid).
        scales: see ``SolutionScales``.
        window: D.
        nodes: K.
        parameters: see ``SolutionScales``.
        edges: how the grid lies along each axis.
        positions: whether the network is told places, which an equation without any does not need.
        rates: rates at which the linear part of the equation damps waves, given a field of shape (batch,
            field, *grid) and the numbers, each of shape (batch, 1, ..., 1).
    """

    def __init__(
        self,
        network: nn.Module,
        scales: SolutionScales,
        window: float,
        nodes: int,
        parameters: Sequence[str] = (),
        edges: Sequence[Edge] = ("wrap",),
        positions: bool = False,
        rates: Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None = None,
    ) -> None:
        super().__init__(network, scales, parameters, edges, positions)
        self.window, self.nodes, self.rates = window, nodes, rates
        poles, residues = decay(nodes)
        # Real and imaginary parts of residue and pole, for each node.
        self._fractions = [
            [(r.real, r.imag, p.real, p.imag) for r, p in zip(row, poles.tolist(), strict=True)]
            for row in residues.tolist()
        ]
        self._factors: dict[Any, Tensor] = {}  # of the last grid, where no number differs between instances
        self.register_buffer(
            "tau", torch.tensor(radau_nodes(nodes)[1:]).reshape(-1, *[1] * (len(edges) + 1)), persistent=False
        )
        self.tau: Tensor

    def forward(self, state: Tensor, inputs: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the solution at the nodes of the window after ``state``, shape (batch, K + 1, field, *grid).

        Args:
            state: shape (batch, field, *grid).
            inputs: given fields, shape (batch, input, *grid).
            parameters: given numbers, each of shape (batch,).
        """
        departure = self.predict(state / self.solution, inputs, parameters).unflatten(1, (self.nodes, -1))
        exact = at_least_single(state)
        nodes = self._linear(exact, parameters) + self.tau.to(exact) * self.solution * departure.to(exact)
        return torch.cat([state[:, None], nodes.to(state.dtype)], dim=1)

    def _linear(self, state: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return what becomes of the state at the nodes by the linear part alone, shape (batch, K or 1,
        field, *grid).
        """
        if self.rates is None or state.shape[0] == 0:
            return state[:, None]
        numbers = {name: t.to(state).reshape(-1, *[1] * (state.ndim - 1)) for name, t in parameters.items()}
        if numbers or torch.compiler.is_compiling():
            factors = self._damping(state, numbers)
        else:
            key = (state.shape[2:], state.dtype, state.device)
            if key not in self._factors:
                with torch.inference_mode(False):  # training must be able to save what a forecast computed
                    self._factors = {key: self._damping(state, numbers)}
            factors = self._factors[key]
        dims = list(range(2, state.ndim))
        waves = torch.fft.rfftn(state, dim=dims)[:, None] * factors
        result: Tensor = torch.fft.irfftn(waves, s=state.shape[2:], dim=[d + 1 for d in dims])
        return result

    def _damping(self, state: Tensor, numbers: Mapping[str, Tensor]) -> Tensor:
        """Return the factors by which the linear part multiplies each wave at the nodes, shape (batch or 1,
        K, 1, *waves).
        """
        assert self.rates is not None
        rate = self.window * self.rates(state, numbers)
        # Node by node, since the real part of a product is all that is needed.
        parts = []
        for row in self._fractions:
            part = torch.zeros_like(rate)
            for a, b, p, q in row:
                part = part + (a * (p + rate) + b * q) / ((p + rate) ** 2 + q**2)
            parts.append(part)
        return torch.stack(parts, dim=1)

    def integrate_windows(
        self, state: Tensor, inputs: Tensor, parameters: Mapping[str, Tensor], *, windows: int
    ) -> Iterator[Tensor]:
        """Yield the solution at the nodes of one window after the other."""
        for _ in range(windows):
            u = self(state, inputs, parameters)
            state = u[:, -1]
            yield u


class SteadyOperator(_Problem):
    """The solution of an equation without time: ``u = s S(given) m(x) (1 + N(given, x))`` with m zero on
    edges where the solution is.

    S is one, or how large the solution is by its budget as a whole.

    Args:
        network: maps (batch, ``channels``, *grid) to (batch, field, *grid).
        scales: see ``SolutionScales``.
        parameters: see ``SolutionScales``.
        edges: how the grid lies along each axis.
        zero_edges: whether the solution is zero where an axis has nodes on its edges.
        size: S, from given fields and numbers, shape (batch, 1, ..., 1).
    """

    def __init__(
        self,
        network: nn.Module,
        scales: SolutionScales,
        parameters: Sequence[str] = (),
        edges: Sequence[Edge] = ("node", "node"),
        zero_edges: bool = True,
        size: Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None = None,
    ) -> None:
        super().__init__(network, scales, parameters, edges, True)
        self.zero_edges, self.size = zero_edges, size

    def forward(self, state: Tensor, inputs: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the solution, shape (batch, 1, field, *grid); arguments as for ``EvolutionOperator``."""
        made = 1 + at_least_single(self.predict(state, inputs, parameters))
        if self.zero_edges:
            for place, edge in zip(self.places(made), self.edges, strict=True):
                made = made * torch.sin(math.pi * place) if edge == "node" else made
        made = self.solution * made
        result: Tensor = (
            made if self.size is None else self.size(at_least_single(inputs), parameters) * made
        )[:, None]
        return result.to(state.dtype)
