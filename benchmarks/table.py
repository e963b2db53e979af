"""Write the tables of the pages in ``docs/`` from the committed results.

It is run as ``python benchmarks/table.py``.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accuracy_table import accuracy_ablation_table, accuracy_table
from global_table import free_run_table, global_table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
END = "<!-- end of table -->"


def cell(part: dict[str, Any]) -> str:
    """Return a ratio, in bold if it misses its goal."""
    text = f"{part['ratio']:.2f}"
    return text if part["met"] else f"**{text}**"


def goal(part: dict[str, Any]) -> str:
    """Return a goal, or an empty cell."""
    return "" if part["goal"] is None else f"{part['goal']:g}"


def operators_table(result: dict[str, Any]) -> str:
    """Return the table of operators in Markdown."""
    rows = {(row["name"], row["threads"]): row for row in result["rows"]}
    lines = [
        "| operator | against | forward, 1 / 2 threads | goal | forward + backward, 1 / 2 threads | goal "
        "| saved memory | peak memory | time / floor |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (name, threads), one in rows.items():
        if threads != 1:
            continue
        two = rows.get((name, 2), one)
        saved = one["saved_bytes"]
        peak = one.get("peak_bytes", {"ours": -1, "theirs": -1})
        memory = f"{peak['ours'] / peak['theirs']:.2f}" if peak["theirs"] > 0 and peak["ours"] > 0 else ""
        parts = [
            f"{cell(one[kind])} / {cell(two[kind])} | {goal(one[kind])}"
            for kind in ("forward", "forward_backward")
        ]
        saved_ratio = f"{saved['ours'] / max(1, saved['theirs']):.2f}"
        cells = [name, one["against"], *parts, saved_ratio, memory, str(one.get("forward_over_floor", ""))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def physics_table(result: dict[str, Any]) -> str:
    """Return the table of physics-informed networks in Markdown."""
    lines = [
        "| equation | error | goal | stretch | CPU s | residual, trained / held out | CPU s of the solver |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        error = f"{row['error']:.1e}" if row["met"] in (None, True) else f"**{row['error']:.1e}**"
        goals = [f"{row[name]:g}" if row[name] else "" for name in ("goal", "stretch")]
        residual = f"{row['training']:.1e} / {row['held_out']:.1e}"
        cells = [
            row["label"],
            error,
            *goals,
            f"{row['cpu_seconds']:.0f}",
            residual,
            f"{row['solver_cpu_seconds']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def atmosphere_table(result: dict[str, Any]) -> str:
    """Return the table of balances in Markdown."""
    lines = ["| balance | residual | relative to |", "|---|---|---|"]
    lines += [
        f"| {row['balance']} | {row['residual']:.3g} {row['units']} "
        f"| {row['scale']:.3g} ({row['quantity']}) |"
        for row in result["rows"]
    ]
    return "\n".join(lines)


def solving_table(result: dict[str, Any]) -> str:
    """Return the table of solution operators in Markdown."""
    lines = [
        "| operator | error | goal | stretch | solution, s | training, s | reference solver, s "
        "| coarse solver: error, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        if row["kind"] != "pipe":
            goals = [f"{row[name]:g}" if row[name] else "" for name in ("goal", "stretch")]
            error = (
                f"{row['error']:.1e}"
                if not row["goal"] or row["error"] <= row["goal"]
                else f"**{row['error']:.1e}**"
            )
            coarse = f"{row['coarse']['error']:.1e}, {row['coarse']['seconds']:.3f}" if row["coarse"] else ""
            cells = [
                row["label"],
                error,
                *goals,
                f"{row['seconds']:.3f}",
                f"{row['training_seconds']:.0f}",
                f"{row['solver_seconds']:.3f}",
                coarse,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def pipe_table(result: dict[str, Any]) -> str:
    """Return the table of recovered viscosities in Markdown."""
    lines = [
        "| true viscosity | estimate | standard deviation | misfit / noise | error of the operator "
        "| training, s |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        if row["kind"] == "pipe":
            cells = [
                f"{row['true']:g}",
                f"{row['value']:.5f}",
                f"{row['standard_deviation']:.5f}",
                f"{row['misfit_over_noise']:.2f}",
            ]
            cells += [f"{row['operator']:.1e}", f"{row['training_seconds']:.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def loader_table(result: dict[str, Any]) -> str:
    """Return the table of loaders in Markdown."""
    goals = {"direct / raw limit": 0.5, "dask / xarray+dask": 5.0, "direct / anemoi-datasets": 1.0}
    one, two = result["rows"]
    head = [f"| | {one['grid']} | {two['grid']} |", "|---|---|---|"]
    rates = [
        f"| {label} | {value:,.0f} | {two['samples_per_second'][label]:,.0f} |"
        for label, value in one["samples_per_second"].items()
    ]
    ratios = []
    for label, value in one["ratios"].items():
        cells = [
            f"{v:.2f}" if v >= goals.get(label, 0) else f"**{v:.2f}**" for v in (value, two["ratios"][label])
        ]
        ratios.append(
            f"| {label}{f', goal {goals[label]:g}' if label in goals else ''} | {cells[0]} | {cells[1]} |"
        )
    return "\n".join([*head, *rates, *ratios])


def soak_table(result: dict[str, Any]) -> str:
    """Return the counts of the soak test in Markdown."""
    lines = ["| | |", "|---|---|"]
    for name, value in result.items():
        if isinstance(value, dict):
            shown = ", ".join(f"{count} {key}" for key, count in value.items()) or "none"
        else:
            shown = str(len(value) if isinstance(value, list) else value)
        lines.append(f"| {name} | {shown} |")
    return "\n".join(lines)


def jobs_start_table(result: dict[str, Any]) -> str:
    """Return the durations of a run without due cycles in Markdown."""
    command = f"{result['command_seconds']:.2f}"
    cells = [
        command if result["met"] else f"**{command}**",
        f"{result['baseline_seconds']:.2f}",
        f"{result['ratio']:.2f}",
        f"{result['limit_seconds']:.2f}",
        f"{result['command_cpu_seconds']:.2f}",
        f"{result['baseline_cpu_seconds']:.2f}",
    ]
    names = f"`{result['command']}`, nothing due [s] | `{result['baseline']}` [s]"
    header = f"| {names} | ratio | limit [s] | its CPU time [s] | CPU time of the baseline [s] |"
    return "\n".join([header, "|---|---|---|---|---|---|", f"| {' | '.join(cells)} |"])


def training_errors_table(result: dict[str, Any]) -> str:
    """Return the table of validation errors in Markdown."""
    lines = ["| | learning rate | validation error | relative to AdamW |", "|---|---|---|---|"]
    names = {"adamw": "AdamW", "muon": "Muon", "soap": "SOAP"}
    for row in result["errors"]:
        label = names.get(row["name"], f"AdamW, {row['name']}")
        rate = row.get("learning_rate", result["errors"][0]["learning_rate"])
        lines.append(f"| {label} | {rate:g} | {row['error']:.4f} | {row['ratio']:.3f} |")
    return "\n".join(lines)


def training_cost_table(result: dict[str, Any]) -> str:
    """Return the table of the time and memory of a training step in Markdown."""
    memory = {row["name"]: row for row in result["memory"]}
    rows = [*result["steps"], *result.get("compiled", [])[1:]]
    lines = [
        "| | CPU time of a step | of it optimizer [ms] | peak memory of a step |",
        "|---|---|---|---|",
    ]
    for row in rows:
        update = f"{row['optimizer_ms']:.1f}" if "optimizer_ms" in row else ""
        peak = f"{memory[row['name']]['ratio']:.2f}" if row["name"] in memory else ""
        lines.append(f"| {row['name']} | {row['ratio']:.2f} | {update} | {peak} |")
    return "\n".join(lines)


def _layout(row: dict[str, Any]) -> str:
    """Return how the work of a row is divided."""
    bands = f", {row['bands']} bands" if row["bands"] > 1 else ""
    return f"{row['parallel']}{bands}"


def scaling_table(result: dict[str, Any]) -> str:
    """Return the table of measured communication and memory in Markdown."""
    lines = [
        "| processes | layout | MB sent per step, all processes | by formula | state per process [MB] "
        "| activations per process [MB] |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        layout = "one process" if row["processes"] == 1 else _layout(row)
        sizes = [
            row[name] / 1e6 for name in ("sent_bytes", "expected_bytes", "state_bytes", "activation_bytes")
        ]
        cells = [str(row["processes"]), layout, *(f"{size:.2f}" for size in sizes)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def scaling_paper_table(result: dict[str, Any]) -> str:
    """Return the table of the cost of a large model in Markdown."""
    large = result["large"]
    lines = [
        f"{large['parameters'] / 1e6:.0f} million parameters: width {large['width']}, "
        f"{large['layers']} layers, {large['lmax']} degrees; k = {large['fields_saved_per_layer']:.1f}; "
        "one sample for each part of a batch.",
        "",
        "| devices | layout | batch | gradients sent per device [GB] | bands sent per device [GB] "
        "| state per device [GB] | activations per device [GB] |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["paper"]:
        layout = "one device" if row["devices"] == 1 else _layout(row)
        sizes = [row[name] / 1e9 for name in ("gradients_sent", "bands_sent", "state", "activations")]
        cells = [str(row["devices"]), layout, str(row["batch"]), *(f"{size:.2f}" for size in sizes)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# Name of the result, page that shows it, and function that formats it.
TABLES: list[tuple[str, str, Callable[[dict[str, Any]], str]]] = [
    ("operators", "operators", operators_table),
    ("physics_quick", "physics", physics_table),
    ("physics", "physics", physics_table),
    ("physics_curriculum", "physics", physics_table),
    ("atmosphere", "physics", atmosphere_table),
    ("solving", "physics", solving_table),
    ("solving", "physics", pipe_table),
    ("loader", "data", loader_table),
    ("soak", "operations", soak_table),
    ("jobs_start", "operations", jobs_start_table),
    ("training_cost", "optimizers", training_errors_table),
    ("training_cost", "optimizers", training_cost_table),
    ("scaling", "scaling", scaling_table),
    ("scaling", "scaling", scaling_paper_table),
    ("accuracy", "accuracy", accuracy_table),
    ("accuracy", "accuracy", accuracy_ablation_table),
    ("global_sfno", "skill", global_table),
    ("global_fno", "skill", global_table),
    ("global_sfno", "skill", free_run_table),
    ("global_fno", "skill", free_run_table),
]

PARTS = {
    pipe_table: "pipes: ",
    training_cost_table: "steps: ",
    scaling_paper_table: "paper: ",
    accuracy_ablation_table: "ablation: ",
    free_run_table: "free run: ",
}
"""Prefixes of the markers of second tables from one result."""


def main() -> None:
    """Replace the tables of all results that exist."""
    for result, page, render in TABLES:
        if not (RESULTS / f"{result}.json").exists():
            continue
        part = PARTS.get(render, "")
        path = ROOT / "docs" / f"{page}.md"
        marker = f"<!-- table of {part}{result}.json: python benchmarks/table.py -->"
        before, rest = path.read_text().split(marker)
        markdown = render(json.loads((RESULTS / f"{result}.json").read_text()))
        path.write_text(f"{before}{marker}\n{markdown}\n{END}{rest.split(END, 1)[1]}")


if __name__ == "__main__":
    main()
