"""A local branch: finite differences with learned channels, which converge to derivatives as the grid refines."""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .padding import Period

_REFERENCE = 256


class FiniteDifference(nn.Module):
    """Learned combination of first and second derivatives along each axis.

        y = sum_d s_d A_d dx/dz_d + s_d^2 B_d d^2x/dz_d^2

    by differences of second order in the spacing: central inside, one-sided at the edges of axes that are not periodic, where
    they are exact on quadratic fields too. The derivatives are those of Liu-Schiaffini et al. 2024 (arXiv:2402.16845).

    The period of an axis is 2 pi in z: that of a padded axis is its padded period, and z spans 2 pi from edge to edge on an axis
    that is neither periodic nor padded. The length s_d is the spacing of a fixed reference grid, so that the operator does not
    depend on the grid of the input. On the reference grid the terms are plain differences of neighbours: on white noise they are
    as large at first as the field times the weights. On a grid k times finer, white noise (not a smooth field) gives
    derivatives up to k^2 times larger.

    On padded axes the differences are taken inside the domain, and the result is continued over the margin like the field.

    Axes that are not periodic need three points for the order stated; of two, the second derivative is zero and the first is
    that of the line; of one, both are zero.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        axes: for each axis, True: periodic; False: not periodic, nodes on both edges; or its padded ``Period``.
        reference: points of a period on the reference grid, one for each axis; 256 by default.
    """

    def __init__(self, in_channels: int, out_channels: int, axes: Sequence[bool | Period], reference: Sequence[int] | None = None) -> None:
        super().__init__()
        self.axes = tuple(axes)
        self.lengths = tuple(2 * torch.pi / n for n in reference or [_REFERENCE] * len(self.axes))
        if len(self.lengths) != len(self.axes):
            raise ValueError(f"reference has {len(self.lengths)} entries, there are {len(self.axes)} axes")
        terms = 2 * len(self.axes)
        self.matrices = nn.Parameter(0.1 / (terms * in_channels) ** 0.5 * torch.randn(terms, in_channels, out_channels))
        self.register_load_state_dict_pre_hook(_on_load)

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Apply to ``x``, shape (batch, in_channels, *grid).

        Args:
            x: field; on the uniform grids of the periods where ``size`` is given, else on the points of the domain.
            size: points of the domain along each axis.
        """
        x = x.movedim(1, -1)
        padded = [(d + 1, p) for d, p in enumerate(self.axes) if size is not None and isinstance(p, Period)]
        for dim, period in padded:
            x = period.restrict(x, dim, int(size[dim - 1]))  # type: ignore[index]
        y: Tensor | None = None
        for d, (axis, length) in enumerate(zip(self.axes, self.lengths, strict=True)):
            step = length / _spacing(axis, x.shape[d + 1])
            first, second = _differences(x, d + 1, periodic=axis is True)
            for order, term in ((1, first), (2, second)):
                part = torch.matmul(term, step**order * self.matrices[2 * d + order - 1])
                y = part if y is None else y + part
        assert y is not None
        for dim, period in padded:
            y = period.extend(y, dim)
        return y.movedim(-1, 1)

    def upgraded(self, tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """Return ``tensors`` with weights of the first version, which were those of d/dz and d^2/dz^2 alone, in the units of this one."""
        new = dict(tensors)
        if (old := new.pop(f"{prefix}weight", None)) is not None:
            scale = torch.tensor([length**order for length in self.lengths for order in (1, 2)], dtype=torch.float64)
            new[f"{prefix}matrices"] = (old.double().cpu() / scale[:, None, None]).to(old)
        return new


def _on_load(module: nn.Module, state: MutableMapping[str, Any], prefix: str, *_: Any) -> None:
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
    first = [(-3 * at[0] + 4 * at[1] - at[2]) / 2, (after - before) / 2, (3 * end[0] - 4 * end[1] + end[2]) / 2]
    edges = [2 * e[0] - 5 * e[1] + 4 * e[2] - e[3] if n > 3 else inner for e in (at, end)]
    return torch.cat(first, dim), torch.cat([edges[0], inner, edges[1]], dim)
