"""What is seen from outside: a table, a JSON for monitors, a text file for Prometheus, and a page."""

import contextlib
import html
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from . import publishing
from .ledger import ENDED, OPEN, TAKEN, Ledger, Row
from .spec import Job, JobsFile, moment, written

STATES = (*OPEN, *TAKEN, *ENDED)
_SHOWN = 12


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
                "latest_age_hours": None if latest is None else round((now - latest).total_seconds() / 3600, 2),
                "output": done[-1].output if done else None,
                "healthy": not ended or ended[-1].state == "done",
                "counts": {state: sum(row.state == state for row in rows) for state in STATES},
                "cycles": [_describe(row, now) for row in (rows if cycles is None else rows[-cycles:])],
            }
        )
    return {"now": written(now), "jobs": found}


def _describe(row: Row, now: datetime) -> dict[str, Any]:
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
    }


def table(found: dict[str, Any]) -> str:
    """Return the status as lines."""
    lines = [f"{'job':<16} {'cycle':<17} {'state':<10} {'age':>9} {'tries':>5}  next / why"]
    for job in found["jobs"]:
        for row in job["cycles"]:
            lines.append(
                f"{job['job']:<16} {row['cycle']:<17} {row['state']:<10} {row['age_hours']:>7g} h {row['attempts']:>5}  {row['error'] or ''}"
            )
        lines.append(f"{job['job']:<16} {'':<17} {'next due':<10} {'':>9} {'':>5}  {job['next']}")
    return "\n".join(lines)


def write(jobs: JobsFile, ledger: Ledger, now: datetime) -> None:
    """Write ``status.json``, ``metrics.prom`` and ``index.html``; a disk without room keeps the old ones."""
    folder = jobs.folder / jobs.status
    found = status(jobs, ledger, now)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        pictures = {job.name: _picture(jobs, job, ledger, folder) for job in jobs.jobs if job.plots}
        for name, text in (("status.json", json.dumps(found, indent=1)), ("metrics.prom", metrics(found)), ("index.html", page(found, pictures))):
            temporary = folder / f".{name}.{os.getpid()}"
            temporary.write_text(text)
            os.replace(temporary, folder / name)


def metrics(found: dict[str, Any]) -> str:
    """Return the status in Prometheus' text format."""
    lines = ["# HELP fourcaster_cycles Cycles of a job by state.", "# TYPE fourcaster_cycles gauge"]
    lines += [f'fourcaster_cycles{{job="{j["job"]}",state="{state}"}} {count}' for j in found["jobs"] for state, count in j["counts"].items()]
    lines += ["# HELP fourcaster_latest_age_seconds Age of the latest published cycle.", "# TYPE fourcaster_latest_age_seconds gauge"]
    for job in found["jobs"]:
        if job["latest_age_hours"] is not None:
            lines.append(f'fourcaster_latest_age_seconds{{job="{job["job"]}"}} {3600 * job["latest_age_hours"]:g}')
    lines += ["# HELP fourcaster_healthy Whether the last cycle that ended was published.", "# TYPE fourcaster_healthy gauge"]
    lines += [f'fourcaster_healthy{{job="{job["job"]}"}} {int(job["healthy"])}' for job in found["jobs"]]
    lines += ["# HELP fourcaster_status_time_seconds When this was written.", "# TYPE fourcaster_status_time_seconds gauge"]
    return "\n".join([*lines, f"fourcaster_status_time_seconds {time.time():.0f}"]) + "\n"


