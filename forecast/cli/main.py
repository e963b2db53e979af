"""The ``forecast`` command. Each verb calls one function; heavy imports are deferred until then."""

from pathlib import Path
from typing import Annotated

import typer

from ... import __version__
from .config import config
from .console import (
    Device,
    FollowLinks,
    Json,
    LeadUnits,
    Overrides,
    Overwrite,
    Trust,
    Verbs,
    reported,
    show,
    trusted,
)
from .ingest import ingest
from .jobs import jobs
from .models import check, export, finetune, import_, run, train
from .scores import plot, verify

app = typer.Typer(
    cls=Verbs,
    help="Neural-operator weather and fluid forecasting: from a zarr store to a scored forecast.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command()
def quickstart(
    overrides: Overrides = None,
    data: Annotated[
        Path | None, typer.Option(help="CF file or zarr store; a sample data set by default.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("quickstart"),
    device: Device = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over instead of skipping completed stages.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the whole workflow in minutes: sample data, ingest, train, run, verify, plot.

    Example: forecast quickstart --data air.nc --out demo train.epochs=5
    """
    with reported() as progress:
        from ...datasets.store.outputs import check_output
        from ..quickstart import quickstart as run_quickstart
        from .display import score_table
        from .process import keep_freed_memory

        keep_freed_memory()
        check_output(out, "checkpoint")
        result = run_quickstart(data, out, overrides or [], device=device, fresh=fresh, progress=progress)
    values = result.to_dict()
    first = result.scores[0]
    last = result.scores[-1]
    simulated = (
        "\nThe data are SIMULATED: these scores do not measure skill at forecasting the weather."
        if result.simulated
        else ""
    )
    extra = "" if first.level is None else f" --level {first.level}"
    suggestion = (
        "Next, a map of any lead and initial time:\n"
        f"  forecast plot {out}/forecast.zarr --variable {first.variable}{extra} --lead {last.lead_hours:g}h "
        f"--truth {out}/store.zarr -o {out}/last_lead.png"
    )
    show(
        values,
        as_json,
        f"\n{score_table(values['scores'])}{simulated}\n\nMaps and scores are in {out}/.\n{suggestion}",
    )


def _print_version(requested: bool) -> None:
    if requested:
        print(f"fourcaster {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Neural-operator weather and fluid forecasting: from a zarr store to a scored forecast."""


app.command()(ingest)
app.add_typer(jobs, name="jobs")
app.add_typer(config, name="config")


@app.command()
def simulate(
    system: Annotated[
        str,
        typer.Argument(help="System to simulate, e.g. burgers or navier_stokes; docs/physics.md lists all."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Store to write.")],
    parameters: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="samples, seed, resolution and the parameters of the system."
        ),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, or local:N for N processes.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Solve an equation numerically for training and tests; resumes an interrupted run.

    Example: forecast simulate navier_stokes -o ns.zarr samples=20 resolution=64 viscosity=1e-3 duration=20
        seed=0
    """
    with reported() as progress:
        from ...datasets.pde.simulate import simulate as run_simulate
        from ..config.source import parse_arguments
        from ..inspection import inspect as run_inspect
        from .display import describe

        arguments = parse_arguments(parameters or [])
        counts = {name: arguments.pop(name) for name in ("samples", "seed") if name in arguments}
        if wrong := [
            f"{name}={value}"
            for name, value in counts.items()
            if not isinstance(value, int) or isinstance(value, bool)
        ]:
            raise ValueError(f"{wrong[0]} is not an integer")
        run_simulate(
            system,
            output,
            arguments,
            **counts,
            scheduler=scheduler,
            overwrite=overwrite,
            progress=progress("simulate"),
        )
        result = run_inspect(output).to_dict()
    show(result, as_json, describe(result))


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="Store, training run, checkpoint, forecast or CF file.")],
    lead_units: LeadUnits = None,
    follow_links: FollowLinks = False,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Describe a store, checkpoint, forecast or file, or the state of a training run.

    Example: forecast inspect quickstart/checkpoint
    """
    with reported(), trusted(trust):
        from ..inspection import inspect as run_inspect
        from ..monitoring.run import RunSummary
        from .display import describe

        summary = run_inspect(path, lead_units, follow_links=follow_links)
        values = summary.to_dict()
        lines = summary.lines() if isinstance(summary, RunSummary) else values
    show(values, as_json, describe(lines))


for _verb in (check, train, finetune, run, verify, plot):
    app.command()(_verb)
app.command(name="import", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    import_
)
app.command()(export)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine: versions, device, threads, accuracy of the transforms.

    Example: forecast doctor
    """
    with reported():
        from ..doctor import doctor as run_doctor
        from .display import describe

        report = run_doctor()
        values = report.to_dict()
    show(values, as_json, describe(values))
    if report.problems:
        raise typer.Exit(1)


def main() -> None:
    """Run the command."""
    app(prog_name="forecast")
