"""Requests to stop during training."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..datasets.stopping import Stopped, cooperative
from ..fno.errors import StoppedError


@contextmanager
def saving_when_stopped(folder: Path) -> Iterator[None]:
    """Let training respond to a signal itself: it saves its state in ``folder``, then stops.

    Raises:
        Stopped: a signal requested the stop; the message names what was saved.
    """
    try:
        with cooperative():
            yield
    except StoppedError as error:
        raise Stopped(f"{error} in {folder}; the same command resumes from there") from error
