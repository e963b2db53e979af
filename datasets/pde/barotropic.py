"""Barotropic flow on a beta plane, freely decaying or forced.

    dq/dt + J(psi, q + beta y) = F - r (q - q_mean) - nu Laplacian^4 q,    q = Laplacian psi

on a doubly periodic plane, solved pseudo-spectrally in float64 with the 2/3 rule, ETDRK4 and a stochastic
forcing in a ring of wave numbers (Vallis 2017, ch. 9 and 12). A window of the plane, which is not periodic,
is mapped to a latitude-longitude box as a substitute for reanalysis where there is no network access.
"""

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .etdrk4 import ETDRK4, STABLE, Complex
from .system import Array, Count, EvolvingSystem, NonNegative, Positive, periodic_axis, variable
from .torus import SpectralTorus

if TYPE_CHECKING:
    from ...fno.progress import Progress


LENGTH = 1.6e7  # side of the plane [m]
BETA = 1.6e-11  # gradient of planetary vorticity [1/(m s)]
DRAG = 1 / (6 * 86400)  # linear drag [1/s]
FORCING = 9e-6  # rms vorticity that the forcing adds per day [1/s]
MEAN_WIND = 12.0  # amplitude of the imposed jet [m/s]
DAY = 86400.0  # [s]
UNITS = {"vorticity": "s**-1", "u_component_of_wind": "m s**-1", "v_component_of_wind": "m s**-1"}


class BarotropicFlow:
    """State and time integration of the flow.

    Args:
        points: grid points along each side of the plane.
        seed: seed or generator of the initial state and the forcing.
        length: side of the plane [m].
        beta: gradient of planetary vorticity [1/(m s)].
        drag: linear drag [1/s].
        forcing: rms vorticity that the forcing adds per day [1/s]; zero for free decay.
        diffusion: coefficient nu of the eighth-order diffusion [m^8/s]; by default the smallest scale falls
            to 1/e in six hours. Without drag, forcing and diffusion, energy and enstrophy are conserved to
            the accuracy of the time step.
    """

    def __init__(
        self,
        points: int = 64,
        seed: int | np.random.Generator = 0,
        *,
        length: float = LENGTH,
        beta: float = BETA,
        drag: float = DRAG,
        forcing: float = FORCING,
        diffusion: float | None = None,
    ) -> None:
        self.points = points
        self.length = length
        self.forcing = forcing
        self.drag = drag
        self.rng = np.random.default_rng(seed)
        self.torus = w = SpectralTorus(points, length)
        index = np.sqrt(w.k2) * length / (2 * np.pi)
        self.ring = (index > 4) & (index < 9) & w.dealiased
        largest = (2 * np.pi / length * points / 3) ** 8
        nu = 1 / (6 * 3600 * largest) if diffusion is None else diffusion
        # Rossby waves, drag and diffusion are linear and integrated exactly.
        self.linear = 1j * beta * w.kx * w.inverse - drag - nu * w.k2**4
        self.stepper: ETDRK4 | None = None
        y = np.arange(points) / points * length
        jet = -MEAN_WIND * 2 * np.pi / length * np.cos(2 * np.pi * y / length)
        self.mean_vorticity: Complex = np.fft.rfft2(np.repeat(jet[:, None], points, 1)) * (forcing > 0)
        self.vorticity = self.mean_vorticity + 4 * self._noise(FORCING)

    def step(self, seconds: float) -> None:
        """Advance the vorticity by one step.

        Args:
            seconds: length of the step [s].
        """
        if self.stepper is None or self.stepper.step != seconds:
            self.stepper = ETDRK4(self.linear, seconds)
        self.vorticity = self.stepper(
            self.vorticity, lambda q: self.torus.advection(q) + self.drag * self.mean_vorticity
        )
        if self.forcing:
            self.vorticity = self.vorticity + np.sqrt(seconds / DAY) * self._noise(self.forcing)

    def fields(self) -> dict[str, NDArray[np.float64]]:
        """Return vorticity [1/s] and the two wind components [m/s], each of shape (points, points)."""
        u, v = self.torus.velocity(self.vorticity)
        return {
            "vorticity": self.torus.to_grid(self.vorticity),
            "u_component_of_wind": u,
            "v_component_of_wind": v,
        }

    def _noise(self, rms: float) -> Complex:
        """Return the coefficients of a random field in the forcing ring with the root mean square ``rms``."""
        white = self.ring * np.fft.rfft2(self.rng.standard_normal((self.points, self.points)))
        field = self.torus.to_grid(white)
        return np.asarray(rms * np.fft.rfft2(field / np.sqrt((field**2).mean())))


