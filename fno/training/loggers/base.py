"""The interface of a logger, to which a training run passes its values and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class RunInfo:
    """A training run, as a logger needs to know it.

    Attributes:
        name: name of the run.
        folder: folder for the files of the logger.
        step: number of completed steps; the first one that is passed on has a larger number.
        settings: settings and data of the run, as nested JSON values.
        run: what the attribute ``run`` of the logger was at an earlier start of the same run, which it
            continues; None for a new one.
    """

    name: str
    folder: Path
    step: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    run: str | None = None


class RunLogger(Protocol):
    """A logger, called by one process and one thread. It is constructed with a ``RunInfo``.

    Another package adds one with an entry point in the group ``fourcaster.loggers``. Its class may have the
    attributes ``package``, a module that it needs, and ``install``, what to install if there is none. It
    imports that module in its constructor. If a method raises an exception, the logger is not used any more
    and training goes on.
    """

    @property
    def run(self) -> str:
        """Identifier by which the same run is continued at the next start."""
        ...

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record values; steps never decrease.

        Args:
            values: finite numbers by name, such as ``train/loss``.
            step: number of completed optimizer steps.
        """

    def picture(self, name: str, path: Path, step: int) -> None:
        """Record a picture.

        Args:
            name: what it shows, such as ``curves``.
            path: PNG file, which is replaced by later pictures.
            step: number of completed optimizer steps.
        """

    def flush(self) -> None:
        """Write what was recorded."""

    def close(self, *, finished: bool) -> None:
        """End the recording.

        Args:
            finished: whether training has ended, rather than been interrupted.
        """
