"""The verb ``ingest``."""

from pathlib import Path
from typing import Annotated

import typer

from .arguments import parse_hours, parse_levels, parse_names, parse_pairs
from .console import FollowLinks, Json, Overwrite, reported, show


def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC...", help="netCDF, HDF5 or GRIB files or patterns; zarr stores or their URLs."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Store to write.")],
    variables: Annotated[str | None, typer.Option(help="Variables to keep, separated by commas.")] = None,
    levels: Annotated[
        str | None,
        typer.Option(
            help="Pressure levels in hPa to keep, or to interpolate hybrid levels to, separated by commas."
        ),
    ] = None,
    times: Annotated[str | None, typer.Option(help="Period to keep, e.g. 2013 or 2010-01:2013-06.")] = None,
    step: Annotated[str | None, typer.Option(help="Time step to keep, e.g. 6h or 1d.")] = None,
    area: Annotated[str | None, typer.Option(help="Area to keep, NORTH/WEST/SOUTH/EAST in degrees.")] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(help="Position to select along any other axis, as NAME=VALUE, e.g. depth=0.5."),
    ] = None,
    member: Annotated[int | None, typer.Option(help="Member of an ensemble to keep.")] = None,
    units: Annotated[
        list[str] | None, typer.Option(help="Units of a variable that has none or wrong ones, as NAME=UNITS.")
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option(help="New name of a variable, as OLD=NEW, e.g. tas=t2m.")
    ] = None,
    static: Annotated[
        list[str] | None,
        typer.Option(
            help="Time-invariant variable with a time axis in its file; orography and masks are recognised."
        ),
    ] = None,
    layout: Annotated[str | None, typer.Option(help="Layout of the source; recognised by default.")] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            help="Target grid: degrees between points, HxW points, or a store; needed for map projections."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Regridding: conservative (the default), bilinear or spectral (not for map projections)."
        ),
    ] = None,
    train_period: Annotated[
        str | None,
        typer.Option(help="Training period, on which statistics are computed, e.g. 2013 or 2010-01:2013-06."),
    ] = None,
    allow_gaps: Annotated[
        bool, typer.Option("--allow-gaps", help="Record gaps in time instead of raising an error.")
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Read missing chunks of a zarr source as fill values.")
    ] = False,
    follow_links: FollowLinks = False,
    memory: Annotated[str, typer.Option(help="Memory limit, e.g. 4GiB.")] = "2GiB",
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, or local:N for N processes.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(help="Format of the store: zarr (the default), or icechunk."),
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Append later times to the store.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan without writing anything.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a store from gridded data, with statistics and climatology; resumes an interrupted run.

    Example: forecast ingest air_*.nc -o air.zarr --variables air
    """
    with reported() as progress:
        from ...datasets.adapters.untrusted import parse_bytes
        from ...datasets.ingest.select import Selection
        from ..ingestion import ingest as run_ingest
        from ..inspection import inspect as run_inspect
        from .display import describe

        coordinates = tuple(parse_pairs("select", select or [], "depth=0.5").items())
        names = parse_names("variables", variables)
        selection = Selection(
            tuple(names) if names else None,
            parse_levels(levels),
            times,
            parse_hours(step),
            area,
            member,
            coordinates,
        )
        plan = run_ingest(
            sources,
            output,
            selection,
            units=parse_pairs("units", units or [], "air=K"),
            layout=layout,
            grid=grid,
            method=method,
            train_period=train_period,
            allow_gaps=allow_gaps,
            memory=parse_bytes(memory),
            scheduler=scheduler,
            append=append,
            dry_run=dry_run,
            overwrite=overwrite,
            progress=progress("ingest"),
            allow_missing=allow_missing,
            kind=store,
            rename=parse_pairs("rename", rename or [], "tas=t2m"),
            static=static or [],
            follow_links=follow_links,
        )
        result = run_inspect(output) if plan is None else plan
        values = result.to_dict()
    show(values, as_json, describe(values))
