"""Associated Legendre functions, normalised so that spherical harmonics are orthonormal on the unit sphere.

    Y_lm(theta, phi) = P_lm(cos theta) exp(i m phi),   integral |Y_lm|^2 = 1,

with the Condon-Shortley phase (-1)^m. Computed in float64 by the three-term recurrence in degree (Holmes and
Featherstone 2002), good to degrees of about 1900.
"""

import numpy as np
from numpy.typing import NDArray

from ..memory import machine_memory

Array = NDArray[np.float64]


def legendre(lmax: int, mmax: int, theta: Array) -> Array:
    """Return P_lm for l < lmax and m < mmax, shape (mmax, lmax, theta); zero where l < m.

    Args:
        lmax: number of degrees.
        mmax: number of orders.
        theta: colatitudes [rad].

    Raises:
        ValueError: the functions need more memory than the machine has.
    """
    _check_memory(lmax, mmax, len(theta))
    x = np.cos(theta)
    sine = np.sin(theta)
    p = np.zeros((mmax, lmax, len(theta)))
    diagonal = np.full(len(theta), (4 * np.pi) ** -0.5)
    m = np.arange(mmax, dtype=float)
    for order in range(min(lmax, mmax)):
        if order:
            diagonal = -np.sqrt((2 * order + 1) / (2 * order)) * sine * diagonal
        p[order, order] = diagonal
    for l in range(1, lmax):
        n = min(l, mmax)  # orders below l
        o = m[:n]
        a = np.sqrt((4.0 * l * l - 1) / (l * l - o * o))
        p[:n, l] = a[:, None] * x * p[:n, l - 1]
        if l > 1:
            b = np.sqrt(np.maximum((l - 1.0) ** 2 - o * o, 0) / (4 * (l - 1.0) ** 2 - 1))
            p[:n, l] -= (a * b)[:, None] * p[:n, l - 2]
    return p


def _check_memory(lmax: int, mmax: int, count: int) -> None:
    """Raise ``ValueError`` if a table is larger than the memory of the machine, before allocating it."""
    size = 8 * lmax * mmax * count
    available = machine_memory()
    if size > available:
        raise ValueError(
            f"Legendre functions of {lmax} degrees, {mmax} orders and {count} latitudes take "
            f"{size / 2**30:.3g} GiB, and this machine has {available / 2**30:.3g} GiB; "
            "use fewer modes or a coarser grid"
        )


def legendre_derivatives(lmax: int, mmax: int, theta: Array) -> tuple[Array, Array]:
    """Return dP_lm/dtheta and m P_lm / sin theta, each shape (mmax, lmax, theta), finite at the poles.

    From the ladder operators of angular momentum::

        2 dP_lm = sqrt((l - m)(l + m + 1)) P_l,m+1 - sqrt((l + m)(l - m + 1)) P_l,m-1
        2 m P_lm / sin = -sqrt((2l + 1)/(2l - 1)) [sqrt((l - m)(l - m - 1)) P_l-1,m+1
                                                   + sqrt((l + m)(l + m - 1)) P_l-1,m-1]

    Args:
        lmax: number of degrees.
        mmax: number of orders.
        theta: colatitudes [rad].

    Raises:
        ValueError: the functions need more memory than the machine has.
    """
    p = legendre(lmax, mmax + 1, theta)
    l = np.arange(lmax)[None, :, None]
    m = np.arange(mmax)[:, None, None]
    above = p[1:]
    below = np.concatenate([-p[1:2], p[: mmax - 1]])
    root = (
        np.sqrt(np.maximum((l - m) * (l + m + 1), 0)) * above
        - np.sqrt(np.maximum((l + m) * (l - m + 1), 0)) * below
    )
    derivative = np.where(l >= m, 0.5 * root, 0.0)
    lower = np.concatenate([np.zeros_like(p[:, :1]), p[:, :-1]], axis=1)
    above = lower[1:]
    below = np.concatenate([-lower[1:2], lower[: mmax - 1]])
    root = (
        np.sqrt(np.maximum((l - m) * (l - m - 1), 0)) * above
        + np.sqrt(np.maximum((l + m) * (l + m - 1), 0)) * below
    )
    over_sine = np.where(
        (l >= m) & (m > 0), -0.5 * np.sqrt((2 * l + 1) / np.maximum(2 * l - 1, 1)) * root, 0.0
    )
    return derivative, over_sine
