"""Batches of consecutive states from a store: the only module here that knows torch.

A batch is one threaded dask compute of the times it needs, made one ahead of the trainer by a thread. The order
depends on (seed, epoch) alone, so a place in it is a number: the epoch and the batch.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..fno.batch import Batch
from ..fno.grids import LatLon
from .climatology import SeasonalCycle
from .fields import Fields
from .forcings import forcings

T = TypeVar("T")
Positions = NDArray[np.int64]


@dataclass
class BatchReader:
    """Read the states, background and forcing of given times.

    Attributes:
        fields: states.
        cycle: background.
        grid: grid of both.
        step: time step.
    """

    fields: Fields
    cycle: SeasonalCycle
    grid: LatLon
    step: np.timedelta64

    def read(self, starts: Positions, length: int) -> Batch:
        """Return a batch of ``length`` consecutive times from each position in ``starts``."""
        positions = starts[:, None] + np.arange(length)
        unique, inverse = np.unique(positions, return_inverse=True)
        times = self.fields.times[unique]
        parts = self.fields.read(unique), self.cycle.at(times), forcings(times, self.grid, self.step)
        return Batch(*(torch.from_numpy(part[inverse.reshape(positions.shape)]) for part in parts))


@dataclass
class StoreBatches:
    """Training and validation batches of a store: a ``BatchSource`` of the training loop.

    Attributes:
        reader: reads states and what goes with them.
        train: positions in time to train on.
        validation_period: positions to validate on.
        gaps: positions that a gap comes before; no sample crosses one.
        window: input states.
        batch_size: samples of a batch.
        seed: seed of the order.
        samples_per_epoch: most samples of an epoch; 0 for all.
        block: samples are shuffled in blocks of this many consecutive times, the blocks among each other and the
            samples within each few blocks, so that a shard is read once or twice an epoch. 1 shuffles freely.
    """

    reader: BatchReader
    train: slice
    validation_period: slice
    gaps: list[int]
    window: int
    batch_size: int
    seed: int = 0
    samples_per_epoch: int = 0
    block: int = 1

    def starts(self, period: slice, length: int) -> Positions:
        """Return where ``length`` consecutive times begin that lie in ``period`` and cross no gap."""
        starts = np.arange(period.start, period.stop - length + 1)
        for gap in self.gaps:
            starts = starts[(starts + length <= gap) | (starts >= gap)]
        return starts

    def steps_per_epoch(self) -> int:
        """Return the batches of an epoch: those of one-step samples, whatever the rollout.

        Raises:
            ValueError: no sample fits into the training period.
        """
        samples = len(self.starts(self.train, self.window + 1))
        if samples == 0:
            raise ValueError(f"the training period holds no {self.window + 1} consecutive times; make it longer")
        if self.samples_per_epoch:
            samples = min(samples, self.samples_per_epoch)
        return max(1, samples // self.batch_size)

    def epoch(self, epoch: int, rollout: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from number ``start`` on; a rollout too long for the period is shortened."""
        while rollout > 1 and not len(self.starts(self.train, self.window + rollout)):
            rollout -= 1
        starts = self.starts(self.train, self.window + rollout)
        order = self._shuffle(len(starts), np.random.default_rng((self.seed, epoch)))
        number = self.steps_per_epoch()
        order = np.resize(order, number * self.batch_size) if number * self.batch_size > len(order) else order
        groups = [starts[order[i * self.batch_size : (i + 1) * self.batch_size]] for i in range(start, number)]
        return prefetch(partial(self.reader.read, group, self.window + rollout) for group in groups)

    def validation(self, steps: int, samples: int) -> Iterator[Batch]:
        """Yield batches that cover the validation period evenly; shorter rollouts where it is short, none where it is empty."""
        period = self.validation_period
        while steps > 1 and len(self.starts(period, self.window + steps)) < 4:
            steps -= 1
        starts = self.starts(period, self.window + steps)
        if len(starts):
            chosen = starts[np.unique(np.linspace(0, len(starts) - 1, min(samples, len(starts))).round().astype(int))]
            for i in range(0, len(chosen), self.batch_size):
                yield self.reader.read(chosen[i : i + self.batch_size], self.window + steps)

    def _shuffle(self, count: int, rng: np.random.Generator) -> Positions:
        if self.block <= 1:
            return rng.permutation(count)
        blocks = np.array_split(np.arange(count), max(1, count // self.block))
        order = [blocks[i] for i in rng.permutation(len(blocks))]
        pools = [np.concatenate(order[i : i + 4]) for i in range(0, len(order), 4)]
        return np.concatenate([rng.permutation(pool) for pool in pools])


def prefetch(tasks: Iterator[Callable[[], T]]) -> Iterator[T]:
    """Yield the results of ``tasks`` in order, each computed by a thread while the one before it is used.

    An error in a task is raised where its result would have come. Closing the generator ends the thread.
    """
    results: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=2)
    stopped = threading.Event()

    def offer(item: tuple[T | None, BaseException | None]) -> None:
        while not stopped.is_set():
            try:
                return results.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for task in tasks:
                offer((task(), None))
                if stopped.is_set():
                    return
            offer((None, StopIteration()))
        except BaseException as error:  # noqa: BLE001 (handed to the consumer, whatever it is)
            offer((None, error))

    thread = threading.Thread(target=work, daemon=True, name="prefetch")
    thread.start()
    try:
        while True:
            result, error = results.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield result  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
