"""Summary of the folder of a training run, which may be going on."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from ...datasets.store.locks import writer_of
from ...fno.training.log import losses_of, read_lines
from ...fno.training.state import load_meta
from ...fno.training.status import NAME, read_status
from .pictures import pictures_of

_STATE = "training.safetensors"
_LOG = "log.jsonl"


class RunStatus(StrEnum):
    """Whether a run goes on."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"


@dataclass(frozen=True)
class RunSummary:
    """Summary of a training run.

    Attributes:
        status: whether it goes on.
        process: process that trains, None if it does not go on.
        epochs_done: number of validated epochs; of a physics-informed network, finished windows of time.
        epochs: number of epochs of the whole run, None before the first saved state.
        step: number of completed steps; of an interrupted run, those that are saved.
        steps: number of steps of the whole run, None if it is unknown.
        losses: loss and its terms, of the last step of a run that goes on, otherwise of the last epoch.
        learning_rate: learning rate of that step.
        validation_score: score of the last validation, None without one.
        validation_rmse: error of the last validation by lead time, such as ``6 h``.
        best_epoch: epoch with the best score, counted from 1; None without validation data.
        best_score: that score.
        samples_per_second: speed of the present or last epoch [1/s].
        megabytes_per_second: rate at which data are read [MB/s].
        waiting: fraction of the time spent waiting for data.
        seconds_left: estimated remaining time of training [s], None if it is unknown.
        restorations: number of returns to an earlier state after values that were not finite.
        updated: time of the last record, in UTC.
        pictures: path of each picture.
        log: path of the log.
        checkpoint: folder of the checkpoint, None before it is written.
        model: summary of the checkpoint.
        notes: remarks, such as missing validation data.
    """

    kind: str = field(default="training run", init=False)
    status: RunStatus
    process: str | None
    epochs_done: int
    epochs: int | None
    step: int
    steps: int | None
    losses: dict[str, float]
    learning_rate: float | None
    validation_score: float | None
    validation_rmse: dict[str, float | None]
    best_epoch: int | None
    best_score: float | None
    samples_per_second: float | None
    megabytes_per_second: float | None
    waiting: float | None
    seconds_left: float | None
    restorations: int
    updated: str | None
    pictures: dict[str, str]
    log: str
    checkpoint: str | None = None
    model: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, as JSON can represent them."""
        return asdict(self)

    def lines(self) -> dict[str, Any]:
        """Return the known values with rounded numbers, to be shown as lines."""
        values = self.to_dict()
        values["status"] = str(self.status)
        if self.epochs is not None:
            values["epochs_done"] = f"{self.epochs_done} of {values.pop('epochs')}"
        if self.steps is not None:
            values["step"] = f"{self.step} of {values.pop('steps')}"
        if self.waiting is not None:
            values["waiting"] = f"{self.waiting:.1%} of the time"
        if self.seconds_left is not None:
            values["seconds_left"] = round(self.seconds_left)
        return {name: _rounded(value) for name, value in values.items() if value not in (None, {}, [])}


def is_run(path: Path) -> bool:
    """Return whether a folder is that of a training run."""
    return any((path / "state" / name).is_file() for name in (_STATE, _LOG, NAME))


def summarise_run(path: Path, model: Mapping[str, Any] | None = None) -> RunSummary:
    """Return the summary of a run, whose files are only read.

    Args:
        path: folder of the run.
        model: summary of its checkpoint, if there is one.

    Raises:
        ValueError: the state or the log are damaged.
    """
    state = path / "state"
    process = writer_of(Path(os.path.realpath(path)))
    meta: Mapping[str, Any] = load_meta(state / _STATE) if (state / _STATE).is_file() else {}
    records = read_lines(state / _LOG) if (state / _LOG).is_file() else []
    live = (read_status(state) if process is not None else None) or {}
    checkpoint = path / "checkpoint"
    finished = (checkpoint / "meta.json").is_file()
    status = RunStatus.RUNNING if process is not None else RunStatus.INTERRUPTED
    if finished and process is None:
        status = RunStatus.FINISHED
    epochs = [record for record in records if "failed_step" not in record and "window" not in record]
    windows = [record for record in records if "held_out" in record]
    last: Mapping[str, Any] = records[-1] if records and not epochs else (epochs[-1] if epochs else {})
    validated = [record for record in epochs if record.get("validation_rmse")]
    scored = [record for record in epochs if record.get("validation_score") is not None]
    best = min(scored, key=lambda record: float(record["validation_score"])) if scored else None
    hours = meta.get("lead_hours")
    count = _epochs(meta, live)
    updated = _latest([last.get("time"), live.get("time")])
    return RunSummary(
        status=status,
        process=process,
        epochs_done=len(windows) or len({record["epoch"] for record in epochs}),
        epochs=count,
        step=_step(meta, live, last),
        steps=live.get("total", meta.get("total")),
        losses=_losses(live) or _last_losses(epochs or records),
        learning_rate=live.get("learning_rate", last.get("learning_rate")),
        validation_score=last.get("validation_score"),
        validation_rmse=_by_lead(validated[-1]["validation_rmse"], hours) if validated else {},
        best_epoch=None if best is None else best["epoch"] + 1,
        best_score=None if best is None else best["validation_score"],
        samples_per_second=live.get("samples_per_second", last.get("samples_per_second")),
        megabytes_per_second=live.get("megabytes_per_second", last.get("megabytes_per_second")),
        waiting=live.get("waiting", last.get("waiting")),
        seconds_left=None if status is RunStatus.FINISHED else _seconds_left(live, epochs, count),
        restorations=sum("failed_step" in record for record in records),
        updated=updated,
        pictures={name: str(picture) for name, picture in pictures_of(state).items()},
        log=str(state / _LOG),
        checkpoint=str(checkpoint) if finished else None,
        model=None if model is None else dict(model),
        notes=_notes(epochs, validated, restarted=finished and process is not None),
    )


def _epochs(meta: Mapping[str, Any], live: Mapping[str, Any]) -> int | None:
    """Return the number of epochs of the whole run."""
    settings = meta.get("settings")
    known = settings.get("epochs") if isinstance(settings, dict) else None
    value = live.get("epochs", known)
    return value if isinstance(value, int) else None


def _step(meta: Mapping[str, Any], live: Mapping[str, Any], last: Mapping[str, Any]) -> int:
    """Return the number of completed steps."""
    steps = [value for value in (meta.get("step"), live.get("step")) if isinstance(value, int)]
    return max(steps, default=last.get("step", 0))


def _losses(live: Mapping[str, Any]) -> dict[str, float]:
    losses = live.get("losses")
    return dict(losses) if isinstance(losses, dict) else {}


def _last_losses(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the losses of the last record that has any."""
    return next((losses for record in reversed(records) if (losses := losses_of(record))), {})


