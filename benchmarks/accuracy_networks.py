"""Networks of the accuracy benchmark: ours for each problem, and neuraloperator's with the same parameters.

Ours are the package's ``FNO`` with the series that fits the boundary, a local branch at fixed physical
distances (``local="stencil"``), and the input added before every block (``input_injection``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fourcaster.fno import FNO


@dataclass(frozen=True)
class Shape:
    """Size and parts of one of our networks.

    Attributes:
        width: channels of the hidden fields.
        modes: modes along each dimension.
        layers: number of blocks.
        reference: intervals of the grid of the local branch along each dimension.
        periodic: whether the domain is periodic, which the local branch needs to know.
        series: series of the spectral convolution; that of cosines has no jump on a domain with edges.
        local: add the local branch.
        inject: add the input, through a dense layer, before every block.
    """

    width: int
    modes: tuple[int, ...]
    reference: tuple[int, ...]
    layers: int = 4
    periodic: bool = True
    series: Literal["fourier", "cosine"] = "fourier"
    local: bool = True
    inject: bool = True


def parameters(network: nn.Module) -> int:
    """Return the number of real parameters; a complex one counts twice."""
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in network.parameters())


class Operator(FNO):
    """The package's FNO without activations on its residual path.

        u = Q h_L,    h_l = B_l (h_(l-1) + V_l a),    h_0 = P a

    Args:
        shape: size and parts.
        in_channels: channels of the input a.
        out_channels: channels of the output.
    """

    def __init__(self, shape: Shape, in_channels: int, out_channels: int) -> None:
        super().__init__(
            shape.modes,
            in_channels,
            out_channels,
            hidden_channels=shape.width,
            n_layers=shape.layers,
            reference_size=[n if shape.periodic else n + 1 for n in shape.reference],
            periodic=[shape.periodic] * len(shape.modes),
            series=shape.series,
            local="stencil" if shape.local else False,
            input_injection=shape.inject,
            outer_activation=False,
        )

    @property
    def output_layer(self) -> None:  # type: ignore[override]
        """None, so that Muon trains the last layer too."""
        return None


class DarcyOperator(nn.Module):
    """Solution of Darcy's equation from its coefficient, with zero boundary values in the network.

        u(x, y) = sin(pi x) sin(pi y) N(a, sin(pi x), sin(pi y))

    on nodes j / n, of which those at j = n are not stored: the coefficient there is that of the node before.

    Args:
        shape: size and parts of N.
        boundary: multiply by the sines, without which N is the solution.
        spacing: the logarithm of the resolution relative to the reference grid is part of the input, for
            training at several resolutions.
    """

    def __init__(self, shape: Shape, *, boundary: bool = True, spacing: bool = False) -> None:
        super().__init__()
        self.network = Operator(shape, 3 + spacing, 1)
        self.reference = shape.reference[0]
        self.boundary = boundary
        self.spacing = spacing

    def forward(self, a: Tensor) -> Tensor:
        """Map the coefficient, shape (batch, 1, n, n), to the solution of the same shape."""
        n = a.shape[-1]
        a = far_edge(2 * a - 1)
        z = torch.sin(math.pi * torch.arange(n + 1, device=a.device, dtype=a.dtype) / n)
        y, x = torch.meshgrid(z, z, indexing="ij")
        positions = torch.stack([y, x]).expand(len(a), -1, -1, -1)
        channels = [a, positions]
        if self.spacing:
            channels.append(torch.full_like(a, math.log2(n / self.reference)))
        u: Tensor = self.network(torch.cat(channels, dim=1))
        if self.boundary:
            u = u * (y * x)
        return u[..., :-1, :-1]


def far_edge(x: Tensor) -> Tensor:
    """Append the edges at j = n to fields of shape (batch, channel, n, n), with the values before them."""
    return functional.pad(x, (0, 1, 0, 1), mode="replicate")


class LineOperator(nn.Module):
    """States of a flow on a periodic line at several times, from the initial one.

        u(t_i) = u_0 + s N(u_0 / s)_i

    Times are channels of the output, so that there is no boundary in time, and without positions the network
    commutes with translations of the grid.

    Args:
        shape: size and parts of N.
        frames: number of times after the initial one.
        scale: standard deviation s of the states.
        initial: prepend the initial state, and return shape (batch, 1, frames + 1, x).
    """

    def __init__(self, shape: Shape, *, frames: int, scale: float, initial: bool = False) -> None:
        super().__init__()
        self.scale = scale
        self.initial = initial
        self.network = Operator(shape, 1, frames)

    def forward(self, u: Tensor) -> Tensor:
        """Map the initial state, shape (batch, 1, x), to the states, shape (batch, frames, x)."""
        states: Tensor = u + self.scale * self.network(u / self.scale)
        return torch.cat([u, states], dim=1)[:, None] if self.initial else states


class FlowOperator(nn.Module):
    """The next state of a forced flow on a torus, from the last ones.

        w(t + 1) = w(t) + s N(w(t - 9), ..., w(t), f)

    Args:
        shape: size and parts of N.
        history: number of states.
        force: forcing, shape (y, x).
        scale: standard deviation s of a step, relative to that of the states.
    """

    force: Tensor

    def __init__(self, shape: Shape, *, history: int, force: Tensor, scale: float) -> None:
        super().__init__()
        self.network = Operator(shape, history + 1, 1)
        self.scale = scale
        self.register_buffer("force", force, persistent=False)

    def forward(self, w: Tensor) -> Tensor:
        """Map states, shape (batch, history, y, x), to the next, shape (batch, 1, y, x)."""
        force = (self.force / self.force.std()).expand(len(w), 1, -1, -1)
        # Differences in time have the information that a single state has not, but they are small.
        steps = w.diff(dim=1) / self.scale
        change: Tensor = self.network(torch.cat([steps, w[:, -1:], force], dim=1))
        return w[:, -1:] + self.scale * change


class Repeated(nn.Module):
    """A peer's network that gets an initial state at every time, shape (batch, 1, time, x).

    Args:
        network: network in two dimensions.
        times: number of times.
    """

    def __init__(self, network: nn.Module, times: int) -> None:
        super().__init__()
        self.network = network
        self.times = times

    def forward(self, u: Tensor) -> Tensor:
        """Map the initial state, shape (batch, 1, x), to (batch, 1, time, x)."""
        result: Tensor = self.network(u[:, :, None].expand(-1, -1, self.times, -1))
        return result


def peer(
    modes: Sequence[int], in_channels: int, out_channels: int, *, width: int, **options: Any
) -> nn.Module:
    """Return neuraloperator's FNO with its default options: four layers, coordinates as input.

    Args:
        modes: modes along each dimension.
        in_channels: channels of the input.
        out_channels: channels of the output.
        width: channels of the hidden fields.
        **options: other options of the network.
    """
    from neuralop.models import FNO  # type: ignore[import-not-found]  # in the environment .bench alone

    network: nn.Module = FNO(tuple(modes), in_channels, out_channels, width, **options)
    return network
