"""Training on several resolutions, so that a model keeps its promise between them."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ..transforms.fourier import resample

Pair = tuple[Tensor, Tensor]


class MixedResolution:
    """Pairs of input and target, each batch on one of several grids, by Fourier interpolation of periodic
    fields.

    The grid of batch n is drawn from (seed, n), so that a resumed run sees the grids of a straight one.

    Args:
        batches: pairs of tensors, shape (batch, channel, *grid).
        sizes: grids to draw from; those coarser than the data low-pass them.
        seed: of the draws.
        start: number of the first batch.

    Raises:
        ValueError: no sizes.

    Example:
        >>> import torch
        >>> pairs = [(torch.randn(2, 1, 32, 32), torch.randn(2, 1, 32, 32))] * 4
        >>> {tuple(x.shape[2:]) for x, _ in MixedResolution(pairs, [(16, 16), (24, 24)])} <= {(16, 16), (24, 24)}
        True
    """

    def __init__(
        self, batches: Iterable[Pair], sizes: Sequence[Sequence[int]], seed: int = 0, start: int = 0
    ) -> None:
        if not sizes:
            raise ValueError("mixed resolution needs at least one size")
        self.batches, self.sizes, self.seed, self.start = batches, [tuple(s) for s in sizes], seed, start

    def __iter__(self) -> Iterator[Pair]:
        """Yield the pairs on their grids."""
        for n, (x, y) in enumerate(self.batches, self.start):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + n)
            size = self.sizes[int(torch.randint(len(self.sizes), (1,), generator=generator))]
            a, b = (resample(t.movedim(1, -1), size).movedim(-1, 1) for t in (x, y))
            yield a, b
