"""Adaptive Fourier neural operator, the network of FourCastNet."""

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import ModesError
from ..grids import Grid
from ..layers.linear import Linear
from ..layers.mixer import AFNO2D
from ..layers.norms import LayerNorm
from ..layers.patches import resize_head, resize_kernel, resize_positions
from ..transforms.dft import static
from .base import Clipping, GridModel, clip


class _Mlp(nn.Module):
    """Two dense layers over channels; parameter names are FourCastNet's."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(features, hidden)
        self.fc2 = Linear(hidden, features)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(nn.functional.gelu(self.fc1(x))))


class _Block(nn.Module):
    """Mixer and pointwise network, each after a layer norm and with a skip connection ("double skip")."""

    def __init__(self, mixer: AFNO2D, embed_dim: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = LayerNorm(embed_dim, eps=1e-6)
        self.filter = mixer
        self.norm2 = LayerNorm(embed_dim, eps=1e-6)
        self.mlp = _Mlp(embed_dim, int(embed_dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.filter(self.norm1(x))
        return x + cast(Tensor, self.mlp(self.norm2(x)))


class _PatchEmbed(nn.Module):
    """Map patches to tokens, shape (batch, rows, columns, embed_dim); parameter names are FourCastNet's."""

    def __init__(self, patch_size: tuple[int, int], in_channels: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.proj(x)).permute(0, 2, 3, 1)


def _repeat_last(x: Tensor, dim: int, count: int) -> Tensor:
    """Extend ``x`` along ``dim`` by ``count`` copies of its last entry."""
    shape = list(x.shape)
    shape[dim] = count
    return torch.cat([x, x.narrow(dim, x.shape[dim] - 1, 1).expand(shape)], dim)


