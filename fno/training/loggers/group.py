"""The loggers of a run. None of them can end or delay the run by an error, and none sees a step twice."""

import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ...weights.regular_file import read_regular
from .base import RunInfo, RunLogger
from .registry import LOGGERS

log = logging.getLogger(__name__)
_LARGEST = 2**20  # bytes of the file


class LoggerGroup:
    """Pass values and pictures on to several loggers.

    A record is passed on once the state of the run after its step is saved, so that a run that is killed and
    resumed passes no step on twice. How far a logger came is kept in ``loggers.json``; one that is ahead of
    the run, because somebody restored an earlier state, starts a new run.

    A logger that raises an exception is reported by one warning and not used any more.

    Args:
        names: names of the loggers, see ``LOGGERS``.
        info: the training run, without ``run``.
    """

    def __init__(self, names: Sequence[str], info: RunInfo) -> None:
        self.file = info.folder / "loggers.json"
        self._loggers: dict[str, RunLogger] = {}
        self._pending: list[tuple[int, dict[str, float]]] = []
        self._known = _read(self.file) if names else {}
        for name in names:
            known = self._known.get(name)
            run = known["run"] if known is not None and known["step"] <= info.step else None
            self._attempt(name, partial(self._open, name, info, run))
        self._step = info.step
        self._record_positions()

    def _open(self, name: str, info: RunInfo, run: str | None) -> None:
        info.folder.mkdir(parents=True, exist_ok=True)
        build: Callable[[RunInfo], RunLogger] = LOGGERS.recall(name)  # a protocol has no constructor
        self._loggers[name] = build(replace(info, run=run))

    def __len__(self) -> int:
        return len(self._loggers)

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Add a record, without numbers that are not finite.

        Args:
            values: values by name.
            step: number of completed steps.
        """
        if self._loggers:
            finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
            self._pending.append((step, finite))

    def release(self, step: int) -> None:
        """Pass on the records of steps up to ``step``, which will not be repeated."""
        if not self._loggers:
            return
        ready = [record for record in self._pending if record[0] <= step]
        self._pending = self._pending[len(ready) :]
        for name, logger in list(self._loggers.items()):
            self._attempt(name, partial(_pass_on, logger, ready))
        self._step = max(self._step, step)
        self._record_positions()

    def discard(self, step: int) -> None:
        """Remove the records of steps after ``step``, which will be repeated."""
        self._pending = [record for record in self._pending if record[0] <= step]

    def picture(self, name: str, path: Path, step: int) -> None:
        """Pass on a picture; arguments as for ``RunLogger``."""
        for own, logger in list(self._loggers.items()):
            self._attempt(own, partial(logger.picture, name, path, step))

    def close(self, *, finished: bool) -> None:
        """Close the loggers; arguments as for ``RunLogger``."""
        for name, logger in list(self._loggers.items()):
            self._attempt(name, partial(logger.close, finished=finished))
        self._loggers.clear()

    def _attempt(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001  no logger may end the training
            self._loggers.pop(name, None)
            reason = " ".join(str(error).split())[:200]
            log.warning(
                "the logger %s failed (%s: %s); training goes on without it",
                name,
                type(error).__name__,
                reason,
            )

    def _record_positions(self) -> None:
        """Write how far each logger came; a failure is of no consequence for the training."""
        if not self._loggers:
            return
        for name, logger in self._loggers.items():
            self._known[name] = {"run": str(logger.run), "step": self._step}
        temporary = self.file.with_name(f".{self.file.name}.tmp")
        try:
            temporary.write_text(json.dumps(self._known, indent=1))
            os.replace(temporary, self.file)
        except OSError as error:
            log.debug("%s cannot be written: %s", self.file, error)


def _pass_on(logger: RunLogger, records: Sequence[tuple[int, dict[str, float]]]) -> None:
    for step, values in records:
        logger.log(values, step)
    logger.flush()


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the identifier and the last step of each logger; nothing if the file is missing or damaged."""
    try:
        values = json.loads(read_regular(path, _LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return {
        str(name): entry
        for name, entry in (values.items() if isinstance(values, dict) else ())
        if isinstance(entry, dict) and type(entry.get("step")) is int and isinstance(entry.get("run"), str)
    }