_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
table { border-collapse: collapse; width: 100%; } 
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #8884; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; }
p { margin: .3rem 0; }
img { max-width: 100%; margin-top: .6rem; background: #fff; }
.state { display: inline-block; min-width: 5.5rem; padding: 0 .5rem; border-radius: .6rem;
  text-align: center; color: #fff; background: #5a6472; }
.done { background: #1b7f4b; }
.failed { background: #b3261e; }
.running, .publishing { background: #1d5fbf; }
.waiting, .retrying { background: #8a5a00; }
"""


def page(found: dict[str, Any], pictures: dict[str, str | None]) -> str:
    """Return the status page."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta http-equiv='refresh' content='60'>"
        "<meta name='viewport' content='width=device-width'><title>Forecasts</title>"
        f"<style>{_STYLE}</style></head><body><h1>Forecasts</h1><p>As of {found['now']} UTC</p>"
    ]
    for job in found["jobs"]:
        latest = "nothing published yet" if job["latest"] is None else f"latest {job['latest']}, {job['latest_age_hours']:g} h old"
        health = "" if job["healthy"] else " <span class='state failed'>failing</span>"
        parts.append(f"<section id='{html.escape(job['job'])}'><h2>{html.escape(job['job'])}{health}</h2><p>{latest}; next due {job['next']}</p>")
        parts.append(
            "<table><thead><tr><th>cycle</th><th>state</th><th class='number'>age</th><th class='number'>failed tries</th><th class='number'>took</th><th>why</th></tr></thead><tbody>"
        )
        for row in reversed(job["cycles"]):
            took = "" if row["seconds"] is None else f"{row['seconds']:.1f} s"
            parts.append(
                f"<tr><td>{row['cycle']}</td><td><span class='state {row['state']}'>{row['state']}</span></td>"
                f"<td class='number'>{row['age_hours']:g} h</td>"
                f"<td class='number'>{row['attempts']}</td><td class='number'>{took}</td><td>{html.escape(row['error'] or '')}</td></tr>"
            )
        picture = pictures.get(job["job"])
        shown = f"<img src='{html.escape(picture)}' alt='latest map of {html.escape(job['job'])}'>" if picture else ""
        parts.append(f"</tbody></table>{shown}</section>")
    return "".join([*parts, "</body></html>\n"])


def _picture(jobs: JobsFile, job: Job, ledger: Ledger, folder: Path) -> str | None:
    """Return the path, from the page, of a map of the latest cycle; a copy, so that the page's folder is whole in itself."""
    done = ledger.rows(job.name, ("done",))
    if not done:
        return None
    name = f"maps/{job.name}-{done[-1].cycle.replace(':', '')}.png"
    if not (folder / name).exists():
        place = publishing.place_of(jobs, job)
        found = [other for other in place.beside(job.name_of(moment(done[-1].cycle))) if other.endswith(".png")]
        if not found:
            return None
        (folder / "maps").mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder / "maps", prefix=".") as work:
            temporary = folder / "maps" / f".{job.name}.{os.getpid()}"
            shutil.copyfile(place.fetch(found[0], Path(work)), temporary)
        old = [p for p in (folder / "maps").glob(f"{job.name}-*.png") if len(p.name) == len(name) - len("maps/")]
        os.replace(temporary, folder / name)
        for path in old:
            path.unlink(missing_ok=True)
    return name


def verify_cycle(jobs: JobsFile, job: Job, cycle: datetime, say: Callable[..., None]) -> bool:
    """Score a published cycle once the truth holds its times; return whether it did."""
    from ..verification import verify

    place, name = publishing.place_of(jobs, job), job.name_of(cycle)
    with tempfile.TemporaryDirectory() as folder:
        scored = Path(folder) / "scores.nc"
        try:
            scores = verify(place.fetch(name, Path(folder)), jobs.folder / (job.truth or ""), scored)
            place.put(f"{name.rpartition('.')[0]}.scores.nc", scored)
        except (ValueError, OSError) as error:
            if "lacks" not in str(error):
                say(level="error", message=f"could not be verified: {error}")
            return False
    rmse = {str(name): float(v.sel(metric="rmse", source="forecast").isel(prediction_timedelta=-1).mean()) for name, v in scores.items()}
    say(message="verified: rmse at the last lead " + ", ".join(f"{name} {value:.4g}" for name, value in rmse.items()))
    return True
