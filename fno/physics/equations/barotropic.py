"""Barotropic flow on a beta plane, as vorticity."""

from torch import Tensor

from ..derivatives import InvertibleDerivative
from .base import Coefficient, Equation
from .navier_stokes import velocity


def residual(
    w: Tensor,
    d: InvertibleDerivative,
    *,
    beta: float | Tensor,
    drag: float | Tensor,
    forcing: float | Tensor,
    diffusion: float | Tensor,
) -> Tensor:
    """Return ``w_t + u w_x + v (w_y + beta) + drag w + diffusion Laplacian^4 w - f`` [1/s^2].

    Args:
        w: vorticity [1/s], shape (..., t, y, x).
        d: derivatives along t [s], y and x [m], spectral along y and x.
        beta: gradient of planetary vorticity [1/(m s)].
        drag: linear drag [1/s].
        forcing: f [1/s^2].
        diffusion: coefficient of eighth-order diffusion [m^8/s].
    """
    u, v = velocity(w, d)
    result = d(w, "t") + u * d(w, "x") + v * (d(w, "y") + beta) + drag * w - forcing
    if isinstance(diffusion, Tensor) or diffusion:
        rough = w
        for _ in range(4):
            rough = d(rough, "x", 2) + d(rough, "y", 2)
        result = result + diffusion * rough
    return result


BAROTROPIC = Equation(
    name="barotropic",
    formula="w_t + u w_x + v (w_y + beta) + drag w + diffusion Laplacian⁴ w - f",
    coefficients=(
        Coefficient("beta", "gradient of planetary vorticity", 1.6e-11, "1/(m s)"),
        Coefficient("drag", "linear drag", 1 / (6 * 86400), "1/s"),
        Coefficient(
            "forcing",
            "f; the random one of the solver is set by the rms vorticity that it adds per day",
            0.0,
            "1/s²",
        ),
        Coefficient("diffusion", "coefficient of eighth-order diffusion", 0.0, "m⁸/s"),
    ),
    orders={"t": 1, "y": 8, "x": 8},
    residual=residual,
    translation_invariant=False,
    source="Vallis 2017, chapters 9 and 12",
)
