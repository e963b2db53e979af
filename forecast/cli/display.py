"""Progress and tables of the command: a progress bar on a terminal, log lines elsewhere."""

import math
import sys
import time
from typing import TYPE_CHECKING, Any

from ..text import one_line

if TYPE_CHECKING:
    from ...fno.progress import Progress


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


def score_table(rows: list[dict[str, Any]]) -> str:
    """Return the table of scores: a row a lead time, RMSE of each forecast, and skill."""
    lines = []
    for key in dict.fromkeys((row["variable"], row["level"]) for row in rows):
        mine = [row for row in rows if (row["variable"], row["level"]) == key]
        name = key[0] if key[1] is None else f"{key[0]} {key[1]} hPa"
        lines.append(f"RMSE of {name} [{mine[0]['units']}]")
        ensemble = "crps" in mine[0]
        further = f" {'CRPS':>9} {'spread':>9} {'/ error':>7}" if ensemble else ""
        lines.append(
            f"{'lead':>8} {'model':>10} {'persistence':>12} {'damped pers.':>13} {'climatology':>12} "
            f"{'skill':>7}{further}"
        )
        for row in mine:
            skill = "-" if row["skill"] is None or row["lead_hours"] == 0 else f"{100 * row['skill']:.1f} %"
            errors = row["rmse"]
            numbers = (
                f"{errors['forecast']:10.4g} {errors['persistence']:12.4g} "
                f"{errors['damped_persistence']:13.4g} {errors['climatology']:12.4g}"
            )
            further = f" {row['crps']:9.4g} {row['spread']:9.4g} {_ratio(row):>7}" if ensemble else ""
            lines.append(f"{row['lead_hours']:6g} h {numbers} {skill:>7}{further}")
        lines.append("")
    legend = ["skill: 1 - RMSE / RMSE of damped anomaly persistence"]
    if any("crps" in row for row in rows):
        legend.append("/ error: spread over the error of the mean, 1 where the ensemble is reliable")
    return "\n".join([*lines, *legend])


def _ratio(row: dict[str, Any]) -> str:
    return f"{row['spread_error_ratio']:.2f}" if math.isfinite(row["spread_error_ratio"]) else "-"


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
