"""Report on the skill of a forecast: a page of scores by lead time, and of maps next to the truth."""

import base64
import html
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ...datasets.store import atomic
from ..inference.open import open_forecast
from .metrics.selection import find_metric
from .page import page, table
from .plots import LABELS, plot, plot_scores
from .summary import OVERLAP, ScoreRow, summarize

_MOST_MAPS = 12
_NOTES = ("area", "points", "regridding", "spread_warning")


def write_report(
    forecast: str | Path | xr.Dataset,
    truth: str | Path,
    scores: xr.Dataset,
    *,
    output: str | Path,
    metrics: Sequence[str] | None = None,
    level: int | None = None,
    area: str | None = None,
    regrid: bool = False,
    lead_units: str | None = None,
    overwrite: bool = False,
    follow_links: bool = False,
) -> Path:
    """Write a self-contained HTML page with charts and tables of the scores, and maps.

    The maps are of the last lead time of the first initial time.

    Args:
        forecast: path or data set.
        truth: store that it was scored against.
        scores: scores as ``verify`` returns them.
        output: page to write.
        metrics: names of the metrics in the tables, as in ``summarize``.
        level: pressure [hPa] of the maps; all levels by default.
        area: as in ``verify``.
        regrid: as in ``verify``.
        lead_units: as in ``verify``.
        overwrite: replace an existing page.
        follow_links: as in ``verify``.

    Returns:
        Path of the page.

    Raises:
        FileExistsError: the page exists.
        ValueError: forecast, truth and scores do not belong together.
    """
    with atomic.reserved(output, "report", overwrite=overwrite, inputs=[forecast, truth]) as path:
        dataset = open_forecast(forecast, lead_units, follow_links=follow_links)
        with tempfile.TemporaryDirectory() as folder:
            parts = [_about(scores), _chart(scores, Path(folder)), *_tables(summarize(scores, metrics))]
            parts += _maps(
                dataset,
                scores,
                Path(folder),
                level=level,
                options={"truth": truth, "area": area, "regrid": regrid, "follow_links": follow_links},
            )
        text = page("Forecast and truth", parts)
        with atomic.replacing(path, overwrite=overwrite, kind="report") as temporary:
            temporary.write_text(text)
    return path


def _about(scores: xr.Dataset) -> str:
    """Return paragraphs on the scored forecasts, as HTML."""
    attrs = scores.attrs
    first, last = (html.escape(str(attrs[f"{which}_initial_time"])[:16]) for which in ("first", "last"))
    period = first if first == last else f"{first} to {last}"
    count = attrs["initial_times"]
    weighting = html.escape(attrs["weighting"])
    text = (
        f"<p>{count} {'forecast' if count == 1 else 'forecasts'} from {period} UTC; weighting {weighting}</p>"
    )
    for name in _NOTES:
        if name in attrs:
            text += f"<p>{html.escape(name.replace('_', ' '))}: {html.escape(str(attrs[name]))}</p>"
    if attrs["overlaps_training_period"]:
        text += f"<p><b>{OVERLAP[0].upper()}{OVERLAP[1:]}.</b></p>"
    return text


def _chart(scores: xr.Dataset, folder: Path) -> str:
    """Return a chart of the RMSE, or of the first metric without it, as HTML."""
    computed = [str(name) for name in scores["metric"].values]
    metric = "rmse" if "rmse" in computed else computed[0]
    picture = plot_scores(scores, folder / "scores.png", metric=metric)
    return _picture(picture, f"{find_metric(metric).label} by lead time")


def _maps(
    dataset: xr.Dataset, scores: xr.Dataset, folder: Path, *, level: int | None, options: dict[str, Any]
) -> list[str]:
    """Return maps of the fields at the last lead time, as HTML; ``options`` are arguments of ``plot``."""
    lead = float(dataset["prediction_timedelta"].values[-1] / np.timedelta64(1, "s"))
    channels = []
    for name, array in scores.data_vars.items():
        levels = [None]
        if "level" in array.dims:
            levels = array.dropna("level", how="all")["level"].values.tolist()
        channels += [(str(name), one) for one in levels if level is None or one in (None, level)]
    parts = []
    if len(channels) > _MOST_MAPS:
        parts.append(f"<p>Maps of the first {_MOST_MAPS} of {len(channels)} fields.</p>")
    for i, (name, own_level) in enumerate(channels[:_MOST_MAPS]):
        output = folder / f"{i}.png"
        picture = plot(dataset, name, f"{lead:f}s", output=output, level=own_level, **options)
        parts.append(_picture(picture, f"forecast, truth and error of {name}"))
    return parts


def _picture(path: Path, description: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<img src='data:image/png;base64,{data}' alt='{html.escape(description)}'>"


def _tables(rows: list[ScoreRow]) -> list[str]:
    """Return a heading and a table for each channel, and a legend, as HTML."""
    parts = []
    for channel in dict.fromkeys((row.variable, row.level, row.units) for row in rows):
        name, level, units = channel
        place = "" if level is None else f" at {level} hPa"
        parts.append(f"<h2>{html.escape(name)}{place} [{html.escape(units)}]</h2>")
        rows_of_channel = [row for row in rows if (row.variable, row.level, row.units) == channel]
        cells = [_cells(row) for row in rows_of_channel]
        parts.append(table(list(cells[0]), [list(row.values()) for row in cells], range(len(cells[0]))))
    legend = []
    if any(row.rmse is not None for row in rows):
        legend.append("Skill: 1 - RMSE / RMSE of damped anomaly persistence.")
    if any("acc" in row.metrics for row in rows):
        legend.append("ACC: correlation of anomalies.")
    return [*parts, f"<p>{' '.join(legend)}</p>"] if legend else parts


def _cells(row: ScoreRow) -> dict[str, str]:
    """Return the cells of a row by heading."""
    cells = {"lead": f"{row.lead_hours:g} h"}
    if row.rmse is not None:
        for source, value in row.rmse.items():
            cells["RMSE" if source == "forecast" else LABELS[source]] = f"{value:.4g}"
        skill = None if row.lead_hours == 0 else row.skill
        cells["skill"] = "" if skill is None else f"{100 * skill:.1f} %"
    for name, value in row.metrics.items():
        digits = ".3f" if name == "acc" else ".4g"
        cells[find_metric(name).label] = format(value, digits) if math.isfinite(value) else ""
    return cells
