"""Periodic continuation of a field on a domain that is not periodic.

A Fourier layer sees the left edge next to the right one. Where the domain does not wrap, the field is extended by a
margin in which it passes smoothly from the last value to the first, and the margin is cut off again at the end.
"""

import torch
from torch import Tensor


def padded_size(n: int, fraction: float) -> int:
    """Return the extended number of points: at least ``n (1 + fraction)``, rounded up to a multiple of four."""
    return n if fraction <= 0 else -(-round(n * (1 + fraction)) // 4) * 4


def continue_periodically(x: Tensor, dim: int, fraction: float) -> Tensor:
    """Extend ``x`` along ``dim`` so that it wraps without a jump.

    The margin of p points holds ``(1 - s) x_last + s x_first`` with ``s = sin^2(pi q / 2)``, q running over (0, 1).

    Args:
        x: field; the original values come first, unchanged.
        dim: dimension to extend.
        fraction: width of the margin as a share of the domain, so that it is the same at every resolution.
    """
    n = x.shape[dim]
    margin = padded_size(n, fraction) - n
    if margin == 0:
        return x
    q = torch.arange(1, margin + 1, device=x.device, dtype=x.dtype) / (margin + 1)
    s = torch.sin(0.5 * torch.pi * q) ** 2
    s = s.reshape([-1 if d == dim % x.ndim else 1 for d in range(x.ndim)])
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, n - 1, 1)
    return torch.cat([x, (1 - s) * last + s * first], dim=dim)
