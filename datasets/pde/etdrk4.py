"""Exponential time differencing Runge-Kutta of fourth order (ETDRK4) for stiff equations.

    du/dt = L u + N(u)

with L diagonal, which is integrated exactly (Cox and Matthews 2002). The coefficients are averaged over a
circle in the complex plane (Kassam and Trefethen 2005, "Fourth-order time-stepping for stiff PDEs"), which
avoids cancellation at small L h.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex128]

STABLE = 2.5
"""Stability limit of the product of step and eigenvalue of N on either axis, that of RK4 with a margin."""
_POINTS = 32  # on the circle


class ETDRK4:
    """A time step of fixed length.

    Args:
        linear: L, one value per mode.
        step: length h of the step.
    """

    def __init__(self, linear: Complex | NDArray[np.float64], step: float) -> None:
        self.step = step
        z = np.asarray(linear) * step
        self.whole = np.exp(z)
        self.half = np.exp(z / 2)
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
        """Return ``u`` after one step.

        Args:
            u: state, one value per mode.
            tendency: N, as a function of the state.
        """
        n = tendency(u)
        a = self.half * u + self.middle * n
        na = tendency(a)
        nb = tendency(self.half * u + self.middle * na)
        nc = tendency(self.half * a + self.middle * (2 * nb - n))
        return np.asarray(self.whole * u + self.first * n + 2 * self.between * (na + nb) + self.last * nc)
