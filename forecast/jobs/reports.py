"""What is seen from outside: a table, a JSON for monitors, a text file for Prometheus, and a page."""

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
from ..verification.page import page as whole_page
from ..verification.page import table
from . import publishing
from .files import kind_of, read_small, read_start
from .ledger import Ledger
from .masking import clean
from .places import Place
from .rows import ENDED, OPEN, TAKEN, Row
from .spec import Job, JobsFile, moment, written

STATES = (*OPEN, *TAKEN, *ENDED)
_SHOWN = 12
_SCORES = 3  # variables whose error the page shows
_PROBLEMS = 20  # rows of the ledger that are left out, and are named
_PICTURE = 2**26  # bytes of a map
_OURS = {
    "index.html": re.compile(rb"<!doctype html>.*http-equiv='refresh'.*<title>Forecasts</title>", re.DOTALL),
    "status.json": re.compile(rb'\{\s*"now": "\d{4}-'),
    "metrics.prom": re.compile(rb"# HELP fourcaster_"),
}
"""Files of the status page, and how those that were written from here begin."""


class Unwritable(OSError):
    """The status page could not be written."""


def status(jobs: JobsFile, ledger: Ledger, now: datetime, cycles: int | None = _SHOWN) -> dict[str, Any]:
    """Return the state of each job and of its last cycles.

    Args:
        jobs: jobs file.
        ledger: ledger.
        now: the schedule's time.
        cycles: how many cycles of each job; None for all.
    """
    found = []
    for job in jobs.jobs:
        rows = ledger.rows(job.name)
        done = [row for row in rows if row.state == "done"]
        latest = moment(done[-1].cycle) if done else None
        ended = [row for row in rows if row.state in ("done", "failed")]
        found.append(
            {
                "job": job.name,
                "next": written(job.next(now)),
                "latest": None if latest is None else written(latest),
                "latest_age_hours": None
                if latest is None
                else round((now - latest).total_seconds() / 3600, 2),
                "output": clean(done[-1].output) if done else None,
                "healthy": not ended or ended[-1].state == "done",
                "counts": {state: sum(row.state == state for row in rows) for state in STATES},
                "cycles": [
                    clean(_describe(row, now, ledger)) for row in (rows if cycles is None else rows[-cycles:])
                ],
            }
        )
    return {"now": written(now), "jobs": found, "problems": list(ledger.problems.values())[:_PROBLEMS]}


def _describe(row: Row, now: datetime, ledger: Ledger) -> dict[str, Any]:
    took = None if row.finished is None or row.started is None else round(row.finished - row.started, 2)
    return {
        "cycle": row.cycle,
        "state": row.state,
        "age_hours": round((now - moment(row.cycle)).total_seconds() / 3600, 2),
        "attempts": row.attempts,
        "interruptions": row.interruptions,
        "seconds": took,
        "error": row.error,
        "output": row.output,
        "checksum": row.checksum,
        "verified": row.verified is not None,
        "scores": ledger.scores(row),
    }


def as_text(found: dict[str, Any]) -> str:
    """Return the status as lines."""
    lines = [f"{'job':<16} {'cycle':<17} {'state':<10} {'age':>9} {'tries':>5}  next / why"]
    for job in found["jobs"]:
        for row in job["cycles"]:
            lines.append(
                f"{job['job']:<16} {row['cycle']:<17} {row['state']:<10} {row['age_hours']:>7g} h {row['attempts']:>5}  {row['error'] or ''}"
            )
        lines.append(f"{job['job']:<16} {'':<17} {'next due':<10} {'':>9} {'':>5}  {job['next']}")
    return "\n".join([*lines, *found["problems"]])


def refuse_foreign_pages(folder: Path) -> None:
    """Raise ``ValueError`` where the folder of the status page holds files of its names that were not written
    from here.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"status {folder} is {kind_of(folder)}, not a folder; let `status` name a folder of its own"
        )
    for name, ours in _OURS.items():
        path = folder / name
        kind = kind_of(path)
        if kind is not None and (kind != "a file" or not ours.match(read_start(path, 4096))):
            raise ValueError(
                f"{path} is {kind} that is not of the status page, so it is not replaced; let `status` name a folder of its own"
            )
    if (kind := kind_of(folder / "maps")) not in (None, "a folder"):
        raise ValueError(f"{folder / 'maps'} is {kind}, not a folder; let `status` name a folder of its own")


def write(jobs: JobsFile, ledger: Ledger, now: datetime) -> None:
    """Write ``status.json``, ``metrics.prom`` and ``index.html``; a disk without room keeps the old ones.

    Raises:
        Unwritable: a file could not be written, or is not of the status page.
        OSError: the ledger cannot be read.
    """
    folder = jobs.folder / jobs.status
    found = status(jobs, ledger, now)
    pictured = [(job, ledger.rows(job.name, ("done",))) for job in jobs.jobs if job.plots != []]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        refuse_foreign_pages(folder)
        pictures = {job.name: _picture(jobs, job, done, folder) for job, done in pictured}
        for name, text in (
            ("status.json", json.dumps(found, indent=1)),
            ("metrics.prom", metrics(found)),
            ("index.html", page(found, pictures)),
        ):
            atomic.write_file(folder / name, text.encode(errors="replace"))
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise Unwritable(f"the status page in {folder} could not be written: {reason}") from error


def metrics(found: dict[str, Any]) -> str:
    """Return the status in Prometheus' text format."""
    lines = ["# HELP fourcaster_cycles Cycles of a job by state.", "# TYPE fourcaster_cycles gauge"]
    lines += [
        f'fourcaster_cycles{{job="{j["job"]}",state="{state}"}} {count}'
        for j in found["jobs"]
        for state, count in j["counts"].items()
    ]
    lines += [
        "# HELP fourcaster_latest_age_seconds Age of the latest published cycle.",
        "# TYPE fourcaster_latest_age_seconds gauge",
    ]
    for job in found["jobs"]:
        if job["latest_age_hours"] is not None:
            lines.append(
                f'fourcaster_latest_age_seconds{{job="{job["job"]}"}} {3600 * job["latest_age_hours"]:g}'
            )
    lines += [
        "# HELP fourcaster_healthy Whether the last cycle that ended was published.",
        "# TYPE fourcaster_healthy gauge",
    ]
    lines += [f'fourcaster_healthy{{job="{job["job"]}"}} {int(job["healthy"])}' for job in found["jobs"]]
    lines += [
        "# HELP fourcaster_status_time_seconds When this was written.",
        "# TYPE fourcaster_status_time_seconds gauge",
    ]
    return "\n".join([*lines, f"fourcaster_status_time_seconds {time.time():.0f}"]) + "\n"


