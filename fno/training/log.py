"""The training log in JSON lines; on resume it is truncated to the step of the saved state."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..weights.regular_file import open_regular
from .files import replacing_file
from .restoration import Restoration

_LONGEST = 2**20  # bytes of a record


class TrainingLog:
    """Append records to a file of JSON lines.

    Args:
        path: file to append to; created if it does not exist.
        step: step that training resumes from; records of later steps are dropped.

    Raises:
        ValueError: the file is not a training log.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_lines(path) if line["step"] <= step] if path.exists() else []
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
