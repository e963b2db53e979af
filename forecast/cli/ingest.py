"""The verb that makes stores."""

from pathlib import Path
from typing import Annotated

import typer

from .console import FollowLinks, Json, Overwrite, reported, show


def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC...", help="netCDF, HDF5 or GRIB files, patterns, zarr stores or their URLs."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Store to make.")],
    variables: Annotated[str | None, typer.Option(help="Variables to keep, separated by commas.")] = None,
    levels: Annotated[
        str | None,
        typer.Option(
            help="Pressures in hPa to keep, or to interpolate hybrid levels to, separated by commas."
        ),
    ] = None,
    times: Annotated[str | None, typer.Option(help="Period to keep, e.g. 2013 or 2010-01:2013-06.")] = None,
    step: Annotated[str | None, typer.Option(help="Time between the states to keep, e.g. 6h or 1d.")] = None,
    area: Annotated[str | None, typer.Option(help="NORTH/WEST/SOUTH/EAST in degrees to keep.")] = None,
    select: Annotated[
        list[str] | None, typer.Option(help="One place along another axis, as NAME=VALUE, e.g. depth=0.5.")
    ] = None,
    member: Annotated[int | None, typer.Option(help="Member of an ensemble to keep.")] = None,
    units: Annotated[
        list[str] | None, typer.Option(help="Units that a file lacks or has wrong, as NAME=UNITS.")
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option(help="New name of a variable, as OLD=NEW, e.g. tas=t2m.")
    ] = None,
    static: Annotated[
        list[str] | None,
        typer.Option(
            help="Variable that never changes although its file gives it a time; orography and masks are known."
        ),
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="How the source is laid out; recognised by default.")
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            help="Regrid to degrees between points, LATxLON points, or a store's grid; map projections too."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="How to regrid: conservative (the default), bilinear or spectral (map projections: the first two)."
        ),
    ] = None,
    train_period: Annotated[
        str | None, typer.Option(help="Period for statistics, e.g. 2013 or 2010-01:2013-06.")
    ] = None,
    allow_gaps: Annotated[
        bool, typer.Option("--allow-gaps", help="Record gaps in time instead of refusing them.")
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Take chunks that a zarr source lacks for fill values.")
    ] = False,
    follow_links: FollowLinks = False,
    memory: Annotated[str, typer.Option(help="Memory that may be used, e.g. 4GiB.")] = "2GiB",
    scheduler: Annotated[
        str | None, typer.Option(help="Dask scheduler's address, or local:N for N processes.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(help="Kind of store: zarr (the default), or icechunk, a repository of transactions."),
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Add later times to the store.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a store of any reanalysis, with statistics and climatology; goes on by itself where an earlier run
    stopped.

    Example: forecast ingest air_*.nc -o air.zarr --variables air
    """
    with reported() as progress:
        from ...datasets.adapters.untrusted import parse_bytes
        from ...datasets.ingest.select import Selection
        from ..ingestion import ingest as work
        from ..ingestion import parse_hours, parse_levels, parse_names, parse_pairs
        from ..inspection import inspect as look
        from .display import describe

        places = tuple(parse_pairs("select", select or [], "depth=0.5").items())
        wanted = parse_names("variables", variables)
        chosen = Selection(
            tuple(wanted) if wanted else None,
            parse_levels(levels),
            times,
            parse_hours(step),
            area,
            member,
            places,
        )
        names = parse_pairs("rename", rename or [], "tas=t2m")
        plan = work(
            sources,
            output,
            chosen,
            parse_pairs("units", units or [], "air=K"),
            layout,
            grid,
            method,
            train_period,
            allow_gaps,
            parse_bytes(memory),
            scheduler,
            append,
            dry_run,
            overwrite,
            progress("ingest"),
            allow_missing,
            store,
            rename=names,
            static=static or [],
            follow_links=follow_links,
        )
        result = plan if dry_run else look(output)
    show(result, as_json, describe(result))
