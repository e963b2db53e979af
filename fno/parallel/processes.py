"""The processes that train one model together, and what they agree on.

Each process computes on its part of every batch. Decisions that depend on a clock, a signal or a file are
agreed on, so that all processes take the same steps. Agreement uses the gloo backend, on CPUs.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

# Backends raise a bare RuntimeError; only its text tells a lost connection from an error of the program.
_LOST = re.compile(
    r"connection (closed|reset|refused|was)|broken pipe|timed out|gloo/|nccl|network error", re.IGNORECASE
)


class ProcessLostError(OSError):
    """Another process of the same training ended, or did not answer in time."""


@dataclass(frozen=True)
class Processes:
    """The processes of a training run, as one of them sees them.

    Attributes:
        rank: number of this process, from 0; process 0 writes files.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> "Processes":
        """Return the processes of torch's default process group; a single one if there is none."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def leads(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.rank == 0

    def largest(self, value: int) -> int:
        """Return the largest value of all processes."""
        if self.count == 1:
            return value
        tensor = torch.tensor([value])
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return int(tensor)

    def any(self, value: bool) -> bool:
        """Return whether a value is true on any process."""
        return bool(self.largest(int(value)))

    def sums(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the sum over the processes of each value; the names are the same on all of them."""
        if self.count == 1 or not values:
            return dict(values)
        tensor = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(tensor)
        return dict(zip(values, tensor.tolist(), strict=True))

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor on the CPU over the processes."""
        if self.count > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the mean of a tensor over the processes, without gradient."""
        if self.count == 1:
            return tensor
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total / self.count

    def from_leader(self, value: T) -> T:
        """Return the value of process 0."""
        if self.count == 1:
            return value
        values: list[T] = [value]
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def wait(self) -> None:
        """Wait until all processes have come here."""
        self.largest(0)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Turn errors of communication inside the context into one that names the cause.

        Raises:
            ProcessLostError: another process ended, or did not answer in time.
        """
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not (isinstance(error, dist.DistError) or _LOST.search(str(error))):
                raise
            raise ProcessLostError(
                f"another one of the {self.count} processes of this training ended or does not answer, so "
                "this one ends too; the saved state is kept, and the same command resumes from it"
            ) from error
