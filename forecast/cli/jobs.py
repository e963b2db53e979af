"""The verbs of scheduled rollouts."""

import signal
import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import Json, reported, show

jobs = typer.Typer(
    help="Scheduled rollouts: a forecast every cycle, published whole.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

File = Annotated[Path, typer.Argument(metavar="JOBS", help="Jobs file.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a job.")]
Now = Annotated[
    str | None,
    typer.Option(help="Time that the schedule's clock starts from, in UTC; the present by default."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Stay until nothing waits for data or another try.")]
Cycle = Annotated[str, typer.Option(help="Initial time of the cycle, in UTC.")]

FAILED, BAD, LATER = 1, 2, 3
_LONGEST_BACKFILL = 100_000  # cycles
_LONGEST_LOG = 2**28  # bytes


def _scheduler(path: Path, now: str | None = None) -> Any:
    from ..jobs.scheduler import Scheduler, clock_from, utc
    from ..jobs.spec import moment

    return Scheduler(path, utc if now is None else clock_from(moment(now)))


def _until_told(scheduler: Any) -> None:
    """Let the signals that end or reload a service do so in good order."""
    signal.signal(signal.SIGTERM, lambda *_: scheduler.stop())
    signal.signal(signal.SIGINT, lambda *_: scheduler.stop())
    signal.signal(signal.SIGHUP, lambda *_: scheduler.reload())


def _end(rows: list[Any], as_json: bool) -> None:
    """Say what became of the cycles, by text and by the exit code: 1 where one failed, 3 where one has to
    wait.
    """
    from ..jobs.masking import clean

    values = [
        {"job": row.job, "cycle": row.cycle, "state": row.state, "error": row.error, "output": row.output}
        for row in rows
    ]
    values = [clean(value) for value in values]
    lines = [
        f"{row['job']} {row['cycle']} {row['state']}{': ' + row['error'] if row['error'] else ''}"
        for row in values
    ]
    show(values, as_json, "\n".join(lines) or "nothing to do")
    states = {row.state for row in rows}
    if states & {"failed", "cancelled"}:
        raise typer.Exit(FAILED)
    if states - {"done", "removed"}:
        raise typer.Exit(LATER)


@jobs.command(name="run-due")
def run_due(path: File, now: Now = None, wait: Wait = False, as_json: Json = False) -> None:
    """Make what is due and end; for cron, timers and workflow managers.

    Example: forecast jobs run-due jobs.yaml
    """
    with reported():
        scheduler = _scheduler(path, now)
        _until_told(scheduler)
        rows = scheduler.run(until_ended=wait)
    _end(rows, as_json)


@jobs.command()
def serve(path: File) -> None:
    """Stay, and make each cycle as it falls due; SIGHUP reads the file again, SIGTERM ends it.

    Example: forecast jobs serve jobs.yaml
    """
    with reported():
        scheduler = _scheduler(path)
        _until_told(scheduler)
        scheduler.run(stay=True)


@jobs.command()
def run(path: File, name: Name, cycle: Cycle, wait: Wait = False, as_json: Json = False) -> None:
    """Make one cycle, due or not.

    Example: forecast jobs run jobs.yaml ncep --cycle 2014-06-01T06
    """
    _make(path, name, cycle, cycle, wait, as_json)


@jobs.command()
def backfill(
    path: File,
    name: Name,
    first: Annotated[str, typer.Option("--from", help="First cycle, in UTC.")],
    last: Annotated[str, typer.Option("--to", help="Last cycle, in UTC.")],
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Make the cycles of a past period that are not made yet.

    Example: forecast jobs backfill jobs.yaml ncep --from 2014-05-01 --to 2014-05-31T18
    """
    _make(path, name, first, last, wait, as_json)


def _make(path: Path, name: str, first: str, last: str, wait: bool, as_json: bool) -> None:
    with reported():
        from ..jobs.spec import moment, written

        scheduler = _scheduler(path)
        _until_told(scheduler)
        start, end = moment(first), moment(last)
        cycles = [
            written(cycle)
            for cycle in islice(scheduler.jobs.job(name).between(start, end), _LONGEST_BACKFILL + 1)
        ]
        if len(cycles) > _LONGEST_BACKFILL:
            raise ValueError(
                f"there are more than {_LONGEST_BACKFILL} cycles from {first} to {last}; make a shorter period at a time"
            )
        if not cycles:
            raise ValueError(
                f"job {name} has no cycle {first if first == last else f'from {first} to {last}'}; its cycles are those of its cron expression"
            )
        scheduler.ledger.insert(name, cycles, scheduler.clock())
        for cycle in cycles:  # it is asked for: what failed or was cancelled is tried anew
            if (row := scheduler.ledger.row(name, cycle)) is not None and row.state in (
                "failed",
                "cancelled",
            ):
                scheduler.ledger.reopen(name, cycle)
        rows = scheduler.run(until_ended=wait, only={(name, cycle) for cycle in cycles})
    _end(rows, as_json)


@jobs.command()
def status(
    path: File,
    now: Now = None,
    every: Annotated[bool, typer.Option("--all", help="All cycles.")] = False,
    as_json: Json = False,
) -> None:
    """Say how the jobs stand, and write the status page anew.

    Example: forecast jobs status jobs.yaml
    """
    with reported():
        from ..jobs.reports import as_text
        from ..jobs.reports import status as look

        scheduler = _scheduler(path, now)
        unwritable = scheduler.report()
        found = look(scheduler.jobs, scheduler.ledger, scheduler.clock(), None if every else 12)
    show(found, as_json, as_text(found))
    if unwritable:  # it is logged on standard error
        raise typer.Exit(BAD)


@jobs.command()
def retry(
    path: File,
    name: Name,
    cycle: Annotated[str | None, typer.Option(help="A cycle; all that failed by default.")] = None,
) -> None:
    """Let failed or cancelled cycles be tried anew by the next run.

    Example: forecast jobs retry jobs.yaml ncep
    """
    with reported():
        from ..jobs.spec import moment, written

        scheduler = _scheduler(path)
        scheduler.jobs.job(name)
        wanted = (
            [written(moment(cycle))]
            if cycle
            else [row.cycle for row in scheduler.ledger.rows(name, ("failed",))]
        )
        opened = [one for one in wanted if scheduler.ledger.reopen(name, one)]
        if cycle and not opened:
            row = scheduler.ledger.row(name, wanted[0])
            raise ValueError(
                f"cycle {cycle} of {name} {'is ' + row.state if row else 'is not in the ledger'}, so there is nothing to retry"
            )
        scheduler.report()
    show(opened, False, "\n".join(f"{name} {one} pending" for one in opened) or "nothing failed")


@jobs.command()
def cancel(path: File, name: Name, cycle: Cycle) -> None:
    """Cancel a cycle that is not published yet; one that runs is stopped within seconds.

    Example: forecast jobs cancel jobs.yaml ncep --cycle 2014-06-01T06
    """
    with reported():
        from ..jobs.spec import moment, written

        scheduler = _scheduler(path)
        scheduler.jobs.job(name)
        state = scheduler.ledger.cancel(name, written(moment(cycle)))
        if state not in ("cancelled", "running"):
            raise ValueError(
                f"cycle {cycle} of {name} is {state or 'not in the ledger'}, so it cannot be cancelled"
            )
        scheduler.report()
    show(state, False, f"{name} {cycle} {'is told to stop' if state == 'running' else state}")


@jobs.command()
def logs(
    path: File,
    name: Name,
    cycle: Annotated[str | None, typer.Option(help="A cycle; the last one worked on by default.")] = None,
) -> None:
    """Print the log of a cycle, a JSON object a line.

    Example: forecast jobs logs jobs.yaml ncep --cycle 2014-06-01T06
    """
    with reported():
        from ..jobs.files import kind_of, read_small
        from ..jobs.masking import mask
        from ..jobs.spec import moment, written
        from ..text import printable

        scheduler = _scheduler(path)
        scheduler.jobs.job(name)
        worked = [row for row in scheduler.ledger.rows(name) if row.started is not None]
        wanted = (
            written(moment(cycle))
            if cycle
            else max(worked, key=lambda row: row.started).cycle
            if worked
            else None
        )
        file = None if wanted is None else scheduler.log.path(name, wanted)
        if file is None or kind_of(file) is None:
            raise ValueError(
                f"there is no log of {name}{' ' + wanted if wanted else ''}; nothing was done yet"
            )
        text = mask(printable(read_small(file, _LONGEST_LOG).decode(errors="replace")))
    sys.stdout.write(text)
