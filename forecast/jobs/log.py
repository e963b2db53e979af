"""Log lines as JSON: on standard error, and in a file for each cycle. Secrets of the environment are masked."""

import json
import os
import re
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_SECRET = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|APIKEY|(?<![A-Z])(KEY|PASS|PWD)(?![A-Z])", re.IGNORECASE)
_PLAIN = ("PWD", "OLDPWD")  # folders
_SHORTEST = 6  # a shorter value would mask half of the text


def mask(text: str) -> str:
    """Return a text without the values of the environment's secret variables."""
    secrets = [value for name, value in os.environ.items() if _SECRET.search(name) and name not in _PLAIN and len(value) >= _SHORTEST]
    for value in sorted(secrets, key=len, reverse=True):  # one may begin as another does
        text = text.replace(value, "***")
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1***@", text)


class Log:
    """Where log lines go.

    Args:
        ledger: file of the ledger; the lines of a cycle are in ``logs/NAME/CYCLE.jsonl`` beside it.
    """

    def __init__(self, ledger: Path) -> None:
        self.folder = ledger.parent / "logs"
        self._lock = threading.Lock()

    def path(self, job: str, cycle: str) -> Path:
        """Return the file of a cycle."""
        return self.folder / job / f"{cycle.replace(':', '')}.jsonl"

    def of(self, job: str, cycle: str, attempt: int | None = None) -> Callable[..., None]:
        """Return what writes lines of a cycle; it takes a dictionary, or keywords."""

        def say(values: dict[str, Any] | None = None, **more: Any) -> None:
            self.write(**({"job": job, "cycle": cycle} | ({"attempt": attempt} if attempt else {}) | (values or {}) | more))

        return say

    def write(self, **values: Any) -> None:
        """Write a line; a disk without room loses the line, not the forecast."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        values["message"] = mask(str(values.get("message", "")))
        line = json.dumps({"time": time, "level": "info"} | values, default=str) + "\n"
        with self._lock:
            sys.stderr.write(line)
            if "cycle" in values:
                path = self.path(values["job"], values["cycle"])
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with open(path, "a") as file:
                        file.write(line)
                except OSError as error:
                    sys.stderr.write(json.dumps({"time": time, "level": "error", "message": f"no line could be written to {path}: {error}"}) + "\n")
