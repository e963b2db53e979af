"""The part of the data that each process has: some samples of a batch, and a latitude band of their grid."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist

from ..batch import Batch
from ..errors import SettingError
from ..random import PartGenerator
from .bands import Bands
from .processes import Processes


class _Source(Protocol):
    """A source of batches, see ``fno.training.protocols.BatchSource``."""

    def steps_per_epoch(self) -> int:
        """Return the number of batches in an epoch."""

    def epoch(self, epoch: int, rollout: int, start: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""

    def validation(self, steps: int, samples: int) -> Iterator[Batch]:
        """Yield validation batches."""


@dataclass(frozen=True)
class Placement:
    """Samples and rows of a process, in a mesh of processes with the bands of a grid as its fast dimension.

    Attributes:
        processes: all processes.
        bands: number of latitude bands.
    """

    processes: Processes
    bands: int = 1

    def __post_init__(self) -> None:
        if self.processes.count % self.bands:
            raise SettingError(
                f"latitude_bands must divide the number of processes, {self.processes.count}, got "
                f"{self.bands}"
            )

    @property
    def part(self) -> int:
        """Number of the part of a batch that this process has."""
        return self.processes.rank // self.bands

    @property
    def parts(self) -> int:
        """Number of parts of a batch."""
        return self.processes.count // self.bands

    def group(self) -> dist.ProcessGroup:
        """Return the processes that share the grids of this one's samples; all must call it together."""
        groups = [
            dist.new_group(list(range(first, first + self.bands)))
            for first in range(0, self.processes.count, self.bands)
        ]
        group: dist.ProcessGroup = groups[self.part]
        return group

    def generator(
        self, generator: torch.Generator, samples: int, bands: Bands | None = None
    ) -> torch.Generator:
        """Return a generator of the random numbers of this process's part of a batch.

        Args:
            generator: generator of the random numbers of the batch.
            samples: number of samples of the batch.
            bands: latitude bands of the fields.
        """
        if self.processes.count == 1:
            return generator
        own = slice(self.part, None, self.parts)
        rows = None if bands is None else (bands.rows, bands.own)
        return PartGenerator.like(generator, samples, own, rows=rows)


class BandBatches:
    """The latitude bands of batches.

    Args:
        source: source of batches of whole fields.
        bands: latitude bands of the fields.
    """

    def __init__(self, source: _Source, bands: Bands) -> None:
        self.source = source
        self.bands = bands

    def steps_per_epoch(self) -> int:
        """Return the number of batches in an epoch."""
        return self.source.steps_per_epoch()

    def epoch(self, epoch: int, rollout: int, start: int) -> Iterator[Batch]:
        """Yield the bands of the batches of an epoch."""
        batches: Any = self.source.epoch(epoch, rollout, start)
        try:
            for batch in batches:
                yield self._band(batch)
        finally:
            batches.close()

    def validation(self, steps: int, samples: int) -> Iterator[Batch]:
        """Yield the bands of validation batches."""
        for batch in self.source.validation(steps, samples):
            yield self._band(batch)

    def _band(self, batch: Batch) -> Batch:
        return Batch(*(self.bands.take(t, 3) for t in (batch.state, batch.background, batch.forcing)))
