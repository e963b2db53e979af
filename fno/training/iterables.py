"""Any iterable of batches, such as a list or a ``DataLoader``, as a source of the training loop."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..random import Stream, seed_sequence

Batches = Iterable[Any] | Callable[[int], Iterable[Any]]
"""Batches that can be iterated repeatedly, or a function that returns those of an epoch."""
_DONE = object()


@dataclass(frozen=True)
class AnyBatch:
    """A batch of any nested form: tensors, tuples, lists, mappings, or objects with a method ``to``.

    Attributes:
        value: the batch.
    """

    value: Any

    @property
    def nbytes(self) -> int:
        """Size of its tensors [bytes]."""
        return sum(tensor.nbytes for tensor in _tensors(self.value))

    def __len__(self) -> int:
        """Return the first dimension of its first tensor; 1 without any."""
        first = next(_tensors(self.value), None)
        return 1 if first is None or not first.ndim else len(first)

    def to(self, device: str) -> "AnyBatch":
        """Return the batch on ``device``."""
        return AnyBatch(_moved(self.value, device))


class IterableBatches:
    """Training and validation batches from iterables: a ``BatchSource`` of the training loop.

    The order must depend on the epoch alone, so that a run resumes with the same batches. To this end each
    epoch is iterated with torch's random numbers seeded by (seed, epoch), which determines the order of a
    shuffling ``DataLoader`` and random transformations in its data set; a generator of the loader is seeded
    in the same way, and ``set_epoch`` of its sampler is called. A resumed epoch is iterated from its start,
    and the batches that were used are dropped. Other random numbers, such as numpy's, are not controlled.

    Args:
        batches: training batches.
        validation: validation batches.
        seed: seed of the order.
        steps_per_epoch: number of batches in an epoch; by default the length of ``batches``.

    Raises:
        InputError: an iterator, which can be read once only, or no batches, or an unknown number of them.
    """

    def __init__(
        self, batches: Batches, validation: Batches = (), *, seed: int = 0, steps_per_epoch: int | None = None
    ) -> None:
        for source in (batches, validation):
            if isinstance(source, Iterator):
                raise InputError(
                    f"a {type(source).__name__} can be read once only; pass a list, a DataLoader, or a "
                    "function that returns the batches of an epoch"
                )
        if steps_per_epoch is None:
            if not isinstance(batches, Sized):
                raise InputError(
                    f"a {type(batches).__name__} has no length; pass steps_per_epoch, the number of batches "
                    "in an epoch"
                )
            steps_per_epoch = len(batches)
        if steps_per_epoch < 1:
            raise InputError("there are no training batches")
        self._batches = batches
        self._validation = validation
        self._seed = seed
        self._steps = steps_per_epoch

    def steps_per_epoch(self) -> int:
        """Return the number of batches in an epoch."""
        return self._steps

    def epoch(self, epoch: int, rollout: int, start: int = 0) -> Iterator[AnyBatch]:
        """Yield the batches of an epoch from batch ``start`` on.

        Raises:
            InputError: there are fewer batches than ``steps_per_epoch``.
        """
        number = 0
        for number, batch in enumerate(islice(self._seeded(self._batches, epoch), self._steps), 1):
            if number > start:
                yield AnyBatch(batch)
        if number < self._steps:
            raise InputError(f"epoch {epoch} has {number} batches, expected {self._steps}")

    def validation(self, steps: int, samples: int) -> Iterator[AnyBatch]:
        """Yield validation batches until ``samples`` samples were returned; a batch is not divided."""
        count = 0
        for value in self._seeded(self._validation, 0):
            if count >= samples:
                return
            batch = AnyBatch(value)
            count += len(batch)
            yield batch

    def _seeded(self, source: Batches, epoch: int) -> Iterator[Any]:
        """Iterate over the batches of an epoch with random numbers that depend on the epoch alone."""
        seed = int(seed_sequence(self._seed, Stream.SAMPLE_ORDER, epoch).generate_state(1, "uint64")[0])
        iterable = source(epoch) if callable(source) else source
        for owner in (iterable, getattr(iterable, "sampler", None)):
            if isinstance(generator := getattr(owner, "generator", None), torch.Generator):
                generator.manual_seed(seed)
            if callable(set_epoch := getattr(owner, "set_epoch", None)):
                set_epoch(epoch)
        state = torch.Generator().manual_seed(seed).get_state()
        with _torch_state(state) as after:
            iterator = iter(iterable)
        while True:
            with _torch_state(after[0]) as after:
                batch = next(iterator, _DONE)
            if batch is _DONE:
                return
            yield batch


@contextmanager
def _torch_state(state: Tensor) -> Iterator[list[Tensor]]:
    """Set the state of torch's random numbers inside the context; yield a list of the state at its end."""
    after: list[Tensor] = []
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(state)
        yield after
        after.append(torch.get_rng_state())


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of a nested value."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _tensors(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _tensors(entry)
    elif hasattr(value, "__dict__"):
        yield from _tensors(vars(value))


def _moved(value: Any, device: str) -> Any:
    """Return a nested value with its tensors on ``device``."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=value.is_pinned())
    if isinstance(value, Mapping):
        return {key: _moved(entry, device) for key, entry in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_moved(entry, device) for entry in value))
    if isinstance(value, list | tuple):
        return type(value)(_moved(entry, device) for entry in value)
    return value.to(device) if hasattr(value, "to") else value
