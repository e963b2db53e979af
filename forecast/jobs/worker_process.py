"""The process of one attempt.

This module imports nothing heavy: the scheduler imports it to name the function that the process runs.
"""

import json
import logging
import os
import signal
import sys
import threading
from typing import Any

from ...datasets.store import atomic
from .attempts import Attempt
from .results import RESULT_FILE


class _JsonFormatter(logging.Formatter):
    """Format log records as lines of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"level": record.levelname.lower(), "message": record.getMessage()})


def run_in_process(attempt: Attempt, lines: Any, *, alive: Any, environment: dict[str, str]) -> None:
    """Run an attempt as the only work of a process and write its result to the folder of the attempt.

    Args:
        attempt: the attempt.
        lines: connection that receives standard output and error.
        alive: connection that closes when the scheduler ends, which also ends this process.
        environment: environment of the scheduler, which may differ from the one of the fork server.
    """
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for descriptor in (1, 2):
        os.dup2(lines.fileno(), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", buffering=1, closefd=False) for descriptor in (1, 2))

    def watch() -> None:
        try:
            alive.recv_bytes()
        except (EOFError, OSError):
            os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    from . import worker  # after the start: loads torch and xarray where the fork server has not

    result = worker.run_attempt(attempt)
    atomic.write_file(attempt.scratch / RESULT_FILE, json.dumps(result.to_dict()).encode())
    sys.stdout.flush()
    sys.stderr.flush()
