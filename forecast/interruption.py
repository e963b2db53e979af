"""Training that saves its state when it is asked to stop."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..datasets.stopping import Stopped, cooperative
from ..fno.errors import StoppedError


@contextmanager
def saving_when_stopped(folder: Path) -> Iterator[None]:
    """Let training inside choose where to stop, and report what it saved in ``folder``.

    Raises:
        Stopped: training was asked to stop.
    """
    try:
        with cooperative():
            yield
    except StoppedError as error:
        raise Stopped(f"{error} in {folder}; the same command resumes from there") from error
