"""Forced barotropic flow on a beta plane, as a stand-in for reanalysis where there is no network.

    dq/dt + J(psi, q + beta y) = F - r (q - q_mean) - nu Laplacian^4 q,    q = Laplacian psi

on a doubly periodic plane, solved pseudo-spectrally in float64 with the 2/3 rule, integrating-factor RK4 and a
stochastic forcing in a ring of wave numbers (Vallis 2017, ch. 9 and 12). A window of the plane, smaller than the plane and
so not periodic, is mapped to a latitude-longitude box.
"""

from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Complex = NDArray[np.complex128]
Progress = Callable[[int, int, str], None]

LENGTH = 1.6e7  # side of the plane [m]
BETA = 1.6e-11  # [1/(m s)]
DRAG = 1 / (6 * 86400)  # [1/s]
FORCING = 9e-6  # rms vorticity that the forcing puts in over a day [1/s]
MEAN_WIND = 12.0  # of the imposed jet [m/s]


class BarotropicFlow:
    """State and time stepping of the flow.

    Args:
        points: grid points along each side of the plane.
        seed: seed of initial state and forcing.
        length: side of the plane [m].
        beta: gradient of planetary vorticity [1/(m s)].
        drag: linear drag [1/s].
        forcing: rms vorticity put in per day [1/s]; zero for free decay.
        diffusion: coefficient of the eighth-order diffusion; None scales it to damp the finest scale in six hours,
            zero makes free flow conserve energy and enstrophy to the accuracy of the time step.
    """

    def __init__(
        self,
        points: int = 64,
        seed: int = 0,
        length: float = LENGTH,
        beta: float = BETA,
        drag: float = DRAG,
        forcing: float = FORCING,
        diffusion: float | None = None,
    ) -> None:
        self.points, self.length = points, length
        self.rng = np.random.default_rng(seed)
        k = 2 * np.pi / length * np.fft.fftfreq(points, 1 / points)
        self.kx, self.ky = k[None, : points // 2 + 1].copy(), k[:, None]
        self.kx[0, -1] = abs(self.kx[0, -1])
        self.k2 = self.kx**2 + self.ky**2
        self.inverse = np.where(self.k2 > 0, 1 / np.where(self.k2 > 0, self.k2, 1), 0)
        index = np.sqrt(self.k2) * length / (2 * np.pi)
        self.keep = (np.abs(self.kx) * length / (2 * np.pi) < points / 3) & (np.abs(self.ky) * length / (2 * np.pi) < points / 3)
        self.ring = (index > 4) & (index < 9) & self.keep
        self.forcing = forcing
        largest = (2 * np.pi / length * points / 3) ** 8
        nu = 1 / (6 * 3600 * largest) if diffusion is None else diffusion
        # Waves, drag and diffusion are linear: solved exactly by the integrating factor.
        self.linear = 1j * beta * self.kx * self.inverse - drag - nu * self.k2**4
        y = np.arange(points) / points * length
        jet = -MEAN_WIND * 2 * np.pi / length * np.cos(2 * np.pi * y / length)
        self.mean_vorticity: Complex = np.fft.rfft2(np.repeat(jet[:, None], points, 1)) * (forcing > 0)
        self.vorticity = self.mean_vorticity + 4 * self._noise(FORCING)
        self.drag = drag

    def step(self, seconds: float) -> None:
        """Advance by one step of the integrating-factor Runge-Kutta method of fourth order."""
        half, q = np.exp(self.linear * seconds / 2), self.vorticity
        a = self._tendency(q)
        b = self._tendency(half * (q + seconds / 2 * a))
        c = self._tendency(half * q + seconds / 2 * b)
        d = self._tendency(half**2 * q + seconds * half * c)
        self.vorticity = half**2 * q + seconds / 6 * (half**2 * a + 2 * half * (b + c) + d)
        if self.forcing:
            self.vorticity = self.vorticity + np.sqrt(seconds / 86400) * self._noise(self.forcing)

    def fields(self) -> dict[str, NDArray[np.float64]]:
        """Return vorticity [1/s] and the two wind components [m/s], each of shape (points, points)."""
        psi = -self.inverse * self.vorticity
        parts = {"vorticity": self.vorticity, "u_component_of_wind": -1j * self.ky * psi, "v_component_of_wind": 1j * self.kx * psi}
        return {name: np.fft.irfft2(part, s=(self.points, self.points)) for name, part in parts.items()}

    def _tendency(self, q: Complex) -> Complex:
        """Return advection and the pull towards the mean flow."""
        psi, size = -self.inverse * q, (self.points, self.points)
        u, v, qx, qy = (np.fft.irfft2(f, s=size) for f in (-1j * self.ky * psi, 1j * self.kx * psi, 1j * self.kx * q, 1j * self.ky * q))
        return np.asarray(-(self.keep * np.fft.rfft2(u * qx + v * qy)) + self.drag * self.mean_vorticity)

    def _noise(self, rms: float) -> Complex:
        """Return a random field in the forcing ring with the given root mean square."""
        white = self.ring * np.fft.rfft2(self.rng.standard_normal((self.points, self.points)))
        field = np.fft.irfft2(white, s=(self.points, self.points))
        return np.asarray(rms * np.fft.rfft2(field / np.sqrt((field**2).mean())))


def simulate(days: int = 730, step_hours: int = 6, points: int = 64, seed: int = 0, progress: Progress | None = None) -> xr.Dataset:
    """Simulate the flow and return a latitude-longitude box of it with CF times.

    The box takes 25 x 45 points from the middle of the plane; wind is in m/s, vorticity in 1/s.

    Args:
        days: length of the series, after 20 days of spin-up.
        step_hours: time between outputs.
        points: grid points along each side of the plane, at least 56.
        seed: seed of the flow.
        progress: called with (days done, days in all, text).
    """
    flow, substep = BarotropicFlow(points, seed), 3600.0
    inner = int(step_hours * 3600 / substep)
    for _ in range(20 * 24):
        flow.step(substep)
    rows, columns = slice(10, 35), slice(6, 51)
    frames: dict[str, list[NDArray[np.float32]]] = {}
    count = days * 24 // step_hours
    for i in range(count):
        for name, field in flow.fields().items():
            frames.setdefault(name, []).append(field[rows, columns].astype(np.float32))
        for _ in range(inner):
            flow.step(substep)
        if progress and i % 20 == 19:
            progress(i + 1, count, "simulating")
    units = {"vorticity": "s**-1", "u_component_of_wind": "m s**-1", "v_component_of_wind": "m s**-1"}
    degrees = LENGTH / points / 111_200
    coords = {
        "time": np.datetime64("2001-01-01", "ns") + np.arange(count) * np.timedelta64(step_hours, "h"),
        "latitude": ("latitude", 45 + degrees * (np.arange(25) - 12), {"units": "degrees_north", "standard_name": "latitude"}),
        "longitude": ("longitude", 200 + degrees * np.arange(45), {"units": "degrees_east", "standard_name": "longitude"}),
    }
    variables = {n: (("time", "latitude", "longitude"), np.stack(f), {"units": units[n]}) for n, f in frames.items()}
    attrs = {"Conventions": "CF-1.11", "title": "simulated beta-plane barotropic flow", "source": f"simulated, seed {seed}"}
    return xr.Dataset(variables, coords, attrs)
