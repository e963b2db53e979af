"""Executors of attempts: processes on this machine, or the workers of a Dask cluster."""

import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from .attempts import Attempt, AttemptStoppedError, WorkerKilledError
from .masking import clean
from .results import ErrorResult, KilledResult, WorkerResult, parse_result, read_result
from .spec import Cluster, JobsFile
from .states import StopReason
from .times import format_cycle
from .worker_output import LineHandler, OutputReader
from .worker_process import run_in_process

if TYPE_CHECKING:
    from distributed import Client

_POLL_INTERVAL = 0.2  # s
_PRELOADED = [
    "fourcaster.forecast.jobs.worker",
    "cf_xarray.units",
    "cartopy.crs",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
]
_OUTPUT_TIMEOUT = 5.0  # s to wait for output after the process has ended
_STOP_INTERVAL = 2.0  # s between two checks of a Dask worker whether to stop
_END_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
StopCheck = Callable[[], StopReason | None]


class Executor(Protocol):
    """Executor of attempts."""

    def run(self, attempt: Attempt, stop: StopCheck, handle_line: LineHandler) -> WorkerResult:
        """Run an attempt and return its result.

        Args:
            attempt: the attempt.
            stop: called several times a second; a reason that it returns stops the attempt.
            handle_line: receives each line of its log.

        Raises:
            WorkerKilledError: the attempt was killed from outside.
            AttemptStoppedError: ``stop`` returned a reason.
        """

    def close(self) -> None:
        """Release the resources."""


def make_executor(jobs: JobsFile) -> Executor:
    """Return the executor of a jobs file."""
    return LocalExecutor() if jobs.engine == "local" else DaskExecutor(jobs.scheduler, jobs.cluster)


class LocalExecutor:
    """A process for each attempt, forked from one that has loaded the libraries."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOADED)

    def close(self) -> None:
        """See ``Executor``."""

    def run(self, attempt: Attempt, stop: StopCheck, handle_line: LineHandler) -> WorkerResult:
        """See ``Executor``."""
        lines, lines_of_worker = self._context.Pipe(duplex=False)
        alive_of_worker, alive = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=run_in_process,
            args=(attempt, lines_of_worker),
            kwargs={"alive": alive_of_worker, "environment": dict(os.environ)},
        )
        process.start()
        lines_of_worker.close()
        alive_of_worker.close()
        reader = OutputReader(os.dup(lines.fileno()), handle_line)
        lines.close()
        reader.start()
        reason = None
        while process.is_alive():
            process.join(_POLL_INTERVAL)
            if process.is_alive() and (reason := stop()):
                _kill(process.pid)
                process.join()
        alive.close()
        reader.end(_OUTPUT_TIMEOUT)
        if reason:
            raise AttemptStoppedError(reason)
        try:
            return read_result(attempt.scratch, attempt.job, format_cycle(attempt.cycle))
        except FileNotFoundError:
            pass
        except (ValueError, OSError) as error:
            return ErrorResult(str(error))
        if process.pid is not None:  # processes that it started may outlive it
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return _result_of_exit(process.exitcode or 0)


def _result_of_exit(code: int) -> ErrorResult:
    """Return the result of a process that left none; raise ``WorkerKilledError`` where it was killed."""
    if code >= 0:
        return ErrorResult(f"the process ended with {code} and no result")
    name = signal.Signals(-code).name
    if -code in _END_SIGNALS:
        raise WorkerKilledError(f"the process was ended by {name}")
    return ErrorResult(f"the process ended by {name}")


def _kill(pid: int | None) -> None:
    """Kill a process and all that it started."""
    if pid is not None:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:  # not yet the leader of a group, or gone
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class DaskExecutor:
    """Attempts on a Dask cluster whose workers see the same files.

    An attempt that loses its worker is started again on another.

    Args:
        scheduler: address, or ``local:N``.
        cluster: queue to start workers in, instead of a scheduler.
    """

    def __init__(self, scheduler: str | None, cluster: Cluster | None = None) -> None:
        self._scheduler = scheduler
        self._cluster = cluster
        self._resources = ExitStack()
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._connect()

    def close(self) -> None:
        """See ``Executor``."""
        self._resources.close()

    def _connect(self) -> "Client":
        """Return a client, a new one where the old one has lost its scheduler."""
        from ...datasets.cluster import connected
        from .queue_cluster import queued

        with self._lock:
            if self._client is None or self._client.status not in ("running", "connecting"):
                with suppress(Exception):  # of a scheduler that is gone
                    self._resources.close()
                self._resources = ExitStack()
                self._client = None
                context = (
                    queued(self._cluster) if self._cluster is not None else connected(self._scheduler or "")
                )
                self._client = self._resources.enter_context(context)
            return self._client

    def run(self, attempt: Attempt, stop: StopCheck, handle_line: LineHandler) -> WorkerResult:
        """See ``Executor``."""
        from distributed import CancelledError, Event
        from distributed.scheduler import KilledWorker

        try:
            client = self._connect()
            stop_event = Event(f"stop-{attempt.scratch.name}", client=client)
            future = client.submit(_run_on_worker, attempt, stop_event.name, pure=False)
        except OSError as error:
            return ErrorResult(str(error))
        try:
            while not future.done():
                time.sleep(_POLL_INTERVAL)
                if reason := stop():
                    stop_event.set()
                    raise AttemptStoppedError(reason)
            values, lines = future.result()
        except (KilledWorker, CancelledError) as error:
            raise WorkerKilledError(f"the workers were lost ({type(error).__name__})") from error
        finally:
            future.release()
        for line in lines:
            handle_line(line)
        try:
            result = parse_result(values, attempt.job, format_cycle(attempt.cycle))
        except ValueError as error:
            return ErrorResult(f"the attempt's result is not understood: {error}")
        if isinstance(result, KilledResult):
            raise WorkerKilledError(result.text)
        return result


def _run_on_worker(attempt: Attempt, event_name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run an attempt in a process of its own on a Dask worker, in a folder that no other attempt uses.

    Returns:
        The result and the log lines, as JSON values.
    """
    from distributed import Event, get_client

    multiprocessing.current_process().daemon = False  # a daemon could start no process
    event = Event(event_name, client=get_client())
    started = time.monotonic()
    checked = started

    def stop() -> StopReason | None:
        nonlocal checked
        now = time.monotonic()
        if now - started > attempt.job.deadline.total_seconds():
            return StopReason.DEADLINE
        if now - checked > _STOP_INTERVAL:
            checked = now
            return StopReason.REQUESTED if event.is_set() else None
        return None

    lines: list[dict[str, Any]] = []
    subfolder = uuid.uuid4().hex[:8]
    own = replace(attempt, scratch=attempt.scratch / subfolder)
    try:
        # Cleaned here: the worker's environment may have secrets of its own.
        result = LocalExecutor().run(own, stop, lambda values: lines.append(clean(values)))
    except AttemptStoppedError as error:
        result = ErrorResult(f"stopped: {error.reason}")
    except WorkerKilledError as error:
        result = KilledResult(str(error))
    return result.to_dict() | {"folder": subfolder}, lines
