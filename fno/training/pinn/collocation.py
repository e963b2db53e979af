"""Where an equation is asked to hold: points of a box, drawn anew as training goes on."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

Sampling = Literal["uniform", "latin_hypercube", "adaptive"]
_CANDIDATES = 8


def draw_points(
    sampling: Sampling,
    count: int,
    low: Sequence[float],
    high: Sequence[float],
    generator: torch.Generator,
    residual: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return points, shape (count, axes), float64.

    ``uniform`` draws each by itself; ``latin_hypercube`` one in each of ``count`` slices along every axis;
    ``adaptive`` takes half of them uniform and half from many with a chance that grows with the residual
    there (Wu et al. 2023, "RAD", with k = c = 1).

    Args:
        sampling: how.
        count: number of points.
        low: smallest coordinates.
        high: largest ones.
        generator: of random numbers.
        residual: of the equation at points; asked by ``adaptive`` only.

    Raises:
        ValueError: unknown sampling.
    """
    if sampling == "latin_hypercube":
        slices = torch.stack([torch.randperm(count, generator=generator) for _ in low], dim=1)
        unit = (slices + torch.rand(count, len(low), generator=generator, dtype=torch.float64)) / count
    elif sampling == "uniform":
        unit = torch.rand(count, len(low), generator=generator, dtype=torch.float64)
    elif sampling == "adaptive":
        even = draw_points("uniform", count - count // 2, low, high, generator, residual)
        many = draw_points("uniform", _CANDIDATES * count, low, high, generator, residual)
        size = residual(many).abs()
        chance = size / size.mean().clamp_min(1e-300) + 1
        return torch.cat([even, many[torch.multinomial(chance, count // 2, generator=generator)]])
    else:
        raise ValueError(f"unknown sampling {sampling!r}; use 'uniform', 'latin_hypercube' or 'adaptive'")
    bottom, top = (torch.tensor(list(side), dtype=torch.float64) for side in (low, high))
    return bottom + (top - bottom) * unit
