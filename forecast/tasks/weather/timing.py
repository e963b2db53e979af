"""Time of the training steps of a forecast model, measured on random numbers."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ....fno.batch import Batch
from ....fno.training.trainer import Trainer
from .shapes import Shapes


@dataclass(frozen=True)
class StepTimes:
    """Measured times [s].

    Attributes:
        train: an optimizer step on one-step forecasts of a batch.
        forward: a forecast of one step of a validation batch.
    """

    train: float
    forward: float


def time_steps(shapes: Shapes, device: str, *, seconds: float) -> StepTimes:
    """Train the model for a few steps on random numbers, and return the times of its steps.

    Networks are not compiled, which takes minutes. A part of a batch is timed where a whole one would take
    too long; the time is proportional to the samples.

    Args:
        shapes: sizes.
        device: device of training.
        seconds: time after which no further step is taken.
    """
    config = shapes.config
    settings = config.train
    stepper = shapes.stepper().to(device)
    objective = shapes.objective(stepper)
    with TemporaryDirectory() as folder:
        trainer = Trainer(
            stepper,
            objective,
            _NoBatches(),
            settings=replace(settings, compile=False),
            folder=Path(folder),
            fingerprint="",
        )
        samples = min(settings.batch_size, config.model.members)
        times: dict[int, float] = {}
        begin = time.monotonic()
        while True:
            batch = shapes.batch(samples, 1)
            times[samples] = _best(lambda b=batch: trainer.train_step(b), seconds / 3, device=device)  # type: ignore[misc]
            larger = min(4 * samples, settings.batch_size)
            expected = 2 * times[samples] * larger / samples
            if samples == larger or time.monotonic() - begin + expected > seconds:
                break
            samples = larger
    validation = min(samples, shapes.validation_samples)
    stepper.eval()
    batch = shapes.batch(validation, 1).to(device)
    with torch.no_grad():
        forward = _best(lambda: objective.errors(batch), seconds / 4, device=device)
    return StepTimes(
        _extrapolated(times, settings.batch_size), forward * shapes.validation_samples / validation
    )


def _extrapolated(times: dict[int, float], samples: int) -> float:
    """Return the time of a batch from the line through those of the two largest measured batches."""
    *_, (fewer, less), (most, time_of_most) = [(0, 0.0), *sorted(times.items())]
    slope = max((time_of_most - less) / (most - fewer), 0.0)
    return time_of_most + slope * (samples - most)


class _NoBatches:
    """A source of batches that has one step per epoch and no batches, for steps that are taken by hand."""

    def steps_per_epoch(self) -> int:
        return 100

    def epoch(self, epoch: int, rollout: int, start: int) -> Iterator[Batch]:
        return iter(())

    def validation(self, steps: int, samples: int) -> Iterator[Batch]:
        return iter(())


def _best(function: Callable[[], object], seconds: float, *, device: str) -> float:
    """Return the least time of up to three calls after a first one, which counts only if it is the last.

    Args:
        function: function to time.
        seconds: time after which there is no further call.
        device: device that computes.
    """
    start = time.monotonic()
    times: list[float] = []
    for _ in range(4):
        before = time.perf_counter()
        function()
        if device != "cpu":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - before)
        if time.monotonic() - start > seconds:
            break
    return min(times[1:] or times)


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
