"""Checks of a job against its checkpoint, its device and its remote stores."""

from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.adapters.remote import check_url, connect
from ...datasets.durations import format_duration, parse_timedelta64, to_timedelta64
from ...datasets.suggestions import suggest
from ..checkpoint.weather import grid_of_meta, open_metadata
from ..device import pick_device
from ..inference.initial_times import parse_lead
from ..inference.limits import check_clip
from ..inference.output_grid import output_grid
from ..inference.perturbations import Ensemble
from .spec import Job, Plot

_MOST_STEPS = 100_000  # of a forecast


def check_device(job: Job) -> None:
    """Raise ``ValueError`` where this machine lacks the device of a job."""
    pick_device(job.device)


def check_urls(job: Job) -> None:
    """Raise ``ValueError`` or ``OSError`` for a URL that cannot be used or reached."""
    if isinstance(job.source, str) and "://" in job.source:
        check_url(job.source)
    if "://" in job.output:
        check_url(job.output)
        connect(job.output_root)


def check_model(job: Job, checkpoint: Path) -> None:
    """Check lead time, variables, ensemble, bounds, grid and plots of a job against its checkpoint.

    Raises:
        ValueError: a value that is not valid for the model.
    """
    stored = open_metadata(checkpoint)
    meta = stored.meta
    step = to_timedelta64(meta["step_seconds"])
    if parse_lead(job.lead, step) > _MOST_STEPS:
        raise ValueError(f"lead {job.lead} is more than {_MOST_STEPS} steps of the model")
    levels: dict[str, list[int | None]] = {}
    for channel in meta["channels"]:
        levels.setdefault(channel["variable"], []).append(channel["level"])
    variables = job.variables or list(levels)
    for name in variables:
        if name not in levels:
            raise ValueError(f"variables: the model has no {name!r}; {suggest(name, levels)}")
    Ensemble.of(job.members, job.seed, job.amplitude)
    check_clip(job.clip or {}, list(levels))
    output_grid(grid_of_meta(stored), (meta["dtypes"][0], meta["dtypes"][1]), job.grid, area=job.area)
    for plot in job.plots or ():
        if plot.variable not in variables:
            raise ValueError(
                f"plots: the forecast has no {plot.variable!r}; {suggest(plot.variable, variables)}"
            )
        _check_plot(plot, levels[plot.variable], longest=job.lead, step=step)


def _check_plot(plot: Plot, levels: list[Any], *, longest: str, step: np.timedelta64) -> None:
    if plot.level not in levels:
        available = "no levels" if levels == [None] else f"the levels {levels}"
        raise ValueError(f"plots: {plot.variable} has {available}, got level {plot.level}")
    lead = parse_timedelta64(plot.lead)
    if lead > parse_timedelta64(longest) or lead % step != np.timedelta64(0):
        raise ValueError(
            f"plots: lead {plot.lead} is none of the forecast's, "
            f"which go to {longest} in steps of {format_duration(step)}"
        )
