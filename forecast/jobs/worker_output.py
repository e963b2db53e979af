"""Reading of the output of programs, which is untrusted and of which a bounded part is kept.

All of it is read, so that no program blocks.
"""

import json
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ..text import printable
from .masking import mask

LINE_BYTES = 8192
"""Bytes of a line that are kept."""
MOST_LINES = 5000
"""Lines of an attempt that are kept, besides the last ``_TAIL_LINES`` ones."""
MOST_BYTES = 2 * 2**20
"""Bytes of an attempt that are kept in total."""
_TAIL_LINES = 20
_SLACK = 4096  # bytes read beyond the end of a line, so that no secret is cut in two and shown in part
_PIECE = 2**16  # bytes read at once

LineHandler = Callable[[dict[str, Any]], None]


class OutputReader(threading.Thread):
    """Thread that reads the output of an attempt until all processes that write to it have ended.

    Args:
        descriptor: read end of a pipe; closed at the end.
        handle: receives each line as a record.
    """

    def __init__(self, descriptor: int, handle: LineHandler) -> None:
        super().__init__(daemon=True)
        self._descriptor = descriptor
        self._handle_line = handle
        self._lines = 0
        self._bytes = 0
        self._omitted_lines = 0
        self._omitted_bytes = 0
        self._tail: deque[tuple[bytes, int]] = deque(maxlen=_TAIL_LINES)
        self._lock = threading.Lock()
        self._closed = False

    def run(self) -> None:
        """Read until the end, whatever the output contains."""
        start = bytearray()  # of the present line
        size = 0
        try:
            while piece := os.read(self._descriptor, _PIECE):
                if self._closed:
                    continue
                *complete, rest = piece.split(b"\n")
                for part in complete:
                    start += part[: LINE_BYTES + _SLACK - len(start)]
                    self._take(bytes(start), size + len(part))
                    start = bytearray()
                    size = 0
                start += rest[: LINE_BYTES + _SLACK - len(start)]
                size += len(rest)
            if size:
                self._take(bytes(start), size)
        except OSError as error:
            self._emit({"level": "error", "message": f"the output of the attempt could not be read: {error}"})
        finally:
            os.close(self._descriptor)
            self._finish()

    def end(self, seconds: float) -> None:
        """Wait for the end of the output.

        What other processes still write after ``seconds`` is read, but not kept.
        """
        self.join(seconds)
        self._finish()

    def _take(self, start: bytes, size: int) -> None:
        with self._lock:
            if self._closed:
                return
            if self._lines < MOST_LINES and self._bytes < MOST_BYTES:
                self._lines += 1
                self._bytes += min(size, LINE_BYTES)
                self._emit(parse_line(start, size))
                return
            self._omitted_lines += 1
            self._omitted_bytes += size
            self._tail.append((start, size))

    def _finish(self) -> None:
        """Report what was left out, and the last lines."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if omitted := self._omitted_lines - len(self._tail):
                message = (
                    f"the output is cut: {omitted} lines are left out here "
                    f"({self._omitted_bytes} bytes with those that follow)"
                )
                self._emit({"level": "warning", "message": message})
            for start, size in self._tail:
                self._emit(parse_line(start, size))

    def _emit(self, values: dict[str, Any]) -> None:
        """Pass a record on; an error of the handler is logged instead."""
        try:
            self._handle_line(values)
        except Exception as error:  # noqa: BLE001  a line that cannot be logged must not lose those that follow
            message = f"a line of output could not be logged: {type(error).__name__}"
            try:
                self._handle_line({"level": "error", "message": message})
            except Exception:  # noqa: BLE001
                return


def parse_line(start: bytes, size: int) -> dict[str, Any]:
    """Return a line as a record: its JSON object where that has a message, else its text.

    Args:
        start: the line, or as much of it as was kept.
        size: bytes of the complete line.
    """
    text = start.decode(errors="replace").rstrip("\r")
    if size > LINE_BYTES:
        kept = mask(printable(text))[:LINE_BYTES]
        return {"level": "info", "message": f"{kept} ... (a line of {size} bytes, cut)"}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if isinstance(values, dict) and isinstance(values.get("message"), str):
        return values
    return {"level": "info", "message": text}
