"""What programs write: data, of which so much is kept as a log can hold, and which is always read so that no
program waits.
"""

import json
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ..text import printable
from .masking import mask

LINE = 8192
"""Bytes of a line that are kept."""
LINES = 5000
"""Lines of an attempt that are kept, and the last ``_TAIL`` ones."""
BYTES = 2 * 2**20
"""Bytes of an attempt that are kept in all."""
_TAIL = 20
_SLACK = 4096  # bytes beyond the end of a line that are looked at, so that no secret is cut in two and shown
_PIECE = 2**16

Line = Callable[[dict[str, Any]], None]


class Reader(threading.Thread):
    """Reads the output of an attempt, line by line, until all that write to it have ended.

    Args:
        descriptor: of a pipe; closed in the end.
        line: takes each line as a record.
    """

    def __init__(self, descriptor: int, line: Line) -> None:
        super().__init__(daemon=True)
        self._descriptor, self._line = descriptor, line
        self._lines = self._bytes = self._left_out = self._bytes_left_out = 0
        self._tail: deque[tuple[bytes, int]] = deque(maxlen=_TAIL)
        self._lock = threading.Lock()
        self._quiet = False

    def run(self) -> None:
        """Read until the end; nothing that is written ends this early."""
        start, size = bytearray(), 0  # of the line that is being read
        try:
            while piece := os.read(self._descriptor, _PIECE):
                if self._quiet:
                    continue
                *ended, rest = piece.split(b"\n")
                for part in ended:
                    start += part[: LINE + _SLACK - len(start)]
                    self._take(bytes(start), size + len(part))
                    start, size = bytearray(), 0
                start += rest[: LINE + _SLACK - len(start)]
                size += len(rest)
            if size:
                self._take(bytes(start), size)
        except OSError as error:
            self._say({"level": "error", "message": f"the output of the attempt could not be read: {error}"})
        finally:
            os.close(self._descriptor)
            self._finish()

    def end(self, seconds: float) -> None:
        """Wait for the end of the output; what programs that go on write after that is read, but not kept."""
        self.join(seconds)
        self._finish()

    def _take(self, start: bytes, size: int) -> None:
        with self._lock:
            if self._quiet:
                return
            if self._lines < LINES and self._bytes < BYTES:
                self._lines += 1
                self._bytes += min(size, LINE)
                self._say(record(start, size))
                return
            self._left_out += 1
            self._bytes_left_out += size
            self._tail.append((start, size))

    def _finish(self) -> None:
        """Say what was left out, and the last lines."""
        with self._lock:
            if self._quiet:
                return
            self._quiet = True
            if more := self._left_out - len(self._tail):
                message = f"the output is cut: {more} lines are left out here ({self._bytes_left_out} bytes with those that follow)"
                self._say({"level": "warning", "message": message})
            for start, size in self._tail:
                self._say(record(start, size))

    def _say(self, values: dict[str, Any]) -> None:
        try:
            self._line(values)
        except Exception as error:  # noqa: BLE001  one line that cannot be logged does not lose those that follow
            try:
                self._line(
                    {
                        "level": "error",
                        "message": f"a line of output could not be logged: {type(error).__name__}",
                    }
                )
            except Exception:  # noqa: BLE001
                return


def record(start: bytes, size: int) -> dict[str, Any]:
    """Return a line as a record: the JSON object that it holds where that has a message, else its text.

    Args:
        start: the line, or as much of it as was kept.
        size: bytes of the whole line.
    """
    text = start.decode(errors="replace").rstrip("\r")
    if size <= LINE:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            values = None
        if isinstance(values, dict) and isinstance(values.get("message"), str):
            return values
        return {"level": "info", "message": text}
    return {"level": "info", "message": f"{mask(printable(text))[:LINE]} ... (a line of {size} bytes, cut)"}
