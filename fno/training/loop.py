"""The training loop. It takes any source of batches and knows no data set.

Whatever is random in step n (noise, dropout, the order of samples) is seeded by (seed, n), so the state after n
steps is weights, averages, optimizer moments and n: a run killed at any moment and started again ends with the
same bits as one that was never stopped, on the same device and number of threads.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..batch import Batch
from ..losses import area_weighted_mse
from ..models.stepper import Stepper
from .log import TrainingLog
from .settings import TrainSettings
from .state import load_state, optimizer_tensors, restore_optimizer, save_state

Progress = Callable[[int, int, str], None]


class BatchSource(Protocol):
    """What the loop asks of a loader. The same arguments must always give the same batches."""

    def steps_per_epoch(self) -> int:
        """Return the batches of an epoch, the same for every rollout length."""

    def epoch(self, epoch: int, rollout: int, start: int) -> Iterator[Batch]:
        """Yield the batches of an epoch from number ``start`` on, each with ``rollout`` states after the window."""

    def validation(self, steps: int, samples: int) -> Iterator[Batch]:
        """Yield batches that no epoch holds, with ``steps`` states after the window; none if there is no such data."""


@dataclass(frozen=True)
class TrainingRecord:
    """What came of a run: steps done, the best validation score and the epoch it was reached in."""

    steps: int
    best_score: float | None
    best_epoch: int | None


def train(
    stepper: Stepper,
    source: BatchSource,
    weights: Tensor,
    settings: TrainSettings,
    folder: Path,
    fingerprint: str = "",
    progress: Progress | None = None,
) -> TrainingRecord:
    """Train ``stepper`` in place and leave in it the averaged weights that did best on the validation data.

    The loss of a rollout is the mean over its steps and the channels of the area-weighted square error, in units of
    the tendency scale; that of step k is divided by k, about as fast as errors grow, so that no step outweighs the
    others.

    Args:
        stepper: model; its device is where training happens.
        source: batches.
        weights: area weight of each point, zero under the mask, shape (channel, H, W).
        settings: how to train.
        folder: holds ``training.safetensors`` (the state, resumed from if there) and ``log.jsonl``.
        fingerprint: names everything that the result depends on; a state with another one is refused.
        progress: called with (step, steps in all, text).

    Raises:
        ValueError: the saved state belongs to other settings, or the loss is not finite.
    """
    run = _Run(stepper, source, weights, settings, folder, fingerprint)
    run.resume()
    run.log = TrainingLog(folder / "log.jsonl", run.step)
    per_epoch, saved = source.steps_per_epoch(), time.monotonic()
    while run.step < run.total:
        epoch, start = divmod(run.step, per_epoch)
        with closing(source.epoch(epoch, settings.rollout_length(epoch), start)) as batches:  # type: ignore[type-var]
            losses = []
            for batch in batches:
                losses.append(run.train_step(batch))
                if progress:
                    progress(run.step, run.total, f"epoch {epoch + 1}/{settings.epochs}  loss {losses[-1]:.4f}")
                if run.step % per_epoch and time.monotonic() - saved > 60 * settings.checkpoint_minutes:
                    run.save()
                    saved = time.monotonic()
        run.end_epoch(epoch, sum(losses) / len(losses))
        saved = time.monotonic()
    stepper.load_state_dict(run.best or run.average)
    return TrainingRecord(run.step, run.best_score, run.best_epoch)


class _Run:
    """The moving parts of a run and how they are saved."""

    def __init__(self, stepper: Stepper, source: BatchSource, weights: Tensor, settings: TrainSettings, folder: Path, fingerprint: str) -> None:
        self.stepper, self.source, self.settings = stepper, source, settings
        self.path, self.fingerprint = folder / "training.safetensors", fingerprint
        self.device = str(next(stepper.parameters()).device)
        self.weights = weights.to(self.device)
        self.ratio = (stepper.anomaly_std / stepper.tendency_std).flatten().square()
        self.optimizer = torch.optim.AdamW(stepper.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.95))
        self.average = {name: t.detach().clone() for name, t in stepper.state_dict().items()}
        self.best: dict[str, Tensor] = {}
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self.step, self.total = 0, settings.epochs * source.steps_per_epoch()
        self.log: TrainingLog

    def train_step(self, batch: Batch) -> float:
        """Do one optimizer step and return its loss."""
        settings, batch = self.settings, batch.to(self.device)
        torch.manual_seed(hash((settings.seed, self.step)) % 2**63)
        generator = torch.Generator().manual_seed(hash((settings.seed, self.step, 1)) % 2**63)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(self.step, self.total)
        self.stepper.train()
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=settings.precision == "bf16"):
            errors = torch.stack(list(self._errors(batch, settings.noise, generator))) * self.ratio
            loss = (errors.mean(dim=1) / torch.arange(1, len(errors) + 1, device=errors.device)).mean()
        value = loss.item()
        if not math.isfinite(value):
            raise ValueError(f"the loss became {value} at step {self.step}; lower train.learning_rate")
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.stepper.parameters(), settings.clip)
        self.optimizer.step()
        self.step += 1
        decay = settings.ema_decay(self.step)
        for name, tensor in self.stepper.state_dict().items():
            self.average[name].lerp_(tensor, 1 - decay)
        return value

    def _errors(self, batch: Batch, noise: float = 0.0, generator: torch.Generator | None = None) -> Iterator[Tensor]:
        """Yield the mean square error of each step, shape (channel,), in anomaly scales."""
        stepper, w = self.stepper, self.stepper.window
        anomaly = stepper.anomaly(batch.state, batch.background)
        window, times = anomaly[:, :w], range(w, anomaly.shape[1])
        if noise:
            window = window + noise * torch.randn(window.shape, generator=generator).to(window) * stepper.mask
        drivers = ((batch.background[:, t - 1 : t + 1], batch.forcing[:, t - 1 : t + 1]) for t in times)
        for t, prediction in zip(times, stepper.rollout(window, drivers), strict=True):
            yield area_weighted_mse(prediction, anomaly[:, t], self.weights)

    @torch.no_grad()
    def validate(self) -> list[float] | None:
        """Return the root mean square error of the averaged weights at each step, a mean over the channels."""
        current = {name: t.clone() for name, t in self.stepper.state_dict().items()}
        self.stepper.load_state_dict(self.average)
        self.stepper.eval()
        total, samples = torch.zeros(()), 0
        for batch in self.source.validation(self.settings.validation_steps, self.settings.validation_samples):
            total = total + len(batch) * torch.stack(list(self._errors(batch.to(self.device)))).cpu()
            samples += len(batch)
        self.stepper.load_state_dict(current)
        return (total / samples).sqrt().mean(dim=1).tolist() if samples else None

    def end_epoch(self, epoch: int, loss: float) -> None:
        """Validate, keep the weights if they are the best so far, log and save."""
        errors = self.validate()
        record: dict[str, Any] = {"step": self.step, "epoch": epoch, "loss": loss, "validation_rmse": errors}
        if errors is not None:
            score = sum(errors) / len(errors)
            if self.best_score is None or score < self.best_score:
                self.best_score, self.best_epoch = score, epoch
                self.best = {name: t.clone() for name, t in self.average.items()}
            record["validation_score"] = score
        record["rollout"], record["time"] = self.settings.rollout_length(epoch), time.time()
        self.log.write(record)
        self.save()

    def save(self) -> None:
        """Write the state."""
        groups = {
            "model": self.stepper.state_dict(),
            "average": self.average,
            "best": self.best,
            "optimizer": optimizer_tensors(self.optimizer),
        }
        meta = {
            "step": self.step,
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "fingerprint": self.fingerprint,
            "threads": torch.get_num_threads(),
            "settings": asdict(self.settings),
        }
        save_state(self.path, groups, meta)

    def resume(self) -> None:
        """Take up a saved state, if there is one."""
        if not self.path.exists():
            return
        groups, meta = load_state(self.path)
        if meta["fingerprint"] != self.fingerprint:
            raise ValueError(f"{self.path.parent} holds a run with other settings or data; choose another output, or remove it")
        self.stepper.load_state_dict(groups["model"])
        self.average = {name: t.to(self.device) for name, t in groups["average"].items()}
        self.best = groups.get("best", {})
        self.step, self.best_score, self.best_epoch = meta["step"], meta["best_score"], meta["best_epoch"]
        if groups.get("optimizer"):
            restore_optimizer(self.optimizer, groups["optimizer"])
