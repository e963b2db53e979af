"""The training log: JSON lines, cut back on a resume to what the saved state has seen."""

import json
import os
from pathlib import Path
from typing import Any


class TrainingLog:
    """Append records to a file of JSON lines.

    Args:
        path: file to append to; made if it does not exist.
        step: records of later steps are dropped, since they will be made again.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_lines(path) if line["step"] <= step] if path.exists() else []
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(temporary, path)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record."""
        with open(self.path, "a") as file:
            file.write(json.dumps(record) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a log; a last line cut short by a kill is left out."""
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
