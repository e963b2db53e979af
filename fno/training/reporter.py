"""What a training run reports of itself: log, progress, live status, loggers and pictures.

Nothing of it has an influence on the training. One process of a run reports.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..progress import Progress
from .log import TrainingLog, losses_of, read_lines
from .loggers import LoggerGroup, RunInfo
from .pictures import draw
from .protocols import Pictures
from .status import LiveStatus
from .throughput import ThroughputMeter
from .trainer import Trainer


class Reporter:
    """Report a training run; on processes other than the first one, do nothing.

    Args:
        trainer: the run, at the step from which it goes on.
        folder: folder of its state.
        progress: called with (step, total steps, text).
        pictures: pictures of the run.

    Raises:
        ValueError: ``log.jsonl`` is not a log.
    """

    def __init__(
        self, trainer: Trainer, folder: Path, *, progress: Progress | None, pictures: Pictures | None
    ) -> None:
        self.trainer = trainer
        self.progress = progress
        self.pictures = pictures if trainer.processes.leads else None
        self._active = trainer.processes.leads
        self._validation: Mapping[str, Any] = {}
        if not self._active:
            return
        settings = trainer.settings
        self._log = TrainingLog(folder / "log.jsonl", trainer.step, trainer.epochs_ended)
        self._log.complete(trainer.restorations)
        validated = [r for r in read_lines(self._log.path) if isinstance(r.get("validation_rmse"), list)]
        self._validation = validated[-1] if validated else {}
        self._status = LiveStatus(folder)
        info = RunInfo(run_name(folder), folder, trainer.step, trainer.description or {})
        self._loggers = LoggerGroup(() if trainer.finished else settings.loggers, info)

    def step(self, terms: Mapping[str, float], throughput: ThroughputMeter[Any], *, last: bool) -> None:
        """Report a step.

        Args:
            terms: the loss and its terms.
            throughput: data throughput of the epoch.
            last: whether it is the last one of the epoch, which is reported with its validation.
        """
        trainer = self.trainer
        if self._active and not last:
            self._show(terms, throughput)
            self._status.update(lambda: self._position(terms, throughput))
            if self._loggers and trainer.step % trainer.settings.log_every == 0:
                values = {f"train/{name}": value for name, value in terms.items()}
                self._loggers.add(values | self._speed(throughput), trainer.step)

    def saved(self) -> None:
        """Report that the state was saved."""
        if self._active and self.trainer.settings.on_non_finite != "restore":
            self._loggers.release(self.trainer.step)

    def epoch(self, record: Mapping[str, Any], throughput: ThroughputMeter[Any]) -> None:
        """Report the end of an epoch, before its state is saved.

        Args:
            record: record of the epoch.
            throughput: data throughput of the epoch.
        """
        if not self._active:
            return
        self._log.write(dict(record))
        if isinstance(record["validation_rmse"], list):
            self._validation = record
        terms = losses_of(record)
        values = {f"epoch/{name}": value for name, value in terms.items()} | self._speed(throughput)
        if (score := record.get("validation_score")) is not None:
            values["validation/score"] = score
        for number, error in enumerate(record["validation_rmse"] or (), 1):
            if error is not None:
                values[f"validation/rmse_{self._lead(number, padded=True)}"] = error
        self._loggers.add(values, self.trainer.step)
        self._show(terms, throughput)

    def epoch_saved(self) -> None:
        """Report that the state at the end of an epoch was saved, and draw pictures."""
        if not self._active:
            return
        self._loggers.release(self.trainer.step)
        for name, path in self._draw().items():
            self._loggers.picture(name, path, self.trainer.step)

    def restored(self) -> None:
        """Report that training went back to an earlier state."""
        if self._active:
            self._log.complete(self.trainer.restorations)
            self._loggers.discard(self.trainer.step)

    def close(self) -> None:
        """End the report."""
        if self._active:
            self._loggers.close(finished=self.trainer.finished)
            if self.trainer.finished:
                self._status.remove()

    def _draw(self) -> dict[str, Path]:
        """Draw pictures if it is time to; after a failure, never again."""
        if self.pictures is None:
            return {}
        paths = draw(self.pictures, last=self.trainer.finished, weights=self.trainer.averaged())
        if paths is None:
            self.pictures = None
        return paths or {}

    def _show(self, terms: Mapping[str, float], throughput: ThroughputMeter[Any]) -> None:
        if self.progress is None:
            return
        trainer = self.trainer
        epoch = min(-(-trainer.step // trainer.source.steps_per_epoch()), trainer.settings.epochs)
        losses = [f"{name} {value:.4g}" for name, value in terms.items()]
        parts = [f"epoch {epoch}/{trainer.settings.epochs}", *losses, self._validated()]
        text = ", ".join([*parts, f"rate {trainer.rate:.2g}", str(throughput)])
        self.progress(trainer.step, trainer.total, text)

    def _validated(self) -> str:
        """Return the last validation as text: the error at the first, middle and last step."""
        errors = self._validation.get("validation_rmse")
        if not errors:
            return "no validation" if self.trainer.epochs_ended else "not yet validated"
        numbers = sorted({1, (len(errors) + 1) // 2, len(errors)})
        values = [
            f"{'-' if errors[n - 1] is None else format(errors[n - 1], '.3g')} ({self._lead(n)})"
            for n in numbers
        ]
        best = self.trainer.best_epoch
        return f"validation {' '.join(values)}" + ("" if best is None else f", best in epoch {best + 1}")

    def _lead(self, number: int, *, padded: bool = False) -> str:
        """Return the lead time of a step of a validation rollout."""
        hours = self.trainer.lead_hours
        if hours is None:
            return f"step_{number:03d}" if padded else f"step {number}"
        text = f"{number * hours:g}"
        return f"{text.zfill(3)}h" if padded else f"{text} h"

    def _speed(self, throughput: ThroughputMeter[Any]) -> dict[str, float]:
        """Return learning rate and throughput by the names of the loggers."""
        values = {"learning_rate": self.trainer.rate, **throughput.to_dict()}
        return {f"train/{name}": value for name, value in values.items()}

    def _position(self, terms: Mapping[str, float], throughput: ThroughputMeter[Any]) -> dict[str, Any]:
        """Return the values of the live status."""
        trainer = self.trainer
        seconds = throughput.seconds / max(1, throughput.steps)
        return {
            "step": trainer.step,
            "total": trainer.total,
            "epoch": trainer.epochs_ended,
            "epochs": trainer.settings.epochs,
            "losses": {name: value for name, value in terms.items() if math.isfinite(value)},
            "learning_rate": trainer.rate,
            "seconds_left": round(seconds * (trainer.total - trainer.step), 1),
            **throughput.to_dict(),
        }


def run_name(folder: Path) -> str:
    """Return the name of a run, that of the folder that contains its state."""
    folder = folder.resolve()
    return folder.parent.name if folder.name == "state" else folder.name
