"""The training log in JSON lines; on resume it is truncated to the step of the saved state."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..weights.regular_file import open_regular
from .files import replacing_file
from .restoration import Restoration

_LONGEST = 2**20  # bytes of a record

MEASURED = (
    "time",
    "seconds",
    "validation_seconds",
    "samples_per_second",
    "megabytes_per_second",
    "waiting",
)
"""Keys of a record with measured times, which differ between two runs with the same result."""

_NO_LOSS = {
    *MEASURED,
    "step",
    "epoch",
    "rollout",
    "learning_rate",
    "validation_rmse",
    "validation_score",
    "window",
    "held_out",
}


class TrainingLog:
    """Append records to a file of JSON lines.

    Args:
        path: file to append to; created if it does not exist.
        step: step that training resumes from; records of later steps are dropped.
        epochs: number of validated epochs; the record of an epoch that will be validated again is dropped.

    Raises:
        ValueError: the file is not a training log.
    """

    def __init__(self, path: Path, step: int, epochs: int | None = None) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_lines(path) if line["step"] <= step] if path.exists() else []
        if epochs is not None:
            kept = [line for line in kept if "failed_step" in line or not _is_from(line, epochs)]
        with replacing_file(path) as temporary, open(temporary, "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in kept)

    def complete(self, restorations: Sequence[Restoration]) -> None:
        """Append the records of returns to an earlier state that the log lacks.

        Args:
            restorations: all returns so far, of which an interrupted run has not written the last one.
        """
        written = sum("failed_step" in line for line in read_lines(self.path))
        for restoration in restorations[written:]:
            self.write(restoration.to_dict())

    def write(self, record: dict[str, Any]) -> None:
        """Append one record."""
        with open(self.path, "a") as file:
            file.write(json.dumps(record) + "\n")


def _is_from(record: dict[str, Any], epoch: int) -> bool:
    """Return whether a record is that of an epoch from number ``epoch`` on."""
    number = record.get("epoch")
    return isinstance(number, int) and number >= epoch


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a log without an incomplete last line, which a killed run may leave.

    Raises:
        ValueError: another line is not a record.
    """
    records: list[dict[str, Any]] = []
    with open_regular(path) as file:
        number = 0
        while line := file.readline(_LONGEST):
            number += 1
            try:
                record = json.loads(line)
                if not isinstance(record, dict) or type(record.get("step")) is not int:
                    raise ValueError("not an object with a step")
            except (ValueError, RecursionError) as error:
                if not line.endswith(b"\n") and not file.read(1):
                    break
                raise ValueError(
                    f"{path} is damaged in line {number} ({error}); move the file away, and the run resumes "
                    "with a new log"
                ) from error
            records.append(record)
    return records


def losses_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the loss and its terms by name from a record of an epoch or an iteration.

    >>> losses_of({"step": 5, "epoch": 0, "loss": 0.5, "validation_rmse": [1.0], "time": 3.0})
    {'loss': 0.5}
    """
    return {
        name: float(value)
        for name, value in record.items()
        if name not in _NO_LOSS and isinstance(value, float | int) and not isinstance(value, bool)
    }
