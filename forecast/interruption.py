"""Requests to stop during training: signals, Ctrl-C, and the end of a time limit.

Training looks at the request after each step, saves its state and stops. Where a step, the validation or the
data take longer, a second thread saves the state after the last whole step, and the process ends:

- after a signal it waits ``GRACE`` seconds for the step to end, so that a command ends within ten seconds if
  its state can be written in the remaining ones;
- before the end of a time limit it leaves ``MARGIN`` seconds, or twice the time of the longest save, if that
  is longer. A step is only begun if one and a half times the longest one so far fit before that.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..datasets.stopping import (
    DeadlineError,
    Stopped,
    cooperative,
    received,
    request,
    requested,
    seconds_since_request,
)
from ..fno.errors import StoppedError
from ..fno.parallel.processes import Processes
from ..fno.training.loop import Rescuable

GRACE = 4.0  # s
MARGIN = 5.0  # s
_POLL = 0.1  # s

log = logging.getLogger(__name__)


class _Process:
    """What the command lets training do with its process.

    Attributes:
        deadline: time at which it must have ended [s], on the monotonic clock; None without a time limit.
        end: reports an error and ends the process, from any thread; None if it must go on.
    """

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.end: Callable[[BaseException], None] | None = None


_process = _Process()


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """Let training within the context stop before a time limit.

    Args:
        seconds: time from now until which training must have stopped [s]; None for no limit.
    """
    before = _process.deadline
    _process.deadline = None if seconds is None else time.monotonic() + seconds
    try:
        yield
    finally:
        _process.deadline = before


@contextmanager
def ending_process(end: Callable[[BaseException], None]) -> Iterator[None]:
    """Let training within the context end the process where a step takes too long to stop after it.

    Args:
        end: reports an error and ends the process; called in another thread.
    """
    before = _process.end
    _process.end = end
    try:
        yield
    finally:
        _process.end = before


class StopGuard:
    """Requests to stop one training run.

    Args:
        folder: folder of its state, for messages.
        processes: processes of the run, which stop after the same step.
    """

    def __init__(self, folder: Path, processes: Processes = Processes()) -> None:
        self.folder = folder
        self.processes = processes
        self.run: Rescuable | None = None
        self._last = time.monotonic()
        self._steps = 0
        self._longest = 0.0  # time between two steps [s]
        self._ended = threading.Event()

    def stop(self) -> bool:
        """Return whether to stop after the present step; every process of the run must call it."""
        now = time.monotonic()
        # The first step takes longer than the others, because it allocates and compiles.
        self._longest = max(self._longest if self._steps > 1 else 0.0, now - self._last)
        self._last = now
        self._steps += 1
        if not self.processes.any(requested() or self._remaining() < 1.5 * self._longest):
            return False
        if number := self.processes.largest(received() or 0):
            request(number)
        return True

    def watch(self, run: Rescuable) -> None:
        """Save a run from a second thread if it does not stop in time.

        Of several processes the first one does so, if it can save without the others, which end after it.
        """
        self.run = run
        if _process.end is not None and run.can_rescue:
            threading.Thread(target=self._watch, daemon=True, name="stop guard").start()

    def close(self) -> None:
        """End the second thread."""
        self._ended.set()

    def rescue(self) -> str:
        """Save the state after the last whole step, and return a message."""
        step = None if self.run is None else self.run.rescue()
        if self.run is None or step is None:
            return "no step was completed"
        return f"the state after step {step} of {self.run.total} is saved"

    def error(self, text: str) -> Stopped | DeadlineError:
        """Return the error that ends the run."""
        message = f"{text} in {self.folder}; the same command resumes from there"
        if requested() or _process.deadline is None:
            return Stopped(message)
        return DeadlineError(f"stopped before the end of the time limit; {message}")

    def _remaining(self) -> float:
        """Return the time until the state must be saved [s]."""
        if _process.deadline is None:
            return float("inf")
        seconds = 0.0 if self.run is None else self.run.save_seconds
        return _process.deadline - time.monotonic() - max(MARGIN, 2 * seconds)

    def _watch(self) -> None:
        end = _process.end
        while end is not None and not self._ended.wait(_POLL):
            waited = seconds_since_request()
            if self._remaining() > 0 and (waited is None or waited < GRACE):
                continue
            try:
                end(self.error(self.rescue()))
            except Exception as error:  # noqa: BLE001  the state on disk is kept in any case
                end(error)
            return


@contextmanager
def saving_when_stopped(folder: Path, processes: Processes = Processes()) -> Iterator[StopGuard]:
    """Let training respond to a request to stop itself: it saves its state in ``folder``, then stops.

    Args:
        folder: folder of the state.
        processes: processes of the run.

    Raises:
        Stopped: a signal or Ctrl-C requested the stop; the message names what was saved.
        DeadlineError: the time limit was nearly over.
    """
    guard = StopGuard(folder, processes)
    try:
        with cooperative():
            yield guard
    except StoppedError as error:
        raise guard.error(str(error)) from error
    except Stopped:
        raise
    except KeyboardInterrupt as error:
        if guard.run is None:
            raise
        raise Stopped(f"{guard.rescue()} in {folder}; the same command resumes from there") from error
    finally:
        guard.close()
