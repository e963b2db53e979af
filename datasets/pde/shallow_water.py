"""Shallow water on the rotating sphere, solved by spherical harmonics in float64: standard test cases.

    d zeta / dt = -div((zeta + f) v)
    d delta / dt = curl((zeta + f) v) - Laplacian(g h + |v|^2 / 2)
    d D / dt = -div(D v)

with vorticity zeta, divergence delta, depth D, surface height h = D + mountain and f = 2 Omega sin(latitude).
The truncation is triangular at two thirds of the latitudes of a Gauss grid, so that products are free of
aliasing; time steps are RK4, each followed by hyperdiffusion. Cases 2 and 5 are those of Williamson et al.
1992, ``galewsky`` is the barotropically unstable jet of Galewsky et al. 2004.
"""

from typing import ClassVar, Literal

import numpy as np
import xarray as xr
from scipy.integrate import quad

from ...fno.grids import sphere_nodes
from .etdrk4 import STABLE, Complex
from .sphere import RADIUS, Harmonics
from .system import Array, Count, EvolvingSystem, NonNegative, Points, Positive, Real, variable

GRAVITY = 9.80616  # [m/s^2]
OMEGA = 7.292e-5  # rotation rate of the Earth [1/s]
DAY = 86400.0  # [s]


class ShallowWater(EvolvingSystem):
    """Height and wind on a Gauss grid of ``resolution`` latitudes and twice as many longitudes.

    Attributes:
        case: ``williamson2`` (steady zonal flow), ``williamson5`` (flow over a mountain) or ``galewsky``
            (unstable jet).
        angle: angle between the axis of the flow of case 2 and that of the Earth [degrees].
        perturbation: root mean square of a random perturbation of the initial height [m]; samples differ only
            if it is positive.
        damping: e-folding time of the shortest waves by hyperdiffusion [h], 0 for none; by default 6, and
            none in case 2.
        duration: length of the simulation [days].
        step: time step [s].
    """

    case: Literal["williamson2", "williamson5", "galewsky"] = "galewsky"
    angle: Real = 0.0
    perturbation: NonNegative = 0.0
    damping: NonNegative | None = None
    resolution: Points = 64
    duration: Positive = 6.0
    frames: Count = 24
    step: Positive | None = None

    coefficients: ClassVar[tuple[str, ...]] = ("mountain",)

    def template(self) -> xr.Dataset:
        """Return the coordinates time, latitude and longitude, height, wind, vorticity and the mountain."""
        grid = self.harmonics().grid
        sizes = {"time": self.frames + 1, "latitude": len(grid[0]), "longitude": len(grid[1])}
        coords = {
            # Not ``units``, which xarray would decode to durations.
            "time": ("time", self.times, {"long_name": "time", "unit": "days"}),
            "latitude": (
                "latitude",
                np.rad2deg(grid[0]),
                {"units": "degrees_north", "standard_name": "latitude"},
            ),
            "longitude": (
                "longitude",
                np.rad2deg(grid[1]),
                {"units": "degrees_east", "standard_name": "longitude"},
            ),
        }
        units = {
            "height": "m",
            "u_component_of_wind": "m s**-1",
            "v_component_of_wind": "m s**-1",
            "vorticity": "s**-1",
        }
        fields = {
            name: variable(tuple(sizes), sizes, long_name=name.replace("_", " "), units=unit)
            for name, unit in units.items()
        }
        mountain = variable(("latitude", "longitude"), sizes, long_name="height of the ground", units="m")
        return xr.Dataset(fields | {"mountain": mountain}, coords)

    def harmonics(self) -> Harmonics:
        """Return the spherical harmonic transforms of the grid."""
        return Harmonics(self.resolution)

    def is_random(self) -> bool:
        """Return whether samples differ."""
        return self.perturbation > 0

    @np.errstate(over="ignore", invalid="ignore")
    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return height [m], wind [m/s], vorticity [1/s] and the mountain [m]."""
        sphere = self.harmonics()
        latitude, longitude = np.meshgrid(*sphere.grid, indexing="ij")
        coriolis, u, v, height, mountain = self.initial_state(latitude, longitude)
        if self.perturbation:
            height = height + self.perturbation * sphere.random_field(rng, min(20, sphere.truncation))
        state = np.stack([*sphere.curl_and_divergence(u, v), sphere.analyse(height - mountain)])
        hours = self.damping if self.damping is not None else 0.0 if self.case == "williamson2" else 6.0
        largest = sphere.truncation * (sphere.truncation + 1) / RADIUS**2
        eigenvalue = sphere.degree * (sphere.degree + 1) / RADIUS**2
        rate = 1 / (3600 * hours * largest**2) if hours else 0.0

        def tendency(s: Complex) -> Complex:
            u, v = sphere.wind(s[0], s[1])
            absolute = sphere.synthesise(s[0]) + coriolis
            depth = sphere.synthesise(s[2])
            spin, spread = sphere.curl_and_divergence(absolute * u, absolute * v)
            energy = sphere.analyse(GRAVITY * (depth + mountain) + (u**2 + v**2) / 2)
            return np.stack(
                [-spread, spin + eigenvalue * energy, -sphere.curl_and_divergence(depth * u, depth * v)[1]]
            )

        frames = [self.to_grid(sphere, state, mountain)]
        for i in range(self.frames):
            f = frames[-1]
            speed = float(np.sqrt(GRAVITY * (f[0] - mountain).max()) + np.hypot(f[1], f[2]).max())
            longest = STABLE / (speed * np.sqrt(largest))
            count = self.substeps(longest, longest / 2, unit=DAY)
            h = self.duration * DAY / self.frames / count
            damp = np.exp(-rate * eigenvalue**2 * h) * np.ones((3, 1, 1))
            damp[2] = 1  # the depth is not damped, so that mass is conserved
            for _ in range(count):
                a = tendency(state)
                b = tendency(state + h / 2 * a)
                c = tendency(state + h / 2 * b)
                d = tendency(state + h * c)
                state = damp * (state + h / 6 * (a + 2 * (b + c) + d))
            frames.append(self.to_grid(sphere, state, mountain))
            if not np.isfinite(frames[-1]).all():
                raise ValueError(
                    f"the flow became infinite or NaN before day {self.times[i + 1]:g}; "
                    "use a shorter step or a smaller damping time"
                )
        names = ("height", "u_component_of_wind", "v_component_of_wind", "vorticity")
        return dict(zip(names, np.stack(frames, axis=1), strict=True)) | {"mountain": mountain}

    def to_grid(self, sphere: Harmonics, state: Complex, mountain: Array) -> Array:
        """Return height [m], wind [m/s] and vorticity [1/s] on the grid, shape (4, latitude, longitude).

        Args:
            sphere: transforms of the grid.
            state: coefficients of vorticity, divergence and depth.
            mountain: height of the ground [m].
        """
        u, v = sphere.wind(state[0], state[1])
        return np.stack([sphere.synthesise(state[2]) + mountain, u, v, sphere.synthesise(state[0])])

    def initial_state(self, latitude: Array, longitude: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Return the initial state of the case.

        Args:
            latitude: latitude of the points [rad], shape (latitude, longitude).
            longitude: longitude of the points [rad], same shape.

        Returns:
            Coriolis parameter [1/s], eastward wind [m/s], northward wind [m/s], height of the surface [m] and
            height of the ground [m], each of shape (latitude, longitude).
        """
        zero = np.zeros_like(latitude)
        tilt = np.deg2rad(self.angle) if self.case == "williamson2" else 0.0
        # Sine of the latitude about the tilted axis.
        s = np.sin(latitude) * np.cos(tilt) - np.cos(longitude) * np.cos(latitude) * np.sin(tilt)
        coriolis = 2 * OMEGA * s
        if self.case == "galewsky":
            return coriolis, *_jet(latitude, longitude), zero
        if self.case == "williamson2":
            speed = 2 * np.pi * RADIUS / (12 * DAY)
            level = 2.94e4 / GRAVITY
        else:
            speed = 20.0
            level = 5960.0
        u = speed * (np.cos(latitude) * np.cos(tilt) + np.sin(latitude) * np.cos(longitude) * np.sin(tilt))
        v = -speed * np.sin(longitude) * np.sin(tilt)
        height = level - (RADIUS * OMEGA * speed + speed**2 / 2) * s**2 / GRAVITY
        mountain = zero
        if self.case == "williamson5":
            radius = np.pi / 9
            r = np.sqrt((longitude - 3 * np.pi / 2) ** 2 + (latitude - np.pi / 6) ** 2)
            mountain = 2000 * (1 - np.minimum(r, radius) / radius)
        return coriolis, u, v, height, mountain


