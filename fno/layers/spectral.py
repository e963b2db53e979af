"""Spectral convolution: a learned multiplier on the retained Fourier modes of a field."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from ..precision import full_precision
from ..transforms.fourier import Method, from_modes, kept_modes, to_modes
from .factorized import CPWeight, DepthwiseWeight, Factorization, TuckerWeight
from .modes import mode_product


class SpectralConv(nn.Module):
    """Multiply each retained Fourier mode by a complex matrix over channels.

        y = F^-1( W[k] F(x)[k] ) + b

    after Li et al. 2021, "Fourier Neural Operator for Parametric Partial Differential Equations", in as many
    dimensions as ``n_modes`` has entries. Weights are stored as real pairs, mode by mode, so that optimisers
    and exporters see no complex parameter and the channel product is one batched real product. The layer is
    independent of the grid as long as it resolves the modes; it is fastest on tensors in
    ``torch.channels_last`` memory format, and returns those.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        n_modes: modes along each dimension as neuraloperator counts them: wavenumbers -(n // 2) ...
            (n - 1) // 2, and 0 ... n // 2 along the last.
        bias: add a constant to each output channel.
        factorization: ``dense``, ``depthwise`` (no mixing of channels), ``cp`` or ``tucker``.
        rank: number of parameters of a ``cp`` or ``tucker`` weight as a fraction of the dense one's, a float.
            An integer is the number of terms of a ``cp`` weight: 1.0 is as large as the dense weight, 1 a
            single term. The other factorizations ignore it.
        method: algorithm of the transforms, see ``fno.transforms.fourier``.

    Raises:
        ValueError: a channel or mode count is below one, a rank is not positive, that of a ``tucker`` weight
            is an integer, or the factorization is unknown.

    Example:
        >>> import torch
        >>> SpectralConv(3, 8, (6, 6))(torch.zeros(2, 3, 25, 53)).shape
        torch.Size([2, 8, 25, 53])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_modes: Sequence[int],
        *,
        bias: bool = True,
        factorization: Factorization = "dense",
        rank: float = 0.5,
        method: Method = "auto",
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels) < 1:
            raise ValueError(f"channels must be at least 1, got {in_channels} in and {out_channels} out")
        if rank <= 0:
            raise ValueError(f"rank must be positive, got {rank}")
        if factorization == "depthwise" and in_channels != out_channels:
            raise ValueError(
                f"a depthwise weight needs as many output as input channels, got {in_channels} in and "
                f"{out_channels} out"
            )
        self.n_modes = tuple(n_modes)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.factorization = factorization
        self.method = method
        modes = [len(m) for m in kept_modes(self.n_modes, self.n_modes)]
        if factorization == "dense":
            scale = (1 / (in_channels + out_channels)) ** 0.5
            self.weight: nn.Parameter | nn.Module = nn.Parameter(
                scale * torch.randn(*modes, in_channels, 2, out_channels)
            )
        elif factorization == "depthwise":
            self.weight = DepthwiseWeight(modes, in_channels)
        elif factorization == "cp":
            self.weight = CPWeight(modes, in_channels, out_channels, rank=rank)
        elif factorization == "tucker":
            self.weight = TuckerWeight(modes, in_channels, out_channels, rank=rank)
        else:
            raise ValueError(
                f"unknown factorization {factorization!r}; use 'dense', 'depthwise', 'cp' or 'tucker'"
            )
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def extra_repr(self) -> str:
        """Return channels, modes and factorization."""
        kind = "" if self.factorization == "dense" else f", factorization={self.factorization!r}"
        return f"{self.in_channels}, {self.out_channels}, n_modes={self.n_modes}{kind}"

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x``, shape (batch, in_channels, *grid), in at least float32, also under autocast.

        The result has the dtype to which PyTorch promotes those of ``x`` and the weights.

        Raises:
            ModesError: the grid cannot resolve the modes.
            InputError: wrong rank or number of channels, or complex numbers.
        """
        if x.ndim != len(self.n_modes) + 2 or x.shape[1] != self.in_channels:
            shape = f"(batch, {self.in_channels}, {', '.join(['n'] * len(self.n_modes))})"
            raise InputError(f"expected a tensor of shape {shape}, got {tuple(x.shape)}")
        return full_precision(self._convolve, x, next(self.parameters(), None))

    def _convolve(self, x: Tensor) -> Tensor:
        z = self.multiply(to_modes(x.movedim(1, -1), self.n_modes, self.method))
        if self.bias is not None:
            z = z + self._constant(self.bias.to(z.dtype))
        return from_modes(z, self.n_modes, x.shape[2:], method=self.method).movedim(-1, 1)

    def multiply(self, z: Tensor) -> Tensor:
        """Multiply coefficients, shape (batch, 2, *modes, in), by the weight."""
        if isinstance(self.weight, Tensor):
            return mode_product(z, self.weight.to(z.dtype))
        return cast(Tensor, self.weight(z))

    def _constant(self, values: Tensor) -> Tensor:
        """Return the coefficients of constant fields, shape (2, *modes, channel): all in wavenumber zero."""
        around = [
            (0, 0),
            (0, self.n_modes[-1] // 2),
            *((n // 2, n - n // 2 - 1) for n in reversed(self.n_modes[:-1])),
            (0, 1),
        ]
        return functional.pad(
            values.reshape(*[1] * (len(self.n_modes) + 1), -1), [width for pair in around for width in pair]
        )
