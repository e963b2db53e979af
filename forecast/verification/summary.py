"""Summary of scores: rows by channel and lead time, and notes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

_DEFAULT = ("rmse", "acc", "crps", "spread", "spread_error_ratio")
_LISTED = 12  # names of channels in a note

OVERLAP = "some initial times lie in the training period, so these scores are optimistically biased"
"""Note on scores of forecasts that start in the training period."""


@dataclass(frozen=True)
class ScoreRow:
    """Scores of one variable, level and lead time.

    Attributes:
        variable: name of the variable in the truth.
        level: pressure [hPa], or None.
        units: units of the variable.
        lead_hours: lead time [h].
        rmse: RMSE of the forecast and of each reference forecast; None where RMSE was not computed.
        skill: 1 - RMSE / RMSE of damped persistence; None where that is undefined.
        metrics: other metrics of the forecast, by name.
    """

    variable: str
    level: int | None
    units: str
    lead_hours: float
    rmse: Mapping[str, float] | None = None
    skill: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def channel(self) -> str:
        """Variable and level, e.g. ``geopotential 500 hPa``."""
        return self.variable if self.level is None else f"{self.variable} {self.level} hPa"

    def to_dict(self) -> dict[str, Any]:
        """Return the row as it is printed in JSON."""
        result: dict[str, Any] = {
            "variable": self.variable,
            "level": self.level,
            "units": self.units,
            "lead_hours": self.lead_hours,
        }
        others = dict(self.metrics)
        if self.rmse is not None:
            result["rmse"] = dict(self.rmse)
        if "acc" in others:
            result["acc"] = others.pop("acc")
        if self.rmse is not None:
            result["skill"] = self.skill
        return result | others

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "ScoreRow":
        """Return the row of a dictionary that ``to_dict`` returned."""
        known = ("variable", "level", "units", "lead_hours", "rmse", "skill")
        others = {name: value for name, value in row.items() if name not in known}
        return cls(**{name: row[name] for name in known if name in row}, metrics=others)


def summarize(scores: xr.Dataset, metrics: Sequence[str] | None = None) -> list[ScoreRow]:
    """Return a row for each variable, level and lead time.

    Args:
        scores: scores as ``verify`` returns them.
        metrics: names of the metrics to list; by default RMSE and ACC, of an ensemble also CRPS, spread and
            the ratio of spread to error, as far as they were computed.
    """
    computed = [str(name) for name in scores["metric"].values]
    names = [name for name in (_DEFAULT if metrics is None else metrics) if name in computed]
    rows = []
    for variable, array in scores.data_vars.items():
        for level in array["level"].values.tolist() if "level" in array.dims else [None]:
            scores_of_level = array if level is None else array.sel(level=level)
            if level is not None and not np.isfinite(scores_of_level).any():
                continue  # forecast and truth share the variable on other levels only
            for lead in scores["prediction_timedelta"].values:
                part = scores_of_level.sel(prediction_timedelta=lead)
                others = {
                    name: float(part.sel(metric=name, source="forecast")) for name in names if name != "rmse"
                }
                rmse = None
                skill = None
                if "rmse" in names:
                    errors = part.sel(metric="rmse")
                    rmse = {str(s): float(errors.sel(source=s)) for s in scores["source"].values}
                    if rmse["damped_persistence"] > 0:
                        skill = 1 - rmse["forecast"] / rmse["damped_persistence"]
                rows.append(
                    ScoreRow(
                        str(variable),
                        None if level is None else int(level),
                        str(array.attrs["units"]),
                        float(lead / np.timedelta64(1, "h")),
                        rmse=rmse,
                        skill=skill,
                        metrics=others,
                    )
                )
    return rows


def notes(scores: xr.Dataset) -> list[str]:
    """Return sentences on the points and channels that were left out, and on what biases the scores."""
    attrs = scores.attrs
    lines = [f"scored on the area {attrs['area']}"] if "area" in attrs else []
    lines += [f"scored on {attrs['points']}"] if "points" in attrs else []
    lines += [attrs["regridding"]] if "regridding" in attrs else []
    if left_out := attrs.get("left_out"):
        more = f" ... and {len(left_out) - _LISTED} more" if len(left_out) > _LISTED else ""
        lines.append(f"not scored, because the truth lacks them: {', '.join(left_out[:_LISTED])}{more}")
    lines += [attrs["spread_warning"]] if "spread_warning" in attrs else []
    return lines + ([OVERLAP] if attrs["overlaps_training_period"] else [])
