"""Convolution and local branch of the blocks of an FNO, and what they cannot be combined with."""

from collections.abc import Sequence
from typing import Literal

from ..grids import Edge
from ..layers.blocks import BlockOptions
from ..layers.padding import Period
from ..layers.stencil import StencilConv

Series = Literal["fourier", "cosine"]
Local = bool | Literal["stencil"]


def check_series(
    series: Series,
    options: BlockOptions,
    *,
    margins: Sequence[float],
    edges: Sequence[Edge],
    periodic: Sequence[bool],
) -> None:
    """Raise ``ValueError`` for an unknown series, and for what a series of cosines cannot be combined with.

    Args:
        series: series of the convolution.
        options: options of the blocks.
        margins: margin along each dimension as a fraction of the domain.
        edges: location of the points of each dimension.
        periodic: whether each dimension is periodic.
    """
    if series not in ("fourier", "cosine"):
        raise ValueError(f"unknown series {series!r}; use 'fourier' or 'cosine'")
    if series == "fourier":
        return
    for wrong, what, remedy in (
        (any(periodic), f"periodic dimensions, periodic={tuple(periodic)}", "use series='fourier'"),
        ("cell" in edges, f"points at cell centres, edges={tuple(edges)}", "use series='fourier'"),
        (any(margins), f"a margin, domain_padding={tuple(margins)}", "set domain_padding to 0"),
        (
            options.factorization != "dense",
            f"factorized weights, factorization={options.factorization!r}",
            "use an FNO with dense weights",
        ),
        (options.activation == "alias_free", "activation='alias_free'", "use 'gelu'"),
        (options.method != "auto", f"method={options.method!r}", "leave it out"),
    ):
        if wrong:
            raise ValueError(f"a series of cosines cannot be combined with {what}; {remedy}")


def stencil(
    channels: int,
    periods: Sequence[Period | None],
    *,
    reference_size: Sequence[int] | None,
    edges: Sequence[Edge],
    periodic: Sequence[bool],
) -> StencilConv:
    """Return the stencil of a block, which acts on margins as on the domain: a padded axis is periodic.

    Args:
        channels: channels of the block.
        periods: padded period of each axis, None without a margin.
        reference_size: points along each axis of the grid of its neighbours.
        edges: location of the points of each axis.
        periodic: whether each axis is periodic.

    Raises:
        ValueError: no reference grid, cell centres on an axis with edges, or more than two dimensions.
    """
    if reference_size is None:
        raise ValueError("a stencil needs reference_size, the points of the grid of its neighbours")
    reference = []
    around = []
    for period, n, edge, whole in zip(periods, reference_size, edges, periodic, strict=True):
        if period is None and not whole and edge == "cell":
            raise ValueError(
                "a stencil cannot be combined with points at cell centres on a dimension that has edges and "
                "no margin; set domain_padding to more than 0"
            )
        around.append(whole or period is not None)
        reference.append(period.points(n) if period else n if whole else n - 1)
    return StencilConv(channels, channels, reference, periodic=around)
