"""Maps and score charts, drawn without a network: coastlines come with the package."""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ... import __version__
from ...datasets.durations import format_duration, format_time, parse_timedelta64
from ...datasets.schema import axes_of
from ...datasets.store import atomic
from ...datasets.store.open import open_store
from ...datasets.store.outputs import mark
from ..inference.forecaster import open_forecast, source_name
from .common_grid import common_grid
from .pairing import find_channel, in_units

LABELS = {
    "forecast": "model",
    "persistence": "persistence",
    "damped_persistence": "damped persistence",
    "climatology": "climatology",
}
STYLES = {"forecast": "C0-", "persistence": "C1--", "damped_persistence": "C2--", "climatology": "C7:"}


def coastlines() -> list[np.ndarray]:
    """Return the coastlines of the world at 1:110 million (Natural Earth, public domain), lines of
    (longitude, latitude).
    """
    with as_file(files("fourcaster.forecast") / "data" / "coastline_110m.npz") as path, np.load(path) as data:
        points, start = data["centidegrees"] / 100, data["start"]
    return [points[a:b] for a, b in zip(start[:-1], start[1:], strict=True)]


def plot(
    forecast: str | Path | xr.Dataset,
    variable: str,
    lead: str,
    output: str | Path,
    truth: str | Path | None = None,
    time: str | None = None,
    level: int | None = None,
    overwrite: bool = False,
    *,
    area: str | None = None,
    regrid: bool = False,
    lead_units: str | None = None,
    follow_links: bool = False,
) -> Path:
    """Draw a map of one lead time: the forecast (of an ensemble the mean), and with a truth also the truth on
    the same colours and the error.

    Args:
        forecast: path or data set, of this or another package.
        variable: variable to draw.
        lead: lead time, e.g. ``24h``.
        output: picture to make (PNG, PDF or SVG by its ending).
        truth: store to compare with.
        time: initial time; the first by default.
        level: pressure in hPa, for variables that have levels.
        overwrite: replace an existing picture.
        area: ``NORTH/WEST/SOUTH/EAST`` in degrees to draw; all by default, with a truth all common points.
        regrid: regrid the finer of forecast and truth to the points of the coarser.
        follow_links: follow links within forecast and truth that lead outside of them.
        lead_units: unit of lead times that are numbers without one, e.g. ``hours``.

    Raises:
        FileExistsError: the picture exists.
        ValueError: the forecast has no such variable, lead, level or time, or no points in common with the
            truth.
    """
    with atomic.reserved(output, "picture", overwrite=overwrite, inputs=[forecast, truth]) as path:
        figure = _figure(forecast, variable, lead, truth, time, level, area, regrid, lead_units, follow_links)
        return _save(figure, path, overwrite)


def _figure(
    forecast: str | Path | xr.Dataset,
    variable: str,
    lead: str,
    truth: str | Path | None,
    time: str | None,
    level: int | None,
    area: str | None,
    regrid: bool,
    lead_units: str | None,
    follow_links: bool,
) -> Any:
    dataset = open_forecast(forecast, lead_units, follow_links=follow_links)
    name = source_name(forecast)
    members = dataset.sizes.get("number", 1)
    store = None if truth is None else open_store(truth, follow_links=follow_links)
    if regrid and store is None:
        raise ValueError("regridding puts forecast and truth on one grid; add --truth, or leave out --regrid")
    reference = dataset if store is None else store.dataset
    common = common_grid(dataset, reference, (name, str(truth)), area=area, regrid=regrid)
    array = find_channel(dataset, variable, level, name)
    level = int(array["level"]) if "level" in array.coords else level
    array = _pick(array, lead, time)
    field = array.mean("number", keep_attrs=True) if "number" in array.dims else array
    field = common.forecast(field.to_dataset(name=variable))[variable].load()
    valid = field["time"].values + field["prediction_timedelta"].values
    panels = [("forecast", field.values)]
    if store is not None:
        if valid not in store.dataset["time"].values:
            raise ValueError(
                f"the truth {truth} has no {variable!r} at {np.datetime_as_string(valid, 'm')}; leave out --truth, or choose another lead"
            )
        actual = find_channel(store.dataset, variable, level, f"the truth {truth}")
        field = in_units(field, str(actual.attrs["units"]), name)
        right = common.truth(actual.sel(time=valid).to_dataset(name=variable))[variable].values
        panels = [
            ("forecast", field.values),
            ("truth", right),
            ("error (forecast - truth)", field.values - right),
        ]
    units = field.attrs.get("units", "")
    mean = f", mean of {members} members" if members > 1 else ""
    duration: Any = field["prediction_timedelta"].values[()]
    initial: Any = field["time"].values[()]
    title = (
        f"{variable}{f' at {level} hPa' if level else ''}{mean} [{units}], "
        f"{format_duration(duration)} from {format_time(initial)}"
    )
    axes = axes_of(dataset)
    rows, columns = (field[axis].values for axis in axes)
    return _maps(panels, rows, columns, title, units, earth=axes[0] == "latitude")


