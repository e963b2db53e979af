"""Spherical Fourier neural operator."""

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from ..grids import Grid, SphereGrid
from ..layers.blocks import BlockOptions, ChannelMLP, FNOBlock
from ..layers.spherical import SphericalConv, largest_lmax
from ..layers.spherical_local import SphericalDifference
from ..transforms.degrees import Analysis
from .base import Clipping, GridModel, clip


class SFNO(GridModel):
    """Spherical Fourier neural operator for fields on the whole sphere (Bonev et al. 2023, arXiv:2306.03838).

    Lifting, ``n_layers`` blocks and projection as in ``FNO``, with spherical harmonics in place of Fourier
    modes, so that the poles are not singular points.

    Rotations: with the default complex weights the convolutions commute with rotations about the axis only.
    With ``equivariant=True`` weights are real and the convolutions commute with every rotation; so do the
    models, up to aliasing by activations, with ``norm`` ``none`` or ``layer`` (the mean of ``instance``
    weights all grid points equally, and most of them lie near the poles).

    Other resolutions: the model runs on every grid of its kind that resolves ``lmax`` degrees (a
    ``ModesError`` otherwise), and warns outside those it was trained on. Its convolutions act in the same way
    there up to the quadrature error (none for fields of degree below ``lmax``); pointwise activations
    generate higher degrees that alias on a coarse grid, an error that falls as the grid is refined.

    Args:
        lmax: number of retained degrees, l < lmax.
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
        analysis: ``quadrature``, or ``least_squares``, with which equiangular grids of n rows resolve n - 1
            degrees instead of n / 2; see ``fno.transforms.sht``.
        local: add a branch of differences towards east and south to every block, see ``SphericalDifference``;
            with it no rotation but those about the axis commutes.
        reference: number of latitudes whose spacing is the distance of these differences; needed with
            ``local``.
        **options: see ``BlockOptions``: ``norm``, ``dropout``, ``mlp_ratio``, ``skip``.

    Raises:
        ValueError: fewer than one layer, a count below one, ``local`` without ``reference`` or with
            ``equivariant``, or an option that does not exist for the sphere.

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
        *,
        hidden_channels: int = 64,
        n_layers: int = 4,
        lifting_channel_ratio: float = 2,
        projection_channel_ratio: float = 2,
        grid: SphereGrid = "equiangular",
        equivariant: bool = False,
        analysis: Analysis = "quadrature",
        local: bool = False,
        reference: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(in_channels, 2)
        if n_layers < 1:
            raise ValueError(f"n_layers must be at least 1, got {n_layers}")
        if flat := sorted(set(options) & {"activation", "factorization", "rank", "method"}):
            raise ValueError(f"{', '.join(flat)}: not an option of SFNO, whose blocks live on the sphere")
        if local and equivariant:
            raise ValueError(
                "differences along parallels and meridians are not equivariant: use local or equivariant"
            )
        if local and reference is None:
            raise ValueError("local needs reference, the number of latitudes of the training grid")
        o = BlockOptions(**options)
        width = hidden_channels
        self.out_channels = out_channels
        self.hidden_channels = width
        self.lmax = lmax
        self.grid = grid
        self.analysis = analysis
        self.reference = reference if local else None
        self.lifting = ChannelMLP(in_channels, max(1, round(width * lifting_channel_ratio)), width)
        self.blocks = nn.ModuleList(
            FNOBlock(
                width,
                (lmax, lmax),
                o,
                last=i == n_layers - 1,
                conv=SphericalConv(width, width, lmax, grid=grid, equivariant=equivariant, analysis=analysis),
                local=SphericalDifference(width, width, reference=reference, grid=grid)
                if reference and local
                else None,
            )
            for i in range(n_layers)
        )
        self.projection = ChannelMLP(width, max(1, round(width * projection_channel_ratio)), out_channels)

    @classmethod
    def fit_options(cls, grid: Grid, options: Mapping[str, Any]) -> tuple[dict[str, Any], list[Clipping]]:
        """Return the arguments for a grid: its quadrature and the degrees that it resolves.

        See ``GridModel.fit_options``.

        Raises:
            ValueError: the grid does not cover the sphere.
        """
        kind = grid.sphere
        if kind is None:
            raise ValueError(
                "an SFNO needs a grid that covers the sphere, evenly spaced or with Gauss latitudes; "
                "use an FNO on this one"
            )
        rows, columns = grid.shape
        largest = largest_lmax(rows, columns, kind, options.get("analysis", "quadrature"))
        (lmax,), clipped = clip("lmax", (options["lmax"],), (largest,))
        fitted: dict[str, Any] = {"grid": kind, "lmax": lmax}
        if options.get("local"):
            fitted["reference"] = rows
        return dict(options) | fitted, clipped

    @property
    def output_layer(self) -> nn.Module:
        """The last linear layer of the projection."""
        return cast(nn.Module, self.projection.fc2)

    def extra_repr(self) -> str:
        """Return channels, degrees, grid, width and depth."""
        return (
            f"{self.in_channels} -> {self.out_channels} channels, lmax={self.lmax}, grid={self.grid}, "
            f"hidden_channels={self.hidden_channels}, n_layers={len(self.blocks)}"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map fields to fields on the same grid, shape (batch, out_channels, latitude, longitude).

        Args:
            x: fields, shape (batch, in_channels, latitude, longitude).

        Raises:
            InputError: an invalid tensor, see ``GridModel.check``; ``ModesError`` if the grid cannot resolve
                the degrees.
        """
        self.check(x)
        x = self.lifting(x)
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.projection(x))