class AFNO(GridModel):
    """Vision transformer whose attention is an adaptive Fourier mixer (Pathak et al. 2022, arXiv:2202.11214).

    Parameter names and shapes are those of FourCastNet, so its published weights load unchanged. A grid that
    patches do not divide is padded at its far edges by repeating the last row and column, and cropped again.

    Other resolutions: on another grid the position embedding is interpolated (and the model warns), but a
    patch keeps its number of points, so that it covers another area than in training, and no skill is to be
    expected. ``resized`` returns a model with patch kernels for the new grid, whose tokens are those of the
    old one where the field is smooth.

    Args:
        inp_shape: grid points (H, W) of the position embedding.
        patch_size: points of a patch along (H, W).
        in_channels: channels of the input.
        out_channels: channels of the output.
        embed_dim: width of the network.
        depth: number of blocks.
        num_blocks: diagonal blocks of the mixer.
        mlp_ratio: hidden width of the pointwise networks as a multiple of ``embed_dim``.
        sparsity_threshold: softshrink threshold of the mixer.
        hard_thresholding_fraction: fraction of modes retained.

    Raises:
        ValueError: a patch larger than the grid, or counts that do not divide.

    Example:
        >>> import torch
        >>> model = AFNO((25, 53), (4, 4), in_channels=3, out_channels=2, embed_dim=16, depth=1, num_blocks=4)
        >>> model(torch.zeros(1, 3, 25, 53)).shape
        torch.Size([1, 2, 25, 53])
    """

    layers_option = "depth"

    def __init__(
        self,
        inp_shape: tuple[int, int],
        patch_size: tuple[int, int] = (8, 8),
        *,
        in_channels: int = 1,
        out_channels: int = 1,
        embed_dim: int = 768,
        depth: int = 12,
        num_blocks: int = 8,
        mlp_ratio: float = 4.0,
        sparsity_threshold: float = 0.01,
        hard_thresholding_fraction: float = 1.0,
    ) -> None:
        super().__init__(in_channels, 2)
        h, w = inp_shape
        p, q = patch_size
        self.inp_shape = (h, w)
        if min(p, q) < 1 or p > h or q > w:
            raise ValueError(f"patch_size {(p, q)} does not fit a grid of {(h, w)} points")
        self.patch_size = (p, q)
        self.out_channels = out_channels
        self.tokens = (-(-h // p), -(-w // q))
        self.patch_embed = _PatchEmbed((p, q), in_channels, embed_dim)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, self.tokens[0] * self.tokens[1], embed_dim))
        self.blocks = nn.ModuleList(
            _Block(
                AFNO2D(
                    embed_dim,
                    num_blocks,
                    sparsity_threshold=sparsity_threshold,
                    hard_thresholding_fraction=hard_thresholding_fraction,
                ),
                embed_dim,
                mlp_ratio,
            )
            for _ in range(depth)
        )
        self.head = Linear(embed_dim, out_channels * p * q, bias=False)

    @classmethod
    def fit_options(cls, grid: Grid, options: Mapping[str, Any]) -> tuple[dict[str, Any], list[Clipping]]:
        """Return the arguments for a grid: its shape, and patches no larger than the grid.

        See ``GridModel.fit_options``.
        """
        patch, clipped = clip("patch_size", options.get("patch_size", (8, 8)), grid.shape)
        return dict(options) | {"inp_shape": grid.shape, "patch_size": patch}, clipped

    @property
    def output_layer(self) -> nn.Module:
        """The head, which maps tokens to the points of a patch."""
        return self.head

    def extra_repr(self) -> str:
        """Return channels, grid, patches, width and depth."""
        return (
            f"{self.in_channels} -> {self.out_channels} channels, inp_shape={self.inp_shape}, "
            f"patch_size={self.patch_size}, embed_dim={self.head.in_features}, depth={len(self.blocks)}"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``, shape (batch, in_channels, H, W), to (batch, out_channels, H, W).

        Raises:
            InputError: an invalid tensor, see ``GridModel.check``; ``ModesError`` if the grid is smaller than
                a patch.
        """
        self.check(x)
        h, w = static(x.shape[-2:])
        p, q = self.patch_size
        if h < p or w < q:
            raise ModesError(f"a grid of {(h, w)} points is smaller than a patch of {(p, q)}")
        rows = -(-h // p)
        columns = -(-w // q)
        if rows * p != h or columns * q != w:
            x = _repeat_last(_repeat_last(x, 2, rows * p - h), 3, columns * q - w)
        positions = resize_positions(self.pos_embed, self.tokens, (rows, columns))
        x = self.patch_embed(x) + positions.reshape(1, rows, columns, -1)
        for block in self.blocks:
            x = block(x)
        x = self.head(x).unflatten(-1, (p, q, self.out_channels))
        x = x.permute(0, 5, 1, 3, 2, 4).reshape(x.shape[0], self.out_channels, rows * p, columns * q)
        return x[..., :h, :w]

    def resized(self, inp_shape: tuple[int, int], patch_size: tuple[int, int] | None = None) -> "AFNO":
        """Return a copy of this model for another grid, with position embedding and patch kernels resized.

        Args:
            inp_shape: new grid points (H, W).
            patch_size: new points of a patch; by default chosen so that a patch covers the same area.
        """
        h, w = inp_shape
        p, q = self.patch_size
        patch = patch_size or (
            max(1, round(p * h / self.inp_shape[0])),
            max(1, round(q * w / self.inp_shape[1])),
        )
        other = copy.deepcopy(self)
        other.inp_shape = (h, w)
        other.patch_size = patch
        other.tokens = (-(-h // patch[0]), -(-w // patch[1]))
        other.trained_sizes = set()
        other.pos_embed = nn.Parameter(
            resize_positions(self.pos_embed.detach(), self.tokens, other.tokens).clone()
        )
        old = self.patch_embed.proj
        other.patch_embed = _PatchEmbed(patch, self.in_channels, old.out_channels)
        other.patch_embed.proj.weight = nn.Parameter(resize_kernel(old.weight, patch))
        other.patch_embed.proj.bias = nn.Parameter(cast(Tensor, old.bias).detach().clone())
        other.head = Linear(self.head.in_features, self.out_channels * patch[0] * patch[1], bias=False)
        other.head.weight = nn.Parameter(resize_head(self.head.weight, (p, q), patch))
        return other.to(self.pos_embed.device)
