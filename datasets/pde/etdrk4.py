"""Exponential time differencing of fourth order, for stiff equations whose linear part is a number for each
mode.

    du/dt = L u + N(u)

Cox and Matthews 2002, with the coefficients averaged over a circle in the complex plane as in Kassam and
Trefethen 2005 ("Fourth-order time-stepping for stiff PDEs"), which avoids cancellation at small L h. L is
integrated exactly.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex128]

STABLE = 2.5
"""A little less than what the classical method of fourth order bears of the product of step and eigenvalue of
N, on either axis.
"""
_POINTS = 32


class ETDRK4:
    """One step of given length.

    Args:
        linear: L of each mode.
        step: length of the step h.
    """

    def __init__(self, linear: Complex | NDArray[np.float64], step: float) -> None:
        self.step, z = step, np.asarray(linear) * step
        self.whole, self.half = np.exp(z), np.exp(z / 2)
        terms = np.zeros((4, *z.shape), dtype=complex)
        for r in np.exp(2j * np.pi * (np.arange(_POINTS) + 0.5) / _POINTS):
            w = z + r
            e = np.exp(w)
            terms[0] += (np.exp(w / 2) - 1) / w
            terms[1] += (-4 - w + e * (4 - 3 * w + w**2)) / w**3
            terms[2] += (2 + w + e * (w - 2)) / w**3
            terms[3] += (-4 - 3 * w - w**2 + e * (4 - w)) / w**3
        terms *= step / _POINTS
        self.middle, self.first, self.between, self.last = terms if np.iscomplexobj(linear) else terms.real

    def __call__(self, u: Complex, tendency: Callable[[Complex], Complex]) -> Complex:
        """Return ``u`` one step on; ``tendency`` is N."""
        n = tendency(u)
        a = self.half * u + self.middle * n
        na = tendency(a)
        nb = tendency(self.half * u + self.middle * na)
        nc = tendency(self.half * a + self.middle * (2 * nb - n))
        return np.asarray(self.whole * u + self.first * n + 2 * self.between * (na + nb) + self.last * nc)
