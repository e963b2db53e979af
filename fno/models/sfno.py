"""Spherical Fourier neural operator."""

from typing import Any, cast

from torch import Tensor, nn

from ..grids import SphereGrid
from ..layers.blocks import BlockOptions, ChannelMLP, FNOBlock
from ..layers.spherical import SphericalConv
from .base import GridModel


class SFNO(GridModel):
    """Map fields on the whole sphere to fields on the sphere by layers of spherical convolutions.

    Lift, ``n_layers`` blocks, project, as ``FNO``, with spherical harmonics in the place of Fourier modes
    (Bonev et al. 2023, arXiv:2306.03838), so that the grid does not single out the poles.

    Rotations: with the default complex weights the convolutions commute with rotations about the axis alone,
        and the axis and so
    the poles are special. With ``equivariant=True`` weights are real and the convolutions commute with every
    rotation; so do the models, up to the aliasing of activations, with ``norm`` ``none`` or ``layer`` (the
    mean of ``instance`` counts grid points alike, and most of these lie near the poles).

    Other resolutions: the model runs on every grid of its kind that holds ``lmax`` degrees (a ``ModesError``
    otherwise), and warns outside those it was trained on. Its convolutions act alike there up to the error of
    the quadrature (none on fields of degree below ``lmax``); pointwise activations make higher degrees that a
    coarse grid takes for others, an error that falls as the grid refines.

    Args:
        lmax: number of degrees kept.
        in_channels: channels of the input.
        out_channels: channels of the output.
        hidden_channels: width of the network.
        n_layers: number of blocks.
        lifting_channel_ratio: hidden width of the lifting network as a multiple of ``hidden_channels``.
        projection_channel_ratio: the same for the projection.
        grid: ``equiangular`` (poles included), ``equiangular-no-poles`` or ``legendre-gauss``; latitudes in
            either direction.
        equivariant: real weights, the same at every order of a degree, so that convolutions commute with all
            rotations.
        **options: see ``BlockOptions``: ``norm``, ``dropout``, ``mlp_ratio``, ``skip``.

    Raises:
        ValueError: fewer than one layer, a count below one, or an option that does not exist for the sphere.

    Example:
        >>> import torch
        >>> SFNO(12, in_channels=2, out_channels=1, hidden_channels=16)(torch.zeros(3, 2, 25, 48)).shape
        torch.Size([3, 1, 25, 48])
    """

    def __init__(
        self,
        lmax: int,
        in_channels: int,
        out_channels: int,
        hidden_channels: int = 64,
        n_layers: int = 4,
        lifting_channel_ratio: float = 2,
        projection_channel_ratio: float = 2,
        grid: SphereGrid = "equiangular",
        equivariant: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(in_channels, 2)
        if n_layers < 1:
            raise ValueError(f"n_layers must be at least 1, got {n_layers}")
        if flat := sorted(set(options) & {"activation", "local", "factorization", "rank", "method"}):
            raise ValueError(f"{', '.join(flat)}: not an option of SFNO, whose blocks live on the sphere")
        o, width = BlockOptions(**options), hidden_channels
        self.lifting = ChannelMLP(in_channels, max(1, round(width * lifting_channel_ratio)), width)
        self.blocks = nn.ModuleList(
            FNOBlock(
                width,
                (lmax, lmax),
                o,
                last=i == n_layers - 1,
                conv=SphericalConv(width, width, lmax, grid, equivariant=equivariant),
            )
            for i in range(n_layers)
        )
        self.projection = ChannelMLP(width, max(1, round(width * projection_channel_ratio)), out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``, shape (batch, in_channels, latitude, longitude), to (batch, out_channels, latitude,
        longitude).

        Raises:
            InputError: a tensor that does not fit, see ``GridModel``; ``ModesError`` where the grid cannot
                hold the degrees.
        """
        self.check(x)
        x = self.lifting(x)
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.projection(x))
