"""Fourier neural operators."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..grids import Edge, Grid
from ..layers.blocks import BlockOptions, ChannelMLP, FNOBlock
from ..layers.cosine import CosineConv
from ..layers.factorized import Factorization
from ..layers.linear import Linear
from ..layers.padding import PaddingMode, Period, padded_period
from ..transforms.fourier import kept_modes
from .base import Clipping, GridModel, clip
from .fno_branches import Local, Series, check_series, stencil


class FNO(GridModel):
    """Fourier neural operator on regular grids in one, two or three dimensions.

        y = Q B_L ... B_1 P x

    with the lifting P, the projection Q and ``n_layers`` Fourier blocks B (see ``FNOBlock``), after Li et al.
    2021 (arXiv:2010.08895). Argument names are those of neuraloperator.

    Other resolutions: the model runs on every grid that resolves ``n_modes`` (a ``ModesError`` otherwise) and
    warns outside the grids it was trained on. Its layers act in the same way there, except that pointwise
    activations generate wavenumbers that alias on a coarse grid: an error that falls as the grid is refined,
    and that vanishes with ``activation="alias_free"``. This does not imply skill at a resolution that the
    model was not trained on: train on several resolutions, and compare with interpolating the native
    prediction.

    Convergence: on a smooth field the output converges under refinement at second order in the spacing along
    dimensions padded with ``continued`` and nodes on the edges, since the continued field is continuous with
    a jump in its first derivative. It is first order for points at cell centres, for the other padding modes,
    whose field has a jump, and along periodic dimensions with ``positions``, whose coordinate has one.

    Args:
        n_modes: retained modes along each dimension, counted as in neuraloperator (see ``SpectralConv``).
        in_channels: channels of the input.
        out_channels: channels of the output.
        hidden_channels: width of the network.
        n_layers: number of Fourier blocks.
        lifting_channel_ratio: hidden width of the lifting network as a multiple of ``hidden_channels``.
        projection_channel_ratio: the same for the projection.
        domain_padding: margin along each dimension as a fraction of the domain; zero for periodic ones.
        padding_mode: values in the margin, see ``fno.layers.padding``.
        positions: append the coordinates of each dimension to the input: j / n as neuraloperator does; along
            padded dimensions the same physical positions at every resolution, equal to j / n on the reference
            grid.
        reference_size: points along each dimension of the grid that fixes physical lengths, usually that of
            training: there the margin is a whole number of spacings, rounded up for the FFT. Without it the
            padded period is exactly ``1 + domain_padding`` domains.
        edges: location of the points on padded dimensions, one for all or one each: ``node`` (the first and
            last lie on the edges of the domain) or ``cell`` (cell centres).
        periodic: whether each dimension is periodic, which a series of cosines and a stencil depend on. By
            default all are in a Fourier series, with their margins if they have any, and none in a series of
            cosines.
        series: series of the spectral convolutions: ``fourier``; or ``cosine`` for domains with nodes on all
            edges, whose series has no jump there and needs no margin, see ``CosineConv``.
        local: add a local branch to each convolution: True for finite differences, see ``FiniteDifference``;
            ``stencil`` for the values at the neighbours on the grid ``reference_size``, see ``StencilConv``,
            in one or two dimensions. A stencil runs on that grid and on those that contain it.
        input_injection: add the input a, through a dense layer V, before every block: h <- B (h + V a).
        **options: see ``BlockOptions``: ``factorization``, ``rank``, ``norm``, ``activation``, ``dropout``,
            ``outer_activation``, ...

    Raises:
        ValueError: fewer than one layer, a count below one, an option that does not exist, or a series of
            cosines or a stencil where there is none.

    Example:
        >>> import torch
        >>> model = FNO(n_modes=(8, 8), in_channels=2, out_channels=1, hidden_channels=16)
        >>> print(model)
        FNO(2 -> 1 channels, n_modes=(8, 8), hidden_channels=16, n_layers=4, 85,393 parameters)
        >>> model(torch.zeros(3, 2, 25, 53)).shape
        torch.Size([3, 1, 25, 53])
    """

    def __init__(
        self,
        n_modes: Sequence[int],
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 64,
        n_layers: int = 4,
        lifting_channel_ratio: float = 2,
        projection_channel_ratio: float = 2,
        domain_padding: float | Sequence[float] = 0.0,
        padding_mode: PaddingMode = "continued",
        positions: bool = False,
        reference_size: Sequence[int] | None = None,
        edges: Edge | Sequence[Edge] = "node",
        periodic: Sequence[bool] | None = None,
        series: Series = "fourier",
        local: Local = False,
        input_injection: bool = False,
        **options: Any,
    ) -> None:
        n_modes = tuple(n_modes)
        d = len(n_modes)
        width = hidden_channels
        super().__init__(in_channels, d)
        if n_layers < 1:
            raise ValueError(f"n_layers must be at least 1, got {n_layers}")
        margins = _per_dimension(domain_padding, d)
        if len(margins) != d:
            raise ValueError(f"domain_padding has {len(margins)} entries, n_modes has {d}")
        sizes: tuple[int | None, ...] = (None,) * d if reference_size is None else tuple(reference_size)
        kinds: tuple[Edge, ...] = (edges,) * d if isinstance(edges, str) else tuple(edges)
        around = (series == "fourier",) * d if periodic is None else tuple(periodic)
        for name, entries in (("reference_size", sizes), ("edges", kinds), ("periodic", around)):
            if len(entries) != d:
                raise ValueError(f"{name} has {len(entries)} entries, n_modes has {d}")
        if unknown := set(kinds) - {"node", "cell"}:
            raise ValueError(f"unknown edge {min(unknown)!r}; use 'node' or 'cell'")
        self.n_modes = n_modes
        self.hidden_channels = width
        self.out_channels = out_channels
        self.domain_padding = margins
        self.padding_mode = padding_mode
        self.positions = positions
        self.reference_size = None if reference_size is None else tuple(reference_size)
        self.edges = kinds
        self.series = series
        self.local = local
        axes = list(zip(margins, sizes, kinds, strict=True))
        self.periods = tuple(
            padded_period(m, size, edge, mode=padding_mode) if m > 0 else None for m, size, edge in axes
        )
        if isinstance(local, str) and local != "stencil":
            raise ValueError(f"unknown local {local!r}; use True, False or 'stencil'")
        o = BlockOptions(local=bool(local) and local != "stencil", **options)
        check_series(series, o, margins=margins, edges=kinds, periodic=around)
        if periodic is not None and any(p and m > 0 for p, m in zip(around, margins, strict=True)):
            raise ValueError(
                f"a periodic dimension has no margin: periodic={around}, domain_padding={margins}"
            )
        # Alias-free activations act on the unpadded field, whose period is that of the reference grid.
        self.frames: tuple[Period | None, ...] = (None,) * d
        if o.activation == "alias_free":
            self.frames = tuple(
                p and (p if size is None else padded_period(0.0, size, p.edge, mode=p.mode))
                for p, size in zip(self.periods, sizes, strict=True)
            )
        activation = o.make_activation(n_modes)
        lifted = in_channels + d * positions
        self.lifting = ChannelMLP(
            lifted, max(1, round(width * lifting_channel_ratio)), width, activation=activation
        )
        self.injections = nn.ModuleList(
            Linear(lifted, width, bias=False) for _ in range(n_layers * input_injection)
        )
        spacings = reference_size and [
            n if p is None else p.points(n) for p, n in zip(self.periods, reference_size, strict=True)
        ]
        self.blocks = nn.ModuleList(
            FNOBlock(
                width,
                n_modes,
                o,
                last=i == n_layers - 1,
                axes=[p or True for p in self.periods],
                reference=spacings,
                conv=CosineConv(width, width, n_modes) if series == "cosine" else o.make_conv(width, n_modes),
                local=stencil(
                    width, self.periods, reference_size=reference_size, edges=kinds, periodic=around
                )
                if local == "stencil"
                else None,
            )
            for i in range(n_layers)
        )
        self.projection = ChannelMLP(
            width, max(1, round(width * projection_channel_ratio)), out_channels, activation=activation
        )

    @classmethod
    def fit_options(cls, grid: Grid, options: Mapping[str, Any]) -> tuple[dict[str, Any], list[Clipping]]:
        """Return the arguments for a grid: modes that it resolves, and margins where it is not periodic.

        ``domain_padding`` is one margin for all dimensions, or one for each; those of periodic dimensions
        become zero. See ``GridModel.fit_options``.

        Raises:
            ValueError: the number of margins is not that of the grid's dimensions.
        """
        d = len(grid.shape)
        margins = _per_dimension(options.get("domain_padding", 0.0), d)
        if len(margins) != d:
            raise ValueError(f"domain_padding has {len(margins)} entries, the grid has {d} dimensions")
        largest = grid.shape
        if options.get("activation") == "alias_free":  # whose band is 2 n - 1 wavenumbers
            largest = tuple((n + 1) // 2 for n in grid.shape)
        modes, clipped = clip("n_modes", options["n_modes"], largest)
        fitted = {
            "n_modes": modes,
            "domain_padding": tuple(
                0.0 if periodic else margin for margin, periodic in zip(margins, grid.periodic, strict=True)
            ),
            "reference_size": grid.shape,
            "edges": grid.edges,
            "periodic": grid.periodic,
        }
        return dict(options) | fitted, clipped

    @property
    def output_layer(self) -> nn.Module:
        """The last linear layer of the projection."""
        return cast(nn.Module, self.projection.fc2)

    @property
    def exports_any_grid(self) -> bool:
        """Whether an exported graph is the same for every grid: no margin, series of cosines or stencil."""
        return self.series == "fourier" and self.local != "stencil" and not any(self.domain_padding)

    def extra_repr(self) -> str:
        """Return channels, modes, width and depth."""
        padding = f", domain_padding={self.domain_padding}" if any(self.domain_padding) else ""
        series = "" if self.series == "fourier" else f", series={self.series!r}"
        local = f", local={self.local!r}" if self.local == "stencil" else ""
        injection = ", input_injection=True" if self.injections else ""
        return (
            f"{self.in_channels} -> {self.out_channels} channels, n_modes={self.n_modes}, "
            f"hidden_channels={self.hidden_channels}, n_layers={len(self.blocks)}{padding}"
            f"{series}{local}{injection}"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``, shape (batch, in_channels, *grid), to (batch, out_channels, *grid).

        Raises:
            InputError: an invalid tensor, see ``GridModel.check``; ``ModesError`` if the grid cannot resolve
                the modes.
        """
        self.check(x)
        size = self._size(x)
        if any(self.periods):
            kept_modes(
                self.n_modes,
                [n if p is None else p.spacings(int(n)) for p, n in zip(self.periods, size, strict=True)],
            )
        if self.positions:
            x = torch.cat([x, self._positions(x)], dim=1)
        a = self._extend(x, self.periods).movedim(1, -1) if self.injections else None
        x = self._restrict(self.lifting(self._extend(x, self.frames)), self.frames, size)
        x = self._extend(x, self.periods)
        for i, block in enumerate(self.blocks):
            if a is not None:
                x = x + self.injections[i](a).movedim(-1, 1)
            x = block(x, size)
        x = self._restrict(x, self.periods, size)
        return self._restrict(cast(Tensor, self.projection(self._extend(x, self.frames))), self.frames, size)

    def _size(self, x: Tensor) -> tuple[int, ...]:
        """Return the points of the whole grid along each dimension."""
        return x.shape[2:]

    def _extend(self, x: Tensor, periods: Sequence[Period | None]) -> Tensor:
        """Continue ``x``, shape (batch, channel, *grid), over the margins."""
        return _extend(x, periods)

    def _restrict(self, x: Tensor, periods: Sequence[Period | None], size: Sequence[int]) -> Tensor:
        """Return ``x`` without the margins, on a grid of ``size`` points."""
        return _restrict(x, periods, size)

    def _positions(self, x: Tensor) -> Tensor:
        """Return the coordinates of each dimension as channels, shape (batch, dimension, *grid)."""
        axes = []
        for d, (n, period) in enumerate(zip(x.shape[2:], self.periods, strict=True)):
            j = torch.arange(n, device=x.device, dtype=x.dtype)
            reference = None if self.reference_size is None else self.reference_size[d]
            if period is None:
                axes.append(j / n)
            elif period.edge == "cell":
                axes.append((j + (0.5 if reference is None else 0.5 - n / (2 * reference))) / n)
            else:
                axes.append(j / (n - 1 if reference is None else (n - 1) * reference / (reference - 1)))
        return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(x.shape[0], -1, *x.shape[2:])


