"""Random numbers that depend on a seed, a named stream and a step, and on nothing else.

Every random draw of the package comes from a generator seeded by ``SeedSequence((seed, stream, *step))``: the
streams of a seed are independent, and an interrupted run that resumes at step n draws the numbers that an
uninterrupted one would have drawn.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import numpy as np
import torch


class Stream(StrEnum):
    """Purposes that random numbers serve; changing a value changes the results of every seed."""

    INITIAL_WEIGHTS = "initial weights"
    LAYERS = "layers"  # dropout and other draws within a model
    OBJECTIVE = "objective"  # noise on the input, samples of a posterior
    COLLOCATION = "collocation"
    HELD_OUT_POINTS = "held-out points"
    SAMPLE_ORDER = "sample order"
    DRAWN_INSTANCES = "drawn instances"
    PERTURBATIONS = "perturbations"
    NOISE_INPUT = "noise input"  # of the network, in an ensemble forecast

    @property
    def key(self) -> int:
        """Number of the stream: the CRC-32 of its name."""
        return zlib.crc32(self.value.encode())


def seed_sequence(seed: int, stream: Stream, *step: int) -> np.random.SeedSequence:
    """Return the seed sequence of a stream at a step.

    Args:
        seed: seed of the run, not negative.
        stream: purpose of the random numbers.
        step: position in the stream, e.g. a training step, or window and iteration; not negative.
    """
    return np.random.SeedSequence((seed, stream.key, *step))


def numpy_generator(seed: int, stream: Stream, *step: int) -> np.random.Generator:
    """Return a numpy generator; arguments as for ``seed_sequence``.

    Example:
        >>> numpy_generator(0, Stream.SAMPLE_ORDER, 3).permutation(4).tolist() == (
        ...     numpy_generator(0, Stream.SAMPLE_ORDER, 3).permutation(4).tolist()
        ... )
        True
    """
    return np.random.default_rng(seed_sequence(seed, stream, *step))


def torch_generator(seed: int, stream: Stream, *step: int) -> torch.Generator:
    """Return a torch generator on the CPU; arguments as for ``seed_sequence``."""
    return torch.Generator().manual_seed(_torch_seed(seed, stream, *step))


@contextmanager
def seeded_torch(seed: int, stream: Stream, *step: int, device: str = "cpu") -> Iterator[None]:
    """Seed the global generators of torch within a block, and restore them afterwards.

    For code that accepts no generator: dropout and the initialization of layers.

    Args:
        seed: as for ``seed_sequence``.
        stream: as for ``seed_sequence``.
        step: as for ``seed_sequence``.
        device: device that draws; the CPU generator is seeded in any case.
    """
    cuda = torch.device(device).type == "cuda"
    value = _torch_seed(seed, stream, *step)
    with torch.random.fork_rng(devices=[torch.device(device)] if cuda else []):
        torch.default_generator.manual_seed(value)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(value)
        yield


def _torch_seed(seed: int, stream: Stream, *step: int) -> int:
    return int(seed_sequence(seed, stream, *step).generate_state(1, np.uint64)[0])
