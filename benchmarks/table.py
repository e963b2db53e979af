"""Write the tables of ``docs/operators.md`` from the committed results.

python benchmarks/table.py
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "operators.md"
BEGIN, END = "<!-- table: python benchmarks/table.py -->", "<!-- end of table -->"


def cell(part: dict[str, Any]) -> str:
    """Return a ratio, bold where it misses its goal."""
    text = f"{part['ratio']:.2f}"
    return text if part["met"] else f"**{text}**"


def goal(part: dict[str, Any]) -> str:
    """Return a goal, or nothing."""
    return "" if part["goal"] is None else f"{part['goal']:g}"


def table(result: dict[str, Any]) -> str:
    """Return the operators' table in Markdown."""
    rows = {(row["name"], row["threads"]): row for row in result["rows"]}
    lines = [
        "| operator | against | forward, 1 / 2 threads | goal | forward + backward, 1 / 2 threads | goal | kept | peak | time / floor |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (name, threads), one in rows.items():
        if threads != 1:
            continue
        two = rows.get((name, 2), one)
        saved, peak = one["saved_bytes"], one.get("peak_bytes", {"ours": -1, "theirs": -1})
        memory = f"{peak['ours'] / peak['theirs']:.2f}" if peak["theirs"] > 0 and peak["ours"] > 0 else ""
        parts = [f"{cell(one[kind])} / {cell(two[kind])} | {goal(one[kind])}" for kind in ("forward", "forward_backward")]
        kept = f"{saved['ours'] / max(1, saved['theirs']):.2f}"
        lines.append(f"| {name} | {one['against']} | {' | '.join(parts)} | {kept} | {memory} | {one.get('forward_over_floor', '')} |")
    return "\n".join(lines)


def main() -> None:
    """Replace the table in the page."""
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    result = json.loads((ROOT / "benchmarks" / "results" / "operators.json").read_text())
    PAGE.write_text(f"{before}{BEGIN}\n{table(result)}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
