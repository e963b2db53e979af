"""Burgers' equation of waves in a long pipe, with a viscosity that differs between samples."""

from dataclasses import replace

from .base import Coefficient
from .burgers import BURGERS

SHOCK_PIPE = replace(
    BURGERS,
    name="shock_pipe",
    coefficients=(Coefficient("viscosity", "kinematic viscosity, one value per sample"),),
    conditions=None,
)
