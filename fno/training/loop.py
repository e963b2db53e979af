"""The training loop, for any source of batches and any objective.

All random numbers of step n (noise, dropout, the order of samples) are seeded by the seed of the run and n,
so the state after n steps consists of weights, averaged weights, optimizer moments and n. A run that is
killed at any moment and resumed ends with the same bits as an uninterrupted one, on the same device and
number of threads.

A loss or gradient that is not finite stops the run before the optimizer uses it, so a saved state is always
finite.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from torch import nn

from ..errors import StoppedError
from ..progress import Progress
from .log import TrainingLog
from .protocols import BatchSource, Objective
from .settings import TrainSettings
from .throughput import ThroughputMeter
from .trainer import Trainer


@dataclass(frozen=True)
class TrainingRecord:
    """Result of a training run.

    Attributes:
        steps: number of optimizer steps.
        best_score: best validation score; None without validation data.
        best_epoch: epoch of the best score.
    """

    steps: int
    best_score: float | None
    best_epoch: int | None


def train(
    model: nn.Module,
    objective: Objective[Any],
    source: BatchSource[Any],
    *,
    settings: TrainSettings,
    folder: Path,
    fingerprint: str = "",
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> TrainingRecord:
    """Train ``model`` in place; it ends with the averaged weights of the best validation score.

    Args:
        model: model, on the device to train on.
        objective: function to minimise, which refers to the model.
        source: training and validation batches.
        settings: training settings.
        folder: folder of ``training.safetensors`` (the state, from which an interrupted run resumes) and
            ``log.jsonl``.
        fingerprint: identifies everything that the result depends on; a saved state with another fingerprint
            is an error.
        progress: called with (step, total steps, text).
        stop: called after each step; if it returns True, the state is saved and training ends.

    Raises:
        StoppedError: ``stop`` returned True.
        ValueError: the saved state belongs to other settings.
        NonFiniteError: a term of the loss, the gradient, the weights or the saved state are not finite; the
            message names the step and the term or parameter, and the last saved state is kept.
    """
    trainer = Trainer(model, objective, source, settings=settings, folder=folder, fingerprint=fingerprint)
    trainer.resume()
    trainer.warn_without_validation()
    log = TrainingLog(folder / "log.jsonl", trainer.step)
    per_epoch = source.steps_per_epoch()
    saved = time.monotonic()
    while trainer.step < trainer.total:
        epoch, start = divmod(trainer.step, per_epoch)
        with closing(source.epoch(epoch, settings.rollout_length(epoch), start)) as batches:  # type: ignore[type-var]
            terms: list[dict[str, float]] = []
            throughput = ThroughputMeter(batches)
            for batch in throughput:
                terms.append(trainer.train_step(batch))
                if progress:
                    losses = "  ".join(f"{name} {value:.4g}" for name, value in terms[-1].items())
                    text = f"epoch {epoch + 1}/{settings.epochs}  {losses}  {throughput}"
                    progress(trainer.step, trainer.total, text)
                if stop is not None and trainer.step < trainer.total and stop():
                    trainer.save()
                    raise StoppedError(f"the state after step {trainer.step} of {trainer.total} is saved")
                due = time.monotonic() - saved > 60 * settings.checkpoint_minutes
                if due and trainer.step % per_epoch:
                    trainer.save()
                    saved = time.monotonic()
        averages = {name: mean([t[name] for t in terms if name in t]) for name in terms[-1]}
        log.write(trainer.end_epoch(epoch, averages, throughput))
        trainer.save()
        saved = time.monotonic()
    model.load_state_dict(trainer.best or trainer.average)
    return TrainingRecord(trainer.step, trainer.best_score, trainer.best_epoch)
