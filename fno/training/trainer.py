"""One training run: its optimizer steps and its validation."""

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import NonFiniteError
from ..random import Stream, seeded_torch, torch_generator
from .diagnosis import locate
from .execution import Execution
from .finite import check_gradient, check_tensors
from .protocols import BatchSource, Loss, Objective
from .settings import TrainSettings
from .throughput import ThroughputMeter
from .trainer_state import TrainerState

log = logging.getLogger(__name__)


class Trainer(TrainerState):
    """The optimizer steps and the validation of a training run; arguments as for ``fno.training.train``."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective[Any],
        source: BatchSource[Any],
        *,
        settings: TrainSettings,
        folder: Path,
        fingerprint: str,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            model, source, settings=settings, folder=folder, fingerprint=fingerprint, description=description
        )
        self.objective = objective
        self.execution = Execution(
            model, checkpointing=settings.activation_checkpointing, compiled=settings.compile
        )

    def train_step(self, batch: Any) -> dict[str, float]:
        """Take one optimizer step, and return the loss and its terms.

        Raises:
            NonFiniteError: the loss, its gradient or the new weights are not finite.
        """
        settings = self.settings
        batch = batch.to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(self.step, self.total) * self.rate_scale
        self.model.train()
        with self._lock:
            self._weights = {name: t.detach().clone() for name, t in self._buffers.items()}
        self.optimizer.zero_grad()
        values: dict[str, float] = {}
        count = min(settings.accumulation, len(batch))
        for index in range(count):
            part = batch if count == 1 else batch.part(index, count)
            for name, value in self._backward(part, index, len(part) / len(batch)).items():
                values[name] = values.get(name, 0.0) + value
        try:
            norm = check_gradient(self.model.named_parameters(), f"at step {self.step}")
        except NonFiniteError as error:
            raise self._located(str(error), part, count - 1) from None
        with self._lock:
            self._complete = False
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), settings.clip, norm)
            self.optimizer.step()
            weights = self.model.state_dict()
            try:
                check_tensors(weights, "weights", f"after step {self.step}")
            except NonFiniteError as error:
                raise self.non_finite(str(error)) from None
            self.step += 1
            decay = settings.ema_decay(self.step)
            for name, tensor in weights.items():
                if tensor.is_floating_point() or tensor.is_complex():
                    self.average[name].lerp_(tensor, 1 - decay)
                else:  # a counter
                    self.average[name].copy_(tensor)
            for name, value in values.items():
                total = self._sums.setdefault(name, [0.0, 0])
                total[0] += value
                total[1] += 1
            self._weights = {}
            self._complete = True
        return values

    def _backward(self, batch: Any, part: int, share: float) -> dict[str, float]:
        """Add the gradient of a batch, or part of one, and return the loss and its terms, times its share.

        Args:
            batch: samples.
            part: number of the part.
            share: fraction of the samples of the step.

        Raises:
            NonFiniteError: the loss is not finite.
        """
        try:
            loss = self._loss(batch, part)
        except NonFiniteError as error:
            raise self._located(f"{error}, at step {self.step}", batch, part) from None
        values = {name: term.item() for name, term in loss.terms.items()} | {"loss": loss.value.item()}
        for name, value in values.items():
            if not math.isfinite(value):
                term = "the loss" if name == "loss" else f"the term {name} of the loss"
                raise self._located(f"{term} became {value} at step {self.step}", batch, part)
        (loss.value if share == 1 else share * loss.value).backward()
        return {name: share * value for name, value in values.items()}

    def _loss(self, batch: Any, part: int) -> Loss:
        """Return the loss of part of a batch with the random numbers of the present step."""
        settings = self.settings
        position = (self.step, part) if part else (self.step,)
        generator = torch_generator(settings.seed, Stream.OBJECTIVE, *position)
        with (
            seeded_torch(settings.seed, Stream.LAYERS, *position, device=self.device),
            torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=settings.precision == "bf16"),
            self.execution.active(),
        ):
            return self.objective.loss(batch, self.step / self.total, generator)

    def _located(self, reason: str, batch: Any, part: int) -> NonFiniteError:
        """Return the error for a value that is not finite, with its variable and place if they are found.

        Args:
            reason: what is not finite, and at which step.
            batch: the batch of this step, or part of it.
            part: number of the part.
        """
        where = locate(self.objective, batch, lambda: self._loss(batch, part))
        return self.non_finite(f"{reason}: {where}" if where else reason)

    def warn_without_validation(self) -> None:
        """Log a warning before training if there is no validation data to select the weights by."""
        batches = self.source.validation(self.settings.validation_steps, self.settings.validation_samples)
        if self.step < self.total and next(batches, None) is None:
            log.warning(
                "there is no validation data: epochs cannot be compared (validation_rmse is null in the "
                "log), and the weights after the last step are kept; use a larger validation fraction, "
                "or a longer period without gaps"
            )

    @torch.no_grad()
    def validate(self) -> list[float] | None:
        """Return the root mean square error of the averaged weights at each step, averaged over channels.

        None without validation data.
        """
        current = {name: t.clone() for name, t in self.model.state_dict().items()}
        with self._lock:
            self._weights = current
            self.model.load_state_dict(self.average)
        self.model.eval()
        total = torch.zeros(())
        samples = 0
        for batch in self.source.validation(self.settings.validation_steps, self.settings.validation_samples):
            total = total + len(batch) * self.objective.errors(batch.to(self.device)).cpu()
            samples += len(batch)
        with self._lock:
            self.model.load_state_dict(current)
            self._weights = {}
        return (total / samples).sqrt().mean(dim=1).tolist() if samples else None

    def end_epoch(self, throughput: ThroughputMeter[Any]) -> dict[str, Any]:
        """Validate, keep the averaged weights if they are the best so far, and return a record for the log.

        The state is saved.

        Args:
            throughput: data throughput of the epoch.
        """
        errors = self.validate()
        with self._lock:
            record = self._evaluate(self.epochs_ended, errors)
            record["rollout"] = self.settings.rollout_length(self.epochs_ended)
            record["time"] = time.time()
            record["megabytes_per_second"] = round(throughput.rate, 2)
            record["waiting"] = round(throughput.waiting, 4)
            self.epochs_ended += 1
            self._sums = {}
        return record

    def _evaluate(self, epoch: int, errors: list[float] | None) -> dict[str, Any]:
        """Return a record of an epoch, and keep the averaged weights if they are the best so far.

        Args:
            epoch: number of the epoch.
            errors: root mean square error at each step; None without validation data.
        """
        terms = {name: total / count for name, (total, count) in self._sums.items()}
        record: dict[str, Any] = {"step": self.step, "epoch": epoch, **terms, "validation_rmse": None}
        if errors is not None:
            self.stale += 1
            record["validation_rmse"] = [e if math.isfinite(e) else None for e in errors]  # JSON has no NaN
            score = sum(errors) / len(errors)
            if math.isfinite(score):
                record["validation_score"] = score
                if self.best_score is None or score < self.best_score:
                    self.best_score = score
                    self.best_epoch = epoch
                    self.best = {name: t.clone() for name, t in self.average.items()}
                    self.stale = 0
            else:
                first = next(i for i, e in enumerate(errors) if not math.isfinite(e))
                log.warning(
                    "epoch %d: the validation error is %s from step %d of %d on, so the weights of this "
                    "epoch cannot be selected; the forecast diverges, or the validation data have "
                    "missing values",
                    epoch + 1,
                    errors[first],
                    first + 1,
                    len(errors),
                )
        return record