def _jet(latitude: Array, longitude: Array) -> tuple[Array, Array, Array]:
    """Return wind [m/s] and height [m] of the balanced jet, with the bump in height that destabilises it."""
    south = np.pi / 7
    north = np.pi / 2 - np.pi / 7
    scale = 80 / np.exp(-4 / (north - south) ** 2)

    def wind(phi: float) -> float:
        return float(scale * np.exp(1 / ((phi - south) * (phi - north)))) if south < phi < north else 0.0

    def slope(phi: float) -> float:
        u = wind(phi)
        return float(u * (2 * OMEGA * np.sin(phi) + np.tan(phi) / RADIUS * u) * RADIUS / GRAVITY)

    rows = latitude[:, 0]
    drop = np.zeros(len(rows))
    upward = np.argsort(rows)
    for before, at in zip(upward[:-1], upward[1:], strict=True):
        drop[at] = (
            drop[before] + quad(slope, rows[before], rows[at], epsabs=1e-10, epsrel=1e-12, limit=200)[0]
        )
    weights = sphere_nodes(len(rows), "legendre-gauss")[1] / 2
    height = 10000 - drop + weights @ drop
    bump = 120 * np.cos(latitude) * np.exp(-((3 * (np.remainder(longitude + np.pi, 2 * np.pi) - np.pi)) ** 2))
    bump = bump * np.exp(-((15 * (np.pi / 4 - latitude)) ** 2))
    u = np.array([wind(phi) for phi in rows])[:, None] * np.ones_like(latitude)
    return u, np.zeros_like(u), height[:, None] + bump
