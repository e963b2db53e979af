"""Collocation points: where the residual of an equation is evaluated."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

Sampling = Literal["uniform", "latin_hypercube", "adaptive"]
_CANDIDATES = 8  # candidates per point of adaptive sampling


def draw_points(
    sampling: Sampling,
    count: int,
    *,
    low: Sequence[float],
    high: Sequence[float],
    generator: torch.Generator,
    residual: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return random points of a box, shape (count, axis), float64.

    ``uniform`` draws independent points. ``latin_hypercube`` draws one point in each of ``count`` slices
    along every axis. ``adaptive`` draws half of the points uniformly and the other half from many candidates,
    with a probability proportional to ``|r| / mean |r| + 1`` for the residual r (method RAD with k = c = 1 of
    Wu et al. 2023, https://doi.org/10.1016/j.cma.2022.115671).

    Args:
        sampling: distribution of the points.
        count: number of points.
        low: lower bound of each axis.
        high: upper bound of each axis.
        generator: random numbers.
        residual: residual of the equation at points, used by ``adaptive``.

    Raises:
        ValueError: unknown sampling.
    """
    if sampling == "latin_hypercube":
        slices = torch.stack([torch.randperm(count, generator=generator) for _ in low], dim=1)
        unit = (slices + torch.rand(count, len(low), generator=generator, dtype=torch.float64)) / count
    elif sampling == "uniform":
        unit = torch.rand(count, len(low), generator=generator, dtype=torch.float64)
    elif sampling == "adaptive":
        uniform, candidates = (
            draw_points("uniform", n, low=low, high=high, generator=generator, residual=residual)
            for n in (count - count // 2, _CANDIDATES * count)
        )
        size = residual(candidates).abs()
        probability = size / size.mean().clamp_min(1e-300) + 1
        chosen = torch.multinomial(probability, count // 2, generator=generator)
        return torch.cat([uniform, candidates[chosen]])
    else:
        raise ValueError(f"unknown sampling {sampling!r}; use 'uniform', 'latin_hypercube' or 'adaptive'")
    lower, upper = (torch.tensor(list(bound), dtype=torch.float64) for bound in (low, high))
    return lower + (upper - lower) * unit
