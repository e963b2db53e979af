"""A request to stop: SIGTERM of a scheduler or container, and SIGHUP of a terminal that closes.

Work is interrupted by ``Stopped``, or ends at a point of its own choice inside ``cooperative``::

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
REPEATED = 0.2  # seconds; `timeout` signals its command and then the group that the command is in


class Stopped(KeyboardInterrupt):  # libraries let one pass where they would catch another exception
    """Work was interrupted by a signal.

    Args:
        text: what is saved, and how to resume; empty if unknown.

    Attributes:
        text: the argument.
        signal: the signal that arrived; SIGINT where none of ``SIGNALS`` did.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.signal = _state.received or signal.SIGINT


class _State:
    """Signal received by this process, and the number of active ``cooperative`` blocks."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.at = 0.0
        self.cooperative = 0
        self.process = 0


_state = _State()


def requested() -> bool:
    """Return whether a signal to stop has arrived."""
    return _state.received is not None


@contextmanager
def cooperative() -> Iterator[None]:
    """Let the code inside choose where to stop: there a signal only makes ``requested`` true.

    Raises:
        Stopped: at the end of the outermost block, where a signal arrived and the code inside did not act on
            it.
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
    """Handle the signals inside; for the command line, since a library leaves signals to its user.

    The first signal raises ``Stopped`` in the main thread, or makes ``requested`` true inside
    ``cooperative``. Another one ends the process at once. Signals that are ignored, as by ``nohup``, stay so.
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
            if handler not in (
                signal.SIG_IGN,
                None,
            ):  # None: set by other than Python, and not to be restored
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