def _per_dimension(margin: float | Sequence[float], d: int) -> tuple[float, ...]:
    """Return the margin of each of d dimensions, given one for all or one each."""
    return (float(margin),) * d if isinstance(margin, int | float) else tuple(margin)


def _extend(x: Tensor, periods: Sequence[Period | None]) -> Tensor:
    """Continue ``x``, shape (batch, channel, *grid), over the margins."""
    if not any(periods):
        return x
    rows = x.movedim(1, -1)  # channels stay last in memory
    for d, period in enumerate(periods):
        rows = rows if period is None else period.extend(rows, d + 1)
    return rows.movedim(-1, 1)


def _restrict(x: Tensor, periods: Sequence[Period | None], size: Sequence[int]) -> Tensor:
    """Return ``x``, shape (batch, channel, *grid), without the margins, on a grid of ``size`` points."""
    rows = x.movedim(1, -1) if any(periods) else x
    for d, (period, n) in enumerate(zip(periods, size, strict=True)):
        rows = rows if period is None else period.restrict(rows, d + 1, int(n))
    return rows.movedim(-1, 1) if any(periods) else x


class TFNO(FNO):
    """Fourier neural operator with factorized spectral weights (Kossaifi et al. 2023, arXiv:2310.00120).

    Arguments and behaviour at other resolutions are those of ``FNO``.

    Args:
        *args: see ``FNO``.
        factorization: ``tucker``, ``cp`` or ``depthwise``.
        rank: size of the spectral weights as a fraction of the dense ones, a float, or the number of terms of
            ``cp`` weights, an integer; see ``SpectralConv``.
        **kwargs: see ``FNO``.
    """

    def __init__(
        self, *args: Any, factorization: Factorization = "tucker", rank: float = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(*args, factorization=factorization, rank=rank, **kwargs)
