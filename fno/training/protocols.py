"""The interfaces that a source of batches and an objective implement to be trained on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor


class DeviceBatch(Protocol):
    """A batch that can be moved to a device.

    To accumulate gradients, it also has a method ``part(index, count)``, which returns every ``count``-th
    sample from number ``index`` on. Such parts preserve the share of samples of each ensemble member.
    """

    @property
    def nbytes(self) -> int:
        """Size of the data in bytes."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def to(self, device: str) -> Any:
        """Return the batch on ``device``."""


B_co = TypeVar("B_co", bound=DeviceBatch, covariant=True)
B_contra = TypeVar("B_contra", bound=DeviceBatch, contravariant=True)


class BatchSource(Protocol[B_co]):
    """A loader of batches. The same arguments must always yield the same batches."""

    def steps_per_epoch(self) -> int:
        """Return the number of batches in an epoch, the same for every rollout length."""

    def epoch(self, epoch: int, rollout: int, start: int) -> Iterator[B_co]:
        """Yield the batches of an epoch.

        Args:
            epoch: number of the epoch.
            rollout: number of states after the input window.
            start: number of the first batch to yield; those before it are skipped.
        """

    def validation(self, steps: int, samples: int) -> Iterator[B_co]:
        """Yield validation batches, none of which occurs in an epoch.

        Args:
            steps: number of states after the input window.
            samples: largest number of samples in total. Nothing is yielded if there is no validation data.
        """


@dataclass(frozen=True)
class Loss:
    """A loss and its terms.

    Attributes:
        value: loss to minimise, a scalar.
        terms: unweighted terms in their own units, for the log.
    """

    value: Tensor
    terms: Mapping[str, Tensor]


class Objective(Protocol[B_contra]):
    """What a model is trained to minimise."""

    def loss(self, batch: B_contra, share: float, generator: torch.Generator) -> Loss:
        """Return the loss of a training batch.

        Args:
            batch: samples.
            share: completed fraction of the training, from 0 to 1.
            generator: source of random numbers, on the CPU.
        """

    def errors(self, batch: B_contra) -> Tensor:
        """Return the mean square errors of a validation batch, shape (steps, channels)."""


class Pictures(Protocol):
    """Pictures of a training run, drawn by the first process after a validation."""

    @property
    def predicts(self) -> bool:
        """Whether something of the model is drawn, by ``predict``."""
        ...

    def due(self, *, last: bool) -> bool:
        """Return whether to draw now.

        Args:
            last: whether training ends with this validation.
        """
        ...

    def predict(self) -> None:
        """Compute what is drawn of the model, which has its averaged weights during the call."""

    def draw(self) -> dict[str, Path]:
        """Draw, and return the PNG files by name. The log contains the validation."""
        ...
