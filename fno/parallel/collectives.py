"""Collective operations that are differentiable: exchanges between processes and sums over them.

The scalar to differentiate is a function of the tensors of all processes of a group. Each process calls
``backward`` on its own copy of that scalar. Then the gradient of a replicated parameter is the sum of the
gradients that the processes obtain.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def shares(n: int, parts: int) -> list[int]:
    """Return the sizes of ``parts`` contiguous parts of ``n`` items, which differ by at most one.

    Args:
        n: number of items.
        parts: number of parts; the first ones are the larger ones.

    Example:
        >>> shares(7, 3)
        [3, 2, 2]
    """
    return [n // parts + (i < n % parts) for i in range(parts)]


def exchange(
    x: Tensor,
    group: dist.ProcessGroup,
    *,
    divide: int,
    sizes: Sequence[int],
    join: int,
    join_sizes: Sequence[int],
) -> Tensor:
    """Divide one dimension among the processes and join another one, by one all-to-all.

    Process r has all of dimension ``divide`` and part r of dimension ``join``; it receives part r of
    dimension ``divide`` and all of dimension ``join``. The adjoint is the exchange in the other direction.

    Args:
        x: tensor of this process.
        group: processes that take part.
        divide: dimension to divide.
        sizes: size of the part of ``divide`` that each process receives.
        join: dimension to join.
        join_sizes: size of the part of ``join`` that each process has.
    """
    result: Tensor = _Exchange.apply(x, group, divide, tuple(sizes), join, tuple(join_sizes))
    return result


class _Exchange(torch.autograd.Function):
    """``exchange``; its derivative is the exchange in the other direction."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        group: dist.ProcessGroup,
        divide: int,
        sizes: tuple[int, ...],
        join: int,
        join_sizes: tuple[int, ...],
    ) -> Tensor:
        ctx.constants = (group, join, join_sizes, divide, sizes)
        rank = group.rank()
        parts = [part.reshape(-1) for part in x.split(list(sizes), divide)]
        shapes = []
        for size in join_sizes:
            shape = list(x.shape)
            shape[divide] = sizes[rank]
            shape[join] = size
            shapes.append(shape)
        counts = [torch.Size(shape).numel() for shape in shapes]
        received = x.new_empty(sum(counts))
        dist.all_to_all_single(
            received, torch.cat(parts), counts, [part.numel() for part in parts], group=group
        )
        blocks = [part.view(shape) for part, shape in zip(received.split(counts), shapes, strict=True)]
        return torch.cat(blocks, dim=join)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (_Exchange.apply(grads[0], *ctx.constants), None, None, None, None, None)


def sum_for_all(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Return the sum over the processes, which every process goes on to use in its own part of the result.

    The adjoint is the same sum of the gradients.

    Args:
        x: tensor of this process.
        group: processes that take part.
    """
    result: Tensor = _SumForAll.apply(x, group)
    return result


class _SumForAll(torch.autograd.Function):
    """``sum_for_all``, its own adjoint."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        total = x.detach().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _SumForAll.apply(grads[0], ctx.group), None


def sum_of_parts(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Return the sum over the processes of the parts of a loss, from which all compute the same scalar.

    The adjoint is the identity, since the copies of the scalar stand for one and the same.

    Args:
        x: part of this process.
        group: processes that take part.
    """
    result: Tensor = _SumOfParts.apply(x, group)
    return result


class _SumOfParts(torch.autograd.Function):
    """``sum_of_parts``, whose adjoint is the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        total = x.detach().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
