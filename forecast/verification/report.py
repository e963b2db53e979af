"""A page that shows how good a forecast was: scores by lead time, and maps beside the truth."""

import base64
import html
import math
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

from ...datasets.store import atomic
from ..inference.forecaster import open_forecast
from .page import page, table
from .plots import plot, plot_scores
from .verify import summary

_MAPS = 12  # maps on a page, at the most
_COLUMNS = ("lead", "RMSE", "persistence", "damped persistence", "climatology", "skill", "ACC")


def write_report(
    forecast: str | Path | xr.Dataset,
    truth: str | Path,
    scores: xr.Dataset,
    output: str | Path,
    level: int | None = None,
    overwrite: bool = False,
    *,
    area: str | None = None,
    regrid: bool = False,
    lead_units: str | None = None,
    follow_links: bool = False,
) -> Path:
    """Write a page of HTML that stands alone: the charts and tables of the scores, and maps at the last lead
    time of the first initial time.

    Args:
        forecast: path or data set.
        truth: store that it was scored with.
        scores: what ``verify`` returned.
        output: page to make.
        level: pressure in hPa of the maps; all levels by default.
        overwrite: replace an existing page.
        area: as in ``verify``.
        regrid: as in ``verify``.
        lead_units: as in ``verify``.
        follow_links: as in ``verify``.

    Returns:
        The page.

    Raises:
        FileExistsError: the page exists.
        ValueError: forecast, truth and scores do not fit together.
    """
    with atomic.reserved(output, "report", overwrite=overwrite, inputs=[forecast, truth]) as path:
        text = _page(forecast, truth, scores, level, area, regrid, lead_units, follow_links)
        with atomic.replacing(path, overwrite=overwrite, kind="report") as temporary:
            temporary.write_text(text)
    return path


def _page(
    forecast: str | Path | xr.Dataset,
    truth: str | Path,
    scores: xr.Dataset,
    level: int | None,
    area: str | None,
    regrid: bool,
    lead_units: str | None,
    follow_links: bool,
) -> str:
    dataset = open_forecast(forecast, lead_units, follow_links=follow_links)
    lead = float(dataset["prediction_timedelta"].values[-1] / np.timedelta64(1, "s"))
    named = [
        (str(name), at)
        for name, v in scores.data_vars.items()
        for at in (v.dropna("level", how="all")["level"].values.tolist() if "level" in v.dims else [None])
        if level is None or at in (None, level)
    ]
    parts = [_about(scores)]
    with tempfile.TemporaryDirectory() as folder:
        parts.append(_picture(plot_scores(scores, Path(folder) / "scores.png"), "RMSE by lead time"))
        parts += _tables(scores)
        if len(named) > _MAPS:
            parts.append(f"<p>Maps of the first {_MAPS} of {len(named)} fields.</p>")
        for i, (name, at) in enumerate(named[:_MAPS]):
            parts.append(
                _picture(
                    plot(
                        dataset,
                        name,
                        f"{lead:f}s",
                        Path(folder) / f"{i}.png",
                        truth,
                        level=at,
                        area=area,
                        regrid=regrid,
                        follow_links=follow_links,
                    ),
                    f"forecast, truth and error of {name}",
                )
            )
    return page("Forecast and truth", parts)


def _about(scores: xr.Dataset) -> str:
    attrs = scores.attrs
    first, last = (html.escape(str(attrs[f"{which}_initial_time"])[:16]) for which in ("first", "last"))
    period = first if first == last else f"{first} to {last}"
    said = f"<p>{attrs['initial_times']} forecast(s) from {period} UTC; weighting {html.escape(attrs['weighting'])}</p>"
    for name in ("area", "points", "regridding", "spread_warning"):
        if name in attrs:
            said += f"<p>{html.escape(name.replace('_', ' '))}: {html.escape(str(attrs[name]))}</p>"
    if attrs["overlaps_training_period"]:
        said += "<p><b>Some initial times lie in the training period: these scores flatter the model.</b></p>"
    return said


def _picture(path: Path, said: str) -> str:
    return f"<img src='data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}' alt='{html.escape(said)}'>"


def _tables(scores: xr.Dataset) -> list[str]:
    rows, parts = summary(scores), []
    further = [name for name in ("crps", "spread", "spread_error_ratio") if name in scores["metric"].values]
    for name, level, units in dict.fromkeys((row["variable"], row["level"], row["units"]) for row in rows):
        mine = [row for row in rows if (row["variable"], row["level"]) == (name, level)]
        cells = [
            (
                f"{row['lead_hours']:g} h",
                *(
                    f"{row['rmse'][source]:.4g}"
                    for source in ("forecast", "persistence", "damped_persistence", "climatology")
                ),
                "" if row["skill"] is None or row["lead_hours"] == 0 else f"{100 * row['skill']:.1f} %",
                f"{row['acc']:.3f}",
                *(f"{row[metric]:.4g}" if math.isfinite(row[metric]) else "" for metric in further),
            )
            for row in mine
        ]
        parts.append(
            f"<h2>{html.escape(name)}{'' if level is None else f' at {level} hPa'} [{html.escape(units)}]</h2>"
        )
        columns = (
            *_COLUMNS,
            *(
                {"crps": "CRPS", "spread": "spread", "spread_error_ratio": "spread / error"}[metric]
                for metric in further
            ),
        )
        parts.append(table(columns, cells, range(len(columns))))
    return [
        *parts,
        "<p>Skill: 1 - RMSE / RMSE of damped anomaly persistence. ACC: correlation of anomalies.</p>",
    ]
