"""Requests to stop during training."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..datasets.stopping import Stopped, cooperative
from ..fno.errors import StoppedError


@contextmanager
def saving_when_stopped(folder: Path) -> Iterator[None]:
    """Let training stop at a step of its choice after a signal, having saved its state in ``folder``.

    Raises:
        Stopped: a signal requested the stop; the message names what was saved.
    """
    try:
        with cooperative():
            yield
    except StoppedError as error:
        raise Stopped(f"{error} in {folder}; the same command resumes from there") from error
