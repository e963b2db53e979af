"""The training loop. It takes any source of batches and any objective, and knows neither data sets nor
models.

Whatever is random in step n (noise, dropout, the order of samples) is seeded by (seed, n), so the state after
n steps is weights, averages, optimizer moments and n: a run killed at any moment and started again ends with
the same bits as one that was never stopped, on the same device and number of threads.

A loss or gradient that is not finite stops the run before the optimizer takes it, so what is saved is always
finite.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ..errors import NonFiniteError, StoppedError
from ..progress import Progress
from .finite import check_gradient, check_saved, check_tensors
from .log import TrainingLog
from .settings import TrainSettings
from .state import load_state, matching, optimizer_tensors, restore_model, restore_optimizer, save_state

log = logging.getLogger(__name__)


class DeviceBatch(Protocol):
    """What the loop asks of a batch."""

    @property
    def nbytes(self) -> int:
        """Bytes of data in it."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def to(self, device: str) -> Any:
        """Return the batch on ``device``."""


B = TypeVar("B", bound=DeviceBatch)
B_co = TypeVar("B_co", bound=DeviceBatch, covariant=True)
B_contra = TypeVar("B_contra", bound=DeviceBatch, contravariant=True)


class BatchSource(Protocol[B_co]):
    """What the loop asks of a loader. The same arguments must always give the same batches."""

    def steps_per_epoch(self) -> int:
        """Return the batches of an epoch, the same for every rollout length."""

    def epoch(self, epoch: int, rollout: int, start: int) -> Iterator[B_co]:
        """Yield the batches of an epoch from number ``start`` on, each with ``rollout`` states after the
        window.
        """

    def validation(self, steps: int, samples: int) -> Iterator[B_co]:
        """Yield batches that no epoch holds, with ``steps`` states after the window; none if there is no such
        data.
        """


@dataclass(frozen=True)
class Loss:
    """What is minimised, and what it is made of.

    Attributes:
        value: the loss.
        terms: size of each term in its own units, for the log.
    """

    value: Tensor
    terms: Mapping[str, Tensor]


class Objective(Protocol[B_contra]):
    """What a model is trained for."""

    def loss(self, batch: B_contra, share: float, generator: torch.Generator) -> Loss:
        """Return the loss of a batch.

        Args:
            batch: samples.
            share: how much of the training is done, from 0 to 1.
            generator: source of all that is random.
        """

    def errors(self, batch: B_contra) -> Tensor:
        """Return mean square errors of a batch that was not trained on, shape (steps, channels)."""


@dataclass(frozen=True)
class TrainingRecord:
    """What came of a run: steps done, the best validation score and the epoch it was reached in."""

    steps: int
    best_score: float | None
    best_epoch: int | None


