"""Pictures of a forecast: maps of a lead time, and charts of scores."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ... import __version__
from ...datasets.durations import format_duration, format_time, parse_timedelta64
from ...datasets.errors import DataError
from ...datasets.schema import axes_of
from ...datasets.store import atomic
from ...datasets.store.open import open_store
from ...datasets.store.outputs import marker
from ..inference.open import open_forecast, source_name
from .common_grid import common_grid
from .maps import ERROR, draw_maps
from .metrics.selection import find_metric
from .pairing import find_channel, in_units

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {
    "forecast": "model",
    "persistence": "persistence",
    "damped_persistence": "damped persistence",
    "climatology": "climatology",
}
STYLES = {"forecast": "C0-", "persistence": "C1--", "damped_persistence": "C2--", "climatology": "C7:"}


def plot(
    forecast: str | Path | xr.Dataset,
    variable: str,
    lead: str,
    *,
    output: str | Path,
    truth: str | Path | None = None,
    time: str | None = None,
    level: int | None = None,
    area: str | None = None,
    regrid: bool = False,
    lead_units: str | None = None,
    overwrite: bool = False,
    follow_links: bool = False,
) -> Path:
    """Draw a map of a forecast, of an ensemble its mean, and with a truth also maps of truth and error.

    Args:
        forecast: path or data set, of this or another package.
        variable: variable to draw.
        lead: lead time, e.g. ``24h``.
        output: picture to write; its suffix chooses PNG, PDF or SVG.
        truth: store to compare with.
        time: initial time; the first by default.
        level: pressure [hPa], for variables that have levels.
        area: area to draw, ``NORTH/WEST/SOUTH/EAST`` [degrees]; by default all points, with a truth all
            common points.
        regrid: regrid the finer of forecast and truth conservatively to the points of the coarser.
        lead_units: unit of lead times that are numbers without one, e.g. ``hours``.
        overwrite: replace an existing picture.
        follow_links: follow links in forecast and truth that lead outside of them.

    Returns:
        Path of the picture.

    Raises:
        FileExistsError: the picture exists.
        ValueError: the forecast has no such variable, lead, level or time, or no points in common with the
            truth.
    """
    with atomic.reserved(output, "picture", overwrite=overwrite, inputs=[forecast, truth]) as path:
        figure = _draw(
            forecast,
            variable,
            lead,
            truth=truth,
            time=time,
            level=level,
            area=area,
            regrid=regrid,
            lead_units=lead_units,
            follow_links=follow_links,
        )
        return _save(figure, path, overwrite=overwrite)


def _draw(
    forecast: str | Path | xr.Dataset,
    variable: str,
    lead: str,
    *,
    truth: str | Path | None,
    time: str | None,
    level: int | None,
    area: str | None,
    regrid: bool,
    lead_units: str | None,
    follow_links: bool,
) -> "Figure":
    dataset = open_forecast(forecast, lead_units, follow_links=follow_links)
    name = source_name(forecast)
    store = None if truth is None else open_store(truth, follow_links=follow_links)
    if regrid and store is None:
        raise DataError(
            "regridding needs a truth whose grid to regrid to; add one, or do not regrid", option="truth"
        )
    reference = dataset if store is None else store.dataset
    common = common_grid(dataset, reference, (name, str(truth)), area=area, regrid=regrid)
    array = find_channel(dataset, variable, level=level, source=name)
    level = int(array["level"]) if "level" in array.coords else level
    array = _select_time(array, lead, time)
    field = array.mean("number", keep_attrs=True) if "number" in array.dims else array
    field = common.forecast(field.to_dataset(name=variable))[variable].load()
    valid_time = field["time"].values + field["prediction_timedelta"].values
    panels = [("forecast", field.values)]
    if store is not None:
        if valid_time not in store.dataset["time"].values:
            raise ValueError(
                f"the truth {truth} has no {variable!r} at {format_time(valid_time)}; leave it out, or "
                "choose another lead"
            )
        actual = find_channel(store.dataset, variable, level=level, source=f"the truth {truth}")
        field = in_units(field, str(actual.attrs["units"]), name)
        actual = common.truth(actual.sel(time=valid_time).to_dataset(name=variable))[variable]
        panels = [
            ("forecast", field.values),
            ("truth", actual.values),
            (ERROR, field.values - actual.values),
        ]
    axes = axes_of(dataset)
    rows, columns = (field[axis].values for axis in axes)
    return draw_maps(
        panels,
        rows,
        columns,
        title=_title(field, variable, level, members=dataset.sizes.get("number", 1)),
        units=field.attrs.get("units", ""),
        earth=axes[0] == "latitude",
    )


def _title(field: xr.DataArray, variable: str, level: int | None, *, members: int) -> str:
    """Return variable, level, units, lead time and initial time of a field."""
    lead: Any = field["prediction_timedelta"].values[()]
    time: Any = field["time"].values[()]
    place = f" at {level} hPa" if level else ""
    mean = f", mean of {members} members" if members > 1 else ""
    units = field.attrs.get("units", "")
    return f"{variable}{place}{mean} [{units}], {format_duration(lead)} from {format_time(time)}"


def _select_time(array: xr.DataArray, lead: str, time: str | None) -> xr.DataArray:
    """Return a channel at one lead and initial time; raises ``ValueError`` where there is none."""
    leads = array["prediction_timedelta"].values
    duration = parse_timedelta64(lead)
    if duration not in leads:
        first, last = (format_duration(value) for value in (leads[0], leads[-1]))
        raise ValueError(f"the forecast has no lead {lead}; it has {first} to {last}")
    array = array.sel(prediction_timedelta=duration)
    if time is None:
        return array.isel(time=0)
    try:
        initial = np.datetime64(time)
    except ValueError as error:
        raise ValueError(f"{time!r} is not a time; write e.g. 2014-03-01T06") from error
    if initial not in array["time"].values:
        first = format_time(array["time"].values[0])
        raise ValueError(f"the forecast has no initial time {time}; its first is {first}")
    return array.sel(time=initial)


def plot_scores(
    scores: xr.Dataset, output: str | Path, *, metric: str = "rmse", overwrite: bool = False
) -> Path:
    """Draw a metric of the forecast and of the reference forecasts by lead time, a panel for each channel.

    Args:
        scores: scores as ``verify`` returns them.
        output: picture to write; its suffix chooses PNG, PDF or SVG.
        metric: name of the metric.
        overwrite: replace an existing picture.

    Returns:
        Path of the picture.

    Raises:
        FileExistsError: the picture exists.
        ValueError: ``scores`` lacks the metric.
    """
    if metric not in scores["metric"].values:
        raise ValueError(f"the scores have no metric {metric!r}")
    with atomic.reserved(output, "picture", overwrite=overwrite) as path:
        return _save(_draw_scores(scores, metric), path, overwrite=overwrite)


def _draw_scores(scores: xr.Dataset, metric: str) -> "Figure":
    from matplotlib.figure import Figure

    panels = []
    for name, array in scores.data_vars.items():
        if "level" not in array.dims:
            panels.append((str(name), array))
            continue
        for level in array.dropna("level", how="all")["level"].values.tolist():
            panels.append((f"{name} {level} hPa", array.sel(level=level)))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    hours = scores["prediction_timedelta"].values / np.timedelta64(1, "h")
    kind = find_metric(metric)
    for ax, (name, array) in zip(axes.flat, panels, strict=False):
        for source in scores["source"].values.tolist():
            values = array.sel(metric=metric, source=source)
            ax.plot(hours, values, STYLES[source], label=LABELS[source])
        units = "1" if kind.dimensionless else array.attrs.get("units", "")
        ax.set(title=name, xlabel="lead time [h]", ylabel=f"{kind.label} [{units}]", xlim=(0, hours.max()))
        if metric == "rmse":
            ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    axes[0, 0].legend(fontsize="small")
    first = scores.attrs["first_initial_time"]
    last = scores.attrs["last_initial_time"]
    count = scores.attrs["initial_times"]
    several = f"{count} forecasts, {first[:10]} to {last[:10]}"
    figure.suptitle(several if count > 1 else f"the forecast from {first[:16]}")
    return figure


def _save(figure: "Figure", output: Path, *, overwrite: bool) -> Path:
    """Write a figure with a mark that this package wrote it, and return its path."""
    form = output.suffix.lstrip(".") or "png"
    metadata = {"Software" if form == "png" else "Creator": f"{marker('picture')} {__version__}"}
    with atomic.replacing(output, overwrite=overwrite, kind="picture") as temporary:
        figure.savefig(temporary, dpi=130, format=form, metadata=metadata)
    return output
