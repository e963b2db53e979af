"""The verbs that train and run models: train, run, import, export."""

from pathlib import Path
from typing import Annotated

import typer

from .arguments import parse_time_limit
from .console import (
    Device,
    FollowLinks,
    Json,
    Overrides,
    Overwrite,
    Trust,
    end_process,
    option_values,
    refuse_options,
    reported,
    show,
    show_summary,
    trusted,
)

_RUN_OPTIONS = ("checkpoint", "output", "device", "overwrite", "as_json", "trust")


def train(
    config: Annotated[str, typer.Argument(help="YAML file, or the name of a packaged recipe.")],
    overrides: Overrides = None,
    time_limit: Annotated[
        str | None,
        typer.Option(
            help="Save the state, stop and exit with 75 before this time is over, e.g. 3:50:00 or 230min; "
            "the same command resumes."
        ),
    ] = None,
    fork: Annotated[
        Path | None,
        typer.Option(
            metavar="NEW_OUTPUT",
            help="Folder of a new run that starts from the weights of the run in the output.",
        ),
    ] = None,
    multirun: Annotated[
        bool,
        typer.Option("-m", "--multirun", help="Train for each combination of lists, e.g. train.seed=1,2,3."),
    ] = False,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Dask scheduler for the runs of -m: an address, or local:N for N processes."),
    ] = None,
    device: Device = None,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Train a model; resumes an interrupted run.

    Example: forecast train ncep_temperature data.store=air.zarr train.epochs=20
    """
    if multirun:
        if time_limit is not None or fork is not None:
            with reported():
                raise ValueError("--time-limit and --fork apply to a single run; leave out these, or -m")
        _sweep(config, overrides or [], scheduler=scheduler, device=device, trust=trust, as_json=as_json)
        return
    with reported() as progress, trusted(trust):
        from ...datasets.store.outputs import check_output
        from ..interruption import ending_process
        from ..tasks.dispatch import load_config
        from ..tasks.dispatch import train as run_training
        from .process import is_first_process, keep_freed_memory, quiet_unless_first

        keep_freed_memory()
        quiet_unless_first()
        if scheduler is not None:
            raise ValueError("--scheduler distributes the runs of a sweep; add -m, or leave it out")
        limit = parse_time_limit(time_limit)
        resolved = load_config(config, overrides or [])
        check_output(resolved.output if fork is None else fork, "checkpoint")
        with ending_process(end_process):
            shown = progress("train") if is_first_process() else None
            result = run_training(resolved, device, shown, time_limit=limit, fork=fork)
    if not is_first_process():
        return
    state = "had already finished" if result.already_done else "written"
    score = "" if result.best_score is None else f", {result.score} {result.best_score:.4g}"
    rows = [
        f"{kind}: {', '.join(f'{n} {v:.4g}' for n, v in row.items() if v is not None) or 'not validated'}"
        for kind, row in result.comparison.items()
    ]
    show(result.to_dict(), as_json, "\n".join([f"{result.checkpoint} {state}{score}", *rows]))


def finetune(
    checkpoint: Annotated[
        Path, typer.Argument(help="Checkpoint to start from: a forecast model, or an import.")
    ],
    overrides: Overrides = None,
    device: Device = None,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Train a model from the weights of another, on other data, variables or rollouts; resumes a run.

    Example: forecast finetune run/checkpoint output=tuned train.epochs=5 train.rollout_steps=4
    """
    with reported() as progress, trusted(trust):
        from ..tasks.dispatch import finetune as run_finetuning
        from .process import is_first_process, keep_freed_memory, quiet_unless_first

        keep_freed_memory()
        quiet_unless_first()
        shown = progress("finetune") if is_first_process() else None
        result = run_finetuning(checkpoint, overrides or [], device=device, progress=shown)
    if not is_first_process():
        return
    state = "had already finished" if result.already_done else "written"
    score = "" if result.best_score is None else f", {result.score} {result.best_score:.4g}"
    show(result.to_dict(), as_json, f"{result.checkpoint} {state}{score}")


def _sweep(
    config: str,
    overrides: list[str],
    *,
    scheduler: str | None,
    device: str | None,
    trust: list[Path] | None,
    as_json: bool,
) -> None:
    """Train for each combination of values, and print a table; exits with 2 if a run failed."""
    with reported() as progress, trusted(trust):
        from ..sweep import RunState, sweep, sweep_table
        from .failures import BAD_INPUT
        from .process import keep_freed_memory

        keep_freed_memory()
        runs = sweep(
            config,
            overrides,
            scheduler=scheduler,
            device=device,
            trust=trust or (),
            progress=progress("sweep"),
        )
    show([run.to_dict() for run in runs], as_json, sweep_table(runs))
    if any(run.state is RunState.FAILED for run in runs):
        raise typer.Exit(BAD_INPUT)


