"""The forecast of one cycle, made, or verified, in a folder of its own by a process of its own; it knows
nothing of the ledger.
"""

import json
import logging
import os
import subprocess
import sys
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from ... import __version__
from ...datasets.adapters.sources import open_sources
from ...datasets.schema import Incomplete
from ...datasets.store import atomic
from ..checkpoint.folder import Checkpoint
from ..inference.forecaster import load
from ..inference.rollout import initial_states, parse_lead, parse_times
from ..verification.plots import plot
from . import publishing
from .commands import resolve, variables
from .manifests import checksum
from .results import RESULT
from .spec import Files, Job, Picture, written

log = logging.getLogger(__name__)

NOT_YET = 75
"""Exit code by which a ``prepare`` command says that the data have not come (``EX_TEMPFAIL`` of sysexits.h).
"""


@dataclass(frozen=True)
class Task:
    """What one attempt is to make.

    Attributes:
        job: the job.
        cycle: initial time.
        folder: where the job's paths start from.
        scratch: folder to work in.
        work: make the forecast, or verify the one that is published.
    """

    job: Job
    cycle: datetime
    folder: Path
    scratch: Path
    work: Literal["make", "verify"] = "make"


def make(task: Task) -> dict[str, Any]:
    """Make, check and draw a forecast in the scratch folder.

    Returns:
        ``{"waits": why}`` where the initial state has not come, else ``{"manifest": ..., "made": name,
        "beside": names of pictures}``.

    Raises:
        OSError, ValueError: it cannot be made.
    """
    job, at = task.job, written(task.cycle)
    if job.prepare:
        command = resolve(job.prepare, job, task.cycle)
        told = variables(job, task.cycle)
        code = subprocess.run(
            command, cwd=task.folder, env=told, stdin=subprocess.DEVNULL, check=False
        ).returncode
        if code == NOT_YET:
            return {"waits": f"the data are not there yet, says the prepare command {command[0]}"}
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
    try:
        forecaster.run(
            source,
            times,
            job.lead,
            job.grid,
            job.area,
            made,
            job.variables,
            overwrite=True,
            members=job.members,
            seed=job.seed,
            amplitude=job.amplitude,
            bounds=job.bounds,
            clip=job.clip,
            # no clock: repeated attempts are the same bytes
            history=f"{at}:00Z: job {job.name} (fourcaster {__version__})",
        ).close()
    except Incomplete as error:
        return {"waits": str(error)}
    steps = parse_lead(job.lead, checkpoint.step)
    publishing.check(made, steps + 1)
    pictures = []
    for picture in _pictures(job, checkpoint) if job.plots is None else job.plots:
        level = "" if picture.level is None else f"_{picture.level}"
        pictures.append(f"{picture.variable}{level}_{picture.lead}.png".replace("/", "_"))
        plot(
            made,
            picture.variable,
            picture.lead,
            task.scratch / pictures[-1],
            level=picture.level,
            overwrite=True,
        )
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


def _pictures(job: Job, checkpoint: Checkpoint) -> list[Picture]:
    """Return the map that is drawn where the job asks for none: the first variable at the last lead time."""
    channel = next(c for c in checkpoint.channels if job.variables is None or c.variable in job.variables)
    return [Picture(variable=channel.variable, lead=job.lead, level=channel.level)]


def verify(task: Task) -> dict[str, Any]:
    """Score the published forecast of a cycle, and put the scores, and a report where the job asks for one,
    beside it.

    Returns:
        ``{"scores": JSON of the last lead time, "said": a line}``.

    Raises:
        OSError, ValueError: it cannot be scored.
    """
    from ..verification.report import write_report
    from ..verification.verify import summary
    from ..verification.verify import verify as score

    job, truth = task.job, task.folder / (task.job.truth or "")
    place, name = publishing.place_at(job, task.folder, task.scratch), job.name_of(task.cycle)
    made, stem = place.fetch(name, task.scratch), name.rpartition(".")[0]
    scores = score(made, truth, task.scratch / "scores.nc", overwrite=True)
    place.put(f"{stem}.scores.nc", task.scratch / "scores.nc")
    if job.report:
        write_report(made, truth, scores, task.scratch / "report.html", overwrite=True)
        place.put(f"{stem}.report.html", task.scratch / "report.html")
    every = summary(scores)
    rows = [row for row in every if row["lead_hours"] == every[-1]["lead_hours"]]
    errors = [
        f"{r['variable']} {r['level'] or ''} {r['rmse']['forecast']:.4g} {r['units']}".replace("  ", " ")
        for r in rows
    ]
    return {
        "scores": json.dumps(rows),
        "said": f"verified: rmse at {rows[0]['lead_hours']:g} h {', '.join(errors)}",
    }


def _source(task: Task) -> str | xr.Dataset:
    source = task.job.source
    if not isinstance(source, Files):
        return source if "://" in source else str(task.folder / source)
    paths = [str(task.folder / task.job.fill(path, task.cycle)) for path in source.files]
    return open_sources(paths, units=source.units, layout=source.layout, follow_links=source.follow_links)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"level": record.levelname.lower(), "message": record.getMessage()})


def attempt(task: Task) -> dict[str, Any]:
    """Do a task and return what came of it, errors included as ``{"error": one line}``."""
    try:
        task.scratch.mkdir(parents=True, exist_ok=True)
        return make(task) if task.work == "make" else verify(task)
    except (ValueError, OSError) as error:
        return {"error": " ".join(str(error).split()) or type(error).__name__}
    except Exception as error:  # noqa: BLE001 (whatever it is, it is said in the ledger)
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def in_process(task: Task, lines: Any, alive: Any, environment: dict[str, str]) -> None:
    """Do a task as the whole of a process.

    Args:
        task: what to do.
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
    atomic.write_file(task.scratch / RESULT, json.dumps(result).encode())
    sys.stdout.flush()
    sys.stderr.flush()
