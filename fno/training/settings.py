"""Settings of a training run; its schedules are functions of the step alone."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import SettingError
from ..random import NOISES
from .checks import check_finite, check_loggers_differ, check_range
from .execution import CHECKPOINTING
from .optimizers import OPTIMIZERS, OptimizerOptions
from .schedules import SCHEDULES

PICTURES = ("auto", "always", "never")
"""When pictures of a run are drawn."""

_ALWAYS_IDENTIFYING = {
    "epochs",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "warmup_steps",
    "clip",
    "ema",
    "noise",
    "rollout_steps",
    "rollout_share",
    "rollout_rate",
    "precision",
    "validation_steps",
    "validation_samples",
    "seed",
}
"""Settings of the first version, which identify a run at every value; later ones only if not the default."""

_WITHOUT_EFFECT = {
    "checkpoint_minutes",
    "parallel",
    "latitude_bands",
    "activation_checkpointing",
    "keep_last",
    "on_non_finite",
    "restore_factor",
    "max_restores",
    "loggers",
    "log_every",
    "pictures",
}
"""Settings that the result does not depend on; how a failed run was restored is part of its state."""


@dataclass(frozen=True)
class TrainSettings:
    """Settings of the training loop.

    Args:
        epochs: number of passes over the training samples, over all stages.
        batch_size: samples per batch; used by the source of batches.
        optimizer: ``adamw``; ``muon``, which orthogonalises the momentum of each matrix; or ``soap``, Adam in
            the eigenbasis of the gradients of each matrix. See ``fno.training.optimizers``.
        learning_rate: peak learning rate; short runs with ``muon`` need about three times that of ``adamw``.
        weight_decay: decoupled weight decay per unit of learning rate.
        decay_all: decay all parameters; otherwise biases, norms and all other parameters of one dimension
            are excluded.
        fused: update the parameters of AdamW in one kernel, which is faster and differs in the last bits.
        schedule: course of the learning rate: ``cosine`` decay after a linear rise, ``onecycle`` (a long rise
            and a fall to almost zero) or ``restarts`` (cosine decays, each twice as long as the last).
            Training on rollouts repeats it.
        cycles: number of decays of the schedule ``restarts``.
        warmup_steps: steps over which the learning rate rises linearly, except with ``onecycle``.
        clip: largest norm of the gradient.
        accumulation: parts that each batch is divided into; their gradients are added before the optimizer
            step, with the memory of one part. The result is that of the whole batch up to round-off, apart
            from noise and dropout, whose random numbers differ.
        activation_checkpointing: activations that are computed again in the backward pass instead of being
            stored, which saves memory and costs time: ``none``, those of ``blocks`` of a network, or of whole
            ``steps`` of a rollout.
        compile: compile networks by ``torch.compile``, which takes minutes at the start; without a compiler,
            training continues uncompiled. Not together with ``activation_checkpointing``.
        ema: decay of the averaged weights, which are the result of training; smaller at the start of a run.
        noise: standard deviation of Gaussian noise on the input anomalies, in units of theirs.
        noise_spectrum: spectrum of this noise: ``white``, independent at every point, or ``pink``, with the
            same variance in every octave of wavenumbers. From the latter a model learns to damp errors on
            all scales, the largest included, which keeps long rollouts stable.
        rollout_steps: largest number of steps of a training rollout.
        rollout_share: fraction of the epochs, at the end, that train on rollouts, which grow from 2 steps to
            ``rollout_steps``.
        rollout_rate: peak learning rate on rollouts as a fraction of ``learning_rate``.
        rollout_lengths: number of steps of a training rollout in consecutive, equal parts of the epochs, such
            as 1, 1, 2, 4, instead of a growth to ``rollout_steps``.
        pushforward: train on the last step of a rollout alone, from a state that the model predicted and
            through which no gradient flows (Brandstetter et al. 2022, arXiv:2202.03376).
        lead_times: lead times [steps], such as 1, 2, 4, of which one is drawn for each sample; the network
            receives it as an input and predicts all of them in one step (all-to-all training, Herde et al.
            2024, arXiv:2405.19101). Rollouts take steps of lead time 1. By default there is only that one.
        precision: ``float32``, or ``bf16`` for autocast (transforms stay in float32).
        validation_steps: number of steps of the validation rollouts.
        validation_samples: largest number of validation samples, which are evenly spaced.
        checkpoint_minutes: interval between saved states [min].
        keep_last: number of states at the end of an epoch to keep, besides the present one and that of the
            best epoch; 0 for none.
        patience: number of epochs without a better validation score after which training ends early; 0 for
            never.
        on_non_finite: what happens when the loss, its gradient or the weights are not finite: ``stop``, or
            ``restore`` to go back to the start of the epoch with a lower learning rate.
        restore_factor: factor on the learning rate at each such return, from then on.
        max_restores: largest number of returns, after which training stops.
        seed: seed of all random numbers.
        freeze: patterns of names of parameters that are not trained, with ``*``, such as
            ``network.*.blocks.*``; none by default.
        parallel: how several processes, started by ``torchrun``, train one model: ``ddp`` (each has a copy)
            or ``fsdp`` (parameters, gradients and moments are divided among them, for models that exceed the
            memory of a device). Without effect in a single process.
        latitude_bands: number of processes that share each grid, of which each has a band of latitudes, for
            grids whose activations exceed the memory of a device; 1 for whole grids. It divides the number of
            processes.
        loggers: where loss, learning rate, speed and validation scores are recorded, besides ``log.jsonl``:
            ``tensorboard``, ``wandb``, ``mlflow``, names registered under the entry point group
            ``fourcaster.loggers``, or ``module:Class``. None by default.
        log_every: number of steps between two records of the loggers; each validation is recorded as well.
        pictures: when curves of the training, a forecast and its spectrum are drawn next to the log:
            ``auto``, after a validation if drawing takes at most 2 % of the time of the run, so that short
            runs have none; ``always``, after each validation; or ``never``.

    Raises:
        SettingError: a setting is out of its range.
    """

    epochs: int = 20
    batch_size: int = 16
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    decay_all: bool = True
    fused: bool = False
    schedule: str = "cosine"
    cycles: int = 3
    warmup_steps: int = 100
    clip: float = 1.0
    accumulation: int = 1
    activation_checkpointing: str = "none"
    compile: bool = False
    ema: float = 0.995
    noise: float = 0.0
    noise_spectrum: str = "white"
    rollout_steps: int = 1
    rollout_share: float = 0.5
    rollout_rate: float = 0.25
    rollout_lengths: tuple[int, ...] = ()
    pushforward: bool = False
    lead_times: tuple[int, ...] = ()
    precision: str = "float32"
    validation_steps: int = 12
    validation_samples: int = 64
    checkpoint_minutes: float = 5.0
    keep_last: int = 0
    patience: int = 0
    on_non_finite: str = "stop"
    restore_factor: float = 0.5
    max_restores: int = 3
    seed: int = 0
    freeze: tuple[str, ...] = ()
    parallel: str = "ddp"
    latitude_bands: int = 1
    loggers: tuple[str, ...] = ()
    log_every: int = 10
    pictures: str = "auto"

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bf16"):
            raise SettingError(f"precision must be 'float32' or 'bf16', got {self.precision!r}")
        if self.parallel not in ("ddp", "fsdp"):
            raise SettingError(f"parallel must be 'ddp' or 'fsdp', got {self.parallel!r}")
        if not OPTIMIZERS.offers(self.optimizer):
            known = ", ".join(repr(choice) for choice in OPTIMIZERS)
            raise SettingError(f"optimizer must be one of {known} or module:Class, got {self.optimizer!r}")
        for name, choices in (
            ("schedule", SCHEDULES),
            ("activation_checkpointing", CHECKPOINTING),
            ("on_non_finite", ("stop", "restore")),
            ("noise_spectrum", NOISES),
            ("pictures", PICTURES),
        ):
            if getattr(self, name) not in choices:
                known = ", ".join(repr(choice) for choice in choices)
                raise SettingError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        check_range(
            self,
            epochs=(1, 10**6),
            batch_size=(1, 10**6),
            cycles=(1, 20),
            accumulation=(1, 10**6),
            rollout_steps=(1, 10**4),
            validation_steps=(1, 10**5),
            validation_samples=(1, 10**7),
            warmup_steps=(0, 10**9),
            latitude_bands=(1, 10**6),
            weight_decay=(0, 1e6),
            keep_last=(0, 10**6),
            patience=(0, 10**6),
            max_restores=(0, 1000),
            log_every=(1, 10**9),
            seed=(0, 2**63 - 1),
        )
        check_finite(self)
        check_loggers_differ(self.loggers)
        if self.compile and self.activation_checkpointing != "none":
            raise SettingError("compile cannot be combined with activation_checkpointing; choose one of them")
        if self.accumulation > self.batch_size:
            raise SettingError(
                f"accumulation must be at most batch_size, {self.batch_size}, got {self.accumulation}"
            )
        if not 0 <= self.ema < 1 or not 0 <= self.rollout_share <= 1:
            raise SettingError(
                f"ema must be in [0, 1) and rollout_share in [0, 1], got {self.ema} and {self.rollout_share}"
            )
        if not 0 < self.restore_factor <= 1:
            raise SettingError(f"restore_factor must be in (0, 1], got {self.restore_factor}")
        for name in ("learning_rate", "clip", "rollout_rate"):
            if getattr(self, name) <= 0:
                raise SettingError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("noise", "checkpoint_minutes"):
            if getattr(self, name) < 0:
                raise SettingError(f"{name} must not be negative, got {getattr(self, name)}")
        self._check_lengths()

    def _check_lengths(self) -> None:
        """Check the settings of rollouts and lead times, which exclude one another.

        Raises:
            SettingError: a length is out of its range, or a setting has no effect.
        """
        lengths = self.rollout_lengths
        leads = self.lead_times
        for name, steps in (("rollout_lengths", lengths), ("lead_times", leads)):
            if not all(1 <= n <= 10**4 for n in steps):
                raise SettingError(f"{name} must be numbers of steps from 1 to 10000, got {list(steps)[:20]}")
        if len(lengths) > min(self.epochs, 10**4):
            raise SettingError(
                f"rollout_lengths must have at most one entry per epoch, got {len(lengths)} for "
                f"{self.epochs} epochs"
            )
        if lengths and self.rollout_steps > 1:
            raise SettingError(
                f"rollout_lengths must not be combined with rollout_steps, got {list(lengths)} and "
                f"{self.rollout_steps}; leave out one of them"
            )
        if leads and (leads[0] != 1 or len(leads) < 2 or list(leads) != sorted(set(leads))):
            raise SettingError(
                f"lead_times must be at least two increasing numbers from 1, the step of forecasts, got "
                f"{list(leads)[:20]}"
            )
        longest = max(lengths, default=self.rollout_steps)
        if leads and longest > 1:
            raise SettingError(
                f"lead_times must not be combined with rollouts of several steps, got {list(leads)} and "
                f"rollouts of {longest} steps; leave out one of them"
            )
        if self.pushforward and longest == 1:
            raise SettingError(
                "pushforward needs rollouts of several steps; set rollout_steps or rollout_lengths as well"
            )

    @property
    def rollout_epoch(self) -> int:
        """First epoch with training rollouts of several steps; ``epochs`` if there is none."""
        if self.rollout_lengths:
            several = (e for e in range(self.epochs) if self.rollout_length(e) > 1)
            return next(several, self.epochs)
        return self.epochs if self.rollout_steps == 1 else round(self.epochs * (1 - self.rollout_share))

    def rollout_length(self, epoch: int) -> int:
        """Return the number of steps of a training rollout in ``epoch``, or the longest lead time."""
        if self.lead_times:
            return max(self.lead_times)
        if self.rollout_lengths:
            return self.rollout_lengths[epoch * len(self.rollout_lengths) // self.epochs]
        first = self.rollout_epoch
        if epoch < first:
            return 1
        done = (epoch - first) / (self.epochs - first)
        return min(self.rollout_steps, 2 + int(done * (self.rollout_steps - 1)))

    def rate(self, step: int, total: int) -> float:
        """Return the learning rate of a step.

        Both stages, one-step training and rollouts, have their own course of the schedule; the peak of the
        second is ``rollout_rate`` times that of the first.

        Args:
            step: number of the step, from 0.
            total: number of steps of the whole run.
        """
        first = total * self.rollout_epoch // self.epochs
        if step < first or first == total:
            return self.learning_rate * self._share(step, first)
        share = self.rollout_rate if first else 1.0
        return share * self.learning_rate * self._share(step - first, total - first)

    def _share(self, step: int, total: int) -> float:
        schedule = SCHEDULES[self.schedule]
        return schedule(step, total, warmup=self.warmup_steps, cycles=self.cycles)

    def ema_decay(self, step: int) -> float:
        """Return the decay of the averaged weights after ``step`` steps."""
        return min(self.ema, (1 + step) / (10 + step))

    @property
    def optimizer_options(self) -> OptimizerOptions:
        """Options of the optimizer."""
        return OptimizerOptions(
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            decay_all=self.decay_all,
            fused=self.fused,
        )


def identifying(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that identify a run: a run is resumed only with the same values of these.

    Settings that do not affect the result are left out, and so are those added after the first version that
    have their default value, so that earlier runs can be resumed.

    Args:
        settings: values by name of the setting, as JSON represents them.
    """
    defaults = json.loads(json.dumps(asdict(TrainSettings())))
    return {
        name: value
        for name, value in settings.items()
        if name not in _WITHOUT_EFFECT and (name in _ALWAYS_IDENTIFYING or value != defaults.get(name))
    }
