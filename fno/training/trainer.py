"""One training run: its optimizer steps, its validation, and its state on disk."""

import logging
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NonFiniteError
from ..random import Stream, seeded_torch, torch_generator
from .finite import check_gradient, check_tensors
from .protocols import BatchSource, Objective
from .settings import TrainSettings
from .state import load_own_state, matching, optimizer_tensors, restore_model, restore_optimizer, save_state
from .throughput import ThroughputMeter

log = logging.getLogger(__name__)


class Trainer:
    """The mutable state of a training run; arguments as for ``fno.training.train``.

    Attributes:
        step: number of completed optimizer steps.
        total: number of steps of the whole run.
        average: exponential moving average of the weights.
        best: averaged weights of the best validation score; empty before there is one.
        best_score: that score.
        best_epoch: epoch of that score.
        saved_step: step of the state on disk; None if there is none.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective[Any],
        source: BatchSource[Any],
        *,
        settings: TrainSettings,
        folder: Path,
        fingerprint: str,
    ) -> None:
        self.model = model
        self.objective = objective
        self.source = source
        self.settings = settings
        self.path = folder / "training.safetensors"
        self.fingerprint = fingerprint
        self.device = str(next(model.parameters()).device)
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            betas=(0.9, 0.95),
        )
        self.average = {name: t.detach().clone() for name, t in model.state_dict().items()}
        self.best: dict[str, Tensor] = {}
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self.step = 0
        self.total = settings.epochs * source.steps_per_epoch()
        self.saved_step: int | None = None

    def train_step(self, batch: Any) -> dict[str, float]:
        """Take one optimizer step, and return the loss and its terms.

        Raises:
            NonFiniteError: the loss, its gradient or the new weights are not finite.
        """
        settings = self.settings
        batch = batch.to(self.device)
        generator = torch_generator(settings.seed, Stream.OBJECTIVE, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(self.step, self.total)
        self.model.train()
        try:
            with (
                seeded_torch(settings.seed, Stream.LAYERS, self.step, device=self.device),
                torch.autocast(
                    self.device.split(":")[0], torch.bfloat16, enabled=settings.precision == "bf16"
                ),
            ):
                loss = self.objective.loss(batch, self.step / self.total, generator)
        except NonFiniteError as error:
            raise self._non_finite(f"{error}, at step {self.step}") from None
        values = {name: term.item() for name, term in loss.terms.items()} | {"loss": loss.value.item()}
        for name, value in values.items():
            if not math.isfinite(value):
                term = "the loss" if name == "loss" else f"the term {name} of the loss"
                raise self._non_finite(f"{term} became {value} at step {self.step}")
        self.optimizer.zero_grad()
        loss.value.backward()
        try:
            norm = check_gradient(self.model.named_parameters(), f"at step {self.step}")
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), settings.clip, norm)
            self.optimizer.step()
            weights = self.model.state_dict()
            check_tensors(weights, "weights", f"after step {self.step}")
        except NonFiniteError as error:
            raise self._non_finite(str(error)) from None
        self.step += 1
        decay = settings.ema_decay(self.step)
        for name, tensor in weights.items():
            self.average[name].lerp_(tensor, 1 - decay)
        return values

    def _non_finite(self, reason: str) -> NonFiniteError:
        """Return the error that ends a run, with what was saved and how to proceed."""
        if self.saved_step is None:
            saved = "no state was saved yet"
        else:
            saved = f"the saved state of step {self.saved_step} is kept"
        return NonFiniteError(
            f"{reason}; {saved}: if the data or the hardware were at fault, correct that and run the same "
            "training again, otherwise start a new run with a lower learning_rate or clip"
        )

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
        self.model.load_state_dict(self.average)
        self.model.eval()
        total = torch.zeros(())
        samples = 0
        for batch in self.source.validation(self.settings.validation_steps, self.settings.validation_samples):
            total = total + len(batch) * self.objective.errors(batch.to(self.device)).cpu()
            samples += len(batch)
        self.model.load_state_dict(current)
        return (total / samples).sqrt().mean(dim=1).tolist() if samples else None

    def end_epoch(
        self, epoch: int, terms: dict[str, float], throughput: ThroughputMeter[Any]
    ) -> dict[str, Any]:
        """Validate, keep the averaged weights if they are the best so far, and return a record for the log.

        Args:
            epoch: number of the epoch.
            terms: mean terms of the loss over the epoch.
            throughput: data throughput of the epoch.
        """
        errors = self.validate()
        record: dict[str, Any] = {"step": self.step, "epoch": epoch, **terms, "validation_rmse": None}
        if errors is not None:
            record["validation_rmse"] = [e if math.isfinite(e) else None for e in errors]  # JSON has no NaN
            score = sum(errors) / len(errors)
            if math.isfinite(score):
                record["validation_score"] = score
                if self.best_score is None or score < self.best_score:
                    self.best_score = score
                    self.best_epoch = epoch
                    self.best = {name: t.clone() for name, t in self.average.items()}
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
        record["rollout"] = self.settings.rollout_length(epoch)
        record["time"] = time.time()
        record["megabytes_per_second"] = round(throughput.rate, 2)
        record["waiting"] = round(throughput.waiting, 4)
        return record

    def save(self) -> None:
        """Write the state.

        Raises:
            NonFiniteError: a value of it is not finite; the state on disk is kept.
        """
        groups = {
            "model": self.model.state_dict(),
            "average": self.average,
            "best": self.best,
            "optimizer": optimizer_tensors(self.optimizer),
        }
        kinds = {"model": "weights", "average": "averages", "optimizer": "moments"}
        try:
            for group, kind in kinds.items():
                check_tensors(groups[group], kind, f"after step {self.step - 1}")
        except NonFiniteError as error:
            raise self._non_finite(str(error)) from None
        meta = {
            "step": self.step,
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "fingerprint": self.fingerprint,
            "threads": torch.get_num_threads(),
            "settings": asdict(self.settings),
        }
        save_state(self.path, groups, meta)
        self.saved_step = self.step

    def resume(self) -> None:
        """Restore the saved state, if there is one.

        Raises:
            ValueError: the state belongs to other settings, is damaged, or is not that of the model.
        """
        refusal = (
            f"{self.path.parent} contains a run with other settings or data; choose another output, or "
            "remove it"
        )
        state = load_own_state(self.path, self.fingerprint, refusal=refusal)
        if state is None:
            return
        groups, meta = state
        restore_model(self.model, groups, "model", path=self.path)
        average = matching(self.model, groups, "average", path=self.path)
        self.average = {name: t.to(self.device) for name, t in average.items()}
        self.best = matching(self.model, groups, "best", path=self.path) if groups.get("best") else {}
        self.step = meta["step"]
        self.saved_step = meta["step"]
        self.best_score = meta["best_score"]
        self.best_epoch = meta["best_epoch"]
        if self.best_score is not None and not math.isfinite(self.best_score):
            # Older versions kept a score of NaN, than which no other was ever better.
            self.best = {}
            self.best_score = None
            self.best_epoch = None
        if groups.get("optimizer"):
            restore_optimizer(self.optimizer, groups["optimizer"])
