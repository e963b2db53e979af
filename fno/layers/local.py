"""A local branch: finite differences with learned channels, which converge to derivatives as the grid refines."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..precision import full_precision


class FiniteDifference(nn.Module):
    """Learned combination of first and second derivatives along each axis.

        y = sum_d A_d (x[+1] - x[-1]) / (2 h_d) + B_d (x[+1] - 2 x + x[-1]) / h_d^2

    with ``h_d = 2 pi / n_d``, the domain taken as 2 pi long, so that the kernel is scaled with the grid and the error is
    of second order in h (after Liu-Schiaffini et al. 2024, arXiv:2402.16845). Axes that wrap use both neighbours
    everywhere; the others repeat their last value beyond the edge.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        periodic: which axes wrap.
    """

    def __init__(self, in_channels: int, out_channels: int, periodic: Sequence[bool]) -> None:
        super().__init__()
        self.periodic = tuple(periodic)
        self.weight = nn.Parameter(
            0.1 / (2 * len(self.periodic) * in_channels) ** 0.5 * torch.randn(2 * len(self.periodic), in_channels, out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x``, shape (batch, in_channels, *grid), in at least float32.

        Raises:
            InputError: ``x`` is complex.
        """
        return full_precision(self._differences, x, self.weight)

    def _differences(self, x: Tensor) -> Tensor:
        x = x.movedim(1, -1)
        terms = []
        for d, wraps in enumerate(self.periodic):
            n = x.shape[d + 1]
            after, before = _shifted(x, d + 1, 1, wraps), _shifted(x, d + 1, -1, wraps)
            h = 2 * torch.pi / n
            terms += [(after - before) / (2 * h), (after - 2 * x + before) / h**2]
        return sum((t @ w for t, w in zip(terms, self.weight.to(x.dtype), strict=True)), torch.zeros((), device=x.device)).movedim(-1, 1)


def _shifted(x: Tensor, dim: int, by: int, wraps: bool) -> Tensor:
    n = x.shape[dim]
    if by > 0:
        return torch.cat([x.narrow(dim, 1, n - 1), x.narrow(dim, 0 if wraps else n - 1, 1)], dim)
    return torch.cat([x.narrow(dim, n - 1 if wraps else 0, 1), x.narrow(dim, 0, n - 1)], dim)
