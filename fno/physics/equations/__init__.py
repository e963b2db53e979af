"""Partial differential equations, one file and one ``Equation`` each.

``get(name)`` returns an equation. Its residual, coefficients, linear symbol and default problem serve the
training of physics-informed networks and of solution operators, refinement at run time and the table in the
documentation. ``datasets.pde`` has solvers of the same names, which share no code with the residuals.
"""

from .base import Coefficient, Conditions, Equation, Problem
from .registry import ALIASES, EQUATIONS, GROUP, get, names
from .table import markdown_table

__all__ = [
    "ALIASES",
    "EQUATIONS",
    "GROUP",
    "Coefficient",
    "Conditions",
    "Equation",
    "Problem",
    "get",
    "markdown_table",
    "names",
]
