"""The ``forecast`` command. Each verb calls one function; heavy imports wait until then."""

from pathlib import Path
from typing import Annotated

import typer

from .console import (
    Device,
    FollowLinks,
    Json,
    LeadUnits,
    Overrides,
    Overwrite,
    Verbs,
    reported,
    show,
)
from .ingest import ingest
from .jobs import jobs
from .models import export, import_, run, train
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
        Path | None, typer.Option(help="CF file or zarr store to work on; else a sample.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for everything that is made.")] = Path("quickstart"),
    device: Device = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over instead of skipping what is done.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The main job in minutes: sample, ingest, train, run, verify, plot.

    Example: forecast quickstart --data air.nc --out demo train.epochs=5
    """
    with reported() as progress:
        from ...datasets.store.outputs import check_output
        from ..quickstart import quickstart as work
        from .display import score_table
        from .process import keep_freed_memory

        keep_freed_memory()
        check_output(out, "checkpoint")
        result = work(data, out, overrides or [], device, fresh, progress)
    first = result["scores"][0]
    simulated = (
        "\nThe data are SIMULATED, not observations: these scores say nothing about the weather."
        if result["simulated"]
        else ""
    )
    extra = "" if first["level"] is None else f" --level {first['level']}"
    line = (
        f"Next, a map of any lead and initial time:\n"
        f"  forecast plot {out}/forecast.zarr --variable {first['variable']}{extra} --lead {result['scores'][-1]['lead_hours']:g}h "
        f"--truth {out}/store.zarr -o {out}/last_lead.png"
    )
    show(
        result,
        as_json,
        f"\n{score_table(result['scores'])}{simulated}\n\nMaps and scores are in {out}/.\n{line}",
    )


app.command()(ingest)
app.add_typer(jobs, name="jobs")


@app.command()
def simulate(
    system: Annotated[
        str,
        typer.Argument(help="What to simulate, e.g. burgers or navier_stokes; docs/physics.md lists all."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Store to make.")],
    parameters: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="samples, seed, resolution and the system's own parameters."
        ),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Dask scheduler's address, or local:N for N processes.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Solve an equation numerically for training and tests; goes on by itself where an earlier run stopped.

    Example: forecast simulate navier_stokes -o ns.zarr samples=20 resolution=64 viscosity=1e-3 duration=20
        seed=0
    """
    with reported() as progress:
        from ...datasets.pde.simulate import simulate as work
        from ..config.source import parse_arguments
        from ..inspection import inspect as look
        from .display import describe

        given = parse_arguments(parameters or [])
        counts = {name: given.pop(name) for name in ("samples", "seed") if name in given}
        if wrong := [
            f"{name}={value}"
            for name, value in counts.items()
            if not isinstance(value, int) or isinstance(value, bool)
        ]:
            raise ValueError(f"{wrong[0]} is not a whole number")
        work(
            system,
            output,
            given,
            **counts,
            scheduler=scheduler,
            overwrite=overwrite,
            progress=progress("simulate"),
        )
        result = look(output)
    show(result, as_json, describe(result))


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="Store, checkpoint, forecast or CF file.")],
    lead_units: LeadUnits = None,
    follow_links: FollowLinks = False,
    as_json: Json = False,
) -> None:
    """Say what a store, checkpoint or forecast is.

    Example: forecast inspect quickstart/checkpoint
    """
    with reported():
        from ..inspection import inspect as look
        from .display import describe

        result = look(path, lead_units, follow_links=follow_links)
    show(result, as_json, describe(result))


for _verb in (train, run, verify, plot):
    app.command()(_verb)
app.command(name="import", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    import_
)
app.command()(export)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say whether this machine is fit to run: versions, device, threads, transforms.

    Example: forecast doctor
    """
    with reported():
        from ..doctor import doctor as look
        from .display import describe

        result = look()
    show(result, as_json, describe(result))
    if result["problems"]:
        raise typer.Exit(1)


def main() -> None:
    """Run the command."""
    app(prog_name="forecast")