def page(found: dict[str, Any], pictures: dict[str, str | None]) -> str:
    """Return the status page."""
    failing = ", ".join(
        f"<a href='#{html.escape(job['job'])}'>{html.escape(job['job'])}</a>"
        for job in found["jobs"]
        if not job["healthy"]
    )
    parts = [f"<p>As of {found['now']} UTC; {'failing: ' + failing if failing else 'no job is failing'}</p>"]
    parts += [f"<p>{html.escape(problem)}</p>" for problem in found["problems"]]
    for job in found["jobs"]:
        latest = (
            "nothing published yet"
            if job["latest"] is None
            else f"latest {job['latest']}, {job['latest_age_hours']:g} h old"
        )
        health = "" if job["healthy"] else " <span class='state failed'>failing</span>"
        parts.append(
            f"<section id='{html.escape(job['job'])}'><h2>{html.escape(job['job'])}{health}</h2><p>{latest}; next due {job['next']}</p>"
        )
        parts.append(_table(job["cycles"][::-1]))
        picture = pictures.get(job["job"])
        parts.append(
            f"<img src='{html.escape(picture)}' alt='latest map of {html.escape(job['job'])}'>"
            if picture
            else ""
        )
        parts.append("</section>")
    return whole_page("Forecasts", parts, refresh=60)


def _table(cycles: list[dict[str, Any]]) -> str:
    """Return the table of a job's cycles, without columns that say nothing."""
    columns = {
        "cycle": [row["cycle"] for row in cycles],
        "state": [f"<span class='state {row['state']}'>{row['state']}</span>" for row in cycles],
        "age": [f"{row['age_hours']:g} h" for row in cycles],
        "took": ["" if row["seconds"] is None else f"{row['seconds']:.1f} s" for row in cycles],
        "failed tries": [str(row["attempts"] or "") for row in cycles],
        "RMSE at the last lead": ["; ".join(map(_scored, row["scores"][:_SCORES])) for row in cycles],
        "why": [html.escape(row["error"] or "") for row in cycles],
    }
    shown = {
        name: cells for name, cells in columns.items() if name in ("cycle", "state", "age") or any(cells)
    }
    return table(
        list(shown),
        list(zip(*shown.values(), strict=True)),
        [i for i, name in enumerate(shown) if name in ("age", "took", "failed tries")],
    )


def _scored(score: dict[str, Any]) -> str:
    return html.escape(f"{_channel(score)} {score['rmse']['forecast']:.3g} {score['units']}")


def _channel(score: dict[str, Any]) -> str:
    return score["variable"] if score["level"] is None else f"{score['variable']} {score['level']}"


def _picture(jobs: JobsFile, job: Job, done: list[Row], folder: Path) -> str | None:
    """Return the path, from the page, of a map of the latest cycle; a copy, so that the page's folder is
    whole in itself.
    """
    if not done:
        return None
    name = f"maps/{job.name}-{done[-1].cycle.replace(':', '')}.png"
    if not (folder / name).exists():
        data = _map_of(publishing.place_of(jobs, job), job.name_of(moment(done[-1].cycle)))
        if data is None:
            return None
        (folder / "maps").mkdir(exist_ok=True)
        written_here = re.compile(re.escape(f"{job.name}-") + r"\d{4}-\d\d-\d\dT\d{4}\.png")
        old = [p for p in (folder / "maps").iterdir() if written_here.fullmatch(p.name)]
        atomic.write_file(folder / name, data)
        for path in old:
            path.unlink(missing_ok=True)
    return name


def _map_of(place: Place, output: str) -> bytes | None:
    """Return a map beside an output, or None where there is none, or its place is out of reach now."""
    with suppress(OSError, ValueError), tempfile.TemporaryDirectory() as work:
        if found := [other for other in place.beside(output) if other.endswith(".png")]:
            return read_small(place.fetch(found[0], Path(work)), _PICTURE)
    return None
