"""The verbs that evaluate forecasts: verify and plot."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from .arguments import parse_names
from .console import (
    FollowLinks,
    Json,
    LeadUnits,
    Overwrite,
    refuse_options,
    reported,
    show,
    show_summary,
)
from .display import score_table

_VERIFY_OPTIONS = ("forecast", "truth", "output", "overwrite", "as_json")


def verify(
    context: typer.Context,
    forecast: Annotated[str, typer.Argument(help="Forecast to score, of this or another package.")],
    truth: Annotated[Path, typer.Option(help="Store with the truth.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="netCDF file for the scores.")] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="HTML file for a report of scores and maps.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Metrics, separated by commas, e.g. rmse,acc; by default rmse, mae, bias and acc, "
            "and for an ensemble also crps, spread and spread_error_ratio."
        ),
    ] = None,
    area: Annotated[
        str | None,
        typer.Option(help="Area to score, NORTH/WEST/SOUTH/EAST in degrees; all common points by default."),
    ] = None,
    regrid: Annotated[
        bool, typer.Option("--regrid", help="Regrid the finer of forecast and truth to the coarser grid.")
    ] = False,
    lead_units: LeadUnits = None,
    follow_links: FollowLinks = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Score a forecast and reference forecasts against the truth, or solutions of an equation by their
    relative error.

    Example: forecast verify forecast.zarr --truth air.zarr -o scores.nc --report report.html
    """
    with reported() as progress, ExitStack() as stack:
        from ...datasets.adapters.opening import open_raw
        from ...datasets.store.atomic import reserved
        from ..tasks.base import VerifyOptions
        from ..tasks.registry import task_of_output

        if report is not None:  # before the scores are computed
            stack.enter_context(reserved(report, "report", overwrite=overwrite, inputs=[forecast, truth]))
        task = task_of_output(open_raw(forecast, follow_links=follow_links).attrs)
        refuse_options(context, {*_VERIFY_OPTIONS, *task.verify_options}, f"the output of a {task.title}")
        options = VerifyOptions(
            output=output,
            overwrite=overwrite,
            progress=progress("verify"),
            report=report,
            metrics=parse_names("metrics", metrics),
            area=area,
            regrid=regrid,
            lead_units=lead_units,
            follow_links=follow_links,
        )
        summary = task.verify(forecast, truth, options)
    for note in summary.notes:
        print(f"forecast: {note}", file=sys.stderr)
    show_summary(summary, as_json, table=score_table)


def plot(
    forecast: Annotated[str, typer.Argument(help="Forecast to plot, of this or another package.")],
    variable: Annotated[str, typer.Option(help="Variable to plot.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Image file: .png, .pdf or .svg.")],
    lead: Annotated[str, typer.Option(help="Lead time, e.g. 24h.")] = "24h",
    time: Annotated[str | None, typer.Option(help="Initial time; the first by default.")] = None,
    level: Annotated[int | None, typer.Option(help="Pressure level in hPa, where there are levels.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Store with the truth: adds panels of truth and error.")
    ] = None,
    area: Annotated[str | None, typer.Option(help="Area to plot, NORTH/WEST/SOUTH/EAST in degrees.")] = None,
    regrid: Annotated[
        bool, typer.Option("--regrid", help="Regrid the finer of forecast and truth to the coarser grid.")
    ] = False,
    lead_units: LeadUnits = None,
    follow_links: FollowLinks = False,
    overwrite: Overwrite = False,
) -> None:
    """Plot a map with coastlines; works offline.

    Example: forecast plot forecast.zarr --variable air --lead 24h --truth air.zarr -o map.png
    """
    with reported():
        from ..verification.plots import plot as draw_map

        image = draw_map(
            forecast,
            variable,
            lead,
            output=output,
            truth=truth,
            time=time,
            level=level,
            overwrite=overwrite,
            area=area,
            regrid=regrid,
            lead_units=lead_units,
            follow_links=follow_links,
        )
        show(str(image), False, str(image))
