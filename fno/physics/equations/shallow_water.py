"""Shallow water on the rotating sphere."""

from dataclasses import dataclass

from torch import Tensor

from ..sphere import Sphere
from .base import Coefficient, Equation

GRAVITY = 9.80616  # [m/s^2]


@dataclass(frozen=True)
class ShallowWaterResidual:
    """Residuals of the three equations, shape (..., t, latitude, longitude).

    Attributes:
        vorticity: ``d zeta / dt + div((zeta + f) v)`` [1/s^2].
        divergence: ``d delta / dt - curl((zeta + f) v) + Laplacian(g h + |v|^2 / 2)`` [1/s^2].
        mass: ``d D / dt + div(D v)`` [m/s], with the depth D.
    """

    vorticity: Tensor
    divergence: Tensor
    mass: Tensor


@dataclass(frozen=True)
class SphereDerivatives:
    """Derivatives on the sphere by spherical harmonics, and in time by central differences.

    Attributes:
        sphere: grid of the states.
        seconds: time between states [s].
    """

    sphere: Sphere
    seconds: float

    def tendency(self, field: Tensor) -> Tensor:
        """Return the time derivative of a field (..., t, latitude, longitude) without its end times."""
        return (field[..., 2:, :, :] - field[..., :-2, :, :]) / (2 * self.seconds)


def residual(
    state: tuple[Tensor, Tensor, Tensor], d: SphereDerivatives, *, mountain: float | Tensor
) -> ShallowWaterResidual:
    """Return the residuals of a series of states.

    Args:
        state: height of the surface [m], eastward and northward wind [m/s], each of shape
            (..., t, latitude, longitude).
        d: derivatives on the grid of the state.
        mountain: height of the ground [m].

    Returns:
        Residuals at all times except the first and the last.
    """
    height, u, v = state
    sphere = d.sphere
    vorticity = sphere.curl(u, v)
    absolute = vorticity + sphere.coriolis(height)
    depth = height - mountain
    east = absolute * u
    north = absolute * v
    energy = sphere.laplacian(GRAVITY * height + (u**2 + v**2) / 2)
    inner = (Ellipsis, slice(1, -1), slice(None), slice(None))
    return ShallowWaterResidual(
        d.tendency(vorticity) + sphere.divergence(east, north)[inner],
        d.tendency(sphere.divergence(u, v)) - sphere.curl(east, north)[inner] + energy[inner],
        d.tendency(depth) + sphere.divergence(depth * u, depth * v)[inner],
    )


SHALLOW_WATER = Equation(
    name="shallow_water",
    formula=(
        "zeta_t + div((zeta + f) v); delta_t - curl((zeta + f) v) + Laplacian(g h + v² / 2); D_t + div(D v)"
    ),
    coefficients=(Coefficient("mountain", "height of the ground", 0.0, "m"),),
    orders={"t": 1, "latitude": 2, "longitude": 2},
    residual=residual,
    translation_invariant=False,
    source="Williamson et al. 1992, doi:10.1016/S0021-9991(05)80016-6",
)
