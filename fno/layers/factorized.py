"""Weights of a spectral convolution: a complex tensor over modes and channels, dense or factorized.

A factorized weight is never assembled: the channels are projected into the space of the factors, mixed there
and projected back (Kossaifi et al. 2023, "Multi-Grid Tensorized Fourier Neural Operator", arXiv:2310.00120).
Complex numbers are stored as real pairs.
"""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Literal

import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from .modes import channel_product, mode_product, pointwise_product

Factorization = Literal["dense", "depthwise", "cp", "tucker"]


def _complex(*shape: int, std: float) -> nn.Parameter:
    """Return random real pairs that are complex numbers of standard deviation ``std``."""
    return nn.Parameter(std / 2**0.5 * torch.randn(*shape))


class DepthwiseWeight(nn.Module):
    """Complex weight for each mode and channel: ``Y[k, c] = W[k, c] X[k, c]``.

    Args:
        modes: number of modes along each dimension.
        channels: channels of the input and output.
    """

    def __init__(self, modes: Sequence[int], channels: int) -> None:
        super().__init__()
        self.weight = _complex(2, *modes, channels, std=1.0)

    def forward(self, z: Tensor) -> Tensor:
        """Multiply coefficients, shape (batch, 2, *modes, channel)."""
        return pointwise_product(z, self.weight.to(z.dtype))


class CPWeight(nn.Module):
    """Sum of rank-one tensors: ``W[k, l, i, o] = sum_r A[k, r] B[l, r] U[i, r] V[o, r]``.

    Args:
        modes: number of modes along each dimension.
        in_channels: channels of the input.
        out_channels: channels of the output.
        rank: a float is the number of parameters as a fraction of the dense weight's; an integer is the
            number of terms. So 1.0 is as large as the dense weight, and 1 a single term.
    """

    def __init__(self, modes: Sequence[int], in_channels: int, out_channels: int, *, rank: float) -> None:
        super().__init__()
        shape = (*modes, in_channels, out_channels)
        terms = rank if isinstance(rank, Integral) else rank * math.prod(shape) / sum(shape)
        r = max(1, round(terms))
        # Entries of the assembled tensor have the standard deviation of the dense weight.
        std = ((2 / (in_channels + out_channels)) ** 0.5 / r**0.5) ** (1 / len(shape))
        self.along = nn.ParameterList(_complex(2, n, r, std=std) for n in modes)
        self.inward = _complex(in_channels, 2, r, std=std)
        self.outward = _complex(r, 2, out_channels, std=std)

    def forward(self, z: Tensor) -> Tensor:
        """Map coefficients, shape (batch, 2, *modes, in), to (batch, 2, *modes, out)."""
        z = channel_product(z, self.inward.to(z.dtype))
        for dim, factor in enumerate(self.along):
            z = pointwise_product(
                z, factor.to(z.dtype).reshape(2, -1, *[1] * (len(self.along) - dim - 1), factor.shape[-1])
            )
        return channel_product(z, self.outward.to(z.dtype))


class TuckerWeight(nn.Module):
    """Tucker decomposition, a small core with a matrix for each index.

        W[k, l, i, o] = sum_abrs G[a, b, r, s] A[k, a] B[l, b] U[i, r] V[s, o]

    Args:
        modes: number of modes along each dimension.
        in_channels: channels of the input.
        out_channels: channels of the output.
        rank: number of parameters as a fraction of the dense weight's, a float.

    Raises:
        ValueError: the rank is an integer, which elsewhere is the size of the core.
    """

    def __init__(self, modes: Sequence[int], in_channels: int, out_channels: int, *, rank: float) -> None:
        super().__init__()
        if isinstance(rank, Integral):
            raise ValueError(
                f"rank of a Tucker weight must be a float, the fraction of the dense weight's parameters, "
                f"got the integer {rank}; write {float(rank)} for that fraction"
            )
        shape = (*modes, in_channels, out_channels)
        ranks = tucker_ranks(shape, rank)
        std = (2 / (in_channels + out_channels)) ** 0.5
        self.core = _complex(*ranks[:-1], 2, ranks[-1], std=std)
        self.along = nn.ParameterList(
            _complex(2, n, r, std=r**-0.5) for n, r in zip(modes, ranks, strict=False)
        )
        self.inward = _complex(in_channels, 2, ranks[-2], std=ranks[-2] ** -0.5)
        self.outward = _complex(ranks[-1], 2, out_channels, std=ranks[-1] ** -0.5)

    def forward(self, z: Tensor) -> Tensor:
        """Map coefficients, shape (batch, 2, *modes, in), to (batch, 2, *modes, out)."""
        core = self.core.to(z.dtype).movedim(-2, 0)
        for dim, factor in enumerate(self.along):
            core = _contract(core, factor.to(z.dtype), dim + 1)
        z = mode_product(channel_product(z, self.inward.to(z.dtype)), core.movedim(0, -2))
        return channel_product(z, self.outward.to(z.dtype))


def _contract(core: Tensor, factor: Tensor, dim: int) -> Tensor:
    """Contract index ``dim`` of a complex core (pairs first) with a complex matrix, shape (2, n, r)."""
    core = core.movedim(dim, -1)
    (a, b), (c, d) = core, factor
    return torch.stack([a @ c.T - b @ d.T, a @ d.T + b @ c.T]).movedim(-1, dim)


def tucker_ranks(shape: Sequence[int], rank: float) -> tuple[int, ...]:
    """Return the shape of the core of a Tucker decomposition.

    It is ``shape`` scaled by one factor such that the decomposition has ``rank`` times the parameters of the
    dense tensor.

    Args:
        shape: shape of the dense tensor.
        rank: number of parameters as a fraction of the dense tensor's.
    """
    total = math.prod(shape)

    def excess(s: float) -> float:
        return float(s ** len(shape) * total + s * sum(n * n for n in shape) - rank * total)

    s = brentq(excess, 0.0, max(1.0, rank))
    return tuple(max(1, min(n, round(n * s))) for n in shape)
