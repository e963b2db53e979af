"""The status page and its files: ``index.html``, ``status.json`` and ``metrics.prom``."""

import html
import json
import re
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from ...datasets.store import atomic
from ..verification import page as html_page
from . import publishing
from .files import read_small
from .ledger import Ledger
from .output_store import OutputStore
from .page_files import MAPS, refuse_foreign_pages
from .records import CycleRecord
from .spec import Job, JobsFile
from .states import CycleState
from .status import CycleStatus, JobsStatus, JobStatus, read_status
from .times import parse_time

_SHOWN_SCORES = 3  # variables
_LARGEST_MAP = 2**26  # bytes
_REFRESH = 60  # s
_SECONDS_PER_HOUR = 3600
_ALWAYS_SHOWN = ("cycle", "state", "age")
_NUMERIC = ("age", "took", "failed attempts")


class PageWriteError(OSError):
    """The status page could not be written."""


def write(jobs: JobsFile, ledger: Ledger, now: datetime) -> None:
    """Write the files of the status page; one that cannot be written stays as it was.

    Raises:
        PageWriteError: a file could not be written, or is not of the status page.
        OSError: the ledger cannot be read.
    """
    folder = jobs.folder / jobs.status
    status = read_status(jobs, ledger, now)
    with_maps = [job for job in jobs.jobs if job.plots != []]
    done = {job.name: ledger.records(job.name, [CycleState.DONE]) for job in with_maps}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        refuse_foreign_pages(folder)
        maps = {job.name: _copy_map(jobs, job, done[job.name], folder=folder) for job in with_maps}
        for name, text in (
            ("status.json", json.dumps(status.to_dict(), indent=1)),
            ("metrics.prom", format_metrics(status)),
            ("index.html", render(status, maps)),
        ):
            atomic.write_file(folder / name, text.encode(errors="replace"))
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise PageWriteError(f"the status page in {folder} could not be written: {reason}") from error


def format_metrics(status: JobsStatus) -> str:
    """Return the status in Prometheus' text format."""
    counts = [
        f'fourcaster_cycles{{job="{job.job}",state="{state}"}} {count}'
        for job in status.jobs
        for state, count in job.counts.items()
    ]
    ages = [
        f'fourcaster_latest_age_seconds{{job="{job.job}"}} {_SECONDS_PER_HOUR * job.latest_age_hours:g}'
        for job in status.jobs
        if job.latest_age_hours is not None
    ]
    health = [f'fourcaster_healthy{{job="{job.job}"}} {int(job.healthy)}' for job in status.jobs]
    lines = [
        *_metric("cycles", "Cycles of a job by state.", counts),
        *_metric("latest_age_seconds", "Age of the latest published cycle.", ages),
        *_metric("healthy", "Whether the last cycle that ended was published.", health),
        *_metric(
            "status_time_seconds",
            "When this was written.",
            [f"fourcaster_status_time_seconds {time.time():.0f}"],
        ),
    ]
    return "\n".join(lines) + "\n"


def _metric(name: str, description: str, samples: list[str]) -> list[str]:
    return [f"# HELP fourcaster_{name} {description}", f"# TYPE fourcaster_{name} gauge", *samples]


def render(status: JobsStatus, maps: dict[str, str | None]) -> str:
    """Return the status page as HTML.

    Args:
        status: state of the jobs.
        maps: path of the latest map, relative to the page, by job.
    """
    failing = ", ".join(
        f"<a href='#{html.escape(job.job)}'>{html.escape(job.job)}</a>"
        for job in status.jobs
        if not job.healthy
    )
    parts = [f"<p>As of {status.now} UTC; {'failing: ' + failing if failing else 'no job is failing'}</p>"]
    parts += [f"<p>{html.escape(problem)}</p>" for problem in status.problems]
    parts += [_section(job, maps.get(job.job)) for job in status.jobs]
    return html_page.page("Forecasts", parts, refresh=_REFRESH)


def _section(job: JobStatus, map_path: str | None) -> str:
    name = html.escape(job.job)
    latest = "nothing published yet"
    if job.latest is not None:
        latest = f"latest {job.latest}, {job.latest_age_hours:g} h old"
    health = "" if job.healthy else " <span class='state failed'>failing</span>"
    image = f"<img src='{html.escape(map_path)}' alt='latest map of {name}'>" if map_path else ""
    return (
        f"<section id='{name}'><h2>{name}{health}</h2><p>{latest}; next due {job.next}</p>"
        f"{_table(job.cycles[::-1])}{image}</section>"
    )


def _table(cycles: list[CycleStatus]) -> str:
    """Return the table of a job's cycles, without empty columns."""
    columns = {
        "cycle": [cycle.cycle for cycle in cycles],
        "state": [f"<span class='state {cycle.state}'>{cycle.state}</span>" for cycle in cycles],
        "age": [f"{cycle.age_hours:g} h" for cycle in cycles],
        "took": ["" if cycle.seconds is None else f"{cycle.seconds:.1f} s" for cycle in cycles],
        "failed attempts": [str(cycle.attempts or "") for cycle in cycles],
        "RMSE at the last lead": ["; ".join(map(_format_score, c.scores[:_SHOWN_SCORES])) for c in cycles],
        "reason": [html.escape(cycle.error or "") for cycle in cycles],
    }
    shown = {name: cells for name, cells in columns.items() if name in _ALWAYS_SHOWN or any(cells)}
    return html_page.table(
        list(shown),
        list(zip(*shown.values(), strict=True)),
        [i for i, name in enumerate(shown) if name in _NUMERIC],
    )


def _format_score(score: dict[str, Any]) -> str:
    channel = score["variable"] if score["level"] is None else f"{score['variable']} {score['level']}"
    return html.escape(f"{channel} {score['rmse']['forecast']:.3g} {score['units']}")


def _copy_map(jobs: JobsFile, job: Job, done: list[CycleRecord], *, folder: Path) -> str | None:
    """Copy a map of the latest cycle next to the page and return its relative path."""
    if not done:
        return None
    cycle = done[-1].cycle
    name = f"{MAPS}/{job.name}-{cycle.replace(':', '')}.png"
    if not (folder / name).exists():
        data = _read_map(publishing.output_store(jobs, job), job.output_name(parse_time(cycle)))
        if data is None:
            return None
        (folder / MAPS).mkdir(exist_ok=True)
        pattern = re.compile(re.escape(f"{job.name}-") + r"\d{4}-\d\d-\d\dT\d{4}\.png")
        earlier = [path for path in (folder / MAPS).iterdir() if pattern.fullmatch(path.name)]
        atomic.write_file(folder / name, data)
        for path in earlier:
            path.unlink(missing_ok=True)
    return name


def _read_map(store: OutputStore, output: str) -> bytes | None:
    """Return a map of an output, or None where there is none or its store is out of reach."""
    with suppress(OSError, ValueError), tempfile.TemporaryDirectory() as folder:
        if maps := [name for name in store.attachments(output) if name.endswith(".png")]:
            return read_small(store.fetch(maps[0], Path(folder)), _LARGEST_MAP)
    return None
