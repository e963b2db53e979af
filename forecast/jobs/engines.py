"""Where attempts run: in processes of this machine, or on the workers of a Dask cluster."""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Protocol

from .making import Task, attempt, in_process

Line = Callable[[dict[str, Any]], None]
_TICK = 0.2


class Killed(Exception):
    """The attempt was ended from outside, which is not its fault."""


class Engine(Protocol):
    """What runs attempts."""

    def run(self, task: Task, stop: Callable[[], str | None], line: Line) -> dict[str, Any]:
        """Run an attempt and return what came of it.

        Args:
            task: what to make.
            stop: asked several times a second; a reason ends the attempt.
            line: takes each line of its log.

        Raises:
            Killed: it was ended from outside.
            InterruptedError: ``stop`` gave a reason.
        """


class LocalEngine:
    """A process for each attempt, forked from one that has the libraries loaded."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["fourcaster.forecast.jobs.making"])

    def run(self, task: Task, stop: Callable[[], str | None], line: Line) -> dict[str, Any]:
        """See ``Engine.run``."""
        ours, theirs = self._context.Pipe(duplex=False)
        theirs_alive, ours_alive = self._context.Pipe(duplex=False)
        process = self._context.Process(target=in_process, args=(task, theirs, theirs_alive))
        process.start()
        theirs.close()
        theirs_alive.close()
        reader = threading.Thread(target=_read, args=(ours, line), daemon=True)
        reader.start()
        reason = None
        while process.is_alive():
            process.join(_TICK)
            if process.is_alive() and (reason := stop()):
                _end(process.pid)
                process.join()
        ours_alive.close()
        reader.join(5)
        ours.close()
        if reason:
            raise InterruptedError(reason)
        try:
            return dict(json.loads((task.scratch / "result.json").read_text()))
        except FileNotFoundError:
            pass
        code = process.exitcode or 0
        if -code in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            raise Killed(f"the process was ended by {signal.Signals(-code).name}")
        return {"error": f"the process ended by {signal.Signals(-code).name}" if code < 0 else f"the process ended with {code} and no result"}


def _end(pid: int | None) -> None:
    """End a process and all that it started."""
    if pid is not None:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(pid, signal.SIGKILL)


def _read(connection: Connection, line: Line) -> None:
    with os.fdopen(os.dup(connection.fileno()), errors="replace") as stream:
        for text in stream:
            try:
                said = json.loads(text)
            except ValueError:
                said = None
            line(said if isinstance(said, dict) else {"level": "info", "message": text.rstrip("\n")})


class DaskEngine:
    """Attempts on a Dask cluster whose workers see the same files; one that loses its worker is begun again on another.

    Args:
        scheduler: address.
    """

    def __init__(self, scheduler: str) -> None:
        from distributed import Client

        try:
            self._client = Client(scheduler, timeout=30)
        except (OSError, ValueError) as error:
            raise OSError(f"no Dask scheduler answers at {scheduler} ({' '.join(str(error).split())[:120]})") from error

    def run(self, task: Task, stop: Callable[[], str | None], line: Line) -> dict[str, Any]:
        """See ``Engine.run``."""
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        future = self._client.submit(attempt, task, pure=False, retries=2)
        while not future.done():
            time.sleep(_TICK)
            if reason := stop():
                future.cancel(force=True)
                raise InterruptedError(reason)
        try:
            return dict(future.result())
        except (KilledWorker, CancelledError) as error:
            raise Killed(f"the workers were lost ({error})") from error
