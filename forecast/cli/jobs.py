"""The verbs of ``forecast jobs``: scheduled forecasts."""

import signal
import sys
from collections.abc import Sequence
from enum import IntEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import Json, reported, show

if TYPE_CHECKING:
    from ..jobs.records import CycleRecord
    from ..jobs.scheduler import Scheduler

jobs = typer.Typer(
    help="Scheduled forecasts: one for every cycle, published once it is complete.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

File = Annotated[Path, typer.Argument(metavar="JOBS", help="Jobs file.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a job.")]
Now = Annotated[
    str | None,
    typer.Option(help="Time at which the schedule's clock starts, in UTC; the current time by default."),
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Continue until no cycle waits for data or another attempt.")
]
Cycle = Annotated[str, typer.Option(help="Initial time of the cycle, in UTC.")]

_LONGEST_BACKFILL = 100_000  # cycles
_LONGEST_LOG = 2**28  # bytes


class ExitCode(IntEnum):
    """Exit codes of the verbs that run jobs."""

    FAILED = 1  # a cycle failed or was cancelled
    BAD_INPUT = 2
    UNFINISHED = 3  # a cycle waits for its data or for another attempt


def _scheduler(path: Path, now: str | None = None, *, defer_model_checks: bool = False) -> "Scheduler":
    from ..jobs.scheduler import Scheduler
    from ..jobs.times import clock_from, parse_time, utc

    clock = utc if now is None else clock_from(parse_time(now))
    return Scheduler(path, clock, defer_model_checks=defer_model_checks)


def _handle_signals(scheduler: "Scheduler") -> None:
    """Let the signals that end or reload a service do so in good order."""
    signal.signal(signal.SIGTERM, lambda *_: scheduler.stop())
    signal.signal(signal.SIGINT, lambda *_: scheduler.stop())
    signal.signal(signal.SIGHUP, lambda *_: scheduler.reload())


def _finish(records: Sequence["CycleRecord"], *, as_json: bool) -> None:
    """Print the cycles that were worked on, and exit with the code for their states."""
    from ..jobs.masking import clean
    from ..jobs.states import CycleState

    values = [
        clean(
            {
                "job": record.job,
                "cycle": record.cycle,
                "state": record.state,
                "error": record.error,
                "output": record.output,
            }
        )
        for record in records
    ]
    lines = [
        f"{value['job']} {value['cycle']} {value['state']}{': ' + value['error'] if value['error'] else ''}"
        for value in values
    ]
    show(values, as_json, "\n".join(lines) or "nothing to do")
    states = {record.state for record in records}
    if states & {CycleState.FAILED, CycleState.CANCELLED}:
        raise typer.Exit(ExitCode.FAILED)
    if states - {CycleState.DONE, CycleState.REMOVED}:
        raise typer.Exit(ExitCode.UNFINISHED)


@jobs.command(name="run-due")
def run_due(path: File, now: Now = None, wait: Wait = False, as_json: Json = False) -> None:
    """Run the forecasts that are due and exit; for cron, timers and workflow managers.

    Example: forecast jobs run-due jobs.yaml
    """
    with reported():
        scheduler = _scheduler(path, now, defer_model_checks=True)
        _handle_signals(scheduler)
        records = scheduler.run(until_ended=wait)
    _finish(records, as_json=as_json)


@jobs.command()
def serve(path: File) -> None:
    """Keep running, and run each forecast when it is due.

    SIGHUP reloads the jobs file, SIGTERM stops the service.

    Example: forecast jobs serve jobs.yaml
    """
    with reported():
        scheduler = _scheduler(path)
        _handle_signals(scheduler)
        scheduler.run(stay=True)


@jobs.command()
def run(path: File, name: Name, cycle: Cycle, wait: Wait = False, as_json: Json = False) -> None:
    """Run the forecast of one cycle, due or not.

    Example: forecast jobs run jobs.yaml ncep --cycle 2014-06-01T06
    """
    _run_period(path, name, first=cycle, last=cycle, wait=wait, as_json=as_json)


@jobs.command()
def backfill(
    path: File,
    name: Name,
    first: Annotated[str, typer.Option("--from", help="First cycle, in UTC.")],
    last: Annotated[str, typer.Option("--to", help="Last cycle, in UTC.")],
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Run the missing, failed and cancelled forecasts of a period.

    Example: forecast jobs backfill jobs.yaml ncep --from 2014-05-01 --to 2014-05-31T18
    """
    _run_period(path, name, first=first, last=last, wait=wait, as_json=as_json)


def _run_period(path: Path, name: str, *, first: str, last: str, wait: bool, as_json: bool) -> None:
    """Run the forecasts of all cycles of a period, both ends included."""
    with reported():
        from ..jobs.states import CycleState
        from ..jobs.times import format_cycle, parse_time

        scheduler = _scheduler(path)
        _handle_signals(scheduler)
        period = scheduler.jobs.job(name).cycles_between(parse_time(first), parse_time(last))
        cycles = [format_cycle(cycle) for cycle in islice(period, _LONGEST_BACKFILL + 1)]
        if len(cycles) > _LONGEST_BACKFILL:
            raise ValueError(
                f"there are more than {_LONGEST_BACKFILL} cycles from {first} to {last}; "
                "make a shorter period at a time"
            )
        if not cycles:
            raise ValueError(
                f"job {name} has no cycle {first if first == last else f'from {first} to {last}'}; "
                "its cycles are those of its cron expression"
            )
        scheduler.ledger.insert(name, cycles, scheduler.clock())
        for cycle in cycles:  # an explicit request includes what failed or was cancelled
            record = scheduler.ledger.record(name, cycle)
            if record is not None and record.state in (CycleState.FAILED, CycleState.CANCELLED):
                scheduler.ledger.reopen(name, cycle)
        records = scheduler.run(until_ended=wait, only={(name, cycle) for cycle in cycles})
    _finish(records, as_json=as_json)


@jobs.command()
def status(
    path: File,
    now: Now = None,
    every: Annotated[bool, typer.Option("--all", help="Show all cycles.")] = False,
    as_json: Json = False,
) -> None:
    """Print the state of the jobs and of their latest cycles, and rewrite the status page.

    Example: forecast jobs status jobs.yaml
    """
    with reported():
        from ..jobs.status import format_table, read_status

        scheduler = _scheduler(path, now)
        page_error = scheduler.report()
        present = read_status(
            scheduler.jobs, scheduler.ledger, scheduler.clock(), cycles=None if every else 12
        )
    show(present.to_dict(), as_json, format_table(present))
    if page_error:  # it is logged on standard error
        raise typer.Exit(ExitCode.BAD_INPUT)


@jobs.command()
def retry(
    path: File,
    name: Name,
    cycle: Annotated[
        str | None, typer.Option(help="Initial time of the cycle, in UTC; all failed cycles by default.")
    ] = None,
) -> None:
    """Let the next run retry failed or cancelled cycles.

    Example: forecast jobs retry jobs.yaml ncep
    """
    with reported():
        from ..jobs.states import CycleState
        from ..jobs.times import format_cycle, parse_time

        scheduler = _scheduler(path)
        scheduler.jobs.job(name)
        if cycle:
            cycles = [format_cycle(parse_time(cycle))]
        else:
            cycles = [record.cycle for record in scheduler.ledger.records(name, [CycleState.FAILED])]
        reopened = [one for one in cycles if scheduler.ledger.reopen(name, one)]
        if cycle and not reopened:
            record = scheduler.ledger.record(name, cycles[0])
            state = f"is {record.state}" if record else "is not in the ledger"
            raise ValueError(f"cycle {cycle} of {name} {state}, so there is nothing to retry")
        scheduler.report()
    show(reopened, False, "\n".join(f"{name} {one} pending" for one in reopened) or "nothing failed")


@jobs.command()
def cancel(path: File, name: Name, cycle: Cycle) -> None:
    """Cancel a cycle that is not published yet; a running one is stopped within seconds.

    Example: forecast jobs cancel jobs.yaml ncep --cycle 2014-06-01T06
    """
    with reported():
        from ..jobs.states import CycleState
        from ..jobs.times import format_cycle, parse_time

        scheduler = _scheduler(path)
        scheduler.jobs.job(name)
        state = scheduler.ledger.cancel(name, format_cycle(parse_time(cycle)))
        if state not in (CycleState.CANCELLED, CycleState.RUNNING):
            raise ValueError(
                f"cycle {cycle} of {name} is {state or 'not in the ledger'}, so it cannot be cancelled"
            )
        scheduler.report()
    outcome = "is being stopped" if state is CycleState.RUNNING else state
    show(state, False, f"{name} {cycle} {outcome}")


@jobs.command()
def logs(
    path: File,
    name: Name,
    cycle: Annotated[
        str | None,
        typer.Option(help="Initial time of the cycle, in UTC; by default the cycle that started last."),
    ] = None,
) -> None:
    """Print the log of a cycle, one JSON object per line.

    Example: forecast jobs logs jobs.yaml ncep --cycle 2014-06-01T06
    """
    with reported():
        from ..jobs.files import kind_of, read_small
        from ..jobs.masking import mask
        from ..jobs.times import format_cycle, parse_time
        from ..text import printable

        scheduler = _scheduler(path)
        scheduler.jobs.job(name)
        started = {record.cycle: record.started or 0.0 for record in scheduler.ledger.records(name)}
        started = {one: time for one, time in started.items() if time}
        if cycle:
            shown = format_cycle(parse_time(cycle))
        else:
            shown = max(started, key=lambda one: started[one], default="")
        file = scheduler.log.path(name, shown) if shown else None
        if file is None or kind_of(file) is None:
            raise ValueError(f"there is no log of {name}{' ' + shown if shown else ''}; nothing was done yet")
        text = mask(printable(read_small(file, _LONGEST_LOG).decode(errors="replace")))
    sys.stdout.write(text)
