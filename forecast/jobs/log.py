"""Log lines as JSON: on standard error, and in a file for each cycle. Secrets of the environment are masked
in every field.
"""

import json
import os
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .files import open_file
from .masking import clean, mask

__all__ = ["LEVELS", "Log", "clean", "mask"]

LEVELS = ("debug", "info", "warning", "error", "critical")
_JOB = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_CYCLE = re.compile(r"[0-9T:-]+")


class Log:
    """Where log lines go.

    Args:
        ledger: file of the ledger; the lines of a cycle are in ``logs/NAME/CYCLE.jsonl`` beside it.
    """

    def __init__(self, ledger: Path) -> None:
        self.folder = ledger.parent / "logs"
        self._lock = threading.Lock()

    def path(self, job: str, cycle: str) -> Path:
        """Return the file of a cycle; raises ``ValueError`` where job or cycle are no names of a file."""
        if not _JOB.fullmatch(job) or not _CYCLE.fullmatch(cycle):
            raise ValueError(f"there is no log of {job!r} {cycle!r}")
        return self.folder / job / f"{cycle.replace(':', '')}.jsonl"

    def of(self, job: str, cycle: str, attempt: int | None = None) -> Callable[..., None]:
        """Return what writes lines of a cycle.

        It takes keywords of the service's own, or a dictionary that came from a program: of that, ``level``
        and ``message`` are taken where they are such, everything else is kept under ``data``. Job, cycle and
        attempt are always the service's.
        """
        own: dict[str, Any] = {"job": job, "cycle": cycle} | ({"attempt": attempt} if attempt else {})

        def say(values: dict[str, Any] | None = None, **more: Any) -> None:
            self.write(**((wrap(values) if values is not None else {}) | more | own))

        return say

    def write(self, **values: Any) -> None:
        """Write a line; a disk without room loses the line, not the forecast."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        record = clean({"level": "info"} | values | {"message": str(values.get("message", ""))})
        line = json.dumps({"time": time} | record) + "\n"
        with self._lock:
            _tell(line)
            if "cycle" in values and "job" in values:
                try:
                    _append(self.path(values["job"], values["cycle"]), line.encode())
                except (OSError, ValueError) as error:
                    text = clean(
                        f"no line could be written to the log of {values['job']} {values['cycle']}: {error}"
                    )
                    _tell(json.dumps({"time": time, "level": "error", "message": text}) + "\n")


def wrap(values: dict[str, Any]) -> dict[str, Any]:
    """Return a log record with what a program wrote: its level and message, everything else under ``data``."""
    level, message = values.get("level"), values.get("message")
    record: dict[str, Any] = {
        "level": level if isinstance(level, str) and level in LEVELS else "info",
        "by": "attempt",
    }
    record["message"] = message if isinstance(message, str) else ""
    rest = {
        key: value for key, value in values.items() if key not in ("level", "message") or record[key] != value
    }
    return record | ({"data": rest} if rest else {})


def _tell(line: str) -> None:
    with suppress(OSError, ValueError):  # nobody reads standard error, which ends no forecast
        sys.stderr.write(line)


def _append(path: Path, line: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = open_file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        start = os.pread(descriptor, 1, 0)
        if start not in (b"", b"{"):
            raise OSError(f"{path} is not a log of fourcaster; move it away")
        while line:
            line = line[os.write(descriptor, line) :]
    finally:
        os.close(descriptor)
