"""Where attempts run: in processes of this machine, or on the workers of a Dask cluster."""

import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from typing import Any, Protocol

from ...datasets.cluster import connected, quieten
from .making import Task, in_process
from .masking import clean
from .output import Line, Reader
from .results import check_result, read_result
from .spec import Cluster, written

_TICK = 0.2
_PRELOADED = [
    "fourcaster.forecast.jobs.making",
    "cf_xarray.units",
    "cartopy.crs",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
]
_LAST_LINES = 5.0  # seconds that output is waited for after the process has ended
_ASK = 2.0  # seconds between two looks of a worker at whether it is to stop


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

    def close(self) -> None:
        """Let go of what runs attempts."""


class LocalEngine:
    """A process for each attempt, forked from one that has the libraries loaded."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOADED)

    def close(self) -> None:
        """See ``Engine``."""

    def run(self, task: Task, stop: Callable[[], str | None], line: Line) -> dict[str, Any]:
        """See ``Engine.run``."""
        ours, theirs = self._context.Pipe(duplex=False)
        theirs_alive, ours_alive = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=in_process, args=(task, theirs, theirs_alive, dict(os.environ))
        )
        process.start()
        theirs.close()
        theirs_alive.close()
        reader = Reader(os.dup(ours.fileno()), line)
        ours.close()
        reader.start()
        reason = None
        while process.is_alive():
            process.join(_TICK)
            if process.is_alive() and (reason := stop()):
                _end(process.pid)
                process.join()
        ours_alive.close()
        reader.end(_LAST_LINES)
        if reason:
            raise InterruptedError(reason)
        try:
            return read_result(task.scratch, task.job, written(task.cycle))
        except FileNotFoundError:
            pass
        except (ValueError, OSError) as error:
            return {"error": str(error)}
        if process.pid is not None:  # what it started may go on without it
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        code = process.exitcode or 0
        if -code in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            raise Killed(f"the process was ended by {signal.Signals(-code).name}")
        return {
            "error": f"the process ended by {signal.Signals(-code).name}"
            if code < 0
            else f"the process ended with {code} and no result"
        }


def _end(pid: int | None) -> None:
    """End a process and all that it started."""
    if pid is not None:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not become the head of a group yet, or is gone
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class DaskEngine:
    """Attempts on a Dask cluster whose workers see the same files; one that loses its worker is begun again
    on another.

    Args:
        scheduler: address, or ``local:N``.
        cluster: a queue to start workers in, in place of it.
    """

    def __init__(self, scheduler: str | None, cluster: Cluster | None = None) -> None:
        self._scheduler, self._cluster = scheduler, cluster
        self._open, self._lock = ExitStack(), threading.Lock()
        self._client: Any = None
        self._connected()

    def close(self) -> None:
        """See ``Engine``."""
        self._open.close()

    def _connected(self) -> Any:
        """Return a client, a new one where the old one has lost its scheduler."""
        with self._lock:
            if self._client is None or self._client.status not in ("running", "connecting"):
                with suppress(Exception):  # of what is gone
                    self._open.close()
                self._open, self._client = ExitStack(), None
                made = (
                    queued(self._cluster) if self._cluster is not None else connected(self._scheduler or "")
                )
                self._client = self._open.enter_context(made)
            return self._client

    def run(self, task: Task, stop: Callable[[], str | None], line: Line) -> dict[str, Any]:
        """See ``Engine.run``."""
        from distributed import CancelledError, Event
        from distributed.scheduler import KilledWorker

        try:
            client = self._connected()
            told = Event(f"stop-{task.scratch.name}", client=client)
            future = client.submit(_on_worker, task, told.name, pure=False)
        except OSError as error:
            return {"error": str(error)}
        try:
            while not future.done():
                time.sleep(_TICK)
                if reason := stop():
                    told.set()
                    raise InterruptedError(reason)
            result, lines = future.result()
        except (KilledWorker, CancelledError) as error:
            raise Killed(f"the workers were lost ({type(error).__name__})") from error
        finally:
            future.release()
        for said in lines:
            line(said)
        try:
            result = check_result(result, task.job, written(task.cycle))
        except ValueError as error:
            return {"error": f"the attempt's result is not understood: {error}"}
        if "killed" in result:
            raise Killed(result["killed"])
        return result


def _on_worker(task: Task, told: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run an attempt in a process of its own on a worker, in a folder that no other attempt uses."""
    from distributed import Event, get_client

    multiprocessing.current_process().daemon = False  # or it could start none
    event, asked, began = Event(told, client=get_client()), time.monotonic(), time.monotonic()

    def stop() -> str | None:
        nonlocal asked
        now = time.monotonic()
        if now - began > task.job.deadline.total_seconds():
            return "deadline"
        if now - asked > _ASK:
            asked = now
            return "told" if event.is_set() else None
        return None

    lines: list[dict[str, Any]] = []
    engine, folder = LocalEngine(), uuid.uuid4().hex[:8]
    try:
        # Masked here: the worker may have secrets of its own.
        result = engine.run(
            replace(task, scratch=task.scratch / folder), stop, lambda values: lines.append(clean(values))
        )
        return result | {"folder": folder}, lines
    except InterruptedError as error:
        return {"error": f"stopped: {error}"}, lines
    except Killed as error:
        return {"killed": str(error)}, lines


@contextmanager
def queued(cluster: Cluster) -> Iterator[Any]:
    """Give a client of Dask workers that run as jobs of a queue and end with it.

    Raises:
        ValueError: dask-jobqueue is not there, or does not know an option.
        OSError: the queue takes no jobs.
    """
    from distributed import Client

    try:
        import dask_jobqueue
        import dask_jobqueue.local
    except ImportError as error:
        raise ValueError("a cluster needs one more package: pip install 'fourcaster[jobqueue]'") from error
    quieten()
    names = {
        "slurm": "SLURM",
        "pbs": "PBS",
        "sge": "SGE",
        "lsf": "LSF",
        "oar": "OAR",
        "htcondor": "HTCondor",
        "moab": "Moab",
    }
    made = (
        dask_jobqueue.local.LocalCluster
        if cluster.queue == "local"
        else getattr(dask_jobqueue, f"{names[cluster.queue]}Cluster")
    )
    try:
        workers = made(**cluster.options)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the cluster's options are not understood by dask-jobqueue: {' '.join(str(error).split())[:200]}"
        ) from error
    with workers, closing(Client(workers)) as client:
        try:
            workers.scale(jobs=cluster.jobs)
        except (RuntimeError, OSError) as error:
            raise OSError(f"the queue takes no jobs: {' '.join(str(error).split())[:200]}") from error
        yield client
