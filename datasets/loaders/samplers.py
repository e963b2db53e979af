"""The order of training samples within an epoch, and its registry."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...fno.registry import Registry
from ..errors import DataError

Positions = NDArray[np.int64]
Times = NDArray[np.datetime64]
Sampler = Callable[[Positions, Times, np.random.Generator], Any]
"""Function of the first position of each sample, its time, and a generator of random numbers, all of which it
needs. It returns the positions in the order of an epoch; it may leave out some and repeat others."""

GROUP = "fourcaster.samplers"
"""Group of entry points in which other packages register samplers."""


class Shuffled:
    """All samples once, in random order."""

    def __call__(self, starts: Positions, times: Times, rng: np.random.Generator) -> Positions:
        """Return the positions in random order."""
        return np.asarray(starts[rng.permutation(len(starts))])


SAMPLERS: Registry[Callable[..., Sampler]] = Registry(
    {"shuffled": Shuffled}, group=GROUP, noun="sampler", expected="a class of samplers"
)
"""Classes of samplers by name; they are constructed with the options of the configuration."""


def sample_order(sampler: Sampler, starts: Positions, times: Times, *, rng: np.random.Generator) -> Positions:
    """Return the order of samples by a sampler, after checking what it returned.

    Args:
        sampler: the sampler.
        starts: first position of each sample.
        times: time of each, same shape.
        rng: its random numbers, which depend on the seed and the epoch.

    Raises:
        DataError: it returned no positions, or some that are not among ``starts``.
    """
    order = np.asarray(sampler(starts, times, rng))
    if order.ndim != 1 or not len(order) or order.dtype.kind not in "iu" or not np.isin(order, starts).all():
        raise DataError(
            f"the sampler {type(sampler).__name__} returned {order.dtype} of shape {order.shape}; it should "
            "return one or more of the positions that it received"
        )
    return order.astype(np.int64)
