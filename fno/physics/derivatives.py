"""Derivatives of fields behind one signature, ``d(u, axis, order)``, which residuals take as an argument.

Axes are named. A tensor of shape (..., *grid) has the axes of the grid last, in the order of the grid.

- ``Spectral``: exact for periodic fields that the grid resolves.
- ``FiniteDifferences``: second or fourth order, with one-sided stencils of the same order at the ends of an
  axis that is not periodic.
- ``Collocated``: exact for polynomials through the Radau nodes of a time window.
- ``Mixed``: a different kind for each axis, such as finite differences in time and spectral in space.
- ``Autograd``: derivatives of a function of coordinates.
- ``FiniteVolumes``: the divergence of a diffusive flux, for coefficients that jump.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..grids import Box
from ..transforms.radau import differentiation


class Derivative(Protocol):
    """A derivative operator as residuals call it."""

    def __call__(self, u: Tensor, axis: str, order: int = 1) -> Tensor:
        """Return a derivative.

        Args:
            u: field.
            axis: name of an axis of its grid.
            order: order of the derivative.
        """


class InvertibleDerivative(Derivative, Protocol):
    """Derivatives on a periodic grid, where the Laplacian can be inverted."""

    def inverse_laplacian(self, f: Tensor, axes: Sequence[str] = ("y", "x")) -> Tensor:
        """Return the field of zero mean whose Laplacian along some axes is ``f`` minus its mean.

        Args:
            f: field.
            axes: names of the axes.
        """


class _BoxDerivative:
    """Base of derivatives on a box, whose axes are the last axes of a tensor.

    Args:
        box: grid.
    """

    def __init__(self, box: Box) -> None:
        self.box = box

    def locate(self, u: Tensor, axis: str) -> tuple[int, int]:
        """Return the index of an axis in the box and its dimension in ``u``, counted from the end.

        Raises:
            InputError: the box has no such axis, or ``u`` has a different number of points along it.
        """
        if axis not in self.box.axes:
            raise InputError(f"no derivative along {axis!r}; the grid has {', '.join(self.box.axes)}")
        at = self.box.axes.index(axis)
        dim = at - len(self.box.axes)
        if u.ndim < -dim or u.shape[dim] != self.box.shape[at]:
            raise InputError(
                f"the grid has {self.box.shape[at]} points along {axis}, "
                f"but the field has the shape {tuple(u.shape)}"
            )
        return at, dim


class Spectral(_BoxDerivative):
    """Spectral derivative: multiplies the waves of a periodic axis by ``(2 pi i k / L)^order``.

    The derivative of odd order of the Nyquist wave is zero.

    Args:
        box: grid; derivatives along axes that are not periodic raise an error.
    """

    def __call__(self, u: Tensor, axis: str, order: int = 1) -> Tensor:
        """Return the derivative.

        Raises:
            InputError: the axis is not periodic, or not an axis of the grid.
        """
        dim, k = self._wave_numbers(u, axis, half=True)
        factor = torch.complex(torch.zeros_like(k), k) ** order
        n = u.shape[dim]
        if n % 2 == 0 and order % 2:
            factor = torch.cat([factor[:-1], torch.zeros_like(factor[:1])])
        result: Tensor = torch.fft.irfft(
            torch.fft.rfft(u, dim=dim) * factor.reshape(-1, *[1] * (-dim - 1)), n=n, dim=dim
        )
        return result

    def inverse_laplacian(self, f: Tensor, axes: Sequence[str] = ("y", "x")) -> Tensor:
        """Return the field of zero mean whose Laplacian along some axes is ``f`` minus its mean.

        Raises:
            InputError: an axis is not periodic, or not an axis of the grid.
        """
        dims = []
        k2 = torch.zeros((), dtype=f.dtype, device=f.device)
        for axis in axes:
            dim, k = self._wave_numbers(f, axis, half=axis == axes[-1])
            dims.append(dim)
            k2 = k2 + (k**2).reshape(-1, *[1] * (-dim - 1))
        scale = torch.where(k2 > 0, -1 / torch.where(k2 > 0, k2, 1.0), 0.0)
        result: Tensor = torch.fft.irfftn(
            torch.fft.rfftn(f, dim=dims) * scale, s=[f.shape[d] for d in dims], dim=dims
        )
        return result

    def _wave_numbers(self, u: Tensor, axis: str, half: bool) -> tuple[int, Tensor]:
        """Return the dimension of an axis and its angular wave numbers; with ``half``, those >= 0."""
        at, dim = self.locate(u, axis)
        if not self.box.periodic[at]:
            raise InputError(
                f"axis {axis} is not periodic, as a spectral derivative requires; "
                "use FiniteDifferences along it"
            )
        frequencies = torch.fft.rfftfreq if half else torch.fft.fftfreq
        n = u.shape[dim]
        return dim, 2 * math.pi * n / self.box.lengths[at] * frequencies(n, dtype=u.dtype, device=u.device)


class FiniteDifferences(_BoxDerivative):
    """Finite differences, exact for polynomials of degree up to ``order + accuracy - 1``.

    Args:
        box: grid.
        accuracy: order of convergence, 2 or 4.

    Raises:
        ValueError: accuracy is neither 2 nor 4.
    """

    def __init__(self, box: Box, accuracy: int = 2) -> None:
        super().__init__(box)
        if accuracy not in (2, 4):
            raise ValueError(f"accuracy must be 2 or 4, got {accuracy}")
        self.accuracy = accuracy

    def __call__(self, u: Tensor, axis: str, order: int = 1) -> Tensor:
        """Return the derivative.

        Raises:
            InputError: the grid has no such axis, or fewer points along it than the stencil.
        """
        at, dim = self.locate(u, axis)
        n = u.shape[dim]
        periodic = self.box.periodic[at]
        scale = self.box.spacing[at] ** -order
        half = (order + 1) // 2 - 1 + self.accuracy // 2
        ends = order + self.accuracy
        if n < (2 * half + 1 if periodic else ends):
            raise InputError(
                f"a derivative of order {order} and accuracy {self.accuracy} along {axis} "
                f"needs more than {n} points"
            )
        centre = _stencil(tuple(range(-half, half + 1)), order)
        if periodic:
            return scale * _sum([w * torch.roll(u, -k, dim) for k, w in enumerate(centre, -half) if w])
        inside = _sum([w * u.narrow(dim, k, n - 2 * half) for k, w in enumerate(centre) if w])
        stencils = [_stencil(tuple(range(-i, ends - i)), order) for i in range(half)]
        first = [_sum([w * u.narrow(dim, k, 1) for k, w in enumerate(stencil)]) for stencil in stencils]
        sign = (-1) ** order  # the far end is the mirror image of the near one
        last = [
            _sum([sign * w * u.narrow(dim, n - 1 - k, 1) for k, w in enumerate(stencil)])
            for stencil in stencils
        ]
        return scale * torch.cat([*first, inside, *reversed(last)], dim)


def _sum(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum(0)


@lru_cache(maxsize=64)
def _stencil(offsets: tuple[int, ...], order: int) -> tuple[float, ...]:
    """Return weights w of a finite-difference stencil.

    ``sum_k w_k p(k) = p^(order)(0)`` over the offsets k, for all polynomials p of degree below their number.
    """
    powers = np.vander(np.array(offsets, dtype=float), increasing=True).T
    right = np.zeros(len(offsets))
    right[order] = math.factorial(order)
    weights = np.linalg.solve(powers, right)
    return tuple(float(w) if abs(w) > 1e-12 else 0.0 for w in weights)


class Collocated:
    """Derivative of the polynomial through the start and the Radau nodes of an interval.

    Args:
        axis: name of the axis.
        length: length of the interval.
        dim: dimension of the start and the nodes in a field, counted from the end (negative).
    """

    def __init__(self, axis: str, length: float, dim: int) -> None:
        self.axis = axis
        self.length = length
        self.dim = dim

    def __call__(self, u: Tensor, axis: str, order: int = 1) -> Tensor:
        """Return the derivative at the start and the nodes.

        Raises:
            InputError: ``axis`` is not the axis of the nodes.
        """
        if axis != self.axis:
            raise InputError(f"no derivative along {axis!r}; these nodes lie along {self.axis!r}")
        matrix = torch.as_tensor(
            differentiation(u.shape[self.dim] - 1) / self.length, dtype=u.dtype, device=u.device
        )
        for _ in range(order):
            u = torch.tensordot(u, matrix, dims=([self.dim], [1])).movedim(-1, self.dim)
        return u


class Mixed:
    """A different kind of derivative for each axis.

    Args:
        kinds: derivative of each axis by name, all of the same grid.
    """

    def __init__(self, kinds: Mapping[str, Derivative]) -> None:
        self.kinds = dict(kinds)

    def __call__(self, u: Tensor, axis: str, order: int = 1) -> Tensor:
        """Return the derivative.

        Raises:
            InputError: there is no derivative along this axis.
        """
        if axis not in self.kinds:
            raise InputError(f"no derivative along {axis!r}; there are {', '.join(self.kinds)}")
        return self.kinds[axis](u, axis, order)

    def inverse_laplacian(self, f: Tensor, axes: Sequence[str] = ("y", "x")) -> Tensor:
        """Return the inverse of the Laplacian along some axes, whose derivatives must all be spectral.

        Raises:
            InputError: the derivative along one of the axes is not spectral.
        """
        kinds = [self.kinds.get(axis) for axis in axes]
        for axis, kind in zip(axes, kinds, strict=True):
            if not isinstance(kind, Spectral):
                raise InputError(f"the Laplacian is inverted spectrally; the derivative along {axis} is not")
        assert isinstance(kinds[-1], Spectral)
        return kinds[-1].inverse_laplacian(f, axes)


class FiniteVolumes:
    """Divergence of a diffusive flux on the last two axes of a regular grid of nodes.

    The coefficient between two nodes is their harmonic mean, which keeps the flux continuous where the
    coefficient jumps.

    Args:
        spacing: distance between nodes, the same along both axes or one each.
    """

    def __init__(self, spacing: float | Sequence[float]) -> None:
        self.spacing = tuple(spacing) if isinstance(spacing, Sequence) else (spacing, spacing)

    def flux_divergence(self, u: Tensor, a: Tensor) -> Tensor:
        """Return ``div(a grad u)`` at the inner nodes, shape (..., n - 2, m - 2).

        Args:
            u: field, shape (..., n, m).
            a: coefficient, shape (..., n, m).

        Raises:
            InputError: shapes differ or have no inner nodes.
        """
        if u.shape != a.shape or min(u.shape[-2:]) < 3:
            raise InputError(
                "solution and coefficient must have the same shape with at least 3 x 3 nodes, "
                f"got {tuple(u.shape)} and {tuple(a.shape)}"
            )
        divergence = torch.zeros((), dtype=u.dtype, device=u.device)
        for dim, spacing in zip((-2, -1), self.spacing, strict=True):
            other = -3 - dim
            v, b = (t.narrow(other, 1, t.shape[other] - 2) for t in (u, a))
            lower = b.narrow(dim, 0, b.shape[dim] - 1)
            upper = b.narrow(dim, 1, b.shape[dim] - 1)
            flux = 2 * lower * upper / (lower + upper) * torch.diff(v, dim=dim) / spacing
            divergence = divergence + torch.diff(flux, dim=dim) / spacing
        return divergence


class Autograd:
    """Derivatives by automatic differentiation of a function that is evaluated point by point.

    Args:
        coordinates: coordinates by name, each of the shape of u. They require gradients, and u is computed
            from them.
    """

    def __init__(self, coordinates: Mapping[str, Tensor]) -> None:
        self.coordinates = dict(coordinates)

    def __call__(self, u: Tensor, axis: str, order: int = 1) -> Tensor:
        """Return the derivative.

        Raises:
            InputError: there is no such coordinate.
        """
        if axis not in self.coordinates:
            raise InputError(f"no derivative along {axis!r}; there are {', '.join(self.coordinates)}")
        for _ in range(order):
            if not u.requires_grad:
                return torch.zeros_like(u)
            (g,) = torch.autograd.grad(u.sum(), self.coordinates[axis], create_graph=True, allow_unused=True)
            u = torch.zeros_like(u) if g is None else g
        return u
