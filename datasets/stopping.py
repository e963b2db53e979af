"""Requests to stop: SIGTERM from a scheduler or container, and SIGHUP from a terminal that closes.

Work is interrupted by ``Stopped``, or stops at a suitable point inside ``cooperative``::

    with cooperative():
        for batch in batches:
            train(batch)
            if requested():
                save()
                raise Stopped(f"the state of epoch {epoch} is in {folder}; the same command resumes there")
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
REPEATED = 0.2  # seconds; ``timeout`` signals its command, and then the process group of the command


class Stopped(KeyboardInterrupt):  # which libraries do not catch, unlike other exceptions
    """Work was interrupted by a signal.

    Args:
        text: message that says what is saved and how to resume; empty if unknown.

    Attributes:
        text: the message.
        signal: the signal that arrived; SIGINT if it was none of ``SIGNALS``.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.signal = _state.received or signal.SIGINT


class DeadlineError(Exception):
    """Work stopped before the end of its time limit, and the same call resumes it.

    Args:
        text: message that says what is saved and how to resume.
    """


class _State:
    """State of the signal handler.

    Attributes:
        received: signal received by this process, if any.
        at: its time [s], on the monotonic clock.
        cooperative: number of active ``cooperative`` blocks.
        process: identifier of the process that handles the signals.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.at = 0.0
        self.cooperative = 0
        self.process = 0


_state = _State()


def requested() -> bool:
    """Return whether a signal to stop has arrived."""
    return _state.received is not None


def received() -> signal.Signals | None:
    """Return the signal to stop that has arrived, if any."""
    return _state.received


def request(number: int) -> None:
    """Act as if a signal to stop had arrived, which another process of the same work received."""
    if _state.received is None:
        _state.received = signal.Signals(number)
        _state.at = time.monotonic()


def seconds_since_request() -> float | None:
    """Return the time since a signal to stop has arrived [s]; None without one."""
    return time.monotonic() - _state.at if requested() else None


@contextmanager
def cooperative() -> Iterator[None]:
    """Let the code inside choose where to stop: a signal only makes ``requested`` true.

    Raises:
        Stopped: at the end of the outermost block, if a signal arrived and the code inside did not stop.
    """
    _state.cooperative += 1
    try:
        yield
    finally:
        _state.cooperative -= 1
    if requested() and not _state.cooperative:
        raise Stopped


@contextmanager
def handled() -> Iterator[None]:
    """Handle the signals within the context; for a command, since a library leaves signals to its user.

    The first signal raises ``Stopped`` in the main thread, or makes ``requested`` true inside
    ``cooperative``. A second one ends the process at once. Signals that are ignored, as under ``nohup``, stay
    ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.received = None
    _state.process = os.getpid()
    before: dict[signal.Signals, Any] = {}
    try:
        for number in SIGNALS:
            handler = signal.getsignal(number)
            # None is a handler that was not set from Python, and which Python cannot restore.
            if handler not in (signal.SIG_IGN, None):
                before[number] = handler
                signal.signal(number, _arrived)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _state.received = None


def _arrived(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if os.getpid() != _state.process or (requested() and now - _state.at > REPEATED):
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    if requested():
        return
    _state.received = signal.Signals(number)
    _state.at = now
    if not _state.cooperative:
        raise Stopped
