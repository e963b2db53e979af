"""The table of equations in the documentation."""

import math
from collections.abc import Iterable

from .base import Coefficient, Equation

_HEADER = ("equation", "residual", "coefficients (default)", "default problem", "source")


def markdown_table(equations: Iterable[Equation]) -> str:
    """Return a Markdown table of equations: residual, coefficients, default problem and source."""
    rows = [_HEADER, tuple("---" for _ in _HEADER)]
    for equation in equations:
        rows.append(
            (
                f"`{equation.name}`",
                equation.formula if equation.residual else f"solver only: {equation.formula}",
                "; ".join(_coefficient(c) for c in equation.coefficients),
                _problem(equation),
                (equation.conditions and equation.conditions.source) or equation.source,
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _coefficient(coefficient: Coefficient) -> str:
    default = "" if coefficient.default is None else f" ({_value(coefficient.default)})"
    units = "" if coefficient.units == "1" else f" [{coefficient.units}]"
    return f"`{coefficient.name}`{default}: {coefficient.meaning}{units}"


def _problem(equation: Equation) -> str:
    conditions = equation.conditions
    if conditions is None:
        return ""
    ends = "periodic" if conditions.periodic else "u = 0 at the ends"
    values = ", ".join(f"{name} = {_value(value)}" for name, value in conditions.coefficients.items())
    return f"x in [{_value(conditions.low)}, {_value(conditions.high)}], {ends}; {values}"


def _value(value: float | str) -> str:
    """Return a number or name as Markdown."""
    if isinstance(value, str):
        return f"`{value}`"
    return "2 pi" if value == 2 * math.pi else f"{value:.4g}"
