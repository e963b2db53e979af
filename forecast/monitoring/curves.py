"""Curves of a training run from the records of its log."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...fno.training.log import losses_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = dict[str, Any]

_LEADS = 4  # curves of validation scores
_POINTS = 40  # above which curves are drawn without markers


def draw_curves(records: Sequence[Record], *, title: str = "", lead_hours: float | None = None) -> "Figure":
    """Return a figure of loss, learning rate, and validation score by epoch and by lead time.

    Of a physics-informed network, whose records have windows, loss terms by iteration are drawn.

    Args:
        records: records of ``log.jsonl``.
        title: title of the figure.
        lead_hours: duration of a step of the validation rollouts [h]; None if unknown.
    """
    from matplotlib.figure import Figure

    if any("window" in record for record in records):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        _draw_windows(figure.subplots(), records)
    else:
        figure = Figure(figsize=(11, 7.5), layout="constrained")
        panels = figure.subplots(2, 2)
        epochs = [record for record in records if "failed_step" not in record]
        returns = [record["epoch"] + 1 for record in records if "failed_step" in record]
        _draw_losses(panels[0, 0], epochs)
        _draw_rate(panels[0, 1], epochs)
        _draw_scores(panels[1, 0], epochs, lead_hours)
        _draw_leads(panels[1, 1], epochs, lead_hours)
        for panel in (panels[0, 0], panels[0, 1], panels[1, 0]):
            panel.set_xlabel("epoch")
            panel.xaxis.get_major_locator().set_params(integer=True)
            for epoch in returns:
                panel.axvline(epoch, color="C3", linestyle=":", linewidth=1)
    figure.suptitle(title)
    return figure


def _draw_losses(panel: "Axes", epochs: Sequence[Record]) -> None:
    names = list(dict.fromkeys(name for record in epochs for name in losses_of(record)))
    for name in names:
        rows = [(r["epoch"] + 1, losses_of(r)[name]) for r in epochs if name in losses_of(r)]
        panel.plot(*zip(*rows, strict=True), _style(len(rows)), label=name)
    panel.set(title="training loss", ylabel="loss")
    if all(value > 0 for record in epochs for value in losses_of(record).values()) and epochs:
        panel.set_yscale("log")
    if len(names) > 1:
        panel.legend(fontsize="small")
    panel.grid(alpha=0.3, which="both")


def _draw_rate(panel: "Axes", epochs: Sequence[Record]) -> None:
    rows = [(r["epoch"] + 1, r["learning_rate"]) for r in epochs if "learning_rate" in r]
    panel.set(title="learning rate at the end of the epoch", ylabel="learning rate")
    if rows:
        panel.plot(*zip(*rows, strict=True), _style(len(rows)))
        panel.set_ylim(bottom=0)
    else:
        _say(panel, "not recorded")
    panel.grid(alpha=0.3)


def _draw_scores(panel: "Axes", epochs: Sequence[Record], lead_hours: float | None) -> None:
    validated = [record for record in epochs if record.get("validation_rmse")]
    panel.set(title="validation error by epoch", ylabel="RMSE, normalised")
    if not validated:
        _say(panel, "no validation data")
        return
    x = [record["epoch"] + 1 for record in validated]
    longest = max(len(record["validation_rmse"]) for record in validated)
    # Steps at even intervals, the first and the last among them.
    for step in dict.fromkeys(np.linspace(1, longest, min(_LEADS, longest)).round().astype(int).tolist()):
        values = [_error(record, step) for record in validated]
        panel.plot(x, values, _style(len(x)), label=_lead(step, lead_hours))
    scores = [record.get("validation_score", np.nan) for record in validated]
    panel.plot(x, scores, "k-", linewidth=2, label="mean: score")
    if np.isfinite(scores).any():
        best = int(np.nanargmin(scores))
        panel.plot(x[best], scores[best], "k*", markersize=12, label=f"best: epoch {x[best]}")
    panel.set_ylim(bottom=0)
    panel.legend(fontsize="small", loc="lower right", ncols=2)
    panel.grid(alpha=0.3)


def _draw_leads(panel: "Axes", epochs: Sequence[Record], lead_hours: float | None) -> None:
    validated = [record for record in epochs if record.get("validation_rmse")]
    unit = "step" if lead_hours is None else "h"
    panel.set(title="validation error by lead time", ylabel="RMSE, normalised", xlabel=f"lead time [{unit}]")
    if not validated:
        _say(panel, "no validation data")
        return
    scored = [record for record in validated if "validation_score" in record]
    chosen = {"first": validated[0], "last": validated[-1]}
    if scored:
        chosen["best"] = min(scored, key=lambda record: float(record["validation_score"]))
    styles = {"first": "C7--", "last": "C0-", "best": "k-"}
    for name, record in chosen.items():
        steps = range(1, len(record["validation_rmse"]) + 1)
        x = [step * (lead_hours or 1) for step in steps]
        values = [_error(record, step) for step in steps]
        marker = "o" if len(values) <= _POINTS else ""
        label = f"{name}: epoch {record['epoch'] + 1}"
        panel.plot(x, values, styles[name] + marker, markersize=3, label=label)
    panel.set_ylim(bottom=0)
    panel.set_xlim(left=0)
    panel.legend(fontsize="small")
    panel.grid(alpha=0.3)


def _draw_windows(panel: "Axes", records: Sequence[Record]) -> None:
    """Draw the terms of a physics-informed network by iteration, over all windows of time."""
    names = list(dict.fromkeys(name for record in records for name in losses_of(record)))
    for name in names:
        rows = [(r["step"], losses_of(r)[name]) for r in records if losses_of(r).get(name, 0) > 0]
        if rows:
            panel.plot(*zip(*rows, strict=True), label=name)
    finished = [(r["step"], r["held_out"]) for r in records if r.get("held_out")]
    if finished:
        panel.plot(*zip(*finished, strict=True), "k*", label="held-out residual of a window")
    panel.set(title="terms of the loss, root mean square", xlabel="iteration")
    panel.set_yscale("log")
    if panel.lines:
        panel.legend(fontsize="small")
    panel.grid(alpha=0.3, which="both")


def _error(record: Record, step: int) -> float:
    """Return the validation error of a step, NaN where it is missing or not finite."""
    errors = record["validation_rmse"]
    value = errors[step - 1] if step <= len(errors) else None
    return np.nan if value is None else float(value)


def _lead(step: int, lead_hours: float | None) -> str:
    return f"step {step}" if lead_hours is None else f"{step * lead_hours:g} h"


def _style(points: int) -> str:
    return ".-" if points <= _POINTS else "-"


def _say(panel: "Axes", text: str) -> None:
    panel.text(0.5, 0.5, text, ha="center", va="center", transform=panel.transAxes, color="0.4")
