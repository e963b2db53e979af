"""Solution operators: from initial state, input fields and coefficients of an equation to its solution."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..grids import AxisEdge
from ..precision import at_least_single, require_real
from ..transforms.radau import decay
from ..transforms.radau import nodes as radau_nodes
from .base import PreciseConstants, summary, weights_dtype


@dataclass(frozen=True)
class SolutionScales:
    """Normalisation of the fields and coefficients of a problem.

    Attributes:
        solution: standard deviation of each field of the solution.
        input_mean: mean of each input field.
        input_std: standard deviation of each input field.
        parameter_mean: mean of the logarithm of each coefficient.
        parameter_std: standard deviation of the logarithm of each coefficient.
    """

    solution: Sequence[float]
    input_mean: Sequence[float] = ()
    input_std: Sequence[float] = ()
    parameter_mean: Sequence[float] = ()
    parameter_std: Sequence[float] = ()


class _Problem(PreciseConstants):
    """A network with the normalisation and assembly of its input.

    Coefficients enter by their logarithm, as constant fields.

    Args:
        network: maps (batch, ``channels``, *grid) to the output of a subclass.
        scales: see ``SolutionScales``.
        parameters: names of the coefficients, which must be positive.
        edges: grid along each axis: ``periodic``, with nodes on both edges (``node``), or cell centres
            (``cell``).
        positions: whether coordinates are part of the input; a periodic one as its cosine and sine.
    """

    def __init__(
        self,
        network: nn.Module,
        scales: SolutionScales,
        *,
        parameters: Sequence[str],
        edges: Sequence[AxisEdge],
        positions: bool,
    ) -> None:
        super().__init__()
        self.network = network
        self.coefficients = tuple(parameters)
        self.edges = tuple(edges)
        self.positions = positions
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

    def __repr__(self) -> str:
        coefficients = f", coefficients {', '.join(self.coefficients)}" if self.coefficients else ""
        grid = " x ".join(self.edges)
        return summary(self, f"{self.extra_repr()}{grid} grid{coefficients}", [self.network])

    @staticmethod
    def channels(
        fields: int, inputs: int, parameters: int, *, edges: Sequence[AxisEdge], positions: bool
    ) -> int:
        """Return the number of input channels of the network.

        Args:
            fields: number of fields of the initial state.
            inputs: number of input fields.
            parameters: number of coefficients.
            edges: grid along each axis, see the class.
            positions: whether coordinates are part of the input.
        """
        places = sum(2 if edge == "periodic" else 1 for edge in edges) if positions else 0
        return fields + inputs + parameters + places

    def positions_on(self, like: Tensor) -> list[Tensor]:
        """Return the coordinates of each axis as fractions of the domain, each of shape (*grid)."""
        # Offset of the first point in spacings, and number of points minus that of spacings.
        offsets = {"periodic": (0.0, 0), "node": (0.0, 1), "cell": (0.5, 0)}
        axes = []
        for n, edge in zip(like.shape[2:], self.edges, strict=True):
            first, fewer = offsets[edge]
            axes.append((torch.arange(n, dtype=like.dtype, device=like.device) + first) / (n - fewer))
        return list(torch.meshgrid(*axes, indexing="ij"))

    def predict(self, state: Tensor, inputs: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the output of the network, in the dtype of its weights.

        Args:
            state: normalised initial state, shape (batch, field, *grid).
            inputs: input fields, shape (batch, input, *grid).
            parameters: coefficients, each of shape (batch,).

        Raises:
            InputError: a complex state, input or coefficient.
        """
        for tensor in parameters.values():
            require_real(tensor)
        x = self.network_input(at_least_single(state), at_least_single(inputs), parameters)
        result: Tensor = self.network(x.to(weights_dtype(self.network, x.dtype)))
        return result

    def network_input(self, state: Tensor, inputs: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the input of the network, shape (batch, ``channels``, *grid), from that of ``predict``."""
        grid = state.shape[2:]
        parts = [state, (inputs - self.input_mean) / self.input_std]
        for i, name in enumerate(self.coefficients):
            value = parameters[name].to(state).reshape(-1, 1, *[1] * len(grid))
            scaled = (value.log() - self.parameter_mean[i]) / self.parameter_std[i]
            parts.append(scaled.expand(-1, -1, *grid))
        if self.positions:
            for position, edge in zip(self.positions_on(state), self.edges, strict=True):
                waves = (
                    [torch.cos(2 * math.pi * position), torch.sin(2 * math.pi * position)]
                    if edge == "periodic"
                    else [2 * position - 1]
                )
                parts += [wave.expand(len(state), 1, *grid) for wave in waves]
        return torch.cat(parts, dim=1)


class EvolutionOperator(_Problem):
    """Solution of ``u_t = F(u)`` over a time window, and by repetition over any time.

        u(t + tau_k D) = R_k u(t) + tau_k s N_k(u(t) / s, inputs)    at the Radau nodes tau_1 ... tau_K = 1

    with D the window, s the scale of the solution and N_k the channels of the network. The solution in the
    window is the polynomial in time through the initial state, which is satisfied exactly, and the nodes, so
    its time derivative is known. R_k is one, or the decay of each wave under the linear part of the equation:
    the solution of ``v' = -rate v`` at the nodes. The network has no time input, and runs at any resolution.

    Args:
        network: maps (batch, ``channels``, *grid) to (batch, K * field, *grid).
        scales: see ``SolutionScales``.
        window: D, in the time unit of the equation.
        nodes: K.
        parameters: names of the coefficients.
        edges: grid along each axis: ``periodic``, ``node`` or ``cell``.
        positions: whether coordinates are part of the input; an equation without explicit coordinates needs
            none.
        rates: decay rates of waves under the linear part of the equation, for a field of shape (batch, field,
            *grid) and coefficients, each of shape (batch, 1, ..., 1).
    """

    def __init__(
        self,
        network: nn.Module,
        scales: SolutionScales,
        *,
        window: float,
        nodes: int,
        parameters: Sequence[str] = (),
        edges: Sequence[AxisEdge] = ("periodic",),
        positions: bool = False,
        rates: Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None = None,
    ) -> None:
        super().__init__(network, scales, parameters=parameters, edges=edges, positions=positions)
        self.window = window
        self.nodes = nodes
        self.rates = rates
        poles, residues = decay(nodes)
        # Real and imaginary parts of residue and pole, for each node.
        self._fractions = [
            [(r.real, r.imag, p.real, p.imag) for r, p in zip(row, poles.tolist(), strict=True)]
            for row in residues.tolist()
        ]
        self._factors: dict[Any, Tensor] = {}  # of the last grid, if no coefficient differs between instances
        self.register_buffer(
            "tau", torch.tensor(radau_nodes(nodes)[1:]).reshape(-1, *[1] * (len(edges) + 1)), persistent=False
        )
        self.tau: Tensor

    def extra_repr(self) -> str:
        """Return window and number of nodes."""
        return f"window={self.window:g}, nodes={self.nodes}, "

    def forward(self, state: Tensor, inputs: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the solution at the start and the nodes of the window, shape (batch, K + 1, field, *grid).

        Args:
            state: initial state, shape (batch, field, *grid).
            inputs: input fields, shape (batch, input, *grid).
            parameters: coefficients, each of shape (batch,).
        """
        departure = self.predict(state / self.solution, inputs, parameters).unflatten(1, (self.nodes, -1))
        exact = at_least_single(state)
        nodes = self._linear(exact, parameters) + self.tau.to(exact) * self.solution * departure.to(exact)
        return torch.cat([state[:, None], nodes.to(state.dtype)], dim=1)

    def _linear(self, state: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the state at the nodes under the linear part alone, shape (batch, K or 1, field, *grid)."""
        if self.rates is None or state.shape[0] == 0:
            return state[:, None]
        values = {name: t.to(state).reshape(-1, *[1] * (state.ndim - 1)) for name, t in parameters.items()}
        if values or torch.compiler.is_compiling():
            factors = self._damping(state, values)
        else:
            key = (state.shape[2:], state.dtype, state.device)
            if key not in self._factors:
                with torch.inference_mode(False):  # so that training can use what a forecast has cached
                    self._factors = {key: self._damping(state, values)}
            factors = self._factors[key]
        dims = list(range(2, state.ndim))
        waves = torch.fft.rfftn(state, dim=dims)[:, None] * factors
        result: Tensor = torch.fft.irfftn(waves, s=state.shape[2:], dim=[d + 1 for d in dims])
        return result

    def _damping(self, state: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """Return the decay of waves at the nodes under the linear part, shape (batch or 1, K, 1, *waves)."""
        assert self.rates is not None
        rate = self.window * self.rates(state, values)
        # Node by node, since only the real part of each product is needed.
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
        """Yield the solution at the start and the nodes of consecutive windows; shape as for ``forward``.

        Args:
            state: initial state, shape (batch, field, *grid).
            inputs: input fields, shape (batch, input, *grid).
            parameters: coefficients, each of shape (batch,).
            windows: number of windows.
        """
        for _ in range(windows):
            u = self(state, inputs, parameters)
            state = u[:, -1]
            yield u


class SteadyOperator(_Problem):
    """Solution of a steady equation: ``u = s S(inputs) m(x) (1 + N(inputs, x))``.

    m is zero on the boundaries where the solution is zero, and one without such boundaries. S is one, or the
    magnitude of the solution according to its global budget.

    Args:
        network: maps (batch, ``channels``, *grid) to (batch, field, *grid).
        scales: see ``SolutionScales``.
        parameters: names of the coefficients.
        edges: grid along each axis: ``periodic``, ``node`` or ``cell``.
        zero_edges: whether the solution is zero on the boundaries of axes with nodes on their edges.
        size: S, shape (batch, 1, ..., 1), as a function of input fields and coefficients; one by default.
    """

    def __init__(
        self,
        network: nn.Module,
        scales: SolutionScales,
        *,
        parameters: Sequence[str] = (),
        edges: Sequence[AxisEdge] = ("node", "node"),
        zero_edges: bool = True,
        size: Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None = None,
    ) -> None:
        super().__init__(network, scales, parameters=parameters, edges=edges, positions=True)
        self.zero_edges = zero_edges
        self.size = size

    def forward(self, state: Tensor, inputs: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the solution, shape (batch, 1, field, *grid).

        Args:
            state: empty, shape (batch, 0, *grid); it determines the dtype of the result.
            inputs: input fields, shape (batch, input, *grid).
            parameters: coefficients, each of shape (batch,).
        """
        u = 1 + at_least_single(self.predict(state, inputs, parameters))
        if self.zero_edges:
            for position, edge in zip(self.positions_on(u), self.edges, strict=True):
                u = u * torch.sin(math.pi * position) if edge == "node" else u
        u = self.solution * u
        if self.size is not None:
            u = self.size(at_least_single(inputs), parameters) * u
        return u[:, None].to(state.dtype)
