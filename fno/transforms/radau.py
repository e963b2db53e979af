"""Polynomials in time through the start of an interval and its right Radau nodes.

A polynomial that satisfies an equation at these nodes is the result of an implicit Runge-Kutta step (Radau
IIA), of order ``2 n - 1`` at the end and L-stable (Hairer and Wanner 1996, ch. IV.5).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@lru_cache(maxsize=32)
def nodes(count: int) -> Array:
    """Return 0 and the ``count`` right Radau nodes on (0, 1], the last of which is 1.

    Raises:
        ValueError: ``count`` is below one.
    """
    if count < 1:
        raise ValueError(f"there must be at least one node, got {count}")
    legendre = np.polynomial.legendre.Legendre.basis
    right = (legendre(count) - legendre(count - 1)).roots().real
    return np.asarray(np.concatenate([[0.0], np.sort((right + 1) / 2)[:-1], [1.0]]))


@lru_cache(maxsize=32)
def differentiation(count: int) -> Array:
    """Return the matrix from values at start and nodes to derivatives there, shape (count + 1, count + 1)."""
    t = nodes(count)
    w = _barycentric(t)
    with np.errstate(divide="ignore"):
        matrix = w[None, :] / w[:, None] / (t[:, None] - t[None, :])
    np.fill_diagonal(matrix, 0)
    np.fill_diagonal(matrix, -matrix.sum(axis=1))
    return matrix


def interpolation(count: int, at: Array) -> Array:
    """Return the matrix from values at start and nodes to values at other times, shape (times, count + 1).

    Args:
        count: number of nodes.
        at: times as fractions of the interval, shape (times,).
    """
    difference = np.asarray(at, dtype=float)[:, None] - nodes(count)
    hit = np.abs(difference) < 1e-14
    terms = _barycentric(nodes(count)) / np.where(hit, 1.0, difference)
    terms = np.where(hit.any(axis=1, keepdims=True), hit.astype(float), terms)
    return np.asarray(terms / terms.sum(axis=1, keepdims=True))


@lru_cache(maxsize=32)
def decay(count: int) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Return the solution of ``v' = -z v``, v(0) = 1, at the nodes in partial fractions.

        v_k = Re sum_j r_kj / (p_j + z)

    Returns:
        Poles p, shape (count,), and residues r, shape (count, count).
    """
    d = differentiation(count)
    poles, vectors = np.linalg.eig(d[1:, 1:].astype(complex))
    return poles, -vectors * np.linalg.solve(vectors, d[1:, 0].astype(complex))


def _barycentric(t: Array) -> Array:
    """Return the barycentric weights ``1 / prod_(k != j) (t_j - t_k)``."""
    difference = t[:, None] - t[None, :]
    np.fill_diagonal(difference, 1)
    return np.asarray(1 / difference.prod(axis=1))