def plot_scores(scores: xr.Dataset, output: str | Path, overwrite: bool = False) -> Path:
    """Draw the RMSE of each variable by lead time, beside the reference forecasts."""

    def draw() -> Any:
        from matplotlib.figure import Figure

        panels = [
            (str(name), array) if level is None else (f"{name} {level} hPa", array.sel(level=level))
            for name, array in scores.data_vars.items()
            for level in (
                array.dropna("level", how="all")["level"].values.tolist() if "level" in array.dims else [None]
            )
        ]
        columns = min(3, len(panels))
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(5.2 * columns, 3.8 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        hours = scores["prediction_timedelta"].values / np.timedelta64(1, "h")
        for ax, (name, array) in zip(axes.flat, panels, strict=False):
            for source in scores["source"].values:
                ax.plot(
                    hours,
                    array.sel(metric="rmse", source=source),
                    STYLES[str(source)],
                    label=LABELS[str(source)],
                )
            ax.set(
                title=name,
                xlabel="lead time [h]",
                ylabel=f"RMSE [{array.attrs.get('units', '')}]",
                xlim=(0, hours.max()),
            )
            ax.set_ylim(bottom=0)
            ax.grid(alpha=0.3)
        for ax in axes.flat[len(panels) :]:
            ax.remove()
        axes[0, 0].legend(fontsize="small")
        count, first, last = (
            scores.attrs[name] for name in ("initial_times", "first_initial_time", "last_initial_time")
        )
        figure.suptitle(
            f"{count} forecasts, {first[:10]} to {last[:10]}"
            if count > 1
            else f"the forecast from {first[:16]}"
        )
        return figure

    with atomic.reserved(output, "picture", overwrite=overwrite) as path:
        return _save(draw(), path, overwrite)


def _pick(array: xr.DataArray, lead: str, time: str | None) -> xr.DataArray:
    leads = array["prediction_timedelta"].values
    wanted = parse_timedelta64(lead)
    if wanted not in leads:
        raise ValueError(
            f"the forecast has no lead {lead}; it has {format_duration(leads[0])} to {format_duration(leads[-1])}"
        )
    array = array.sel(prediction_timedelta=wanted)
    if time is None:
        return array.isel(time=0)
    try:
        moment = np.datetime64(time)
    except ValueError as error:
        raise ValueError(f"{time!r} is not a time; write e.g. 2014-03-01T06") from error
    if moment not in array["time"].values:
        raise ValueError(
            f"the forecast has no initial time {time}; its first is {np.datetime_as_string(array['time'].values[0], 'm')}"
        )
    return array.sel(time=moment)


def _save(figure: Any, output: Path, overwrite: bool) -> Path:
    form = output.suffix.lstrip(".") or "png"
    metadata = {"Software" if form == "png" else "Creator": f"{mark('picture')} {__version__}"}
    with atomic.replacing(output, overwrite=overwrite, kind="picture") as temporary:
        figure.savefig(temporary, dpi=130, format=form, metadata=metadata)
    return output


def _maps(
    panels: list[tuple[str, np.ndarray]],
    latitude: np.ndarray,
    longitude: np.ndarray,
    title: str,
    units: str,
    earth: bool,
) -> Any:
    import cartopy.crs as ccrs
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    centre = float((longitude[0] + longitude[-1]) / 2) if earth else 0.0
    view, plain = ccrs.PlateCarree(central_longitude=centre), ccrs.PlateCarree()
    tall = len(panels) > 1 and np.ptp(longitude) > 2.2 * np.ptp(latitude)
    shape = (len(panels), 1) if tall else (1, len(panels))
    ratio = np.ptp(latitude) / np.ptp(longitude)
    width = 8.0 if tall or len(panels) == 1 else 15.0
    height = (width / shape[1]) * ratio * shape[0] + 1.0 * shape[0] + 0.6
    figure = Figure(figsize=(width, max(3.0, height)), layout="constrained")
    axes = figure.subplots(
        *shape,
        squeeze=False,
        subplot_kw={"projection": view} if earth else {"aspect": "equal", "xlabel": "x", "ylabel": "y"},
    )
    shown = np.concatenate(
        [values[np.isfinite(values)] for name, values in panels if not name.startswith("error")]
    )
    low, high = np.percentile(shown, [0.5, 99.5]) if shown.size else (0, 1)
    west, east = longitude[0] - centre, longitude[-1] - centre
    for ax, (name, values) in zip(axes.flat, panels, strict=True):
        options = {"cmap": "viridis", "vmin": low, "vmax": high}
        if name.startswith("error"):
            finite = np.abs(values[np.isfinite(values)])
            largest = float(np.percentile(finite, 99.5)) or 1.0 if finite.size else 1.0
            options = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
        mesh = ax.pcolormesh(
            longitude - centre,
            latitude,
            values,
            shading="nearest",
            **(options | ({"transform": view} if earth else {})),
        )
        ax.set_title(name, fontsize="medium")
        figure.colorbar(mesh, ax=ax, orientation="horizontal", label=units, shrink=0.85, pad=0.04)
        if not earth:
            continue
        # Coastlines are drawn thrice, a turn apart, so that no map cuts them, whatever its longitudes count
        # from.
        lines = [
            np.c_[line[:, 0] - centre + turn, line[:, 1]] for line in coastlines() for turn in (-360, 0, 360)
        ]
        visible = [line for line in lines if line[:, 0].max() > -185 and line[:, 0].min() < 185]
        ax.add_collection(LineCollection(visible, colors="k", linewidths=0.6), autolim=False)
        ax.set_xlim(max(-180, west), min(180, east))
        ax.set_ylim(float(latitude.min()), float(latitude.max()))
        ticks = ax.gridlines(crs=plain, draw_labels={"bottom": "x", "left": "y"}, linewidth=0.3, alpha=0.5)
        ticks.top_labels = ticks.right_labels = False
    figure.suptitle(title)
    return figure
