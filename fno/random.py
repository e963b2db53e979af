"""Random numbers that depend on a seed, a named stream and a step, and on nothing else.

Every random draw of the package comes from a generator seeded by ``SeedSequence((seed, stream, *step))``: the
streams of a seed are independent, and an interrupted run that resumes at step n draws the numbers that an
uninterrupted one would have drawn.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor


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


class PartGenerator(torch.Generator):
    """A generator on the CPU whose draws for some samples are those of a generator for all of them.

    Each of several processes draws the numbers of the whole batch, and uses those of its own samples, so that
    the numbers of a sample do not depend on the number of processes. See ``normal``.

    Attributes:
        samples: number of samples of the whole batch.
        own: the samples of this process.
        rows: number of rows of the whole grid, and those of this process; None for all.
    """

    samples: int
    own: slice
    rows: tuple[int, slice] | None

    @classmethod
    def like(
        cls,
        generator: torch.Generator,
        samples: int,
        own: slice,
        *,
        rows: tuple[int, slice] | None = None,
    ) -> "PartGenerator":
        """Return a generator in the state of another one.

        Args:
            generator: generator of the whole batch.
            samples: number of samples of the whole batch.
            own: samples of this process.
            rows: number of rows of the whole grid, and those of this process; None for all.
        """
        new = cls()
        new.set_state(generator.get_state())
        new.samples = samples
        new.own = own
        new.rows = rows
        return new


def normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return numbers of the standard normal distribution for the samples of a batch, on the CPU.

    Args:
        shape: shape, with the samples of this process as the first dimension and the rows of its grid as the
            last but one.
        generator: generator on the CPU; see ``PartGenerator``.
    """
    whole, own = _parts(shape, generator)
    return torch.randn(whole, generator=generator)[own]


def pink_normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return normal numbers, correlated along the last two dimensions, with variance 1, on the CPU.

    The amplitude at wavenumber k, in cycles per domain, is proportional to 1 / max(k, 1), so that every
    octave of wavenumbers has the same variance, and both dimensions are periodic.

    Args:
        shape: as for ``normal``, with at least three dimensions.
        generator: as for ``normal``.
    """
    whole, own = _parts(shape, generator)
    rows, columns = whole[-2:]
    k = torch.hypot(torch.fft.fftfreq(rows, 1 / rows)[:, None], torch.fft.fftfreq(columns, 1 / columns))
    amplitude = 1 / k.clamp_min(1.0)
    amplitude = amplitude / amplitude.square().mean().sqrt()
    white = torch.randn(whole, generator=generator)
    spectrum = torch.fft.rfft2(white) * amplitude[:, : columns // 2 + 1]
    noise: Tensor = torch.fft.irfft2(spectrum, s=(rows, columns))
    return noise[own]


NOISES: dict[str, Callable[[Sequence[int], torch.Generator], Tensor]] = {"white": normal, "pink": pink_normal}
"""Noise fields of variance 1, by the name of their spectrum."""


def integers(high: int, count: int, generator: torch.Generator) -> Tensor:
    """Return an integer below ``high`` for each sample of a batch, on the CPU.

    Args:
        high: end of the range, exclusive.
        count: number of samples of this process.
        generator: generator on the CPU; see ``PartGenerator``.
    """
    if isinstance(generator, PartGenerator):
        return torch.randint(high, (generator.samples,), generator=generator)[generator.own]
    return torch.randint(high, (count,), generator=generator)


def _parts(shape: Sequence[int], generator: torch.Generator) -> tuple[list[int], tuple[slice, ...]]:
    """Return the shape of the whole batch on the whole grid, and the part of it that has a shape."""
    whole = list(shape)
    own = [slice(None)] * len(whole)
    if isinstance(generator, PartGenerator):
        whole[0], own[0] = generator.samples, generator.own
        if generator.rows is not None:
            whole[-2], own[-2] = generator.rows
    return whole, tuple(own)


def _torch_seed(seed: int, stream: Stream, *step: int) -> int:
    return int(seed_sequence(seed, stream, *step).generate_state(1, np.uint64)[0])
