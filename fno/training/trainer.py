"""One training run: its optimizer steps and its validation."""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NonFiniteError
from ..parallel.processes import Processes
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
        processes: Processes = Processes(),
    ) -> None:
        super().__init__(
            model,
            objective,
            source,
            settings=settings,
            folder=folder,
            fingerprint=fingerprint,
            description=description,
            processes=processes,
        )
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
            group["lr"] = self.rate_of(self.step)
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
            loss, values = self._loss(batch, part)
        except NonFiniteError as error:
            raise self._located(f"{error}, at step {self.step}", batch, part) from None
        for name, value in values.items():
            if not math.isfinite(value):
                term = "the loss" if name == "loss" else f"the term {name} of the loss"
                raise self._located(f"{term} became {value} at step {self.step}", batch, part)
        (loss if share == 1 else share * loss).backward()
        return {name: share * value for name, value in values.items()}

    def _generator(self, part: int) -> torch.Generator:
        """Return the generator of the objective's random numbers in this step."""
        generator = torch_generator(self.settings.seed, Stream.OBJECTIVE, *self._position(part))
        bands = getattr(self.objective, "bands", None)
        return self.placement.generator(generator, self.settings.batch_size, bands)

    def _position(self, part: int) -> tuple[int, ...]:
        return (self.step, part) if part else (self.step,)

    def _layers_step(self, part: int) -> tuple[int, ...]:
        """Return what, next to the seed, the draws within layers depend on: they differ between processes."""
        if self.processes.count > 1:
            return (self.step, self.processes.rank)
        return self._position(part)

    def _loss(self, batch: Any, part: int) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of part of a batch, and its value and terms, by random numbers of this step."""
        settings = self.settings
        generator = self._generator(part)
        with (
            seeded_torch(settings.seed, Stream.LAYERS, *self._layers_step(part), device=self.device),
            torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=settings.precision == "bf16"),
            self.execution.active(),
        ):
            return self.spread.loss(batch, self.step / self.total, generator)

    def _located(self, reason: str, batch: Any, part: int) -> NonFiniteError:
        """Return the error for a value that is not finite, with its variable and place if they are found.

        With several processes they are not looked for, because the loss would have to be computed on all.

        Args:
            reason: what is not finite, and at which step.
            batch: the batch of this step, or part of it.
            part: number of the part.
        """
        if self.processes.count > 1:
            return self.non_finite(reason)

        def compute() -> Loss:
            value, _ = self._loss(batch, part)
            return Loss(value, {})

        where = locate(self.objective, batch, compute)
        return self.non_finite(f"{reason}: {where}" if where else reason)

    def warn_without_validation(self) -> None:
        """Log a warning before training if there is no validation data to select the weights by."""
        batches = self.source.validation(self.settings.validation_steps, self.settings.validation_samples)
        if self.step < self.total and next(batches, None) is None and self.processes.leads:
            log.warning(
                "there is no validation data: epochs cannot be compared (validation_rmse is null in the "
                "log), and the weights after the last step are kept; use a larger validation fraction, "
                "or a longer period without gaps"
            )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the model have its averaged weights, in evaluation mode and without gradients, in a block."""
        current = {name: t.clone() for name, t in self.model.state_dict().items()}
        with self._lock:
            self._weights = current
            self.model.load_state_dict(self.average)
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            with self._lock:
                self.model.load_state_dict(current)
                self._weights = {}

    def validate(self) -> list[float] | None:
        """Return the root mean square error of the averaged weights at each step, averaged over channels.

        None without validation data.
        """
        settings = self.settings
        total = torch.zeros(())
        samples = 0
        with self.averaged():
            for batch in self.source.validation(settings.validation_steps, settings.validation_samples):
                errors = self.spread.errors(batch.to(self.device)).cpu()
                # A process without a sample still takes part in the forward pass of a sharded model.
                total = total + (len(batch) * errors if len(batch) else torch.zeros_like(errors))
                samples += len(batch)
            samples = int(self.processes.sums({"samples": samples})["samples"])
            if samples:
                total = self.processes.total(total)
        return (total / samples).sqrt().mean(dim=1).tolist() if samples else None

    def end_epoch(self, throughput: ThroughputMeter[Any]) -> dict[str, Any]:
        """Validate, keep the averaged weights if they are the best so far, and return a record for the log.

        The state is saved.

        Args:
            throughput: data throughput of the epoch.
        """
        started = time.monotonic()
        errors = self.validate()
        with self._lock:
            record = self._evaluate(self.epochs_ended, errors)
            record["rollout"] = self.settings.rollout_length(self.epochs_ended)
            record["learning_rate"] = self.rate
            record["time"] = time.time()
            record["seconds"] = round(throughput.seconds, 3)
            record["validation_seconds"] = round(time.monotonic() - started, 3)
            record |= throughput.to_dict()
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
