"""Convolution in cosine series: the spectral convolution of fields with even continuation over both edges."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import InputError, ModesError
from ..precision import full_precision
from ..transforms.dft import static
from ..transforms.tables import table, table_builder


class CosineConv(nn.Module):
    """Multiply each retained mode of a cosine series by a real matrix over channels.

        y = C^-1( W[k] C(x)[k] ) + b,    x = sum_k C(x)[k] prod_d cos(pi k_d z_d)

    on the unit box with nodes on both edges, z_d = j / (n_d - 1). The series is the Fourier series of the
    even continuation to twice the length (DCT-I), which is continuous for every continuous field: no margin
    is needed, and the wavenumbers are multiples of half a wave per domain. The Fourier series of a field
    that is not periodic (Li et al. 2021, arXiv:2010.08895) has a jump at the edge instead.

    The layer is the same operator on every grid that resolves its modes. Weights are real, since the product
    of an even field's coefficients with a real even multiplier is even again.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        n_modes: modes 0 ... n - 1 along each dimension.

    Raises:
        ValueError: a channel or mode count is below one.

    Example:
        >>> import torch
        >>> CosineConv(3, 8, (6, 6))(torch.zeros(2, 3, 17, 17)).shape
        torch.Size([2, 8, 17, 17])
    """

    def __init__(self, in_channels: int, out_channels: int, n_modes: Sequence[int]) -> None:
        super().__init__()
        if min(in_channels, out_channels, *n_modes) < 1:
            raise ValueError(
                f"channels and modes must be at least 1, got {in_channels} in, {out_channels} out, "
                f"n_modes={tuple(n_modes)}"
            )
        self.n_modes = tuple(n_modes)
        scale = (1 / (in_channels + out_channels)) ** 0.5
        self.weight = nn.Parameter(scale * torch.randn(math.prod(n_modes), in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def extra_repr(self) -> str:
        """Return channels and modes."""
        return f"{self.weight.shape[1]}, {self.weight.shape[2]}, n_modes={self.n_modes}"

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x``, shape (batch, in_channels, *grid), in at least float32.

        Raises:
            InputError: wrong rank or number of channels, or complex numbers.
            ModesError: the grid cannot resolve the modes.
        """
        if x.ndim != len(self.n_modes) + 2 or x.shape[1] != self.weight.shape[1]:
            shape = f"(batch, {self.weight.shape[1]}, {', '.join(['n'] * len(self.n_modes))})"
            raise InputError(f"expected a tensor of shape {shape}, got {tuple(x.shape)}")
        if any(n < modes for n, modes in zip(x.shape[2:], self.n_modes, strict=True)):
            raise ModesError(
                f"a grid of {tuple(x.shape[2:])} points cannot resolve {self.n_modes} cosine modes; "
                "use a finer grid or fewer modes"
            )
        return full_precision(self._convolve, x, self.weight)

    def _convolve(self, x: Tensor) -> Tensor:
        batch = x.shape[0]  # len(x) would fix it in an exported graph
        size = static(x.shape[2:])
        rows = x.movedim(1, -1)
        for d, (n, modes) in enumerate(zip(size, self.n_modes, strict=True)):
            rows = _along(table("cosine_analysis", [n, modes], x), rows, d + 1)
        z = rows.reshape(batch, len(self.weight), x.shape[1]).transpose(0, 1)
        z = torch.bmm(z, self.weight.to(z.dtype)).transpose(0, 1)
        rows = z.reshape(batch, *self.n_modes, self.weight.shape[2])
        for d, (n, modes) in reversed(list(enumerate(zip(size, self.n_modes, strict=True)))):
            rows = _along(table("cosine_synthesis", [n, modes], x), rows, d + 1)
        return (rows + self.bias.to(rows.dtype)).movedim(-1, 1)


def _along(matrix: Tensor, rows: Tensor, dim: int) -> Tensor:
    """Return the product of a matrix with ``rows``, shape (batch, *grid, channel), along a dimension."""
    before = rows.shape[:dim]
    after = rows.shape[dim + 1 :]
    product = matrix.to(rows.dtype) @ rows.flatten(dim + 1)
    return product.reshape(*before, len(matrix), *after)


@table_builder
def cosine_synthesis(n: int, modes: int) -> NDArray[np.float64]:
    """Return ``cos(pi k j / (n - 1))``, shape (n, modes).

    Args:
        n: number of nodes, those on both edges included.
        modes: number of modes.
    """
    j = np.arange(n)[:, None]
    return np.cos(np.pi * j * np.arange(modes) / max(n - 1, 1))


@table_builder
def cosine_analysis(n: int, modes: int) -> NDArray[np.float64]:
    """Return the matrix from nodes to coefficients, shape (modes, n): the trapezoidal rule.

    Arguments are those of ``cosine_synthesis``, whose left inverse it is.
    """
    if n == 1:
        return np.ones((1, 1))
    weights = np.full(n, 1.0)
    weights[[0, -1]] = 0.5
    factors = np.full((modes, 1), 2.0)
    factors[0] = 1.0
    if modes == n:
        factors[-1] = 1.0
    return np.asarray(factors * cosine_synthesis(n, modes).T * weights / (n - 1))
