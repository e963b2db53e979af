"""Log lines as JSON, on standard error and in a file for each cycle, with secrets masked in every field."""

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
from .masking import clean

LEVELS = ("debug", "info", "warning", "error", "critical")
_JOB = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_CYCLE = re.compile(r"[0-9T:-]+")


class Log:
    """Destination of log lines.

    Args:
        ledger: file of the ledger; the lines of a cycle are in ``logs/NAME/CYCLE.jsonl`` next to it.
    """

    def __init__(self, ledger: Path) -> None:
        self.folder = ledger.parent / "logs"
        self._lock = threading.Lock()

    def path(self, job: str, cycle: str) -> Path:
        """Return the file of a cycle; raises ``ValueError`` where job or cycle cannot name a file."""
        if not _JOB.fullmatch(job) or not _CYCLE.fullmatch(cycle):
            raise ValueError(f"there is no log of {job!r} {cycle!r}")
        return self.folder / job / f"{cycle.replace(':', '')}.jsonl"

    def for_cycle(self, job: str, cycle: str, attempt: int | None = None) -> Callable[..., None]:
        """Return a function that writes lines of a cycle.

        It takes keywords from the service, or a dictionary from a program, see ``wrap``. Job, cycle and
        attempt are always those of the service.
        """
        fields: dict[str, Any] = {"job": job, "cycle": cycle} | ({"attempt": attempt} if attempt else {})

        def log(values: dict[str, Any] | None = None, **more: Any) -> None:
            self.write(**((wrap(values) if values is not None else {}) | more | fields))

        return log

    def write(self, **values: Any) -> None:
        """Write a line; where the disk has no room, the line is lost, but not the forecast."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        record = clean({"level": "info"} | values | {"message": str(values.get("message", ""))})
        line = json.dumps({"time": time} | record) + "\n"
        with self._lock:
            _write_stderr(line)
            if "cycle" in values and "job" in values:
                try:
                    _append(self.path(values["job"], values["cycle"]), line.encode())
                except (OSError, ValueError) as error:
                    text = clean(
                        f"no line could be written to the log of {values['job']} {values['cycle']}: {error}"
                    )
                    _write_stderr(json.dumps({"time": time, "level": "error", "message": text}) + "\n")


def wrap(values: dict[str, Any]) -> dict[str, Any]:
    """Return the log record of a dictionary that a program wrote.

    It has the level and the message if these are valid, and everything else under ``data``.
    """
    level = values.get("level")
    message = values.get("message")
    record: dict[str, Any] = {
        "level": level if isinstance(level, str) and level in LEVELS else "info",
        "by": "attempt",
        "message": message if isinstance(message, str) else "",
    }
    data = {
        key: value for key, value in values.items() if key not in ("level", "message") or record[key] != value
    }
    return record | ({"data": data} if data else {})


def _write_stderr(line: str) -> None:
    with suppress(OSError, ValueError):  # a closed standard error ends no forecast
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
