"""The state of one training run: saving it, resuming from it, and going back to an earlier one."""

import logging
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NonFiniteError
from ..parallel.placement import Placement
from ..parallel.processes import Processes
from ..parallel.strategies import check_together, spread
from .finite import check_tensors
from .freezing import freeze
from .history import StateHistory
from .optimizers import build_optimizer
from .protocols import BatchSource, Objective
from .restoration import Restoration
from .settings import TrainSettings
from .start import load_start
from .state import (
    load_own_state,
    load_state,
    matching,
    optimizer_tensors,
    restore_optimizer,
    save_state,
)

log = logging.getLogger(__name__)


class TrainerState:
    """The state of a training run; arguments as for ``fno.training.train``.

    Attributes:
        step: number of completed optimizer steps.
        total: number of steps of the whole run.
        average: exponential moving average of the weights.
        best: averaged weights of the best validation score; empty before there is one.
        best_score: that score.
        best_epoch: epoch of that score.
        epochs_ended: number of epochs that were validated.
        stale: number of epochs since the best score, or since the start.
        restorations: returns to an earlier state.
        origin: record of the run whose weights this one started from, if any.
        saved_step: step of the state on disk; None if there is none.
        save_seconds: longest time that saving the state took [s].
        lead_hours: duration of a step of the validation rollouts [h], for reports; None if unknown.
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
        description: Mapping[str, Any] | None = None,
        processes: Processes = Processes(),
    ) -> None:
        self.model = model
        self.objective = objective
        self.source = source
        self.settings = settings
        self.path = folder / "training.safetensors"
        self.history = StateHistory(self.path, settings.keep_last)
        self.fingerprint = fingerprint
        self.description = description
        self.device = str(next(model.parameters()).device)
        if settings.freeze:
            freeze(model, settings.freeze)
        check_together(
            processes.count,
            kind=settings.parallel,
            optimizer=settings.optimizer,
            accumulation=settings.accumulation,
            compiled=settings.compile,
        )
        self.processes = processes
        self.placement = Placement(processes, settings.latitude_bands)
        self.spread = spread(model, objective, kind=settings.parallel, placement=self.placement)
        self.optimizer = build_optimizer(settings.optimizer, model, settings.optimizer_options)
        self.average = {name: t.detach().clone() for name, t in model.state_dict().items()}
        self.best: dict[str, Tensor] = {}
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self.step = 0
        self._per_epoch = source.steps_per_epoch()
        self.total = settings.epochs * self._per_epoch
        self.epochs_ended = 0
        self.stale = 0
        self.restorations: list[Restoration] = []
        self.origin: dict[str, Any] | None = None
        self.saved_step: int | None = None
        self.save_seconds = 0.0
        self.lead_hours: float | None = None
        self._sums: dict[str, list[float]] = {}  # sum and number of the terms of the loss in this epoch
        self._lock = threading.RLock()  # while the state changes or is saved
        self._complete = False  # whether the state is that after a whole step
        self._weights: dict[str, Tensor] = {}  # of the model, while it has others
        self._buffers = {name: t for name, t in model.named_buffers() if name in self.average}

    @property
    def rate_scale(self) -> float:
        """Factor on the learning rate after returns to an earlier state."""
        return self.restorations[-1].rate_scale if self.restorations else 1.0

    def rate_of(self, step: int) -> float:
        """Return the learning rate of a step, from 0."""
        return self.settings.rate(step, self.total) * self.rate_scale

    @property
    def rate(self) -> float:
        """Learning rate of the last completed step, or of the first one."""
        return self.rate_of(max(0, self.step - 1))

    @property
    def finished(self) -> bool:
        """Whether the last epoch has ended, or training ends early."""
        return self.epochs_ended >= self.settings.epochs or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Whether there was no better score for ``patience`` epochs."""
        return 0 < self.settings.patience <= self.stale

    def non_finite(self, reason: str) -> NonFiniteError:
        """Return the error that ends a run, with what was saved and how to proceed."""
        if self.saved_step is None:
            saved = "no state was saved yet"
        else:
            saved = f"the saved state of step {self.saved_step} is kept"
        return NonFiniteError(
            f"{reason}; {saved}: if the data or the hardware were at fault, correct that and run the same "
            "training again, otherwise start a new run with a lower learning_rate or clip",
            reason,
        )

    def keep_epoch(self) -> None:
        """Keep the saved state of the end of an epoch, and as the one to go back to."""
        if self.processes.leads:
            self.history.record(self.epochs_ended, best=self.best_epoch == self.epochs_ended - 1)
            if self.settings.on_non_finite == "restore":
                self.history.set_restore_point()
        self.processes.wait()

    @property
    def can_rescue(self) -> bool:
        """Whether this process can save the state without the others."""
        return self.spread.saves_alone and self.processes.leads

    def rescue(self) -> int | None:
        """Save the state after the last whole step, and let no further step be completed.

        For another thread, while a step takes too long, or after an exception in the middle of a step. It
        does not wait for other processes; where only all of them can save, nothing is saved.

        Returns:
            The step of the state on disk, None without one.
        """
        self._lock.acquire()
        if self._complete and self.can_rescue:
            self._save()
        return self.saved_step

    def save(self) -> None:
        """Write the state; every process must call it.

        Raises:
            NonFiniteError: a value of it is not finite; the state on disk is kept.
        """
        with self._lock:
            started = time.monotonic()
            self._save()
            self.save_seconds = max(self.save_seconds, time.monotonic() - started)
        self.processes.wait()  # no process ends before the state is on disk

    def _save(self) -> None:
        groups = {
            "model": self.spread.whole({**self.model.state_dict(), **self._weights}),
            "average": self.spread.whole(self.average),
            "best": self.spread.whole(self.best),
            "optimizer": self.spread.whole(optimizer_tensors(self.optimizer)),
        }
        kinds = {"model": "weights", "average": "averages", "optimizer": "moments"}
        try:
            for group, kind in kinds.items():
                check_tensors(groups[group], kind, f"after step {self.step - 1}")
        except NonFiniteError as error:
            raise self.non_finite(str(error)) from None
        meta = {
            "step": self.step,
            "total": self.total,
            "lead_hours": self.lead_hours,
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "unvalidated": self._ended(self.step) > self.epochs_ended,
            "stale": self.stale,
            "sums": self._sums,
            "restorations": [restoration.to_dict() for restoration in self.restorations],
            "origin": self.origin,
            "fingerprint": self.fingerprint,
            "description": dict(self.description or {}),
            "threads": torch.get_num_threads(),
            "settings": asdict(self.settings),
        }
        if self.processes.leads:
            save_state(self.path, groups, meta)
        self.saved_step = self.step

    def resume(self) -> None:
        """Restore the saved state, or the initial weights that another run left, if there are any.

        Raises:
            OtherRunError: the state belongs to other settings.
            ValueError: the state is damaged, or not that of the model.
        """
        state = load_own_state(self.path, self.fingerprint, description=self.description)
        with self._lock:
            if state is None:
                self.origin = load_start(self.model, self.path.parent, self.spread.parts)
                if self.origin is not None:
                    self.average = {n: t.detach().clone() for n, t in self.model.state_dict().items()}
            else:
                self._restore(*state)
            self._complete = True
        self.processes.wait()  # no process writes the state before all have read it
        restoring = self.settings.on_non_finite == "restore" and not self.finished
        if restoring and state is None:
            self.save()
        if self.saved_step is None:
            return
        if self.step == self.epochs_ended * self._per_epoch:
            self.keep_epoch()
        elif self.processes.any(restoring and not self._has_restore_point()):
            if self.processes.leads:
                self.history.set_restore_point()
            self.processes.wait()

    def _has_restore_point(self) -> bool:
        """Return whether the state to go back to is that of the present epoch of this run."""
        if not self.history.restore_point.exists():
            return False
        _, meta = load_state(self.history.restore_point)
        ended = self._ended(meta["step"]) - meta.get("unvalidated", False)
        return bool(meta["fingerprint"] == self.fingerprint and ended == self.epochs_ended)

    def _ended(self, step: int) -> int:
        """Return the number of epochs whose last step is among the first ``step`` ones."""
        return step // self._per_epoch

    def restore(self, error: NonFiniteError) -> Restoration:
        """Go back to the start of the epoch with a lower learning rate, and save that state.

        The state at the start of an epoch is the same however often a run was interrupted, so that a resumed
        run goes back to the same state as an uninterrupted one.

        Args:
            error: why.

        Raises:
            NonFiniteError: training went back as often as it may.
        """
        settings = self.settings
        count = len(self.restorations)
        if count >= settings.max_restores or self.processes.any(not self.history.restore_point.exists()):
            raise NonFiniteError(f"{error} (after {count} returns to an earlier state)") from error
        reason = error.reason
        groups, meta = load_state(self.history.restore_point)
        with self._lock:
            self._complete = False
            earlier = self.restorations
            failed_step = self.step
            scale = self.rate_scale * settings.restore_factor
            self._restore(groups, meta)
            restoration = Restoration(self.step, self.epochs_ended, failed_step, scale, reason)
            self.restorations = [*earlier, restoration]
            self._complete = True
            self.save()
        log.warning(
            "%s; training goes back to step %d with %g times the learning rate (%d of %d returns)",
            reason,
            self.step,
            scale,
            count + 1,
            settings.max_restores,
        )
        return restoration

    def _restore(self, groups: Mapping[str, dict[str, Tensor]], meta: Mapping[str, Any]) -> None:
        """Take over the tensors and the metadata of a saved state."""
        parts = self.spread.parts
        self.model.load_state_dict(parts(matching(self.model, groups, "model", path=self.path)))
        average = parts(matching(self.model, groups, "average", path=self.path))
        self.average = {name: t.to(self.device) for name, t in average.items()}
        best = matching(self.model, groups, "best", path=self.path) if groups.get("best") else {}
        self.best = parts(best)
        self.step = meta["step"]
        self.saved_step = meta["step"]
        self.best_score = meta["best_score"]
        self.best_epoch = meta["best_epoch"]
        # Earlier versions saved a state only after the validation of the epochs before it.
        self.epochs_ended = self._ended(self.step) - meta.get("unvalidated", False)
        self.stale = meta.get("stale", 0)
        self._sums = dict(meta.get("sums", {}))
        self._weights = {}
        self.restorations = [Restoration(**values) for values in meta.get("restorations", ())]
        self.origin = meta.get("origin")
        if self.best_score is not None and not math.isfinite(self.best_score):
            # Older versions kept a score of NaN, than which no other was ever better.
            self.best = {}
            self.best_score = None
            self.best_epoch = None
        if groups.get("optimizer"):
            moments = self.spread.moment_parts(self.optimizer, groups["optimizer"])
            restore_optimizer(self.optimizer, moments)
        else:
            self.optimizer.state.clear()
