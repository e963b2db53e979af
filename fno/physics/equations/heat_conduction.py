"""Steady conduction of heat in a plate: the equation of Darcy flow with other names."""

from dataclasses import replace

from torch import Tensor

from ..derivatives import FiniteVolumes
from .base import Coefficient
from .darcy import DARCY
from .darcy import residual as darcy


def residual(u: Tensor, d: FiniteVolumes, *, conductivity: Tensor, source: float | Tensor) -> Tensor:
    """Return ``-div(conductivity grad u) - source`` at the inner nodes; see ``darcy.residual``."""
    return darcy(u, d, permeability=conductivity, source=source)


HEAT_CONDUCTION = replace(
    DARCY,
    name="heat_conduction",
    formula="-div(conductivity grad u) - source",
    coefficients=(
        Coefficient("conductivity", "field at the nodes"),
        Coefficient("source", "source of heat", 1.0),
    ),
    residual=residual,
    source="",
)
