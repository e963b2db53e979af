"""Local branch of a Fourier layer: finite differences over a fixed distance, with learned channel mixing."""

import math
from collections.abc import Mapping, MutableMapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..precision import full_precision
from ..transforms.tables import table, table_builder
from .padding import Period, cubic_weights

_REFERENCE = 256  # points of a period on the reference grid, by default


class FiniteDifference(nn.Module):
    """Learned combination of first and second derivatives along each axis.

        y = sum_d s_d A_d dx/dz_d + s_d^2 B_d d^2x/dz_d^2

    by second-order differences, central inside and one-sided at the edges of axes that are not periodic,
    where they are exact for quadratic fields too. The derivatives are those of Liu-Schiaffini et al. 2024
    (arXiv:2402.16845).

    The period of an axis is 2 pi in z: that of a padded axis is its padded period, and z spans 2 pi from edge
    to edge on an axis that is neither periodic nor padded. The length s_d is the spacing of a fixed reference
    grid.

    With ``reference``, grids finer than it use differences over the same distance s_d, between interpolated
    values: one bounded operator at every resolution, with the response to white noise of the reference grid,
    and of second order in s_d. Differences of neighbours would grow without bound on fields that have no
    second derivative. Without ``reference`` they are taken between neighbours on every grid and converge to
    derivatives, on smooth fields only.

    On padded axes the differences are taken inside the domain, and the result is extended over the margin
    like the field.

    Axes that are not periodic need three points for the stated order. With two, the second derivative is zero
    and the first is that of the line; with one, both are zero.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        axes: for each axis True (periodic), False (not periodic, nodes on both edges) or its padded
            ``Period``.
        reference: points of a period on the reference grid, one for each axis; without it s_d is 2 pi / 256.

    Raises:
        ValueError: ``reference`` and ``axes`` differ in length.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        axes: Sequence[bool | Period],
        *,
        reference: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.axes = tuple(axes)
        self.reference = None if reference is None else tuple(reference)
        self.lengths = tuple(2 * torch.pi / n for n in reference or [_REFERENCE] * len(self.axes))
        if len(self.lengths) != len(self.axes):
            raise ValueError(f"reference has {len(self.lengths)} entries, there are {len(self.axes)} axes")
        terms = 2 * len(self.axes)
        self.matrices = nn.Parameter(
            0.1 / (terms * in_channels) ** 0.5 * torch.randn(terms, in_channels, out_channels)
        )
        self.register_load_state_dict_pre_hook(_on_load)  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """Return channels, axes and reference grid."""
        _, inward, outward = self.matrices.shape
        return f"{inward}, {outward}, axes={self.axes}, reference={self.reference}"

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Apply to ``x``, shape (batch, in_channels, *grid), in at least float32.

        Args:
            x: field, on the uniform grids of the padded periods if ``size`` is specified, otherwise on the
                points of the domain.
            size: points of the domain along each axis.

        Raises:
            InputError: ``x`` is complex.
        """
        return full_precision(partial(self._combine, size=size), x, self.matrices)

    def _combine(self, x: Tensor, size: Sequence[int] | None) -> Tensor:
        x = x.movedim(1, -1)
        padded = [(d + 1, p) for d, p in enumerate(self.axes) if size is not None and isinstance(p, Period)]
        for dim, period in padded:
            x = period.restrict(x, dim, int(size[dim - 1]))  # type: ignore[index]
        y: Tensor | None = None
        for d in range(len(self.axes)):
            y = self.along(x, d, y)
        assert y is not None
        for dim, period in padded:
            y = period.extend(y, dim)
        return y.movedim(-1, 1)

    def along(self, x: Tensor, d: int, y: Tensor | None = None) -> Tensor:
        """Return the terms of one axis, added to ``y``.

        Args:
            x: field on the points of the domain, shape (batch, *grid, channel).
            d: number of the axis.
            y: terms of other axes.
        """
        axis = self.axes[d]
        n = len(range(x.shape[d + 1]))
        wide = self.reference is not None and _is_finer(axis, n, self.reference[d])
        step = 1.0 if wide else self.lengths[d] / _spacing(axis, n)
        if self.reference is not None and wide:
            first, second = _wide_differences(x, d + 1, axis, reference=self.reference[d])
        else:
            first, second = _differences(x, d + 1, periodic=axis is True)
        for order, term in ((1, first), (2, second)):
            part = torch.matmul(term, step**order * self.matrices[2 * d + order - 1].to(x.dtype))
            y = part if y is None else y + part
        assert y is not None
        return y

    def upgraded(self, tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """Return a state dict with the weights of the first version of this layer converted.

        Those multiplied d/dz and d^2/dz^2 without the factors s_d and s_d^2.

        Args:
            tensors: tensors by name.
            prefix: prefix of the names of this layer's tensors.
        """
        new = dict(tensors)
        if (old := new.pop(f"{prefix}weight", None)) is not None:
            scale = torch.tensor(
                [length**order for length in self.lengths for order in (1, 2)], dtype=torch.float64
            )
            new[f"{prefix}matrices"] = (old.double().cpu() / scale[:, None, None]).to(old)
        return new


def _on_load(module: nn.Module, state: MutableMapping[str, Any], prefix: str, *_: Any) -> None:
    """Convert the weights of the first version in place, before they are loaded."""
    assert isinstance(module, FiniteDifference)
    if f"{prefix}weight" in state:
        new = module.upgraded(state, prefix)
        del state[f"{prefix}weight"]
        state[f"{prefix}matrices"] = new[f"{prefix}matrices"]


def _spacing(axis: bool | Period, n: int) -> float:
    """Return the spacing of ``n`` points of the domain."""
    if isinstance(axis, Period):
        return 2 * torch.pi * axis.share[1] / (axis.share[0] * axis.intervals(n))
    return 2 * torch.pi / (n if axis else max(n - 1, 1))


def _distance(axis: bool | Period, n: int, reference: int) -> tuple[int, int]:
    """Return the ratio of the reference spacing to that of ``n`` points, as numerator and denominator."""
    if isinstance(axis, Period):
        return axis.share[0] * axis.intervals(n), axis.share[1] * reference
    return (n if axis else n - 1), reference


def _is_finer(axis: bool | Period, n: int, reference: int) -> bool:
    """Return whether the grid is finer than the reference, and the domain long enough for the stencils."""
    a, b = _distance(axis, n, reference)
    return a > b and (n - 1) * b >= 3 * a


def _wide_differences(x: Tensor, dim: int, axis: bool | Period, *, reference: int) -> tuple[Tensor, Tensor]:
    """Return the first and second differences over the spacing of the reference grid."""
    n = len(range(x.shape[dim]))
    key = [n, *_distance(axis, n, reference), int(axis is True)]
    rows = x.movedim(dim, -2)
    first, second = (
        torch.matmul(table("wide_difference", [*key, order], x).to(x.dtype), rows).movedim(-2, dim)
        for order in (1, 2)
    )
    return first, second


@table_builder
def wide_difference(
    n: int, numerator: int, denominator: int, periodic: int, order: int
) -> NDArray[np.float64]:
    """Return the matrix of differences over ``numerator / denominator`` spacings, shape (n, n).

    Within that distance of an edge, a difference is the derivative of the polynomial through points at 0, 1,
    2 (and 3) distances from the edge, which equals the one-sided difference on the edge and the central one
    at the end of that interval.

    Args:
        n: number of points.
        numerator: numerator of the distance in spacings.
        denominator: denominator of the distance.
        periodic: whether the axis is periodic, 0 or 1.
        order: order of the differences, 1 or 2.
    """
    distance = Fraction(numerator, denominator)
    central: tuple[float, ...] = (-0.5, 0, 0.5) if order == 1 else (1, -2, 1)
    weights: tuple[float, ...]
    matrix = np.zeros((n, n))
    for j in range(n):
        if periodic:
            for i, w in zip((-1, 0, 1), central, strict=True):
                position = j + i * distance
                start = math.floor(position) - 1
                for k, c in enumerate(cubic_weights(position - start, 4)):
                    matrix[j, (start + k) % n] += w * c
            continue
        q = j / distance
        r = (n - 1 - j) / distance
        if q >= 1 and r >= 1:
            points = [j - distance, Fraction(j), j + distance]
            weights = central
        else:
            sign, near = (1, q) if q < 1 else (-1, r)
            points = [i * distance if q < 1 else n - 1 - i * distance for i in range(order + 2)]
            t = float(near)
            # Derivatives of the Lagrange polynomials through 0, 1, 2 and through 0, 1, 2, 3.
            weights = (t - 1.5, 2 - 2 * t, t - 0.5) if order == 1 else (2 - t, 3 * t - 5, 4 - 3 * t, t - 1)
            weights = tuple(sign**order * w for w in weights)
        for position, w in zip(points, weights, strict=True):
            matrix[j] += w * cubic_weights(position, n)
    return matrix


def _differences(x: Tensor, dim: int, periodic: bool) -> tuple[Tensor, Tensor]:
    """Return the first and second derivatives times the spacing and its square."""
    n = x.shape[dim]
    if periodic:
        after, before = x.roll(-1, dim), x.roll(1, dim)
        return (after - before) / 2, after - 2 * x + before
    if n == 1:
        return torch.zeros_like(x), torch.zeros_like(x)
    at = [x.narrow(dim, i, 1) for i in range(min(n, 4))]
    end = [x.narrow(dim, n - 1 - i, 1) for i in range(min(n, 4))]
    if n == 2:
        return torch.cat([at[1] - at[0]] * 2, dim), torch.zeros_like(x)
    before, centre, after = (x.narrow(dim, i, n - 2) for i in range(3))
    inner = after - 2 * centre + before
    first = [
        (-3 * at[0] + 4 * at[1] - at[2]) / 2,
        (after - before) / 2,
        (3 * end[0] - 4 * end[1] + end[2]) / 2,
    ]
    edges = [2 * e[0] - 5 * e[1] + 4 * e[2] - e[3] if n > 3 else inner for e in (at, end)]
    return torch.cat(first, dim), torch.cat([edges[0], inner, edges[1]], dim)
