"""Transforms between the rows and the degrees of spherical harmonics, order by order.

    X_lm = sum_j A_lm(j) F_m(j),    F_m(j) = sum_l A_lm(j) X_lm

with functions A_lm of colatitude: P_lm, its derivative or m P_lm / sin theta, which are even or odd about the
equator, so that sums and differences of the two hemispheres halve the products. The orders can be those of
one of several processes. See ``sht`` for the whole transforms.
"""

from collections.abc import Iterator
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..grids import SphereGrid, sphere_nodes
from ..precision import without_autocast
from .functions import LinearMap
from .inplace import write
from .legendre import legendre, legendre_derivatives
from .tables import table, table_builder

Kind = Literal["value", "derivative", "over_sine"]
Analysis = Literal["quadrature", "least_squares"]

ANALYSES = get_args(Analysis)
GRIDS = get_args(SphereGrid)
KINDS = get_args(Kind)


@table_builder
def legendre_table(
    nlat: int, lmax: int, mmax: int, grid_number: int, kind_number: int, weights_number: int
) -> NDArray[np.float64]:
    """Return the functions of colatitude on one hemisphere, those even about the equator first.

    Args:
        nlat: number of latitudes.
        lmax: number of degrees.
        mmax: number of orders.
        grid_number: position of the grid among the values of ``SphereGrid``.
        kind_number: position of the function among the values of ``Kind``.
        weights_number: 0 for the functions themselves, for the synthesis; for the analysis 1 + the position
            of its kind among the values of ``Analysis``.

    Returns:
        Shape (2, mmax, ceil(lmax / 2), ceil(nlat / 2)).
    """
    kind: Kind = KINDS[kind_number]
    theta, weights = sphere_nodes(nlat, GRIDS[grid_number])
    half = (nlat + 1) // 2
    theta = theta[:half]
    p = (
        legendre(lmax, mmax, theta)
        if kind == "value"
        else legendre_derivatives(lmax, mmax, theta)[kind == "over_sine"]
    )
    if nlat % 2:
        p[:, :, -1] *= 0.5  # the equator is its own mirror image
    functions = np.zeros((2, mmax, (lmax + 1) // 2, half))
    for q in (0, 1):
        for e in (0, 1):
            rows = p[e::2, q::2]
            functions[_parity(q, e, kind), e::2, : rows.shape[1]] = rows
    if weights_number == 0:
        return functions
    weighted = functions * (2 * np.pi * weights[:half])
    return weighted if weights_number == 1 else _least_squares(functions, weighted, nlat)


def _least_squares(
    functions: NDArray[np.float64], weighted: NDArray[np.float64], nlat: int
) -> NDArray[np.float64]:
    """Return the analysis that minimises the weighted square error of the synthesis.

    It is ``G^-1 A`` for each order and parity, with the analysis A by quadrature and the Gram matrix G = A S
    of the functions S.

    Args:
        functions: functions of colatitude, shape (2, order, degree, row).
        weighted: the same times the quadrature weights.
        nlat: number of latitudes.
    """
    rows = np.full(functions.shape[-1], 2.0)  # a row and its mirror image
    if nlat % 2:
        rows[-1] = 4.0  # the equator, stored as one half
    result = np.zeros_like(weighted)
    for of in np.ndindex(functions.shape[:2]):
        known = functions[of].any(axis=1)
        gram = (weighted[of][known] * rows) @ functions[of][known].T
        result[of][known] = np.linalg.solve(gram, weighted[of][known])
    return result


def _parity(q: int, e: int, kind: Kind) -> int:
    """Return 0 if a function of degree parity ``q`` and order parity ``e`` is even in latitude, 1 if odd."""
    return (q + e + (kind == "derivative")) % 2


@table_builder
def legendre_orders(
    nlat: int,
    lmax: int,
    mmax: int,
    grid_number: int,
    kind_number: int,
    weights_number: int,
    first: int,
    stop: int,
) -> NDArray[np.float64]:
    """Return ``legendre_table`` for the orders ``first <= m < stop`` alone; ``first`` is even."""
    return legendre_table(nlat, lmax, mmax, grid_number, kind_number, weights_number)[:, first:stop]


TableKey = tuple[int, ...]
"""Arguments of ``legendre_table``, or those of ``legendre_orders`` for a part of the orders."""


def _matrices(key: TableKey, like: Tensor) -> Tensor:
    return table("legendre_table" if len(key) == 6 else "legendre_orders", list(key), like)


class _Up(LinearMap):
    """Map rows to degrees: ``X_lm = sum_j A_lm(j) F_m(j)``; adjoint to ``_Down``.

    F has shape (batch, lat, m, channel, 2), X (batch, 2, l, m, channel).
    """

    @staticmethod
    def forward(f: Tensor, key: TableKey) -> Tensor:
        x: Tensor = without_autocast(_up, f, key)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Down.apply(grads[0], *ctx.constants), None


class _Down(LinearMap):
    """Map degrees to rows: ``F_m(j) = sum_l A_lm(j) X_lm``; adjoint to ``_Up``."""

    @staticmethod
    def forward(x: Tensor, key: TableKey) -> Tensor:
        f: Tensor = without_autocast(_down, x, key)
        return f

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Up.apply(grads[0], *ctx.constants), None


def to_degrees(f: Tensor, key: TableKey) -> Tensor:
    """Return ``sum_j A_lm(j) F_m(j)`` from coefficients along the rows: the second half of an analysis.

    Args:
        f: coefficients, shape (batch, lat, m, channel, 2).
        key: functions A_lm, see ``SphereTransform.key``.

    Returns:
        Shape (batch, 2, l, m, channel).
    """
    return _Up.call(f, key)


def to_rows(x: Tensor, key: TableKey) -> Tensor:
    """Return ``sum_l A_lm(j) X_lm``, the first half of a synthesis; adjoint to ``to_degrees``.

    Args:
        x: coefficients, shape (batch, 2, l, m, channel).
        key: functions A_lm, see ``SphereTransform.key``.

    Returns:
        Shape (batch, lat, m, channel, 2).
    """
    return _Down.call(x, key)


def _up(f: Tensor, key: TableKey) -> Tensor:
    matrices = _matrices(key, f)
    lmax = key[1]
    kind = KINDS[key[4]]
    batch, nlat, mmax, channels, _ = f.shape
    rank, half = matrices.shape[2:]
    rows = f.permute(2, 1, 0, 3, 4).reshape(mmax, nlat, batch * channels * 2)
    north, south = rows[:, :half], rows[:, nlat - half :].flip(1)
    d = f.new_empty(2, mmax, half, rows.shape[-1])
    write(torch.add, north, south, d[0])
    write(torch.sub, north, south, d[1])
    r = torch.bmm(matrices.flatten(0, 1), d.flatten(0, 1)).reshape(2, mmax, rank, batch, channels, 2)
    x = f.new_empty(batch, 2, lmax, mmax, channels)
    for part, of in _parts(x, kind):
        part.copy_(r[of].permute(2, 4, 1, 0, 3))
    return x


def _down(x: Tensor, key: TableKey) -> Tensor:
    matrices = _matrices(key, x)
    nlat = key[0]
    kind = KINDS[key[4]]
    batch, _, lmax, mmax, channels = x.shape
    rank, half = matrices.shape[2:]
    r = x.new_empty(2, mmax, rank, batch, channels, 2)
    if lmax % 2:
        r[:, :, -1] = 0
    for part, of in _parts(x, kind):
        r[of] = part.permute(3, 2, 0, 4, 1)
    r = r.reshape(2 * mmax, rank, batch * channels * 2)
    even, odd = torch.bmm(matrices.flatten(0, 1).transpose(1, 2), r).unflatten(0, (2, mmax))
    result = x.new_empty(mmax, nlat, batch, channels, 2)
    rows = result.view(mmax, nlat, even.shape[-1])
    write(torch.add, even, odd, rows[:, :half])
    rows[:, nlat - half :] = (even - odd).flip(1)
    if nlat % 2:
        rows[:, half - 1] = 2 * even[:, half - 1]
    return torch.view_as_real(torch.view_as_complex(result).permute(2, 1, 0, 3).contiguous())


def _parts(x: Tensor, kind: Kind) -> Iterator[tuple[Tensor, tuple[int, slice, slice]]]:
    """Yield the coefficients of each parity of degree and order, and their index by parity."""
    for q in (0, 1):
        for e in (0, 1):
            part = x[:, :, q::2, e::2]
            yield part, (_parity(q, e, kind), slice(e, None, 2), slice(part.shape[2]))
