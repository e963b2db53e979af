"""Padding of axes that are not periodic to a period of the same physical length at every resolution.

A Fourier layer treats the field as periodic. Along an axis that is not, the field is extended over a margin
to a period P, and the margin is removed at the end. P is a fixed multiple of the domain length L, so it does
not depend on the grid.

If P is a whole number of grid spacings, the margin is appended to the points. Otherwise the field is
interpolated to a uniform grid that divides P, and back at the end, by cubic polynomials whose points lie
inside the domain. With nodes on both edges that grid has a point on each edge too.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..grids import Edge
from ..transforms.tables import table, table_builder

PaddingMode = Literal["continued", "zero", "reflect"]
_MODES = ("continued", "zero", "reflect")


@dataclass(frozen=True)
class Period:
    """Padded period of an axis that is not periodic.

    Attributes:
        share: period divided by the length of the domain, as numerator and denominator without a common
            factor. They are integers, which compiled graphs can track.
        edge: ``node``: the first and the last point lie on the edges, L = (n - 1) h; ``cell``: points are
            cell centres, L = n h.
        mode: values in the margin. ``continued``: ``(1 - s) x_last + s x_first`` with ``s = sin^2(pi q / 2)``
            and q from 0 at the last point to 1 at the next period, so that the field is continuous; ``zero``:
            zeros; ``reflect``: the field mirrored at its last point.

    Raises:
        ValueError: unknown mode or edge.
    """

    share: tuple[int, int]
    edge: Edge = "node"
    mode: PaddingMode = "continued"

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise ValueError(f"unknown padding mode {self.mode!r}; use 'continued', 'zero' or 'reflect'")
        if self.edge not in ("node", "cell"):
            raise ValueError(f"unknown edge {self.edge!r}; use 'node' or 'cell'")

    def intervals(self, n: int) -> int:
        """Return the length of the domain in spacings of a grid of ``n`` points.

        Raises:
            InputError: fewer than two points.
        """
        if n < 2:
            raise InputError(f"an axis that is not periodic needs at least 2 points, got {n}")
        return n - 1 if self.edge == "node" else n

    def spacings(self, n: int) -> int:
        """Return the period in spacings of a grid of ``n`` points, rounded up."""
        return -(-self.share[0] * self.intervals(n) // self.share[1])

    def divides(self, n: int) -> bool:
        """Return whether the period is a whole number of spacings of a grid of ``n`` points."""
        return self.share[0] * self.intervals(n) % self.share[1] == 0

    def points(self, n: int) -> int:
        """Return the number of points of the uniform grid of the period for ``n`` points of the domain."""
        if self.divides(n):
            return self.spacings(n)
        if self.edge == "cell":
            return self.spacings(n) + self.spacings(n) % 2
        return self.share[0] * -(-self.intervals(n) // self.share[1])

    def extend(self, x: Tensor, dim: int) -> Tensor:
        """Extend ``x`` from the points of the domain along ``dim`` to the uniform grid of the period."""
        n = len(range(x.shape[dim]))
        if self.divides(n):
            return append_margin(x, dim, self.points(n) - n, mode=self.mode)
        return self._product("period_from_domain", x, dim, n=n)

    def restrict(self, x: Tensor, dim: int, n: int) -> Tensor:
        """Return ``x``, on the uniform grid of the period along ``dim``, on ``n`` points of the domain."""
        return x.narrow(dim, 0, n) if self.divides(n) else self._product("domain_from_period", x, dim, n=n)

    def _product(self, name: str, x: Tensor, dim: int, *, n: int) -> Tensor:
        arguments = [
            n,
            self.points(n),
            self.share[0] * self.intervals(n),
            self.share[1],
            _MODES.index(self.mode),
        ]
        return torch.matmul(table(name, arguments, x).to(x.dtype), x.movedim(dim, -2)).movedim(-2, dim)


def padded_size(n: int, fraction: float) -> int:
    """Return the size of a padded reference grid: ``n (1 + fraction)``, rounded up to a multiple of four."""
    return n if fraction <= 0 else -(-round(n * (1 + fraction)) // 4) * 4


def padded_period(
    fraction: float,
    reference: int | None = None,
    edge: Edge = "node",
    *,
    mode: PaddingMode = "continued",
) -> Period:
    """Return the period of a margin that is at least ``fraction`` of the domain.

    Args:
        fraction: margin as a fraction of the domain.
        reference: points of the grid on which the margin is a whole number of spacings, see ``padded_size``;
            without it the period is ``1 + fraction`` domains, with the fraction as the nearest positive ratio
            of integers whose denominator is at most 64.
        edge: see ``Period``.
        mode: see ``Period``.

    Raises:
        ValueError: unknown mode or edge, or a reference of one point.
    """
    if reference is None:
        share = 1 + max(Fraction(fraction).limit_denominator(64), Fraction(1, 64))
    elif reference < 2:
        raise ValueError(f"a padded axis needs a reference of at least 2 points, got {reference}")
    else:
        share = Fraction(padded_size(reference, fraction), reference - 1 if edge == "node" else reference)
    return Period((share.numerator, share.denominator), edge, mode)


def append_margin(x: Tensor, dim: int, margin: int, *, mode: PaddingMode = "continued") -> Tensor:
    """Append a margin to a field.

    Args:
        x: field.
        dim: dimension to extend.
        margin: number of points to append.
        mode: values of these points, see ``Period``.

    Raises:
        ValueError: a reflected margin wider than the field.
    """
    n = x.shape[dim]
    if margin == 0:
        return x
    if mode == "zero":
        shape = list(x.shape)
        shape[dim] = margin
        return torch.cat([x, x.new_zeros(shape)], dim=dim)
    if mode == "reflect":
        if margin > n - 1:
            raise ValueError(
                f"a reflected margin of {margin} points needs more than {n} points; "
                "use a smaller fraction or 'continued'"
            )
        return torch.cat([x, x.narrow(dim, n - 1 - margin, margin).flip(dim)], dim=dim)
    q = torch.arange(1, margin + 1, device=x.device, dtype=x.dtype) / (margin + 1)
    s = torch.sin(0.5 * torch.pi * q) ** 2
    s = s.reshape([-1 if d == dim % x.ndim else 1 for d in range(x.ndim)])
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, n - 1, 1)
    return torch.cat([x, (1 - s) * last + s * first], dim=dim)


@table_builder
def period_from_domain(
    n: int, points: int, numerator: int, denominator: int, mode: int
) -> NDArray[np.float64]:
    """Return the matrix from the points of a domain to the uniform grid of its period, shape (points, n).

    Args:
        n: number of points of the domain.
        points: number of points of the uniform grid.
        numerator: numerator of the period in spacings of the domain.
        denominator: denominator of the period.
        mode: position of the padding mode in ``PaddingMode``.

    Raises:
        ValueError: a reflected margin wider than the domain.
    """
    period = Fraction(numerator, denominator)
    matrix = np.zeros((points, n))
    for k in range(points):
        position = period * k / points
        if position <= n - 1:
            matrix[k] = cubic_weights(position, n)
        elif _MODES[mode] == "continued":
            s = math.sin(0.5 * math.pi * float((position - (n - 1)) / (period - (n - 1)))) ** 2
            matrix[k, -1] += 1 - s
            matrix[k, 0] += s
        elif _MODES[mode] == "reflect":
            if position > 2 * (n - 1):
                raise ValueError(
                    f"a reflected margin is wider than the {n} points of the field; "
                    "use a smaller fraction or 'continued'"
                )
            matrix[k] = cubic_weights(2 * (n - 1) - position, n)
    return matrix


@table_builder
def domain_from_period(
    n: int, points: int, numerator: int, denominator: int, mode: int
) -> NDArray[np.float64]:
    """Return the matrix from the uniform grid back to the domain, shape (n, points).

    Arguments are those of ``period_from_domain``; ``mode`` has no effect, since no point of the margin is
    used.
    """
    per_spacing = points / Fraction(numerator, denominator)
    inside = math.floor((n - 1) * per_spacing) + 1
    matrix = np.zeros((n, points))
    for j in range(n):
        matrix[j, :inside] = cubic_weights(j * per_spacing, inside)
    return matrix


def cubic_weights(position: Fraction, n: int) -> NDArray[np.float64]:
    """Return the weights of cubic interpolation from the points 0 ... n - 1, shape (n,).

    The polynomial goes through the four points around ``position``.

    Args:
        position: position in spacings from the first point.
        n: number of points.
    """
    count = min(4, n)
    first = min(max(math.floor(position) - 1, 0), n - count)
    row = np.zeros(n)
    for i in range(first, first + count):
        row[i] = math.prod((position - j) / (i - j) for j in range(first, first + count) if j != i)
    return row
