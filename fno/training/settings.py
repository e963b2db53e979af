"""Settings of a training run and the schedules that follow from them: functions of the step alone, so a
resume needs no more.
"""

import math
from dataclasses import dataclass, fields
from typing import Any


def check_range(settings: Any, **ranges: tuple[float, float]) -> None:
    """Raise ``ValueError`` unless the settings of these names lie between the least and largest value of
    each.
    """
    for name, (least, largest) in ranges.items():
        value = getattr(settings, name)
        if not least <= value <= largest:
            limit = f"at least {least:g}" if value < least else f"at most {largest:g}"
            raise ValueError(f"train.{name} must be {limit}, got {value}")


def check_finite(settings: Any) -> None:
    """Raise ``ValueError`` where a number among the settings is infinite or not a number."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{field.name} must be a finite number, got {value}")


@dataclass(frozen=True)
class TrainSettings:
    """How to train.

    Args:
        epochs: passes over the training samples, all stages together.
        batch_size: samples of a batch, for whoever makes the batches.
        learning_rate: largest learning rate of AdamW.
        weight_decay: decoupled weight decay.
        warmup_steps: steps over which the learning rate rises linearly; then it falls along a cosine.
        clip: largest norm of the gradient.
        ema: decay of the averaged weights, which are the ones that are kept; shorter at the start of a run.
        noise: Gaussian noise on the input anomalies, in anomaly standard deviations.
        rollout_steps: most steps of a training rollout.
        rollout_share: share of the epochs, at the end, trained on rollouts that grow from 2 steps to
            ``rollout_steps``.
        rollout_rate: largest learning rate of the rollouts as a share of ``learning_rate``.
        precision: ``float32``, or ``bf16`` for autocast (transforms stay in float32).
        validation_steps: steps of the rollouts that weights are chosen by.
        validation_samples: most samples to validate on, spread evenly.
        checkpoint_minutes: minutes between saved states.
        seed: seed of everything random.

    Raises:
        ValueError: a setting out of its range.
    """

    epochs: int = 20
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    clip: float = 1.0
    ema: float = 0.995
    noise: float = 0.0
    rollout_steps: int = 1
    rollout_share: float = 0.5
    rollout_rate: float = 0.25
    precision: str = "float32"
    validation_steps: int = 12
    validation_samples: int = 64
    checkpoint_minutes: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bf16"):
            raise ValueError(f"train.precision must be 'float32' or 'bf16', got {self.precision!r}")
        check_range(
            self,
            epochs=(1, 10**6),
            batch_size=(1, 10**6),
            rollout_steps=(1, 10**4),
            validation_steps=(1, 10**5),
            validation_samples=(1, 10**7),
            warmup_steps=(0, 10**9),
            weight_decay=(0, 1e6),
            seed=(0, 2**63 - 1),
        )
        check_finite(self)
        if not 0 <= self.ema < 1 or not 0 <= self.rollout_share <= 1:
            raise ValueError(
                f"train.ema must lie in [0, 1) and train.rollout_share in [0, 1], got {self.ema}, {self.rollout_share}"
            )
        if (
            min(self.learning_rate, self.clip, self.rollout_rate) <= 0
            or self.noise < 0
            or self.checkpoint_minutes < 0
        ):
            raise ValueError(
                "train.learning_rate, train.rollout_rate and train.clip must be positive, noise and checkpoint_minutes not negative"
            )

    @property
    def rollout_epoch(self) -> int:
        """First epoch trained on rollouts of several steps; ``epochs`` if there is none."""
        return self.epochs if self.rollout_steps == 1 else round(self.epochs * (1 - self.rollout_share))

    def rollout_length(self, epoch: int) -> int:
        """Return the steps of a training rollout in ``epoch``."""
        first = self.rollout_epoch
        if epoch < first:
            return 1
        done = (epoch - first) / (self.epochs - first)
        return min(self.rollout_steps, 2 + int(done * (self.rollout_steps - 1)))

    def rate(self, step: int, total: int) -> float:
        """Return the learning rate of ``step`` of ``total``.

        Each stage, one-step training and rollouts, has its own rise and its own fall along a cosine; the
        second starts from ``rollout_rate`` times the first's.
        """
        first = total * self.rollout_epoch // self.epochs
        if step < first or first == total:
            return self.learning_rate * _warm_cosine(step, first, self.warmup_steps)
        share = self.rollout_rate if first else 1.0
        return share * self.learning_rate * _warm_cosine(step - first, total - first, self.warmup_steps)

    def ema_decay(self, step: int) -> float:
        """Return the decay of the averaged weights after ``step`` steps."""
        return min(self.ema, (1 + step) / (10 + step))


def _warm_cosine(step: int, total: int, warmup: int) -> float:
    """Rise linearly over ``warmup`` steps, at most a fifth of all, and fall along a cosine to a twentieth."""
    rise = min(1.0, (step + 1) / max(1, min(warmup, total // 5)))
    return rise * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / max(1, total))))
