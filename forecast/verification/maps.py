"""Maps of fields next to each other, drawn without a network: the coastlines come with the package."""

from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Panel = tuple[str, NDArray[np.floating]]
"""Title and field, shape (y, x)."""

ERROR = "error (forecast - truth)"
"""Title of the panel that is drawn with colours centred on zero."""

_PERCENTILES = [0.5, 99.5]  # of the values, at the ends of the range of colours


def coastlines() -> list[NDArray[np.float64]]:
    """Return the coastlines of the world as lines of (longitude, latitude).

    Natural Earth at 1:110 million, in the public domain.
    """
    with as_file(files("fourcaster.forecast") / "data" / "coastline_110m.npz") as path, np.load(path) as data:
        points = data["centidegrees"] / 100
        start = data["start"]
    return [points[a:b] for a, b in zip(start[:-1], start[1:], strict=True)]


def draw_maps(
    panels: list[Panel],
    rows: NDArray[np.floating],
    columns: NDArray[np.floating],
    *,
    title: str,
    units: str,
    earth: bool,
) -> "Figure":
    """Return a figure with a map for each panel; all but the error share a range of colours.

    Args:
        panels: titles and fields.
        rows: latitudes [degrees], or y.
        columns: longitudes [degrees], or x.
        title: title of the figure.
        units: label of the colour bars.
        earth: draw latitudes and longitudes with coastlines, else a plane.
    """
    import cartopy.crs as ccrs
    from matplotlib.figure import Figure

    centre = float((columns[0] + columns[-1]) / 2) if earth else 0.0
    projection = ccrs.PlateCarree(central_longitude=centre)
    ratio = np.ptp(rows) / np.ptp(columns)
    stacked = len(panels) > 1 and np.ptp(columns) > 2.2 * np.ptp(rows)
    shape = (len(panels), 1) if stacked else (1, len(panels))
    width = 8.0 if stacked or len(panels) == 1 else 15.0
    height = (width / shape[1]) * ratio * shape[0] + 1.0 * shape[0] + 0.6
    figure = Figure(figsize=(width, max(3.0, height)), layout="constrained")
    axes = figure.subplots(
        *shape,
        squeeze=False,
        subplot_kw={"projection": projection} if earth else {"aspect": "equal", "xlabel": "x", "ylabel": "y"},
    )
    fields = np.concatenate([values[np.isfinite(values)] for name, values in panels if name != ERROR])
    low, high = np.percentile(fields, _PERCENTILES) if fields.size else (0, 1)
    for ax, (name, values) in zip(axes.flat, panels, strict=True):
        options = {"cmap": "viridis", "vmin": low, "vmax": high}
        if name == ERROR:
            limit = _error_limit(values)
            options = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        if earth:
            options["transform"] = projection
        mesh = ax.pcolormesh(columns - centre, rows, values, shading="nearest", **options)
        ax.set_title(name, fontsize="medium")
        figure.colorbar(mesh, ax=ax, orientation="horizontal", label=units, shrink=0.85, pad=0.04)
        if earth:
            _draw_earth(ax, centre, rows=rows, columns=columns)
    figure.suptitle(title)
    return figure


def _error_limit(values: NDArray[np.floating]) -> float:
    """Return the largest absolute error that the colours show."""
    finite = np.abs(values[np.isfinite(values)])
    return float(np.percentile(finite, _PERCENTILES[1])) or 1.0 if finite.size else 1.0


def _draw_earth(ax: Any, centre: float, *, rows: NDArray[np.floating], columns: NDArray[np.floating]) -> None:
    """Draw coastlines and a graticule, and limit the map to the grid."""
    import cartopy.crs as ccrs
    from matplotlib.collections import LineCollection

    # Each line is drawn three times, 360 degrees apart, so that none ends at the edge of the map.
    lines = [
        np.c_[line[:, 0] - centre + turn, line[:, 1]] for line in coastlines() for turn in (-360, 0, 360)
    ]
    visible = [line for line in lines if line[:, 0].max() > -185 and line[:, 0].min() < 185]
    ax.add_collection(LineCollection(visible, colors="k", linewidths=0.6), autolim=False)
    ax.set_xlim(max(-180, columns[0] - centre), min(180, columns[-1] - centre))
    ax.set_ylim(float(rows.min()), float(rows.max()))
    ticks = ax.gridlines(
        crs=ccrs.PlateCarree(), draw_labels={"bottom": "x", "left": "y"}, linewidth=0.3, alpha=0.5
    )
    ticks.top_labels = False
    ticks.right_labels = False
