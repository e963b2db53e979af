"""Coordinates of one axis: spacing, nearest points, and comparison up to rounding."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

COORDINATE_TOLERANCE = 1e-3
"""Fraction of the spacing by which the coordinates of one point may differ between two lists."""


def spacing_at(points: NDArray[np.floating]) -> Array:
    """Return the distance of each point of an axis to its nearest neighbour, in float64.

    The distance is infinite for a single point.
    """
    values = np.asarray(points, dtype=np.float64)
    steps = np.concatenate([[np.inf], np.abs(np.diff(values)), [np.inf]])
    return np.asarray(np.minimum(steps[:-1], steps[1:]))


def cell_edges(points: Array) -> Array:
    """Return the edges of the cells around points, shape (n + 1,).

    Inner edges lie midway between neighbours, outer ones half a spacing beyond the outer points.
    """
    middle = (points[1:] + points[:-1]) / 2
    return np.concatenate([[2 * points[0] - middle[0]], middle, [2 * points[-1] - middle[-1]]])


def check_axis(name: str, points: NDArray[np.floating]) -> Array:
    """Return the coordinates of an axis in float64.

    Args:
        name: name of the axis, for the error.
        points: coordinates, shape (n,).

    Raises:
        ValueError: fewer than two points, or values that are not finite.
    """
    values = np.asarray(points, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"{name} must be a list of at least two finite numbers, got shape {values.shape}")
    return values


def nearest_points(
    target: NDArray[np.floating], source: NDArray[np.floating], *, circular: bool = False
) -> tuple[NDArray[np.int64], Array, NDArray[np.bool_]]:
    """Find the points of one axis among those of another.

    Two coordinates denote the same point if they differ by less than ``COORDINATE_TOLERANCE`` of the local
    spacing, or by the rounding error of float32 if that is larger.

    Args:
        target: points to find, shape (n,).
        source: points to search, in any order, shape (m,).
        circular: compare modulo 360 degrees, as for longitudes.

    Returns:
        For each target point the index of the nearest source point, its distance, and whether both are the
        same point; each of shape (n,).
    """
    targets = np.asarray(target, dtype=np.float64)
    sources = np.asarray(source, dtype=np.float64)
    if circular:
        sources = targets[0] + (sources - targets[0]) % 360
        targets = targets[0] + (targets - targets[0]) % 360
    order = np.argsort(sources, kind="stable")
    line = sources[order]
    if circular:
        line = np.concatenate([line[-1:] - 360, line, line[:1] + 360])
        order = np.concatenate([order[-1:], order, order[:1]])
    right = np.searchsorted(line, targets).clip(1, max(1, len(line) - 1))
    left = right - 1
    right = right.clip(max=len(line) - 1)
    at = np.where(np.abs(line[left] - targets) <= np.abs(line[right] - targets), left, right)
    distance = np.abs(line[at] - targets)
    spacing = np.minimum(spacing_at(target), spacing_at(line)[at])
    largest = np.maximum(np.abs(targets), np.abs(np.asarray(target, dtype=np.float64)))
    rounding = np.finfo(np.float32).eps * largest
    tolerance = np.maximum(COORDINATE_TOLERANCE * np.where(np.isfinite(spacing), spacing, 0.0), rounding)
    return order[at], distance, distance <= tolerance


def match_axis(
    target: NDArray[np.floating], source: NDArray[np.floating], name: str = ""
) -> NDArray[np.int64] | None:
    """Return the index in ``source`` of each point of ``target``, or None if a point is missing.

    Args:
        target: points to find, shape (n,).
        source: points to search, shape (m,); see ``nearest_points`` for the tolerance.
        name: name of the axis; a ``longitude`` is compared modulo 360 degrees.
    """
    if not len(target) or not len(source):
        return None
    positions, _, same = nearest_points(target, source, circular=name == "longitude")
    return positions if same.all() else None


def same_axis(a: NDArray[np.floating], b: NDArray[np.floating], name: str = "") -> bool:
    """Return whether two axes have the same points in the same order, up to rounding.

    Args:
        a: coordinates of one axis.
        b: coordinates of the other.
        name: name of the axis; a ``longitude`` is compared modulo 360 degrees.
    """
    if len(a) != len(b):
        return False
    positions = match_axis(a, b, name)
    return positions is not None and bool((positions == np.arange(len(a))).all())
