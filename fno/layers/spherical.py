"""Spherical convolution: a learned multiplier on the degrees of spherical harmonics."""

from functools import lru_cache

import torch
from torch import Tensor, nn

from ..errors import InputError, ModesError
from ..grids import SphereGrid
from ..precision import full_precision
from ..transforms.degrees import Analysis
from ..transforms.dft import static
from ..transforms.sht import SphereTransform, resolved_degrees
from .modes import mode_product


class SphericalConv(nn.Module):
    """Multiply each degree of a field on the sphere by a complex or real matrix over channels.

        y = S^-1( W[l] S(x)[l, m] ) + b

    for all degrees l < ``lmax`` and orders m: the convolution theorem of Driscoll and Healy 1994 as used by
    Bonev et al. 2023 (arXiv:2306.03838). It commutes with rotations about the axis of the sphere; with real
    weights (``equivariant``) with all rotations. The layer is independent of the grid as long as it resolves
    the degrees. It is fastest on tensors in ``torch.channels_last`` memory format, and returns those.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        lmax: number of degrees, l < lmax.
        grid: kind of grid, see ``fno.grids.sphere_nodes``.
        bias: add a constant to each output channel.
        equivariant: real weights, with which the layer commutes with every rotation; complex ones shift the
            phase of zonal waves and so distinguish the axis.
        analysis: ``quadrature``, or ``least_squares``, with which equiangular grids resolve twice as many
            degrees; see ``fno.transforms.sht``.

    Raises:
        ValueError: a count below one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        lmax: int,
        *,
        grid: SphereGrid = "equiangular",
        bias: bool = True,
        equivariant: bool = False,
        analysis: Analysis = "quadrature",
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels, lmax) < 1:
            raise ValueError(
                f"channels and lmax must be at least 1, got {in_channels}, {out_channels} and {lmax}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.lmax = lmax
        self.grid = grid
        self.analysis = analysis
        scale = (1 / (in_channels + out_channels)) ** 0.5
        self.equivariant = equivariant
        shape = (lmax, in_channels, out_channels) if equivariant else (lmax, in_channels, 2, out_channels)
        self.weight = nn.Parameter(scale * torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def extra_repr(self) -> str:
        """Return channels, degrees and grid."""
        real = ", equivariant=True" if self.equivariant else ""
        analysis = "" if self.analysis == "quadrature" else f", analysis={self.analysis}"
        return f"{self.in_channels}, {self.out_channels}, lmax={self.lmax}, grid={self.grid}{real}{analysis}"

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x``, shape (batch, in_channels, latitude, longitude), in at least float32.

        The result has the dtype to which PyTorch promotes those of ``x`` and the weights.

        Raises:
            ModesError: the grid cannot resolve the degrees.
            InputError: wrong rank or number of channels, or complex numbers.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise InputError(
                f"expected a tensor of shape (batch, {self.in_channels}, latitude, longitude), "
                f"got {tuple(x.shape)}"
            )
        return full_precision(self._convolve, x, self.weight)

    def _convolve(self, x: Tensor) -> Tensor:
        z = self.analyse(x)
        batch, _, l, m, channels = z.shape
        # Orders share the matrix of their degree, so they are part of the batch of its product.
        by_order = z.permute(0, 3, 1, 2, 4).reshape(batch * m, 2, l, channels)
        weight = self.weight.to(z.dtype)
        if self.equivariant:
            weight = torch.stack([weight, torch.zeros_like(weight)], dim=2)
        z = mode_product(by_order, weight).unflatten(0, (batch, m)).permute(0, 2, 3, 1, 4)
        y = self.synthesise(z, x.shape[2:])
        return (y if self.bias is None else y + self.bias.to(y.dtype)).movedim(-1, 1)

    def analyse(self, x: Tensor) -> Tensor:
        """Return the coefficients of ``x``, shape (batch, 2, l, m, channel)."""
        return self._sphere(x.shape[2:]).analyse(x.movedim(1, -1))

    def synthesise(self, z: Tensor, size: torch.Size) -> Tensor:
        """Return the fields with these coefficients, shape (batch, *size, channel)."""
        return self._sphere(size).synthesise(z)

    def _sphere(self, size: torch.Size) -> SphereTransform:
        rows, columns = static(size)
        return sphere_transform(rows, columns, lmax=self.lmax, grid=self.grid, analysis=self.analysis)


@lru_cache(maxsize=32)
def sphere_transform(
    nlat: int, nlon: int, *, lmax: int, grid: SphereGrid, analysis: Analysis = "quadrature"
) -> SphereTransform:
    """Return the transform of a grid, cached.

    Args:
        nlat: number of latitudes.
        nlon: number of longitudes.
        lmax: number of degrees, l < lmax, and of orders.
        grid: kind of grid.
        analysis: see ``SphericalConv``.

    Raises:
        ModesError: the grid cannot resolve these degrees.
    """
    largest = largest_lmax(nlat, nlon, grid, analysis)
    if lmax > largest:
        raise ModesError(
            f"a {grid} grid of {(nlat, nlon)} points resolves {largest} degrees, not {lmax}; "
            "use a finer grid or a smaller lmax"
        )
    return SphereTransform(nlat, nlon, lmax, mmax=lmax, grid=grid, analysis=analysis)


def largest_lmax(nlat: int, nlon: int, grid: SphereGrid, analysis: Analysis = "quadrature") -> int:
    """Return the number of degrees that a grid transforms exactly, with as many orders.

    Args:
        nlat: number of latitudes.
        nlon: number of longitudes.
        grid: kind of grid.
        analysis: see ``SphericalConv``.
    """
    return min(resolved_degrees(nlat, grid, analysis), nlon // 2 + 1)