class BetaPlane(EvolvingSystem):
    """Barotropic flow from a random initial state; see the module for the equation.

    Attributes:
        length: side of the plane [m].
        beta: gradient of planetary vorticity [1/(m s)].
        drag: linear drag [1/s].
        forcing: rms vorticity that the forcing adds per day [1/s]; zero for free decay.
        diffusion: coefficient of the eighth-order diffusion [m^8/s]; by default the smallest scale falls to
            1/e in six hours.
        spin_up: time before the first stored state [days].
        duration: length of the simulation [days].
        step: time step [s].
    """

    length: Positive = LENGTH
    beta: NonNegative = BETA
    drag: NonNegative = DRAG
    forcing: NonNegative = FORCING
    diffusion: NonNegative | None = None
    spin_up: NonNegative = 20.0
    duration: Positive = 10.0
    frames: Count = 40

    coefficients: ClassVar[tuple[str, ...]] = ("beta", "drag", "forcing", "diffusion")

    def template(self) -> xr.Dataset:
        """Return the coordinates time, y and x, vorticity and wind."""
        sizes = {"time": self.frames + 1, "y": self.resolution, "x": self.resolution}
        # Not ``units``, which xarray would decode to durations.
        time = ("time", self.times, {"long_name": "time", "unit": "days"})
        coords = {"time": time} | {
            d: periodic_axis(d, self.resolution, start=0.0, length=self.length) for d in ("y", "x")
        }
        fields = {
            name: variable(tuple(sizes), sizes, long_name=name.replace("_", " "), units=units)
            for name, units in UNITS.items()
        }
        return xr.Dataset(fields, coords)

    @np.errstate(over="ignore", invalid="ignore")
    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return vorticity [1/s] and wind [m/s], each of shape (time, y, x)."""
        flow = BarotropicFlow(
            self.resolution,
            rng,
            length=self.length,
            beta=self.beta,
            drag=self.drag,
            forcing=self.forcing,
            diffusion=self.diffusion,
        )
        every = self.duration / self.frames
        self._advance(flow, self.spin_up, max(1, round(self.spin_up / every)))
        frames = [flow.fields()]
        for _ in range(self.frames):
            self._advance(flow, every, 1)
            frames.append(flow.fields())
        return {name: np.stack([f[name] for f in frames]) for name in UNITS}

    def _advance(self, flow: BarotropicFlow, days: float, pieces: int) -> None:
        """Advance a flow by a number of days in equal pieces, each with a time step of its own."""
        for _ in range(pieces if days else 0):
            fields = flow.fields()
            speed = np.hypot(fields["u_component_of_wind"], fields["v_component_of_wind"])
            wind = max(float(speed.max()), 1.0)
            longest = STABLE / (wind * flow.torus.largest_wave_number)
            whole = self.model_copy(update={"duration": days, "frames": pieces})
            count = whole.substeps(longest, min(longest / 2, 3600.0), unit=DAY)
            for _ in range(count):
                flow.step(days / pieces * DAY / count)
            if not np.isfinite(flow.vorticity).all():
                raise ValueError("the flow became infinite or NaN; use a shorter step or a larger diffusion")


def simulate(
    days: int = 730,
    step_hours: int = 6,
    *,
    points: int = 64,
    seed: int = 0,
    progress: "Progress | None" = None,
) -> xr.Dataset:
    """Simulate the flow and return a latitude-longitude box of 25 x 45 points with CF times.

    Wind is in m/s, vorticity in 1/s.

    Args:
        days: length of the series, after 20 days of spin-up.
        step_hours: time between stored states [h].
        points: grid points along each side of the plane, at least 56.
        seed: seed of the initial state and the forcing.
        progress: called with (states done, total states, text).
    """
    flow = BarotropicFlow(points, seed)
    substep = 3600.0
    inner = int(step_hours * 3600 / substep)
    for _ in range(20 * 24):
        flow.step(substep)
    rows = slice(10, 35)
    columns = slice(6, 51)
    frames: dict[str, list[NDArray[np.float32]]] = {}
    count = days * 24 // step_hours
    for i in range(count):
        for name, field in flow.fields().items():
            frames.setdefault(name, []).append(field[rows, columns].astype(np.float32))
        for _ in range(inner):
            flow.step(substep)
        if progress and i % 20 == 19:
            progress(i + 1, count, "simulating")
    degrees = LENGTH / points / 111_200
    coords = {
        "time": np.datetime64("2001-01-01", "ns") + np.arange(count) * np.timedelta64(step_hours, "h"),
        "latitude": (
            "latitude",
            45 + degrees * (np.arange(25) - 12),
            {"units": "degrees_north", "standard_name": "latitude"},
        ),
        "longitude": (
            "longitude",
            200 + degrees * np.arange(45),
            {"units": "degrees_east", "standard_name": "longitude"},
        ),
    }
    variables = {
        n: (("time", "latitude", "longitude"), np.stack(f), {"units": UNITS[n]}) for n, f in frames.items()
    }
    attrs = {
        "Conventions": "CF-1.11",
        "title": "simulated beta-plane barotropic flow",
        "source": f"simulated, seed {seed}",
    }
    return xr.Dataset(variables, coords, attrs)
