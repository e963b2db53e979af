"""Progress and tables of the command: a progress bar on a terminal, log lines elsewhere."""

import math
import sys
import time
from typing import TYPE_CHECKING, Any

from ..text import one_line

if TYPE_CHECKING:
    from ...fno.progress import Progress

_SOURCES = {"forecast": "model", "damped_persistence": "damped persistence"}
"""Headings of the scored forecasts where they differ from the names."""


class Display:
    """Progress of consecutive stages, on standard error.

    Args:
        enabled: show progress.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._bar: Any = None
        if enabled and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description:>8}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f}%"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(
                *columns, TextColumn("{task.fields[text]}", markup=False), console=Console(stderr=True)
            )

    def __enter__(self) -> "Display":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def stage(self, name: str) -> "Progress":
        """Return the callback that shows the progress of a stage."""
        if not self.enabled:
            return lambda done, total, text: None
        if self._bar:
            task: list[Any] = []

            def update(done: int, total: int, text: str) -> None:
                if not task:
                    task.append(self._bar.add_task(name, total=total, text=one_line(text)))
                self._bar.update(task[0], completed=done, total=total, text=one_line(text))

            return update
        last = [0.0, -1]

        def line(done: int, total: int, text: str) -> None:
            tenth = 10 * done // max(1, total)
            if tenth > last[1] and (time.monotonic() - last[0] > 1 or done == total):
                last[:] = [time.monotonic(), tenth]
                percent = 100 * done // max(1, total)
                print(f"{name} {percent}%: {one_line(text)}", file=sys.stderr, flush=True)

        return line


def score_table(scores: list[dict[str, Any]]) -> str:
    """Return a table for each channel: a row for each lead time, a column for each score.

    Args:
        scores: rows as ``ScoreRow.to_dict`` returns them.
    """
    from ..verification.metrics.selection import find_metric
    from ..verification.summary import ScoreRow

    rows = [ScoreRow.from_dict(row) for row in scores]
    labels = {name: find_metric(name).label for row in rows for name in row.metrics}
    lines = []
    for channel in dict.fromkeys((row.variable, row.level) for row in rows):
        table = [row for row in rows if (row.variable, row.level) == channel]
        lines.append(f"{'RMSE' if table[0].rmse else 'scores'} of {table[0].channel} [{table[0].units}]")
        for i, row in enumerate(table):
            cells = {"lead": f"{row.lead_hours:g} h"}
            if row.rmse is not None:
                cells |= {_SOURCES.get(source, source): f"{x:.4g}" for source, x in row.rmse.items()}
                skill = None if row.lead_hours == 0 else row.skill
                cells["skill"] = "-" if skill is None else f"{100 * skill:.1f} %"
            cells |= {labels[name]: _format_score(name, value) for name, value in row.metrics.items()}
            widths = [max(len(heading), 8) for heading in cells]
            if i == 0:
                lines.append("  ".join(map(str.rjust, cells, widths)))
            lines.append("  ".join(map(str.rjust, cells.values(), widths)))
        lines.append("")
    legend = []
    if any(row.rmse is not None for row in rows):
        legend.append("skill: 1 - RMSE / RMSE of damped anomaly persistence")
    if "spread_error_ratio" in labels:
        legend.append("spread / error: spread over the error of the mean, 1 where the ensemble is reliable")
    return "\n".join([*lines, *legend])


def _format_score(name: str, value: float) -> str:
    digits = {"acc": ".3f", "spread_error_ratio": ".2f"}.get(name, ".4g")
    return format(value, digits) if math.isfinite(value) else "-"


def describe(values: dict[str, Any]) -> str:
    """Return nested values as indented lines."""
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += [f"{key}:"] + ["  " + line for line in describe(value).splitlines()]
        elif isinstance(value, list) and value and isinstance(value[0], str) and len(value) > 2:
            lines += [f"{key}:"] + [f"  {item}" for item in value]
        else:
            lines.append(f"{key}: {value if not isinstance(value, list) else ', '.join(map(str, value))}")
    return "\n".join(lines)
