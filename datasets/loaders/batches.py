"""Batches of consecutive states from a store: the only package of ``datasets`` that imports torch.

Samples are shuffled in pools: some blocks of consecutive times, drawn over the whole period, read together
and mixed in memory. One thread reads the next pool and another makes the next batch while the trainer works.
The order depends on (seed, epoch) alone, so a place in it is a number: the epoch and the batch.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ...fno.batch import Batch
from ...fno.grids import Grid
from ...fno.random import Stream, numpy_generator
from ..forcings import forcings
from ..statistics.climatology import SeasonalCycle
from ..store.fields import Fields

T = TypeVar("T")
Positions = NDArray[np.int64]

POOL = 8  # blocks that are mixed
POOLS_HELD = 3  # one in use, one ready, one being read


@dataclass
class BatchReader:
    """Read the states, background and forcing of given times.

    Attributes:
        fields: states.
        cycle: background.
        grid: grid of both.
        step: time step.
        pin: keep batches in page-locked memory, for asynchronous copies to a GPU.
    """

    fields: Fields
    cycle: SeasonalCycle
    grid: Grid
    step: np.timedelta64
    pin: bool = False

    def read(self, starts: Positions, length: int) -> Batch:
        """Return a batch of ``length`` consecutive times from each position in ``starts``."""
        return self.batch(starts, length, self.pool(starts, length))

    def pool(self, starts: Positions, length: int) -> "Pool":
        """Return all states that samples from ``starts`` need."""
        positions = np.unique(starts[:, None] + np.arange(length))
        return Pool(positions, self.fields.read(positions))

    def batch(self, starts: Positions, length: int, pool: "Pool") -> Batch:
        """Return a batch of the states in ``pool``."""
        positions = starts[:, None] + np.arange(length)
        times = self.fields.times[positions.ravel()]
        state = pool.states[np.searchsorted(pool.positions, positions)]
        background, forcing = self.cycle.at(times), forcings(times, self.grid, self.step)
        parts = [state, *(part.reshape(*positions.shape, *part.shape[1:]) for part in (background, forcing))]
        tensors = [torch.from_numpy(part) for part in parts]
        return Batch(*(t.pin_memory() if self.pin else t for t in tensors))


@dataclass(frozen=True)
class Pool:
    """States that were read together: positions in time, sorted, and the fields there."""

    positions: Positions
    states: NDArray[np.float32]


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
        block: samples are shuffled in blocks of this many consecutive times, the blocks among each other and
            the samples within each pool of ``POOL`` blocks, so that a time is read about once an epoch. 1
            shuffles freely.
        rank: number of this process, of ``ranks`` that train together; no two get the same block, or sample.
        ranks: number of processes.
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
    rank: int = 0
    ranks: int = 1

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
            raise ValueError(f"the training period has no {self.window + 1} consecutive times; extend it")
        if self.samples_per_epoch:
            samples = min(samples, self.samples_per_epoch)
        return max(1, samples // (self.batch_size * self.ranks))

    def epoch(self, epoch: int, rollout: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from number ``start`` on; a rollout too long for the period is
        shortened.
        """
        while rollout > 1 and not len(self.starts(self.train, self.window + rollout)):
            rollout -= 1
        length = self.window + rollout
        order, cuts = self._shuffle(
            self.starts(self.train, length), numpy_generator(self.seed, Stream.SAMPLE_ORDER, epoch)
        )
        first, last = start * self.batch_size, self.steps_per_epoch() * self.batch_size
        order = np.resize(order, max(last, len(order)))
        pools = np.split(order[first:last], [cut - first for cut in cuts if first < cut < last])
        return prefetch(self._batches(pools, length))

    def _batches(self, pools: list[Positions], length: int) -> Iterator[Callable[[], Batch]]:
        with closing(prefetch((partial(self.reader.pool, p, length) for p in pools), ahead=1)) as read:  # type: ignore[type-var]
            for starts, pool in zip(pools, read, strict=True):
                for i in range(0, len(starts), self.batch_size):
                    yield partial(self.reader.batch, starts[i : i + self.batch_size], length, pool)

    def validation(self, steps: int, samples: int) -> Iterator[Batch]:
        """Yield batches that cover the validation period evenly; shorter rollouts where it is short, none
        where it is empty.
        """
        period = self.validation_period
        while steps > 1 and len(self.starts(period, self.window + steps)) < 4:
            steps -= 1
        starts = self.starts(period, self.window + steps)
        if len(starts):
            chosen = starts[
                np.unique(np.linspace(0, len(starts) - 1, min(samples, len(starts))).round().astype(int))
            ]
            for i in range(0, len(chosen), self.batch_size):
                yield self.reader.read(chosen[i : i + self.batch_size], self.window + steps)

    def _shuffle(self, starts: Positions, rng: np.random.Generator) -> tuple[Positions, Positions]:
        """Return this rank's samples in order, and where in it pools end: between batches."""
        if self.block <= 1:
            order = starts[rng.permutation(len(starts))][self.rank :: self.ranks]
            return order, np.arange(1, self.steps_per_epoch()) * self.batch_size
        blocks = np.array_split(starts, max(self.ranks, len(starts) // self.block))
        mine = [blocks[i] for i in rng.permutation(len(blocks))][self.rank :: self.ranks]
        pools = [rng.permutation(np.concatenate(mine[i : i + POOL])) for i in range(0, len(mine), POOL)]
        ends = np.cumsum(
            [len(pool) for pool in pools]
            * -(-self.steps_per_epoch() * self.batch_size // max(1, sum(map(len, pools))))
        )
        return np.concatenate(pools), np.unique(ends // self.batch_size * self.batch_size)


def prefetch(tasks: Iterator[Callable[[], T]], ahead: int = 2) -> Iterator[T]:
    """Yield the results of ``tasks`` in order, computed by a thread while those before are used, up to
    ``ahead`` kept ready.

    An error in a task is raised where its result would have come. Closing the generator ends the thread, and
    closes ``tasks``.
    """
    results: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=ahead)
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
        finally:
            if isinstance(tasks, Generator):
                tasks.close()

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