def train(
    model: nn.Module,
    objective: Objective[B],
    source: BatchSource[B],
    settings: TrainSettings,
    folder: Path,
    fingerprint: str = "",
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> TrainingRecord:
    """Train ``model`` in place and leave in it the averaged weights that did best on the validation data.

    Args:
        model: its device is where training happens.
        objective: what is minimised; it holds the model.
        source: batches.
        settings: how to train.
        folder: holds ``training.safetensors`` (the state, resumed from if there) and ``log.jsonl``.
        fingerprint: names everything that the result depends on; a state with another one is refused.
        progress: called with (step, steps in all, text).
        stop: called after each step; where it returns True, the state is saved and training ends.

    Raises:
        StoppedError: ``stop`` returned True.
        ValueError: the saved state belongs to other settings.
        NonFiniteError: a term of the loss, the gradient, the weights or the saved state are not finite; step
            and term or parameter are named, and the last saved state is kept.
    """
    run = _Run(model, objective, source, settings, folder, fingerprint)
    run.resume()
    run.warn_without_validation()
    run.log = TrainingLog(folder / "log.jsonl", run.step)
    per_epoch, saved = source.steps_per_epoch(), time.monotonic()
    while run.step < run.total:
        epoch, start = divmod(run.step, per_epoch)
        with closing(source.epoch(epoch, settings.rollout_length(epoch), start)) as batches:  # type: ignore[type-var]
            terms: list[dict[str, float]] = []
            supply = ThroughputMeter(batches)
            for batch in supply:
                terms.append(run.train_step(batch))
                if progress:
                    losses = "  ".join(f"{n} {v:.4g}" for n, v in terms[-1].items())
                    progress(run.step, run.total, f"epoch {epoch + 1}/{settings.epochs}  {losses}  {supply}")
                if stop is not None and run.step < run.total and stop():
                    run.save()
                    raise StoppedError(f"the state after step {run.step} of {run.total} is saved")
                if run.step % per_epoch and time.monotonic() - saved > 60 * settings.checkpoint_minutes:
                    run.save()
                    saved = time.monotonic()
        run.end_epoch(
            epoch, {name: mean([t[name] for t in terms if name in t]) for name in terms[-1]}, supply
        )
        saved = time.monotonic()
    model.load_state_dict(run.best or run.average)
    return TrainingRecord(run.step, run.best_score, run.best_epoch)


class ThroughputMeter(Generic[B]):
    """Batches with how fast they came: megabytes per second since the first was asked for, and the share of
    that time spent waiting for data.
    """

    def __init__(self, batches: Iterator[B]) -> None:
        self._batches, self._started = batches, time.monotonic()
        self._bytes, self._waited = 0, 0.0

    def __iter__(self) -> Iterator[B]:
        while True:
            asked = time.monotonic()
            batch = next(self._batches, None)
            self._waited += time.monotonic() - asked
            if batch is None:
                return
            self._bytes += batch.nbytes
            yield batch

    @property
    def rate(self) -> float:
        """Megabytes per second."""
        return self._bytes / 1e6 / max(1e-9, time.monotonic() - self._started)

    @property
    def waiting(self) -> float:
        """Share of the time spent waiting for data."""
        return self._waited / max(1e-9, time.monotonic() - self._started)

    def __str__(self) -> str:
        return f"{self.rate:.3g} MB/s, waiting {self.waiting:.0%}"


class _Run:
    """The moving parts of a run and how they are saved."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective[Any],
        source: BatchSource[Any],
        settings: TrainSettings,
        folder: Path,
        fingerprint: str,
    ) -> None:
        self.model, self.objective, self.source, self.settings = model, objective, source, settings
        self.path, self.fingerprint = folder / "training.safetensors", fingerprint
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
        self.step, self.total = 0, settings.epochs * source.steps_per_epoch()
        self.saved_step: int | None = None
        self.log: TrainingLog

    def train_step(self, batch: Any) -> dict[str, float]:
        """Do one optimizer step and return the loss and its terms."""
        settings, batch = self.settings, batch.to(self.device)
        torch.manual_seed(hash((settings.seed, self.step)) % 2**63)
        generator = torch.Generator().manual_seed(hash((settings.seed, self.step, 1)) % 2**63)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(self.step, self.total)
        self.model.train()
        try:
            with torch.autocast(
                self.device.split(":")[0], torch.bfloat16, enabled=settings.precision == "bf16"
            ):
                loss = self.objective.loss(batch, self.step / self.total, generator)
        except NonFiniteError as error:
            raise self.stopped(f"{error}, at step {self.step}") from None
        found = {**{name: term.item() for name, term in loss.terms.items()}, "loss": loss.value.item()}
        for name, value in found.items():
            if not math.isfinite(value):
                what = "the loss" if name == "loss" else f"the term {name} of the loss"
                raise self.stopped(f"{what} became {value} at step {self.step}")
        self.optimizer.zero_grad()
        loss.value.backward()
        try:
            norm = check_gradient(self.model.named_parameters(), f"at step {self.step}")
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), settings.clip, norm)
            self.optimizer.step()
            weights = self.model.state_dict()
            check_tensors(weights, "weights", f"after step {self.step}")
        except NonFiniteError as error:
            raise self.stopped(str(error)) from None
        self.step += 1
        decay = settings.ema_decay(self.step)
        for name, tensor in weights.items():
            self.average[name].lerp_(tensor, 1 - decay)
        return found

    def stopped(self, reason: str) -> NonFiniteError:
        """Return the error that ends a run, with the state that is kept and the ways out."""
        kept = (
            "no state was saved yet"
            if self.saved_step is None
            else f"the saved state of step {self.saved_step} is kept"
        )
        return NonFiniteError(
            f"{reason}; {kept}: where data or hardware were at fault, fix it and run the same command again, else lower train.learning_rate "
            f"or train.clip in a run with another output"
        )

    def warn_without_validation(self) -> None:
        """Warn before training if no sample is left to choose the weights by."""
        batches = self.source.validation(self.settings.validation_steps, self.settings.validation_samples)
        if self.step < self.total and next(batches, None) is None:
            log.warning(
                "there is no validation data: no epoch can be judged (validation_rmse is null in the log), and the weights after the last "
                "step are kept; raise data.validation_fraction, or give a longer period without gaps"
            )

    @torch.no_grad()
    def validate(self) -> list[float] | None:
        """Return the root mean square error of the averaged weights at each step, a mean over the channels;
        None without data.
        """
        current = {name: t.clone() for name, t in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        self.model.eval()
        total, samples = torch.zeros(()), 0
        for batch in self.source.validation(self.settings.validation_steps, self.settings.validation_samples):
            total = total + len(batch) * self.objective.errors(batch.to(self.device)).cpu()
            samples += len(batch)
        self.model.load_state_dict(current)
        return (total / samples).sqrt().mean(dim=1).tolist() if samples else None

    def end_epoch(self, epoch: int, terms: dict[str, float], supply: "ThroughputMeter") -> None:
        """Validate, keep the weights if they are the best so far, log and save."""
        errors = self.validate()
        record: dict[str, Any] = {"step": self.step, "epoch": epoch, **terms, "validation_rmse": None}
        if errors is not None:
            record["validation_rmse"] = [e if math.isfinite(e) else None for e in errors]  # JSON has no NaN
            score = sum(errors) / len(errors)
            if math.isfinite(score):
                record["validation_score"] = score
                if self.best_score is None or score < self.best_score:
                    self.best_score, self.best_epoch = score, epoch
                    self.best = {name: t.clone() for name, t in self.average.items()}
            else:
                first = next(i for i, e in enumerate(errors) if not math.isfinite(e))
                log.warning(
                    "epoch %d: the validation error is %s from step %d of %d on, so these weights cannot be chosen; the forecast diverges, or "
                    "the validation data have missing values",
                    epoch + 1,
                    errors[first],
                    first + 1,
                    len(errors),
                )
        record["rollout"], record["time"] = self.settings.rollout_length(epoch), time.time()
        record["megabytes_per_second"], record["waiting"] = round(supply.rate, 2), round(supply.waiting, 4)
        self.log.write(record)
        self.save()

    def save(self) -> None:
        """Write the state.

        Raises:
            NonFiniteError: there is a value in it that is not finite; the state before is kept.
        """
        groups = {
            "model": self.model.state_dict(),
            "average": self.average,
            "best": self.best,
            "optimizer": optimizer_tensors(self.optimizer),
        }
        try:
            for kind, tensors in (
                ("weights", groups["model"]),
                ("averages", self.average),
                ("moments", groups["optimizer"]),
            ):
                check_tensors(tensors, kind, f"after step {self.step - 1}")
        except NonFiniteError as error:
            raise self.stopped(str(error)) from None
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
        """Take up a saved state, if there is one."""
        if not self.path.exists():
            return
        groups, meta = load_state(self.path)
        if meta["fingerprint"] != self.fingerprint:
            raise ValueError(
                f"{self.path.parent} holds a run with other settings or data; choose another output, or remove it"
            )
        check_saved(self.path, groups, meta["step"])
        restore_model(self.model, groups, "model", self.path)
        self.average = {
            name: t.to(self.device) for name, t in matching(self.model, groups, "average", self.path).items()
        }
        self.best = matching(self.model, groups, "best", self.path) if groups.get("best") else {}
        self.step = self.saved_step = meta["step"]
        self.best_score, self.best_epoch = meta["best_score"], meta["best_epoch"]
        if self.best_score is not None and not math.isfinite(
            self.best_score
        ):  # older versions kept it, and no other was ever better
            self.best, self.best_score, self.best_epoch = {}, None, None
        if groups.get("optimizer"):
            restore_optimizer(self.optimizer, groups["optimizer"])
