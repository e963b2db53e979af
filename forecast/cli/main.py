"""The ``forecast`` command. Each verb calls one function; heavy imports wait until then."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import (
    Device,
    FollowLinks,
    Json,
    LeadUnits,
    Overrides,
    Overwrite,
    Verbs,
    refuse_unused,
    reported,
    show,
)
from .ingest import ingest
from .jobs import jobs

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
        from ..config.load import parse_arguments
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


@app.command()
def train(
    config: Annotated[
        str, typer.Argument(help="YAML file, or the name of a recipe that comes with the package.")
    ],
    overrides: Overrides = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Train a model; goes on by itself where an earlier run stopped.

    Example: forecast train ncep_temperature data.store=air.zarr train.epochs=20
    """
    with reported() as progress:
        from ...datasets.store.outputs import check_output
        from ..config.load import load_config
        from ..training import train as work

        resolved = load_config(config, overrides or [])
        check_output(resolved.output, "checkpoint")
        result = work(resolved, device, progress("train"))
    state = "was finished before" if result.already_done else "written"
    score = "" if result.best_score is None else f", {result.score} {result.best_score:.4g}"
    values = {
        "checkpoint": str(result.checkpoint),
        "already_done": result.already_done,
        result.score.replace(" ", "_"): result.best_score,
    }
    values |= {"comparison": result.comparison} if result.comparison else {}
    rows = [
        f"{kind}: {', '.join(f'{name} {value:.4g}' for name, value in row.items())}"
        for kind, row in result.comparison.items()
    ]
    show(values, as_json, "\n".join([f"{result.checkpoint} {state}{score}", *rows]))


@app.command()
def run(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="Folder that training made.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="Forecast to write: .nc for netCDF, .zarr or no ending for zarr."
        ),
    ],
    init: Annotated[Path | None, typer.Option(help="CF file or store that holds the input states.")] = None,
    time: Annotated[
        list[str] | None, typer.Option(help="Initial time, or START/STOP/STEP; the latest by default.")
    ] = None,
    lead: Annotated[str, typer.Option(help="How far, e.g. 72h or 10d.")] = "10d",
    grid: Annotated[
        str | None,
        typer.Option(
            help="Interpolate to this many degrees between points, on the model's kind of grid, or to HxW points "
            "(odd H: rows on the poles); TIMESxPLACES of a physics-informed network, e.g. 101x256."
        ),
    ] = None,
    refine: Annotated[
        int,
        typer.Option(
            help="Steps of test-time optimisation on the equation, of a solution operator.",
            min=0,
            max=100_000,
        ),
    ] = 0,
    area: Annotated[
        str | None,
        typer.Option(
            help="NORTH/WEST/SOUTH/EAST in degrees to keep, with longitudes as they will be written."
        ),
    ] = None,
    variables: Annotated[str | None, typer.Option(help="Variables to keep, separated by commas.")] = None,
    batch_size: Annotated[int, typer.Option(help="Initial times that are run together.", min=1)] = 32,
    members: Annotated[
        int, typer.Option(help="Members of an ensemble, from perturbed initial states.", min=1)
    ] = 1,
    seed: Annotated[
        int | None, typer.Option(help="Seed of an ensemble's perturbations; 0 by default.", min=0)
    ] = None,
    amplitude: Annotated[
        float | None,
        typer.Option(
            help="Size of an ensemble's perturbations, in standard deviations of the anomalies; 0.1 by default."
        ),
    ] = None,
    bounds: Annotated[
        bool,
        typer.Option(
            "--bounds/--no-bounds",
            help="Clip humidity, precipitation, fractions, ... to their physical bounds.",
        ),
    ] = True,
    clip: Annotated[
        list[str] | None,
        typer.Option(
            help="Bounds of a variable as NAME=LOW,HIGH, where either may be empty, e.g. q=0, instead of physical ones."
        ),
    ] = None,
    follow_links: FollowLinks = False,
    device: Device = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a forecast; resumes an interrupted run.

    Example: forecast run run/checkpoint --init air.zarr --time 2014-03-01T06 --lead 72h -o forecast.zarr
    """
    with reported() as progress:
        from ...datasets.store.outputs import check_output
        from ..checkpoint.meta import read_meta
        from ..inference.forecaster import load
        from ..inference.limits import describe_records, parse_clip, records
        from ..ingestion import parse_names
        from ..inspection import inspect as look
        from ..physics_runs import USED, run_physics
        from .display import describe

        used, why = USED.get(
            read_meta(checkpoint).get("kind", ""),
            (set(context.params) - {"refine"}, "only a solution operator is refined"),
        )
        refuse_unused(context, {"checkpoint", "output", "overwrite", "as_json", *used}, why)
        if check_output(output, "forecast").exists() and not overwrite:
            raise FileExistsError(f"{output} exists; pass --overwrite to replace it, or choose another name")
        solved = run_physics(
            checkpoint,
            init,
            grid,
            output,
            refine,
            device,
            overwrite,
            progress("run"),
            follow_links=follow_links,
        )
        if solved is not None:
            show(solved, as_json, f"{output}: {solved['solved']}")
            return
        if init is None:
            raise ValueError("--init is missing: name the CF file or store that holds the input states")
        with load(checkpoint, device).run(
            init,
            time,
            lead,
            grid,
            area,
            output,
            parse_names("variables", variables),
            batch_size,
            overwrite,
            progress("run"),
            members,
            seed=seed,
            amplitude=amplitude,
            bounds=bounds,
            clip=parse_clip(clip or []),
            follow_links=follow_links,
        ) as forecast:
            recorded = records(forecast)
        result = look(output)
    show(result | recorded, as_json, describe(result | describe_records(recorded)))


@app.command()
def verify(
    forecast: Annotated[str, typer.Argument(help="Forecast to score, of this or another package.")],
    truth: Annotated[Path, typer.Option(help="Store with the truth.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the scores to this netCDF file.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--report", help="Write a page of scores and maps to this HTML file.")
    ] = None,
    area: Annotated[
        str | None,
        typer.Option(help="NORTH/WEST/SOUTH/EAST in degrees to score; all common points by default."),
    ] = None,
    regrid: Annotated[
        bool, typer.Option("--regrid", help="Regrid the finer of forecast and truth to the coarser grid.")
    ] = False,
    lead_units: LeadUnits = None,
    follow_links: FollowLinks = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Score a forecast against truth, persistence, damped persistence and climatology; solutions of an
    operator by their relative error.

    Example: forecast verify forecast.zarr --truth air.zarr -o scores.nc --report report.html
    """
    with reported() as progress, ExitStack() as stack:
        from ...datasets.store.atomic import reserved
        from ..solutions import is_solution, report

        if page is not None:  # before the scores are computed
            stack.enter_context(reserved(page, "report", overwrite, [forecast, truth]))
        if is_solution(forecast, follow_links=follow_links):
            if area is not None or regrid or lead_units is not None:
                raise ValueError(
                    "solutions of an operator are scored as they are; leave out --area, --regrid and --lead-units"
                )
            if page is not None:
                raise ValueError(
                    "solutions of an operator have no report, which shows forecasts by lead time; leave out --report"
                )
            found = report(forecast, truth, output, overwrite, follow_links=follow_links)
            show(found, as_json, "\n".join(f"{name}: {value:.4g}" for name, value in found.items()))
            return
        from ..verification.verify import notes, summary
        from ..verification.verify import verify as work
        from .display import score_table

        where: dict[str, Any] = {
            "area": area,
            "regrid": regrid,
            "lead_units": lead_units,
            "follow_links": follow_links,
        }
        scores = work(forecast, truth, output, overwrite=overwrite, progress=progress("verify"), **where)
        rows = summary(scores)
        if page is not None:
            from ..verification.report import write_report

            write_report(forecast, truth, scores, page, overwrite=overwrite, **where)
    for note in notes(scores):
        print(f"forecast: {note}", file=sys.stderr)
    if scores.attrs["overlaps_training_period"]:
        print(
            "forecast: some initial times lie in the training period: these scores flatter the model",
            file=sys.stderr,
        )
    show(rows, as_json, score_table(rows))


