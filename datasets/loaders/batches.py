"""Batches of consecutive states from a store.

Samples are shuffled in pools: random blocks of consecutive times that are read together and shuffled in
memory. One thread reads the next pool and another prepares the next batch during a training step. The order
depends only on (seed, epoch), so the epoch and the number of the batch suffice to resume.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
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
from ..errors import DataError
from ..forcings import forcings
from ..statistics.climatology import SeasonalCycle
from ..store.fields import Fields
from ..stored_forcings import StoredForcings
from .samplers import Sampler, sample_order

T = TypeVar("T")
Positions = NDArray[np.int64]

POOL = 8  # blocks in a pool
POOLS_IN_MEMORY = 3  # one in use, one ready, one being read


@dataclass
class BatchReader:
    """Reader of the states, background and forcings of samples.

    Attributes:
        fields: states of the store.
        cycle: seasonal cycle, the background.
        grid: grid of the states.
        step: time step.
        pin: keep batches in page-locked memory, for asynchronous copies to a GPU.
        names: names of the computed forcings; those of the grid by default.
        stored: forcings that are read from the store, after the computed ones.
    """

    fields: Fields
    cycle: SeasonalCycle
    grid: Grid
    step: np.timedelta64
    pin: bool = False
    names: Sequence[str] | None = None
    stored: StoredForcings | None = None

    def read(self, starts: Positions, length: int) -> Batch:
        """Return a batch of samples.

        Args:
            starts: position of the first time of each sample.
            length: number of consecutive times of a sample.
        """
        return self.batch(starts, length, self.pool(starts, length))

    def pool(self, starts: Positions, length: int) -> "Pool":
        """Read the states of samples; arguments as for ``read``."""
        positions = np.unique(starts[:, None] + np.arange(length))
        forcing = None if self.stored is None else self.stored.at(self.fields.times[positions])
        return Pool(positions, self.fields.read(positions), forcing)

    def batch(self, starts: Positions, length: int, pool: "Pool") -> Batch:
        """Return a batch of samples whose states are in ``pool``; other arguments as for ``read``."""
        positions = starts[:, None] + np.arange(length)
        times = self.fields.times[positions.ravel()]
        index = np.searchsorted(pool.positions, positions)
        state = pool.states[index]
        background = self.cycle.at(times)
        forcing = forcings(times, self.grid, self.step, names=self.names)
        if pool.forcing is not None:
            forcing = np.concatenate([forcing, pool.forcing[index.ravel()]], axis=1)
        parts = [state, *(part.reshape(*positions.shape, *part.shape[1:]) for part in (background, forcing))]
        tensors = [torch.from_numpy(part) for part in parts]
        return Batch(*(t.pin_memory() if self.pin else t for t in tensors))


@dataclass(frozen=True)
class Pool:
    """States at some times.

    Attributes:
        positions: sorted positions in time, shape (position,).
        states: states, shape (position, channel, H, W).
        forcing: normalised stored forcings, shape (position, forcing, H, W); None without any.
    """

    positions: Positions
    states: NDArray[np.float32]
    forcing: NDArray[np.float32] | None = None


def consecutive(period: slice, length: int, gaps: list[int]) -> Positions:
    """Return the first positions of all runs of times without a gap.

    Args:
        period: positions of the period that contains the runs.
        length: number of times in a run.
        gaps: positions of the first times after gaps.
    """
    starts = np.arange(period.start, period.stop - length + 1)
    for gap in gaps:
        starts = starts[(starts + length <= gap) | (starts >= gap)]
    return starts


@dataclass
class StoreBatches:
    """Training and validation batches of a store: a ``BatchSource`` of the training loop.

    Attributes:
        reader: reader of samples.
        train: positions in time of the training period.
        validation_period: positions in time of the validation period.
        gaps: positions of the first times after gaps; no sample crosses a gap.
        window: number of input states.
        batch_size: samples per batch, over all processes.
        seed: seed of the order.
        samples_per_epoch: maximum number of samples in an epoch; 0 for all.
        block: number of consecutive samples in a block. Blocks are shuffled, and samples within each pool of
            ``POOL`` blocks, so that each time is read about once in an epoch. 1 shuffles all samples.
        rank: index of this process. A batch has the same samples for any number of processes; this one has
            every ``ranks``-th of them, from number ``rank`` on.
        ranks: number of processes that train together.
        sampler: order of the samples of an epoch; shuffled in blocks by default.

    Raises:
        DataError: more processes than samples in a batch.
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
    sampler: Sampler | None = None

    def __post_init__(self) -> None:
        if self.batch_size < self.ranks:
            raise DataError(
                f"a batch of {self.batch_size} samples cannot be divided among {self.ranks} processes; use "
                "larger batches or fewer processes"
            )

    def starts(self, period: slice, length: int) -> Positions:
        """Return the first positions of all runs of times without a gap.

        Args:
            period: positions of the period that contains the runs.
            length: number of times in a run.
        """
        return consecutive(period, length, self.gaps)

    def steps_per_epoch(self) -> int:
        """Return the number of batches in an epoch, which is that of one-step samples for any rollout.

        Raises:
            ValueError: the training period is too short for a sample.
        """
        samples = len(self.starts(self.train, self.window + 1))
        if samples == 0:
            raise ValueError(f"the training period has no {self.window + 1} consecutive times; extend it")
        if self.samples_per_epoch:
            samples = min(samples, self.samples_per_epoch)
        return max(1, samples // self.batch_size)

    def epoch(self, epoch: int, rollout: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from batch ``start`` on.

        A rollout that is too long for the training period is shortened.
        """
        while rollout > 1 and not len(self.starts(self.train, self.window + rollout)):
            rollout -= 1
        length = self.window + rollout
        order, cuts = self._shuffle(
            self.starts(self.train, length), numpy_generator(self.seed, Stream.SAMPLE_ORDER, epoch)
        )
        first = start * self.batch_size
        last = self.steps_per_epoch() * self.batch_size
        order = np.resize(order, max(last, len(order)))
        pools = np.split(order[first:last], [cut - first for cut in cuts if first < cut < last])
        return prefetch(self._batches(pools, length))

    def _batches(self, pools: list[Positions], length: int) -> Iterator[Callable[[], Batch]]:
        own = [[self._own(batch) for batch in self._cut(pool)] for pool in pools]
        reads = (partial(self.reader.pool, np.concatenate(batches), length) for batches in own)
        with closing(prefetch(reads, ahead=1)) as read:  # type: ignore[type-var]
            for batches, pool in zip(own, read, strict=True):
                for starts in batches:
                    yield partial(self.reader.batch, starts, length, pool)

    def _cut(self, starts: Positions) -> list[Positions]:
        """Return samples batch by batch."""
        return [starts[i : i + self.batch_size] for i in range(0, len(starts), self.batch_size)]

    def _own(self, batch: Positions) -> Positions:
        """Return the samples of a batch that this process has."""
        return batch[self.rank :: self.ranks]

    def validation(self, steps: int, samples: int) -> Iterator[Batch]:
        """Yield batches of samples at even intervals over the validation period, none if it is empty.

        All processes yield the same number of batches, some of which can be empty. The rollout is shortened
        until the period has at least four samples.
        """
        starts, steps = self._validation_starts(steps)
        if len(starts):
            positions = np.linspace(0, len(starts) - 1, min(samples, len(starts)))
            selected = starts[np.unique(positions.round().astype(int))]
            for batch in self._cut(selected):
                part = self._own(batch)
                read = self.reader.read(part if len(part) else batch[:1], self.window + steps)
                yield read.first(len(part))

    def validation_sample(self, steps: int) -> tuple[Batch, np.datetime64] | None:
        """Return the sample in the middle of the validation period, and the last time of its input.

        None without validation data.

        Args:
            steps: number of states after the input window, shortened as for ``validation``.
        """
        starts, steps = self._validation_starts(steps)
        if not len(starts):
            return None
        start = starts[len(starts) // 2 : len(starts) // 2 + 1]
        batch = self.reader.read(start, self.window + steps)
        return batch, self.reader.fields.times[start[0] + self.window - 1]

    def _validation_starts(self, steps: int) -> tuple[Positions, int]:
        """Return the first positions of all validation samples, and their number of steps."""
        period = self.validation_period
        while steps > 1 and len(self.starts(period, self.window + steps)) < 4:
            steps -= 1
        return self.starts(period, self.window + steps), steps

    def _shuffle(self, starts: Positions, rng: np.random.Generator) -> tuple[Positions, Positions]:
        """Return all samples in order, and the ends of pools, rounded down to whole batches."""
        if self.sampler is not None:
            times = self.reader.fields.times[starts]
            order = sample_order(self.sampler, starts, times, rng=rng)
            batches = max(1, self.block * POOL // self.batch_size) if self.block > 1 else 1
            return order, np.arange(batches, self.steps_per_epoch(), batches) * self.batch_size
        if self.block <= 1:
            order = starts[rng.permutation(len(starts))]
            return order, np.arange(1, self.steps_per_epoch()) * self.batch_size
        blocks = np.array_split(starts, max(1, len(starts) // self.block))
        mixed = [blocks[i] for i in rng.permutation(len(blocks))]
        pools = [rng.permutation(np.concatenate(mixed[i : i + POOL])) for i in range(0, len(mixed), POOL)]
        repetitions = -(-self.steps_per_epoch() * self.batch_size // max(1, sum(map(len, pools))))
        ends = np.cumsum([len(pool) for pool in pools] * repetitions)
        return np.concatenate(pools), np.unique(ends // self.batch_size * self.batch_size)


def prefetch(tasks: Iterator[Callable[[], T]], ahead: int = 2) -> Iterator[T]:
    """Yield the results of tasks in order, computed in advance by a thread.

    An error in a task is raised in place of its result. Closing the generator ends the thread and closes
    ``tasks``.

    Args:
        tasks: functions to call.
        ahead: largest number of results that wait to be consumed.
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
        except BaseException as error:  # noqa: BLE001 (raised in the consumer)
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
