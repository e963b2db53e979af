"""Fourier neural operators."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..layers.blocks import BlockOptions, ChannelMLP, FNOBlock
from ..layers.factorized import Factorization
from ..layers.padding import PaddingMode, pad_domain
from .base import GridModel


class FNO(GridModel):
    """Map fields to fields on any regular grid by layers of spectral convolutions, in one, two or three dimensions.

    Lift, ``n_layers`` Fourier blocks, project; after Li et al. 2021 (arXiv:2010.08895) in the argument names of
    neuraloperator.

    Other resolutions: the model runs on every grid that holds ``n_modes`` (a ``ModesError`` otherwise) and warns outside
    the grids it was trained on. Its layers act alike there, except that pointwise activations make wave numbers that a
    coarse grid takes for others: an error that falls as the grid refines, and that is gone with
    ``activation="alias_free"``. That is no promise of skill at a resolution never seen: train on several
    (``fno.training.MixedResolution``), and compare with interpolating the native prediction.

    Args:
        n_modes: kept modes along each dimension, counted as in neuraloperator.
        in_channels: channels of the input.
        out_channels: channels of the output.
        hidden_channels: width of the network.
        n_layers: number of Fourier blocks.
        lifting_channel_ratio: hidden width of the lifting network as a multiple of ``hidden_channels``.
        projection_channel_ratio: the same for the projection.
        domain_padding: margin along each dimension as a share of the domain; zero where it wraps.
        padding_mode: what stands in the margin, see ``fno.layers.padding``.
        positions: append the coordinates j / n of each dimension to the input, as neuraloperator does.
        **options: see ``BlockOptions``: ``factorization``, ``rank``, ``norm``, ``activation``, ``local``, ``dropout``, ...

    Raises:
        ValueError: fewer than one layer, a count below one, or an option that does not exist.

    Example:
        >>> import torch
        >>> FNO(n_modes=(8, 8), in_channels=2, out_channels=1, hidden_channels=16)(torch.zeros(3, 2, 25, 53)).shape
        torch.Size([3, 1, 25, 53])
    """

    def __init__(
        self,
        n_modes: Sequence[int],
        in_channels: int,
        out_channels: int,
        hidden_channels: int = 64,
        n_layers: int = 4,
        lifting_channel_ratio: float = 2,
        projection_channel_ratio: float = 2,
        domain_padding: float | Sequence[float] = 0.0,
        padding_mode: PaddingMode = "continued",
        positions: bool = False,
        **options: Any,
    ) -> None:
        n_modes = tuple(n_modes)
        d, width = len(n_modes), hidden_channels
        super().__init__(in_channels, d)
        if n_layers < 1:
            raise ValueError(f"n_layers must be at least 1, got {n_layers}")
        margins = (float(domain_padding),) * d if isinstance(domain_padding, int | float) else tuple(domain_padding)
        if len(margins) != d:
            raise ValueError(f"domain_padding has {len(margins)} entries, n_modes has {d}")
        self.domain_padding, self.padding_mode, self.positions = margins, padding_mode, positions
        o = BlockOptions(**options)
        activation = o.make_activation(n_modes)
        lifted = in_channels + d * positions
        self.lifting = ChannelMLP(lifted, max(1, round(width * lifting_channel_ratio)), width, activation=activation)
        periodic = [m == 0 for m in margins]
        self.blocks = nn.ModuleList(FNOBlock(width, n_modes, o, last=i == n_layers - 1, periodic=periodic) for i in range(n_layers))
        self.projection = ChannelMLP(width, max(1, round(width * projection_channel_ratio)), out_channels, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``, shape (batch, in_channels, *grid), to (batch, out_channels, *grid).

        Raises:
            InputError: a tensor that does not fit, see ``GridModel``; ``ModesError`` where the grid cannot hold the modes.
        """
        self.check(x)
        size = x.shape[2:]
        if self.positions:
            x = torch.cat([x, positions(x)], dim=1)
        rows = self.lifting(x).movedim(1, -1)  # channels last in memory, and so they stay where the margin is joined on
        for d, fraction in enumerate(self.domain_padding):
            rows = pad_domain(rows, d + 1, fraction, self.padding_mode)
        x = rows.movedim(-1, 1)
        for block in self.blocks:
            x = block(x)
        for d, n in enumerate(size):
            x = x.narrow(d + 2, 0, n) if self.domain_padding[d] else x
        return cast(Tensor, self.projection(x))


def positions(x: Tensor) -> Tensor:
    """Return the coordinates j / n of each grid dimension, shape (batch, d, *grid), for ``x`` of shape (batch, channel, *grid)."""
    axes = [torch.arange(n, device=x.device, dtype=x.dtype) / n for n in x.shape[2:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(x.shape[0], -1, *x.shape[2:])


class TFNO(FNO):
    """A Fourier neural operator with factorized spectral weights (Kossaifi et al. 2023, arXiv:2310.00120).

    The same arguments, and the same behaviour at other resolutions, as ``FNO``.

    Args:
        *args: see ``FNO``.
        factorization: ``tucker``, ``cp`` or ``depthwise``.
        rank: size of the spectral weights as a share of the dense ones.
        **kwargs: see ``FNO``.
    """

    def __init__(self, *args: Any, factorization: Factorization = "tucker", rank: float = 0.1, **kwargs: Any) -> None:
        super().__init__(*args, factorization=factorization, rank=rank, **kwargs)
