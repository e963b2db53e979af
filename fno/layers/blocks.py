"""Building blocks of models: pointwise networks and the Fourier block."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..precision import full_precision
from ..transforms.fourier import Method
from .activation import AliasFreeGELU
from .factorized import Factorization
from .linear import Linear
from .local import FiniteDifference
from .norms import LayerNorm
from .padding import Period
from .spectral import SpectralConv
from .stencil import StencilConv

Activation = Callable[[Tensor], Tensor]


class ChannelMLP(nn.Module):
    """Two dense layers over channels with an activation between them, the same at every grid point.

    Args:
        in_channels: channels of the input.
        hidden_channels: channels between the two layers.
        out_channels: channels of the output.
        dropout: probability with which a hidden channel is dropped in training.
        activation: applied between the layers, to channels that come last.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        dropout: float = 0.0,
        activation: Activation = functional.gelu,
    ) -> None:
        super().__init__()
        self.fc1 = Linear(in_channels, hidden_channels)
        self.fc2 = Linear(hidden_channels, out_channels)
        self.dropout = dropout
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x``, shape (batch, in_channels, *grid)."""
        x = self.activation(self.fc1(x.movedim(1, -1)))
        if self.dropout:
            x = functional.dropout(x, self.dropout, self.training)
        return cast(Tensor, self.fc2(x)).movedim(-1, 1)


@dataclass(frozen=True)
class BlockOptions:
    """Options of a Fourier block.

    Attributes:
        mlp_ratio: hidden channels of the pointwise network as a multiple of the block's.
        dropout: dropout inside the pointwise network.
        norm: ``none``; ``instance`` (each channel over the grid); ``layer`` (over the channels of each
            point). Both act in the same way at every resolution.
        skip: branch added to the convolution: ``linear`` (a dense layer over channels), ``identity`` or
            ``none``.
        activation: ``gelu``, or ``alias_free`` for activations that do not depend on the grid, see
            ``AliasFreeGELU``.
        local: add a branch of finite differences to the convolution, see ``FiniteDifference``.
        last_activation: apply the activation before the pointwise network in the last block too, unlike
            neuraloperator.
        outer_activation: apply the activation to the output of each block but the last. Without it a path
            without activations leads from the first block to the last.
        factorization: factorization of the spectral weights, see ``SpectralConv``.
        rank: size of factorized weights as a fraction of the dense ones, a float, or the number of terms of
            ``cp`` weights, an integer; see ``SpectralConv``.
        method: algorithm of the transforms, see ``fno.transforms.fourier``.
    """

    mlp_ratio: float = 0.5
    dropout: float = 0.0
    norm: Literal["none", "instance", "layer"] = "none"
    skip: Literal["linear", "identity", "none"] = "linear"
    activation: Literal["gelu", "alias_free"] = "gelu"
    local: bool = False
    last_activation: bool = True
    outer_activation: bool = True
    factorization: Factorization = "dense"
    rank: float = 0.5
    method: Method = "auto"

    def __post_init__(self) -> None:
        for name, choices in (
            ("norm", ("none", "instance", "layer")),
            ("skip", ("linear", "identity", "none")),
            ("activation", ("gelu", "alias_free")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; use one of {', '.join(choices)}")

    def make_activation(self, n_modes: Sequence[int]) -> Activation:
        """Return the activation of a block with these modes."""
        return AliasFreeGELU(n_modes) if self.activation == "alias_free" else functional.gelu

    def make_conv(self, channels: int, n_modes: Sequence[int]) -> SpectralConv:
        """Return the convolution of a block with these channels and modes."""
        return SpectralConv(
            channels,
            channels,
            n_modes,
            factorization=self.factorization,
            rank=self.rank,
            method=self.method,
        )

    def make_norm(self, channels: int) -> Activation:
        """Return the norm over tensors whose last dimension is the channels."""
        if self.norm == "layer":
            return LayerNorm(channels)
        return InstanceNorm(channels) if self.norm == "instance" else nn.Identity()


class InstanceNorm(nn.Module):
    """Normalise each channel over the grid, for tensors whose last dimension is the channels.

        y = w (x - mean(x)) / sqrt(var(x) + eps) + b

    Args:
        channels: number of channels.
        eps: added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def extra_repr(self) -> str:
        """Return the number of channels."""
        return f"{len(self.weight)}, eps={self.eps}"

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x``, shape (batch, *grid, channel), in at least float32.

        Raises:
            InputError: ``x`` is complex.
        """
        return full_precision(self._normalise, x, self.weight)

    def _normalise(self, x: Tensor) -> Tensor:
        dims = tuple(range(1, x.ndim - 1))
        centred = x - x.mean(dims, keepdim=True)
        variance = centred.square().mean(dims, keepdim=True)
        return centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias


class FNOBlock(nn.Module):
    """Fourier layer with skip connections (Li et al. 2021; Kossaifi et al. 2023).

        h = gelu(norm(K x + W x + D x)),    y = gelu(norm(MLP(h) + g * x))

    with the spectral convolution K, a linear skip W, an optional local branch D (``FiniteDifference``) and a
    gate g for each channel. Norms, skip and outer activation are those of the options.

    Args:
        channels: channels of the input and output.
        n_modes: retained modes along each dimension.
        options: options of the block.
        last: the block is the last of a model, whose result is not activated.
        axes: axes of the local branch, see ``FiniteDifference``; periodic by default.
        reference: points of the reference grid of the local branch.
        conv: the convolution K; a ``SpectralConv`` by default.
        local: the branch D; a ``FiniteDifference`` by default if the options have ``local``. A
            ``StencilConv`` acts on the margins too.
    """

    def __init__(
        self,
        channels: int,
        n_modes: Sequence[int],
        options: BlockOptions | None = None,
        *,
        last: bool = False,
        axes: Sequence[bool | Period] | None = None,
        reference: Sequence[int] | None = None,
        conv: nn.Module | None = None,
        local: nn.Module | None = None,
    ) -> None:
        super().__init__()
        o = options or BlockOptions()
        self.conv = conv or o.make_conv(channels, n_modes)
        self.skip = Linear(channels, channels, bias=False) if o.skip == "linear" else nn.Identity()
        self.activation = o.make_activation(n_modes)
        self.mlp = ChannelMLP(
            channels,
            max(1, round(channels * o.mlp_ratio)),
            channels,
            dropout=o.dropout,
            activation=self.activation,
        )
        self.gate = nn.Parameter(torch.ones(channels))
        self.local = local
        if o.local and local is None:
            self.local = FiniteDifference(
                channels, channels, axes or [True] * len(n_modes), reference=reference
            )
        self.norms = nn.ModuleList([cast(nn.Module, o.make_norm(channels)) for _ in range(2)])
        self.skips = o.skip != "none"
        self.inner = o.last_activation or not last
        self.outer = o.outer_activation and not last

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Return the output of the block, of the shape of ``x``.

        Args:
            x: field, including margins if there are any, shape (batch, channel, *grid).
            size: points of the grid without margins; needed by the local branch on padded axes.
        """
        rows = x.movedim(1, -1)
        h = self.conv(x).movedim(1, -1)
        if self.skips:
            h = h + self.skip(rows)
        if self.local is not None:
            sized = size is not None and not isinstance(self.local, StencilConv)
            h = h + (self.local(x, size) if sized else self.local(x)).movedim(1, -1)
        h = self.norms[0](h)
        h = self.activation(h) if self.inner else h
        y = self.norms[1](torch.addcmul(self.mlp(h.movedim(-1, 1)).movedim(1, -1), self.gate, rows))
        return (self.activation(y) if self.outer else y).movedim(-1, 1)
