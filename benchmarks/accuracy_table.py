"""Tables of the accuracy benchmark in Markdown."""

from statistics import mean
from typing import Any


def accuracy_table(result: dict[str, Any]) -> str:
    """Return the table of errors of ours, the peer's and classical methods in Markdown."""
    lines = [
        "| samples | test | ours | goal | neuraloperator | classical "
        "| parameters, ours / theirs | epochs | seeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        if row["part"] == "ablation":
            continue
        ours, theirs = row["sides"]["ours"], row["sides"]["theirs"]
        for test, errors in ours["errors"].items():
            aim = row["goals"].get(test)
            met = aim is None or mean(errors) <= aim
            classical = "; ".join(
                f"{name} {values[test]:.2g}" for name, values in row["classical"].items() if test in values
            )
            cells = [
                row["label"],
                test,
                spread(errors) if met else f"**{spread(errors)}**",
                "" if aim is None else f"{aim:g}",
                spread(theirs["errors"][test]),
                classical,
                f"{ours['parameters']:,} / {theirs['parameters']:,}",
                str(ours["epochs"]),
                str(len(row["seeds"])),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(errors: list[float]) -> str:
    """Return the mean of errors, and the least and the largest if there are several."""
    text = f"{mean(errors):.2g}" if mean(errors) < 0.01 else f"{mean(errors):.3f}"
    digits = 4 if mean(errors) < 0.01 else 3
    return text if len(errors) == 1 else f"{text} ({min(errors):.{digits}f} ... {max(errors):.{digits}f})"


def accuracy_ablation_table(result: dict[str, Any]) -> str:
    """Return the table of what each ingredient brings in Markdown."""
    lines = ["| network and training | validation error | relative | parameters |", "|---|---|---|---|"]
    for row in result["rows"]:
        if row["part"] == "ablation":
            first = mean(row["sides"]["ours"]["errors"]["16, validation"])
            for name, side in row["sides"].items():
                error = mean(side["errors"]["16, validation"])
                label = name.replace("theirs", "neuraloperator")
                lines.append(f"| {label} | {error:.4f} | {error / first:.2f} | {side['parameters']:,} |")
    return "\n".join(lines)
