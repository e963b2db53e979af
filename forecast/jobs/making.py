"""The forecast of one cycle, made in a folder of its own by a process of its own; it knows nothing of the ledger."""

import json
import logging
import os
import subprocess
import sys
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xarray as xr

from ...datasets.adapters.sources import open_sources
from ..api import load
from ..plots import plot
from ..rollout import initial_states, parse_lead, parse_times
from . import publishing
from .commands import resolve
from .places import checksum
from .spec import Files, Job, written

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What one attempt is to make.

    Attributes:
        job: the job.
        cycle: initial time.
        folder: where the job's paths start from.
        scratch: folder to work in.
    """

    job: Job
    cycle: datetime
    folder: Path
    scratch: Path


def make(task: Task) -> dict[str, Any]:
    """Make, check and draw a forecast in the scratch folder.

    Returns:
        ``{"waits": why}`` where the initial state has not come, else ``{"manifest": ..., "made": name, "beside": names of pictures}``.

    Raises:
        OSError, ValueError: it cannot be made.
    """
    job, at = task.job, written(task.cycle)
    task.scratch.mkdir(parents=True, exist_ok=True)
    if job.prepare:
        command = resolve(job.prepare, job, task.cycle)
        code = subprocess.run(command, cwd=task.folder, stdin=subprocess.DEVNULL, check=False).returncode
        if code:
            raise ValueError(f"the prepare command {command[0]} ended with {code}")
    forecaster = load(task.folder / job.checkpoint, job.device)
    checkpoint = forecaster.checkpoint
    try:
        source = _source(task)
        times = parse_times(at, states := initial_states(checkpoint, source), checkpoint.stepper.window)
    except FileNotFoundError as error:
        return {"waits": " ".join(str(error).split())}
    try:
        states.positions(times, checkpoint.stepper.window, checkpoint.step)
    except ValueError as error:
        return {"waits": str(error)}
    name = "forecast" + Path(job.output).suffix
    made = task.scratch / name
    forecaster.run(source, times, job.lead, job.grid, job.area, made, job.variables, overwrite=True, members=job.members).close()
    steps = parse_lead(job.lead, checkpoint.step)
    publishing.check(made, steps + 1)
    pictures = []
    for picture in job.plots:
        level = "" if picture.level is None else f"_{picture.level}"
        pictures.append(f"{picture.variable}{level}_{picture.lead}.png")
        plot(made, picture.variable, picture.lead, task.scratch / pictures[-1], level=picture.level, overwrite=True)
    manifest = {
        "job": job.name,
        "cycle": at,
        "lead": job.lead,
        "checkpoint": forecaster.identity,
        "source": job.source if isinstance(job.source, str) else job.source.files,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "checksum": checksum(made),
    }
    return {"manifest": manifest, "made": name, "beside": pictures}


def _source(task: Task) -> str | xr.Dataset:
    source = task.job.source
    if not isinstance(source, Files):
        return source if "://" in source else str(task.folder / source)
    paths = [str(task.folder / task.job.fill(path, task.cycle)) for path in source.files]
    return open_sources(paths, None, source.units, source.layout)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"level": record.levelname.lower(), "message": record.getMessage()})


def attempt(task: Task) -> dict[str, Any]:
    """Make a forecast and return what came of it, errors included as ``{"error": one line}``."""
    try:
        return make(task)
    except (ValueError, OSError) as error:
        return {"error": " ".join(str(error).split()) or type(error).__name__}
    except Exception as error:  # noqa: BLE001 (whatever it is, it is said in the ledger)
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def in_process(task: Task, lines: Any, alive: Any, environment: dict[str, str]) -> None:
    """Make a forecast as the whole of a process.

    Args:
        task: what to make.
        lines: connection that standard output and error go to.
        alive: connection that closes when the scheduler ends, and this process with it.
        environment: the scheduler's, which may have changed since the process that this one is forked from.
    """
    import signal
    import threading

    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for descriptor in (1, 2):
        os.dup2(lines.fileno(), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", buffering=1, closefd=False) for descriptor in (1, 2))

    def watch() -> None:
        try:
            alive.recv_bytes()
        except (EOFError, OSError):
            os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    result = attempt(task)
    temporary = task.scratch / ".result.json"
    temporary.write_text(json.dumps(result))
    os.replace(temporary, task.scratch / "result.json")
    sys.stdout.flush()
    sys.stderr.flush()
