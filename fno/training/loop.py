"""The training loop, for any source of batches and any objective.

All random numbers of step n (noise, dropout, the order of samples) are seeded by the seed of the run and n,
so the state after n steps consists of weights, averaged weights, optimizer moments and n. A run that is
killed at any moment and resumed ends with the same bits as an uninterrupted one, on the same device and
number of threads.

A loss or gradient that is not finite stops the run before the optimizer uses it, so a saved state is always
finite. The run can also go back to the start of the epoch and lower the learning rate.
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from ..errors import NonFiniteError, StoppedError
from ..parallel.processes import Processes
from ..progress import Progress
from .loggers import check_loggers
from .protocols import BatchSource, Objective, Pictures
from .reporter import Reporter
from .settings import TrainSettings
from .throughput import ThroughputMeter
from .trainer import Trainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRecord:
    """Result of a training run.

    Attributes:
        steps: number of optimizer steps.
        best_score: best validation score; None without validation data.
        best_epoch: epoch of the best score.
        stopped_early: whether training ended for lack of a better score.
        restorations: number of returns to an earlier state.
        origin: record of the run whose weights this one started from, if any.
    """

    steps: int
    best_score: float | None
    best_epoch: int | None
    stopped_early: bool = False
    restorations: int = 0
    origin: Mapping[str, Any] | None = None


class Rescuable(Protocol):
    """A training run that another thread can save."""

    @property
    def save_seconds(self) -> float:
        """Longest time that saving the state took [s]."""

    @property
    def total(self) -> int:
        """Number of steps of the whole run."""

    @property
    def can_rescue(self) -> bool:
        """Whether another thread of this process can save the run."""

    def rescue(self) -> int | None:
        """Save the state after the last whole step, let no further step be completed, and return its number.

        None if there is no state.
        """


def train(
    model: nn.Module,
    objective: Objective[Any],
    source: BatchSource[Any],
    *,
    settings: TrainSettings,
    folder: Path,
    fingerprint: str = "",
    description: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    watch: Callable[[Rescuable], None] | None = None,
    processes: Processes = Processes(),
    pictures: Pictures | None = None,
    lead_hours: float | None = None,
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
        description: what the fingerprint was computed from, as nested JSON values, so that the error can
            list what changed.
        progress: called with (step, total steps, text).
        stop: called after each step; if it returns True, the state is saved and training ends. It must return
            the same on all processes.
        watch: called before the first step with the run, so that another thread can save it while a step
            takes too long.
        processes: processes that call this function together, each with its part of the batches; the first
            one writes the files.
        pictures: pictures to draw after validations; an error in them is reported and ends no training.
        lead_hours: duration of a step of the validation rollouts [h], for reports.

    Raises:
        StoppedError: ``stop`` returned True.
        RegistryError: a logger does not exist, or its package is not installed.
        OtherRunError: the saved state belongs to other settings.
        NonFiniteError: a term of the loss, the gradient, the weights or the saved state are not finite; the
            message names the step and the term or parameter, and the last saved state is kept.
    """
    check_loggers(settings.loggers)
    trainer = Trainer(
        model,
        objective,
        source,
        settings=settings,
        folder=folder,
        fingerprint=fingerprint,
        description=description,
        processes=processes,
    )
    trainer.lead_hours = lead_hours
    if watch is not None:
        watch(trainer)
    trainer.resume()
    trainer.warn_without_validation()
    reporter = Reporter(trainer, folder, progress=progress, pictures=pictures)
    try:
        while not trainer.finished:
            try:
                _train_epoch(trainer, reporter, stop)
            except NonFiniteError as error:
                if settings.on_non_finite != "restore":
                    raise
                trainer.restore(error)
                reporter.restored()
                continue
            trainer.save()
            trainer.keep_epoch()
            reporter.epoch_saved()
    finally:
        reporter.close()
    if trainer.stopped_early:
        logger.info("no better validation score for %d epochs: training ends early", settings.patience)
    model.load_state_dict(trainer.best or trainer.average)
    return TrainingRecord(
        trainer.step,
        trainer.best_score,
        trainer.best_epoch,
        stopped_early=trainer.stopped_early,
        restorations=len(trainer.restorations),
        origin=trainer.origin,
    )


def _train_epoch(trainer: Trainer, reporter: Reporter, stop: Callable[[], bool] | None) -> None:
    """Train to the end of the present epoch, and validate."""
    settings = trainer.settings
    source = trainer.source
    epoch = trainer.epochs_ended
    end = (epoch + 1) * source.steps_per_epoch()
    start = trainer.step - epoch * source.steps_per_epoch()
    saved = time.monotonic()
    with closing(source.epoch(epoch, settings.rollout_length(epoch), start)) as batches:  # type: ignore[type-var]
        throughput = ThroughputMeter(batches, trainer.placement.parts)
        # All batches of the epoch were used if the run was interrupted before its validation.
        for batch in throughput if trainer.step < end else ():
            terms = trainer.train_step(batch)
            reporter.step(terms, throughput, last=trainer.step == end)
            if stop is not None and trainer.step < trainer.total and stop():
                trainer.save()
                reporter.saved()
                raise StoppedError(f"the state after step {trainer.step} of {trainer.total} is saved")
            due = time.monotonic() - saved > 60 * settings.checkpoint_minutes
            if trainer.step < end and trainer.processes.any(due):
                trainer.save()
                reporter.saved()
                saved = time.monotonic()
    reporter.epoch(trainer.end_epoch(throughput), throughput)
