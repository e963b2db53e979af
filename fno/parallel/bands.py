"""Latitude bands: the rows of a grid divided among the processes of a group."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import InputError
from .collectives import exchange, shares, sum_for_all, sum_of_parts


@dataclass(frozen=True)
class Bands:
    """Contiguous bands of the rows of a grid, one for each process, from the first row on.

    The numbers of rows differ by at most one, so any number of rows can be divided.

    Attributes:
        group: processes that share a grid, in the order of their bands.
        rows: number of rows of the whole grid.

    Raises:
        InputError: a process would have no row.
    """

    group: dist.ProcessGroup
    rows: int

    def __post_init__(self) -> None:
        if self.rows < self.count:
            raise InputError(
                f"{self.rows} rows cannot be divided into {self.count} latitude bands; use fewer bands"
            )

    @property
    def count(self) -> int:
        """Number of bands."""
        return self.group.size()

    @property
    def index(self) -> int:
        """Number of the band of this process, from 0."""
        return self.group.rank()

    @property
    def sizes(self) -> list[int]:
        """Number of rows of each band."""
        return shares(self.rows, self.count)

    @property
    def own(self) -> slice:
        """Rows of the band of this process."""
        start = sum(self.sizes[: self.index])
        return slice(start, start + self.sizes[self.index])

    def of_rows(self, rows: int) -> "Bands":
        """Return the bands of a grid with another number of rows."""
        return Bands(self.group, rows)

    def take(self, x: Tensor, dim: int) -> Tensor:
        """Return the band of this process of a whole field, as a tensor of its own.

        Args:
            x: whole field.
            dim: dimension of the rows.

        Raises:
            InputError: the field has another number of rows.
        """
        if x.shape[dim] != self.rows:
            raise InputError(f"expected {self.rows} rows along dimension {dim}, got {tuple(x.shape)}")
        return x.narrow(dim, self.own.start, self.sizes[self.index]).clone()

    def check(self, x: Tensor, dim: int) -> None:
        """Check that a tensor has the rows of this process's band.

        Raises:
            InputError: another number of rows.
        """
        if x.shape[dim] != self.sizes[self.index]:
            raise InputError(
                f"band {self.index + 1} of {self.count} has {self.sizes[self.index]} of the {self.rows} rows "
                f"of the grid, got a tensor of shape {tuple(x.shape)}"
            )

    def join(self, x: Tensor, *, rows: int, divide: int, sizes: Sequence[int]) -> Tensor:
        """Return all rows of a part of another dimension, which is divided instead; see ``exchange``.

        Args:
            x: band of a field.
            rows: dimension of the rows.
            divide: dimension to divide among the processes.
            sizes: size of the part of each process.
        """
        self.check(x, rows)
        return exchange(x, self.group, divide=divide, sizes=sizes, join=rows, join_sizes=self.sizes)

    def divide(self, x: Tensor, *, rows: int, join: int, sizes: Sequence[int]) -> Tensor:
        """Return the band of a field of which each process has all rows: the inverse of ``join``.

        Args:
            x: part of a field with all its rows.
            rows: dimension of the rows.
            join: dimension that is divided among the processes, to be joined.
            sizes: size of the part of each process.
        """
        return exchange(x, self.group, divide=rows, sizes=self.sizes, join=join, join_sizes=sizes)

    def gather(self, x: Tensor, dim: int) -> Tensor:
        """Return the whole field from its bands, on every process; not differentiable.

        Args:
            x: band of the field.
            dim: dimension of the rows.
        """
        self.check(x, dim)
        longest = max(self.sizes)
        rows = x.detach().movedim(dim, 0)
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(parts, padded, group=self.group)
        return torch.cat([part[:n] for part, n in zip(parts, self.sizes, strict=True)]).movedim(0, dim)

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean over the grid of each sample and channel, for use on every band.

        Args:
            x: band of fields, shape (batch, rows, columns, channel).

        Returns:
            Shape (batch, 1, 1, channel).
        """
        return sum_for_all(x.sum((1, 2), keepdim=True), self.group) / (self.rows * x.shape[2])

    def total(self, x: Tensor) -> Tensor:
        """Return the sum over the bands of a quantity from which a loss is computed."""
        return sum_of_parts(x, self.group)
