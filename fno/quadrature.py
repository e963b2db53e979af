"""Nodes and weights of quadratures on the sphere: evenly spaced and Gauss-Legendre latitudes."""

from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST_ROWS = 200_000  # rows a hundred metres apart
_EIGENVALUES = 2000  # largest number of nodes computed as eigenvalues, whose memory grows with its square
_ASYMPTOTIC = 100  # nodes beyond which asymptotic ones, within 1e-9 rad, suffice to recognise a grid
_BESSEL = np.array([2.404825557695773, 5.520078110286311, 8.653727912911013, 11.791534439014281])
"""First zeros of the Bessel function J0."""

SphereGrid = Literal["equiangular", "equiangular-no-poles", "legendre-gauss"]


def sphere_nodes(nlat: int, grid: SphereGrid) -> tuple[Array, Array]:
    """Return nodes and quadrature weights of a grid on the whole sphere.

    The weights integrate over the cosine of colatitude, so they sum to 2: Clenshaw-Curtis on ``equiangular``
    (both poles are rows), Fejer's first rule on ``equiangular-no-poles`` (the outer rows lie half a spacing
    off the poles), both exact for polynomials of degree ``nlat - 1``; Gauss-Legendre on ``legendre-gauss``,
    exact to degree ``2 nlat - 1``.

    Args:
        nlat: number of latitudes.
        grid: ``equiangular``, ``equiangular-no-poles`` or ``legendre-gauss``.

    Returns:
        Colatitudes [rad] from the north pole southward, and weights, each of shape (nlat,).

    Raises:
        ValueError: fewer than two latitudes, or an unknown grid.
    """
    if grid == "legendre-gauss":
        _check_rows(nlat)
        if nlat > _EIGENVALUES:
            return _gauss(nlat)
        x, w = np.polynomial.legendre.leggauss(nlat)
        return np.arccos(x[::-1]), w[::-1].copy()
    theta = colatitudes(nlat, grid)
    # The weights integrate the interpolation by cos(k theta), k = 0 ... nlat - 1, exactly.
    k = np.arange(nlat)
    moments = np.where(k % 2 == 0, 2.0 / (1 - k.astype(float) ** 2 + (k == 1)), 0.0)
    if grid == "equiangular":
        half = np.ones(nlat)
        half[[0, -1]] = 0.5
        weights = 2 * half / (nlat - 1) * np.fft.fft(half * moments, 2 * (nlat - 1)).real[:nlat]
    else:
        sums = np.fft.fft(moments * np.exp(-0.5j * np.pi * k / nlat), 2 * nlat).real[:nlat]
        weights = (2 * sums - moments[0]) / nlat
    return theta, weights


def colatitudes(nlat: int, grid: SphereGrid) -> Array:
    """Return the colatitudes of ``sphere_nodes``, shape (nlat,) [rad], without their weights.

    Those of ``legendre-gauss`` beyond 2000 rows are asymptotic, accurate to 1e-12 rad, and take linear time
    and memory.

    Args:
        nlat: number of latitudes.
        grid: as for ``sphere_nodes``.

    Raises:
        ValueError: fewer than two latitudes, or an unknown grid.
    """
    _check_rows(nlat)
    if grid == "legendre-gauss":
        if nlat > _EIGENVALUES:
            return _asymptotic(nlat)
        return np.arccos(np.polynomial.legendre.leggauss(nlat)[0][::-1])
    if grid == "equiangular":
        return np.linspace(0, np.pi, nlat)
    if grid == "equiangular-no-poles":
        return (np.arange(nlat) + 0.5) * np.pi / nlat
    raise ValueError(f"unknown grid {grid!r}; use 'equiangular', 'equiangular-no-poles' or 'legendre-gauss'")


def recognised(latitude: Array) -> SphereGrid | None:
    """Return the kind of grid that latitudes belong to, to a thousandth of a degree, or None.

    Args:
        latitude: degrees north, from the north pole southward.
    """
    for kind in get_args(SphereGrid):
        approximate = kind == "legendre-gauss" and len(latitude) > _ASYMPTOTIC
        nodes = _asymptotic(len(latitude)) if approximate else colatitudes(len(latitude), kind)
        if np.allclose(90 - np.rad2deg(nodes), latitude, atol=1e-3):
            return cast("SphereGrid", kind)
    return None


def _check_rows(nlat: int) -> None:
    if nlat < 2:
        raise ValueError(f"a grid on the sphere needs at least 2 latitudes, got {nlat}")
    if nlat > MOST_ROWS:
        raise ValueError(f"a grid on the sphere has at most {MOST_ROWS} latitudes, got {nlat}")


def _asymptotic(nlat: int) -> Array:
    """Return approximate colatitudes [rad] of the Gauss nodes.

    Zeros of the Bessel function J0 (McMahon's expansion), corrected by Olver's expansion.
    """
    half = np.arange(1, nlat // 2 + 1)
    beta = (half - 0.25) * np.pi
    b = 8 * beta
    zeros = beta + 1 / b - 124 / (3 * b**3) + 120928 / (15 * b**5) - 401743168 / (105 * b**7)
    zeros[: len(_BESSEL)] = _BESSEL[: len(zeros)]
    psi = zeros / (nlat + 0.5)
    north = psi + (psi / np.tan(psi) - 1) / (8 * psi * (nlat + 0.5) ** 2)
    middle = [np.pi / 2] if nlat % 2 else []
    return np.concatenate([north, middle, np.pi - north[::-1]])


def _gauss(nlat: int) -> tuple[Array, Array]:
    """Return colatitudes and weights of many Gauss nodes by Newton's method, in linear memory."""
    theta = _asymptotic(nlat)[: (nlat + 1) // 2]
    for _ in range(2):  # the starting values are accurate to 1e-12
        x = np.cos(theta)
        sine = np.sin(theta)
        previous, p = np.ones_like(x), x
        for l in range(2, nlat + 1):
            previous, p = p, ((2 * l - 1) * x * p - (l - 1) * previous) / l
        slope = nlat * (previous - x * p) / sine  # dP/dx times the sine
        theta = theta + p / slope
    weights = 2 / slope**2
    south = slice(nlat // 2 - 1, None, -1)
    return np.concatenate([theta, np.pi - theta[south]]), np.concatenate([weights, weights[south]])
