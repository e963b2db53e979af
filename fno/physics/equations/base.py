"""The ``Equation`` object: residual, coefficients, linear symbol and default problem of one equation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...errors import InputError
from ..derivatives import Derivative

ReferenceSize = Callable[[Mapping[str, Any], Tensor, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Coefficient:
    """A coefficient of an equation.

    Attributes:
        name: keyword of the residual, and name in configurations and in ``datasets.pde``.
        meaning: description, for the documentation.
        default: value of the equation where none is specified; None where there is no customary one.
        units: SI units, or ``1`` in nondimensional equations.
    """

    name: str
    meaning: str
    default: float | str | None = None
    units: str = "1"


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Domain, initial and boundary values and coefficients of a problem on t in [0, 1] and an interval of x.

    Attributes:
        low: left end of the interval.
        high: right end.
        initial: u at t = 0 as a function of x.
        coefficients: values of the equation's coefficients.
        periodic: whether the interval is periodic; otherwise u is zero at both ends.
        source: publication that the problem comes from.
    """

    low: float
    high: float
    initial: Callable[[Tensor], Tensor]
    coefficients: Mapping[str, Any]
    periodic: bool = True
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Problem(Conditions):
    """An equation with everything that determines its solution.

    Attributes:
        equation: the equation.
    """

    equation: "Equation"

    @property
    def orders(self) -> Mapping[str, int]:
        """Highest order of the derivatives along t and x."""
        return self.equation.orders

    @property
    def starts_at_rest(self) -> bool:
        """Whether the equation is of second order in time; u_t = 0 at t = 0 then."""
        return self.orders["t"] == 2

    def residual(self, u: Tensor, d: Derivative) -> Tensor:
        """Return the residual of the equation at every point of u.

        Args:
            u: solution.
            d: derivatives along t and x.
        """
        residual: Tensor = self.equation.evaluate(u, d, **self.coefficients)
        return residual


@dataclass(frozen=True, kw_only=True, eq=False)
class Equation:
    """A partial differential equation.

    Attributes:
        name: key in the registry.
        formula: the residual as text.
        coefficients: coefficients of the equation.
        orders: highest order of the derivatives along each axis; without ``t`` the equation is steady.
        residual: ``residual(u, d, **coefficients)`` returns the residual at every point from the solution
            and the derivatives ``d(u, axis, order)``; every coefficient is a keyword. None where only a
            solver exists.
        damping: linear symbol, ``damping(k2, **coefficients)``: rate at which the linear part damps a wave
            of squared wave number k2. None where the equation is not of the form u_t = F(u), or its linear
            part does more than damp.
        translation_invariant: whether a shifted solution is a solution, so that positions need not be known.
        conditions: problem of the literature; None where there is none on an interval.
        zero_boundary: whether the solution of the steady equation is zero on the boundary.
        reference_size: estimate of the size of the solution of a steady equation, shape (batch, 1, 1, 1), as
            a function of the parameters of the system, the input fields, shape (batch, input, y, x), and the
            coefficients that differ between samples, each of shape (batch,).
        source: publication or textbook.
    """

    name: str
    formula: str
    coefficients: tuple[Coefficient, ...]
    orders: Mapping[str, int]
    residual: Callable[..., Any] | None
    damping: Callable[..., Tensor] | None = None
    translation_invariant: bool = True
    conditions: Conditions | None = None
    zero_boundary: bool = False
    reference_size: ReferenceSize | None = None
    source: str = ""

    @property
    def steady(self) -> bool:
        """Whether the equation does not depend on time."""
        return "t" not in self.orders

    @property
    def collocatable(self) -> bool:
        """Whether the residual can be taken at the nodes of a time window and scaled by the linear symbol."""
        return self.residual is not None and self.damping is not None and self.orders.get("t") == 1

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        """Names of the coefficients."""
        return tuple(c.name for c in self.coefficients)

    def evaluate(self, u: Any, d: Any, **coefficients: Any) -> Any:
        """Return the residual; coefficients that are left out take their default.

        Args:
            u: solution; a tensor, or whatever the residual of this equation takes.
            d: derivatives along the axes of ``orders``.
            coefficients: values or tensors that broadcast with u.

        Raises:
            InputError: there is no residual, no such coefficient, or no value for one without default.
        """
        if self.residual is None:
            raise InputError(f"{self.name} has a solver but no residual")
        if unknown := [name for name in coefficients if name not in self.coefficient_names]:
            raise InputError(
                f"{self.name} has no coefficient {unknown[0]!r}; it has {', '.join(self.coefficient_names)}"
            )
        values = {c.name: coefficients.get(c.name, c.default) for c in self.coefficients}
        if missing := [name for name, value in values.items() if value is None]:
            raise InputError(f"{self.name} needs a value of {', '.join(missing)}")
        return self.residual(u, d, **values)

    def problem(self, **coefficients: float) -> Problem:
        """Return the problem of the literature, with other coefficients where some are named.

        Raises:
            InputError: there is none for this equation, or no such coefficient.
        """
        if self.conditions is None:
            raise InputError(f"{self.name} has no default problem on an interval")
        if unknown := [name for name in coefficients if name not in self.coefficient_names]:
            raise InputError(
                f"{self.name} has no coefficient {unknown[0]!r}; it has {', '.join(self.coefficient_names)}"
            )
        values = vars(self.conditions)
        return Problem(**values | {"coefficients": values["coefficients"] | coefficients}, equation=self)


def no_damping(k2: Tensor, **_: Any) -> Tensor:
    """Return zero for every wave: the linear part damps nothing."""
    return 0 * k2
