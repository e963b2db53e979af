"""Resampling of periodic fields by their Fourier series.

A grid of n points resolves the waves ``|k| <= (n - 1) // 2``. At even n the wave n / 2 is omitted: the nodes
determine only its cosine, so its phase, and with it any derivative, is unknown. Taking every r-th value of a
finer field would instead alias the waves ``k + n j`` to the wave k, the mean included.
"""

from collections.abc import Sequence

import numpy as np

from .system import Array


def resample(field: Array, points: int, axes: Sequence[int] = (-1,)) -> Array:
    """Return a periodic field on ``points`` points along each axis, with the waves that both grids resolve.

    On a coarser grid this is the projection onto the waves of that grid (a low-pass filter), on a finer one
    the Fourier interpolant. The mean is conserved, and refining and coarsening again returns a field without
    the wave n / 2 unchanged.

    Args:
        field: real values at ``j L / n``, j = 0 ... n - 1, along each axis of ``axes``.
        points: points along each of these axes in the result.
        axes: periodic axes.
    """
    for axis in axes:
        largest = (min(field.shape[axis], points) - 1) // 2
        waves = np.moveaxis(np.fft.rfft(field, axis=axis, norm="forward"), axis, -1)[..., : largest + 1]
        field = np.moveaxis(np.fft.irfft(waves, n=points, norm="forward"), -1, axis)
    return field
