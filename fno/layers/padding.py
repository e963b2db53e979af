"""Margins for a domain that does not wrap.

A Fourier layer sees the left edge next to the right one. Where the domain does not wrap, the field is extended by a
margin, and the margin is cut off again at the end.
"""

from typing import Literal

import torch
from torch import Tensor

PaddingMode = Literal["continued", "zero", "reflect"]


def padded_size(n: int, fraction: float) -> int:
    """Return the extended number of points: at least ``n (1 + fraction)``, rounded up to a multiple of four."""
    return n if fraction <= 0 else -(-round(n * (1 + fraction)) // 4) * 4


def pad_domain(x: Tensor, dim: int, fraction: float, mode: PaddingMode = "continued") -> Tensor:
    """Extend ``x`` along ``dim`` beyond its last point.

    Args:
        x: field; the original values come first, unchanged.
        dim: dimension to extend.
        fraction: width of the margin as a share of the domain, so that it is the same at every resolution.
        mode: what stands in the p points of the margin. ``continued``: ``(1 - s) x_last + s x_first`` with
            ``s = sin^2(pi q / 2)``, q running over (0, 1), so that the field wraps without a jump; ``zero``: zeros;
            ``reflect``: the field mirrored at its last point.

    Raises:
        ValueError: unknown mode, or a reflected margin wider than the field.
    """
    n = x.shape[dim]
    margin = padded_size(n, fraction) - n
    if margin == 0:
        return x
    if mode == "zero":
        shape = list(x.shape)
        shape[dim] = margin
        return torch.cat([x, x.new_zeros(shape)], dim=dim)
    if mode == "reflect":
        if margin > n - 1:
            raise ValueError(f"a reflected margin of {margin} points needs more than {n} points; use a smaller fraction or 'continued'")
        return torch.cat([x, x.narrow(dim, n - 1 - margin, margin).flip(dim)], dim=dim)
    if mode != "continued":
        raise ValueError(f"unknown padding mode {mode!r}; use 'continued', 'zero' or 'reflect'")
    q = torch.arange(1, margin + 1, device=x.device, dtype=x.dtype) / (margin + 1)
    s = torch.sin(0.5 * torch.pi * q) ** 2
    s = s.reshape([-1 if d == dim % x.ndim else 1 for d in range(x.ndim)])
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, n - 1, 1)
    return torch.cat([x, (1 - s) * last + s * first], dim=dim)