def _by_lead(errors: Sequence[float | None], hours: float | None) -> dict[str, float | None]:
    """Return validation errors by lead time."""
    leads = range(1, len(errors) + 1)
    names = [f"step {n}" if hours is None else f"{n * hours:g} h" for n in leads]
    return dict(zip(names, errors, strict=True))


def _seconds_left(
    live: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]], count: int | None
) -> float | None:
    """Return the remaining time, from the speed of the present epoch and the time of the validations."""
    known = [record for record in epochs if "validation_seconds" in record]
    validation = known[-1]["validation_seconds"] if known else 0.0
    if count is None:
        return None
    remaining = max(0, count - len(epochs))
    if isinstance(live.get("seconds_left"), float | int):
        return float(live["seconds_left"]) + validation * remaining
    return (known[-1]["seconds"] + validation) * remaining if known else None


def _latest(times: Sequence[Any]) -> str | None:
    known = [time for time in times if isinstance(time, float | int)]
    return datetime.fromtimestamp(max(known), UTC).isoformat(timespec="seconds") if known else None


def _notes(
    epochs: Sequence[Mapping[str, Any]], validated: Sequence[Mapping[str, Any]], *, restarted: bool
) -> list[str]:
    notes = []
    if epochs and not validated:
        notes.append("there is no validation data, so epochs cannot be compared")
    if restarted:
        notes.append("the checkpoint is that of an earlier start")
    return notes


def _rounded(value: Any) -> Any:
    """Return nested values with numbers of five digits."""
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value