def check(
    source: Annotated[
        str, typer.Argument(metavar="CONFIG|CHECKPOINT", help="YAML file, recipe, or folder of a checkpoint.")
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STORE] [KEY=VALUE]...",
            help="Store to train on or to start from, and overrides of the configuration.",
        ),
    ] = None,
    device: Device = None,
    probe: Annotated[
        float, typer.Option(help="Seconds for which training steps are timed; 0 times none.", min=0, max=600)
    ] = 8.0,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Check a configuration or checkpoint against its data and this machine, without training.

    Lists all mismatches, and memory, time and volume of data; exits with 2 if the run cannot start.

    Example: forecast check ncep_temperature air.zarr train.batch_size=64
    """
    with reported(), trusted(trust):
        from ..tasks.dispatch import check as run_check
        from .display import describe
        from .failures import BAD_INPUT
        from .process import keep_freed_memory

        keep_freed_memory()
        words = list(arguments or [])
        store = words.pop(0) if words and "=" not in words[0] else None
        report = run_check(source, store, words, device=device, probe_seconds=probe)
    notes = [f"note: {note}" for note in report.notes]
    verdict = [f"problem: {problem}" for problem in report.problems] or ["no problems"]
    show(report.to_dict(), as_json, "\n".join([describe(report.lines()), *notes, *verdict]))
    if not report.ready:
        raise typer.Exit(BAD_INPUT)


def run(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the checkpoint.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="Forecast to write: .nc for netCDF, .zarr or no extension for zarr."
        ),
    ],
    init: Annotated[Path | None, typer.Option(help="CF file or store with the initial states.")] = None,
    time: Annotated[
        list[str] | None,
        typer.Option(help="Initial time, or START/STOP/STEP; repeatable; the latest by default."),
    ] = None,
    lead: Annotated[str, typer.Option(help="Lead time, e.g. 72h or 10d.")] = "10d",
    grid: Annotated[
        str | None,
        typer.Option(
            help="Output grid: degrees between points on the model's kind of grid, or HxW points "
            "(odd H: rows on the poles); of a physics-informed network: TIMESxPOINTS, e.g. 101x256."
        ),
    ] = None,
    refine: Annotated[
        int,
        typer.Option(
            help="Steps of test-time optimisation that refine each solution of an operator on the equation.",
            min=0,
            max=100_000,
        ),
    ] = 0,
    area: Annotated[
        str | None,
        typer.Option(
            help="Area to keep, NORTH/WEST/SOUTH/EAST in degrees, with longitudes as wanted in the output."
        ),
    ] = None,
    variables: Annotated[str | None, typer.Option(help="Variables to keep, separated by commas.")] = None,
    batch_size: Annotated[
        int, typer.Option(help="Number of initial times that are run together.", min=1)
    ] = 32,
    members: Annotated[
        int, typer.Option(help="Number of ensemble members, from perturbed initial states.", min=1)
    ] = 1,
    seed: Annotated[int | None, typer.Option(help="Seed of the perturbations; 0 by default.", min=0)] = None,
    amplitude: Annotated[
        float | None,
        typer.Option(
            help="Amplitude of the perturbations in standard deviations of the anomalies; 0.1 by default."
        ),
    ] = None,
    bounds: Annotated[
        bool,
        typer.Option(
            "--bounds/--no-bounds",
            help="Clip humidity, precipitation, fractions etc. to their physical bounds.",
        ),
    ] = True,
    clip: Annotated[
        list[str] | None,
        typer.Option(help="Bounds of a variable as NAME=LOW,HIGH, either of which may be empty, e.g. q=0."),
    ] = None,
    follow_links: FollowLinks = False,
    device: Device = None,
    overwrite: Overwrite = False,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Run a forecast; resumes an interrupted run.

    Example: forecast run run/checkpoint --init air.zarr --time 2014-03-01T06 --lead 72h -o forecast.zarr
    """
    with reported() as progress, trusted(trust):
        from ...datasets.errors import OutputExistsError
        from ...datasets.store.outputs import check_output
        from ..checkpoint.folder import StoredCheckpoint
        from ..tasks.registry import get_task

        stored = StoredCheckpoint.open(checkpoint)
        stored.verify()
        task = get_task(stored.task)
        refuse_options(context, {*_RUN_OPTIONS, *task.run_options}, task.title)
        if check_output(output, "forecast").exists() and not overwrite:
            raise OutputExistsError(f"{output} exists; overwrite it, or choose another name")
        arguments = task.run_arguments(option_values(context))
        model = task.load(stored, device)
        dataset = model.run(output=output, overwrite=overwrite, progress=progress("run"), **arguments)
        with dataset:
            summary = task.summarise_run(dataset, output)
    show_summary(summary, as_json)


def import_(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="File of published weights.")],
    format: Annotated[str, typer.Option(help="Format: fourcastnet, neuraloperator or physicsnemo.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Checkpoint to write.")],
    config: Annotated[Path | None, typer.Option(help="YAML file with arguments of the network.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Import published weights; arguments of the network follow as KEY=VALUE or --key VALUE.

    Example: forecast import backbone.ckpt --format fourcastnet -o fourcastnet --inp-shape 720,1440
    """
    with reported():
        from ..config.source import parse_arguments
        from ..inspection import inspect as run_inspect
        from ..interop import import_network
        from .display import describe

        arguments = parse_arguments(context.args)
        import_network(source, format, output, arguments=arguments, config=config, overwrite=overwrite)
        result = run_inspect(output).to_dict()
    show(result, as_json, describe(result))


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the checkpoint.")],
    format: Annotated[str, typer.Option(help="Format: torch-export or onnx.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    size: Annotated[
        str | None, typer.Option(help="Grid points H,W, e.g. 64,128; those of training by default.")
    ] = None,
    overwrite: Overwrite = False,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Export the network of a checkpoint for other runtimes, and compare its output with the original.

    Example: forecast export run/checkpoint --format onnx -o model.onnx
    """
    with reported(), trusted(trust):
        from ..interop import export as run_export
        from .display import describe

        try:
            sizes = [int(n) for n in size.split(",")] if size else None
        except ValueError:
            raise ValueError(f"--size {size} is not understood; write e.g. --size 64,128") from None
        result = run_export(checkpoint, format, output, size=sizes, overwrite=overwrite)  # type: ignore[arg-type]
        values = result.to_dict()
    show(values, as_json, describe(values))