@app.command()
def plot(
    forecast: Annotated[str, typer.Argument(help="Forecast to draw, of this or another package.")],
    variable: Annotated[str, typer.Option(help="Variable to draw.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Picture to make: .png, .pdf or .svg.")],
    lead: Annotated[str, typer.Option(help="Lead time, e.g. 24h.")] = "24h",
    time: Annotated[str | None, typer.Option(help="Initial time; the first by default.")] = None,
    level: Annotated[int | None, typer.Option(help="Pressure in hPa, for variables with levels.")] = None,
    truth: Annotated[Path | None, typer.Option(help="Store to compare with: adds truth and error.")] = None,
    area: Annotated[str | None, typer.Option(help="NORTH/WEST/SOUTH/EAST in degrees to draw.")] = None,
    regrid: Annotated[
        bool, typer.Option("--regrid", help="Regrid the finer of forecast and truth to the coarser grid.")
    ] = False,
    lead_units: LeadUnits = None,
    follow_links: FollowLinks = False,
    overwrite: Overwrite = False,
) -> None:
    """Draw a map, offline, with coastlines.

    Example: forecast plot forecast.zarr --variable air --lead 24h --truth air.zarr -o map.png
    """
    with reported():
        from ..verification.plots import plot as work

        picture = work(
            forecast,
            variable,
            lead,
            output,
            truth,
            time,
            level,
            overwrite,
            area=area,
            regrid=regrid,
            lead_units=lead_units,
            follow_links=follow_links,
        )
        show(str(picture), False, str(picture))


@app.command(name="import", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def import_(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="File of published weights.")],
    format: Annotated[str, typer.Option(help="fourcastnet, neuraloperator or physicsnemo.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Checkpoint to make.")],
    config: Annotated[Path | None, typer.Option(help="YAML with what the file does not hold.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a checkpoint of published weights. What the file does not hold follows as KEY=VALUE or --key
    VALUE.

    Example: forecast import backbone.ckpt --format fourcastnet -o fourcastnet --inp-shape 720,1440
    """
    with reported():
        from ..config.load import parse_arguments
        from ..inspection import inspect as look
        from ..interop import import_network
        from .display import describe

        import_network(source, format, output, parse_arguments(context.args), config, overwrite)
        result = look(output)
    show(result, as_json, describe(result))


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder that training or import made.")],
    format: Annotated[str, typer.Option(help="torch-export or onnx.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to make.")],
    size: Annotated[
        str | None, typer.Option(help="Grid points, e.g. 64,128; those of training by default.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write the network of a checkpoint for serving elsewhere, compared with the original.

    Example: forecast export run/checkpoint --format onnx -o model.onnx
    """
    with reported():
        from ..interop import export as work
        from .display import describe

        try:
            sizes = [int(n) for n in size.split(",")] if size else None
        except ValueError:
            raise ValueError(f"--size {size} is not understood; write e.g. --size 64,128") from None
        result = work(checkpoint, format, output, sizes, overwrite)  # type: ignore[arg-type]
    show(result, as_json, describe(result))


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
