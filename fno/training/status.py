"""The present position of a run in a small file, for those who look at a run from outside."""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..weights.regular_file import read_regular

NAME = "progress.json"
_LARGEST = 2**20  # bytes of the file

log = logging.getLogger(__name__)


class LiveStatus:
    """Write the position of a run at intervals; a file that cannot be written is of no consequence.

    Args:
        folder: folder of the state of the run.
        interval: time between two writes, and before the first one [s].
    """

    def __init__(self, folder: Path, interval: float = 10.0) -> None:
        self.path = folder / NAME
        self.interval = interval
        self._written = time.monotonic()
        self.remove()

    def update(self, values: Callable[[], dict[str, Any]]) -> None:
        """Write the values, which are JSON values, if it is time to."""
        now = time.monotonic()
        if now - self._written < self.interval:
            return
        self._written = now
        temporary = self.path.with_name(f".{NAME}.tmp")
        try:
            temporary.write_text(json.dumps(values() | {"time": time.time()}))
            os.replace(temporary, self.path)
        except OSError as error:
            log.debug("%s cannot be written: %s", self.path, error)

    def remove(self) -> None:
        """Remove the file, which describes an earlier start or a finished run."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            log.debug("%s cannot be removed: %s", self.path, error)


def read_status(folder: Path) -> dict[str, Any] | None:
    """Return what ``LiveStatus`` last wrote; None without a readable file.

    Args:
        folder: folder of the state of the run.
    """
    try:
        values = json.loads(read_regular(folder / NAME, _LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None
