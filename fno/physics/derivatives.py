"""Derivatives of fields, behind one call: ``d(u, axis, order)``.

Axes have names. A tensor of shape (..., *grid) has the grid's axes last, in the order that the derivative was
made with. Equations
are written once and take any of these:

- ``Spectral``: exact for periodic fields that the grid resolves;
- ``FiniteDifferences``: of second or fourth order, with one-sided stencils of the same order where an axis
does not wrap;
- ``Collocated``: exact for polynomials through the Radau nodes of a window of time;
- ``Mixed``: another kind for each axis, such as differences in time and spectral in space;
- ``Autograd``: of a function of coordinates.
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
    """What equations call."""

    def __call__(self, u: Tensor, axis: str, order: int = 1) -> Tensor:
        """Return the derivative of ``u`` of some order along an axis."""


class _OnBox:
    """The axes of a box are the last ones of a tensor.

    Args:
        box: grid.
    """

    def __init__(self, box: Box) -> None:
        self.box = box

    def along(self, u: Tensor, axis: str) -> tuple[int, int]:
        """Return the position of an axis in the box and its dimension in ``u``, counted from the end.

        Raises:
            InputError: no such axis, or ``u`` has another number of points along it.
        """
        if axis not in self.box.axes:
            raise InputError(f"no derivative along {axis!r}; the grid has {', '.join(self.box.axes)}")
        at = self.box.axes.index(axis)
        dim = at - len(self.box.axes)
        if u.ndim < -dim or u.shape[dim] != self.box.shape[at]:
            raise InputError(
                f"the grid has {self.box.shape[at]} points along {axis}, a field of shape {tuple(u.shape)} has not"
            )
        return at, dim


class Spectral(_OnBox):
    """Multiply the waves of a periodic axis by ``(2 pi i k / L)^order``; of odd orders the Nyquist wave has
    none.

    Args:
        box: grid; axes that do not wrap are refused when a derivative along them is asked for.
    """

    def __call__(self, u: Tensor, axis: str, order: int = 1) -> Tensor:
        """Return the derivative.

        Raises:
            InputError: the axis does not wrap, or is none of the grid's.
        """
        dim, k = self._waves(u, axis, half=True)
        factor = torch.complex(torch.zeros_like(k), k) ** order
        n = u.shape[dim]
        if n % 2 == 0 and order % 2:
            factor = torch.cat([factor[:-1], torch.zeros_like(factor[:1])])
        result: Tensor = torch.fft.irfft(
            torch.fft.rfft(u, dim=dim) * factor.reshape(-1, *[1] * (-dim - 1)), n=n, dim=dim
        )
        return result

    def inverse_laplacian(self, f: Tensor, axes: Sequence[str] = ("y", "x")) -> Tensor:
        """Return the field without mean whose Laplacian along some axes is ``f`` without its mean.

        Raises:
            InputError: an axis does not wrap, or is none of the grid's.
        """
        dims, k2 = [], torch.zeros((), dtype=f.dtype, device=f.device)
        for axis in axes:
            dim, k = self._waves(f, axis, half=axis == axes[-1])
            dims.append(dim)
            k2 = k2 + (k**2).reshape(-1, *[1] * (-dim - 1))
        scale = torch.where(k2 > 0, -1 / torch.where(k2 > 0, k2, 1.0), 0.0)
        result: Tensor = torch.fft.irfftn(
            torch.fft.rfftn(f, dim=dims) * scale, s=[f.shape[d] for d in dims], dim=dims
        )
        return result

    def _waves(self, u: Tensor, axis: str, half: bool) -> tuple[int, Tensor]:
        at, dim = self.along(u, axis)
        if not self.box.periodic[at]:
            raise InputError(
                f"axis {axis} does not wrap, and a spectral derivative needs one that does; use FiniteDifferences along it"
            )
        frequencies = torch.fft.rfftfreq if half else torch.fft.fftfreq
        n = u.shape[dim]
        return dim, 2 * math.pi * n / self.box.lengths[at] * frequencies(n, dtype=u.dtype, device=u.device)


class FiniteDifferences(_OnBox):
    """Weighted sums of neighbours, exact for polynomials up to ``order + accuracy - 1``.

    Args:
        box: grid.
        accuracy: power of the spacing that the error falls with: 2 or 4.

    Raises:
        ValueError: another accuracy.
    """

    def __init__(self, box: Box, accuracy: int = 2) -> None:
        super().__init__(box)
        if accuracy not in (2, 4):
            raise ValueError(f"accuracy must be 2 or 4, got {accuracy}")
        self.accuracy = accuracy

    def __call__(self, u: Tensor, axis: str, order: int = 1) -> Tensor:
        """Return the derivative.

        Raises:
            InputError: no such axis, or fewer points than the stencil has.
        """
        at, dim = self.along(u, axis)
        n, wraps, scale = u.shape[dim], self.box.periodic[at], self.box.spacing[at] ** -order
        half = (order + 1) // 2 - 1 + self.accuracy // 2
        ends = order + self.accuracy
        if n < (2 * half + 1 if wraps else ends):
            raise InputError(
                f"a derivative of order {order} and accuracy {self.accuracy} along {axis} needs more than {n} points"
            )
        centre = _stencil(tuple(range(-half, half + 1)), order)
        if wraps:
            return scale * _sum([w * torch.roll(u, -k, dim) for k, w in enumerate(centre, -half) if w])
        inside = _sum([w * u.narrow(dim, k, n - 2 * half) for k, w in enumerate(centre) if w])
        stencils = [_stencil(tuple(range(-i, ends - i)), order) for i in range(half)]
        first = [_sum([w * u.narrow(dim, k, 1) for k, w in enumerate(stencil)]) for stencil in stencils]
        sign = (-1) ** order  # the far end is the near one in a mirror
        last = [
            _sum([sign * w * u.narrow(dim, n - 1 - k, 1) for k, w in enumerate(stencil)])
            for stencil in stencils
        ]
        return scale * torch.cat([*first, inside, *reversed(last)], dim)


def _sum(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum(0)


@lru_cache(maxsize=64)
def _stencil(offsets: tuple[int, ...], order: int) -> tuple[float, ...]:
    """Return weights w with ``sum_k w_k p(k) = p^(order)(0)`` for all polynomials of lower degree than there
    are offsets.
    """
    powers = np.vander(np.array(offsets, dtype=float), increasing=True).T
    right = np.zeros(len(offsets))
    right[order] = math.factorial(order)
    weights = np.linalg.solve(powers, right)
    return tuple(float(w) if abs(w) > 1e-12 else 0.0 for w in weights)


class Collocated:
    """Differentiate the polynomial through the start and the Radau nodes of an interval.

    Args:
        axis: its name.
        length: of the interval.
        dim: dimension of a field that holds the nodes, counted from the end.
    """

    def __init__(self, axis: str, length: float, dim: int) -> None:
        self.axis, self.length, self.dim = axis, length, dim

    def __call__(self, u: Tensor, axis: str, order: int = 1) -> Tensor:
        """Return the derivative at the nodes.

        Raises:
            InputError: another axis.
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
    """Another derivative for each axis.

    Args:
        kinds: derivative of each axis by name; all must be made for the same grid.
    """

    def __init__(self, kinds: Mapping[str, Derivative]) -> None:
        self.kinds = dict(kinds)

    def __call__(self, u: Tensor, axis: str, order: int = 1) -> Tensor:
        """Return the derivative."""
        if axis not in self.kinds:
            raise InputError(f"no derivative along {axis!r}; there are {', '.join(self.kinds)}")
        return self.kinds[axis](u, axis, order)


class Autograd:
    """Derivatives of a function of coordinates, at points that do not know of each other.

    Args:
        coordinates: tensors that require gradients and that u was computed from, by name, each of the shape
            of u.
    """

    def __init__(self, coordinates: Mapping[str, Tensor]) -> None:
        self.coordinates = dict(coordinates)

    def __call__(self, u: Tensor, axis: str, order: int = 1) -> Tensor:
        """Return the derivative."""
        if axis not in self.coordinates:
            raise InputError(f"no derivative along {axis!r}; there are {', '.join(self.coordinates)}")
        for _ in range(order):
            if not u.requires_grad:
                return torch.zeros_like(u)
            (g,) = torch.autograd.grad(u.sum(), self.coordinates[axis], create_graph=True, allow_unused=True)
            u = torch.zeros_like(u) if g is None else g
        return u
