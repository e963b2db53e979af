"""Running what was trained on an equation: which of them a checkpoint holds, and what it is asked for."""

from pathlib import Path
from typing import Any

from ..fno.progress import Progress
from .checkpoint.meta import read_meta
from .pinn import evaluate
from .solutions import solve

USED = {
    "pinn": (
        {"grid", "device"},
        "a physics-informed network is evaluated on --grid TIMESxPLACES, from no data",
    ),
    "operator": (
        {"init", "refine", "device", "follow_links"},
        "a solution operator solves for --init, at its grid and times, which may be any",
    ),
}
"""Options of ``forecast run`` that what is trained on an equation uses, by kind of checkpoint, and why it
uses no other.
"""


def run_physics(
    checkpoint: Path,
    init: Path | None,
    grid: str | None,
    output: Path,
    refine: int,
    device: str | None,
    overwrite: bool,
    progress: Progress | None,
    *,
    follow_links: bool = False,
) -> dict[str, Any] | None:
    """Write what a physics-informed network or a solution operator gives, and say what was made; None for any
    other checkpoint.

    Raises:
        ValueError: an option that the checkpoint has no use for, or ``init`` is missing.
    """
    kind = read_meta(checkpoint).get("kind")
    if device not in (None, "cpu") and (kind == "pinn" or refine):
        what = "a physics-informed network is evaluated" if kind == "pinn" else "refinement runs"
        raise ValueError(f"{what} on the CPU, not on {device}; leave out --device")
    if kind == "pinn":
        made = evaluate(checkpoint, grid or "101x256", output, overwrite)
        text = f"u on {made.sizes['t']} times by {made.sizes['x']} places"
    elif kind == "operator":
        if init is None:
            raise ValueError(
                "--init is missing: name the store of simulations that holds the initial states or coefficients"
            )
        made = solve(checkpoint, init, output, refine, device, overwrite, progress, follow_links=follow_links)
        text = f"{made.sizes['sample']} solutions of {', '.join(map(str, made.data_vars))}"
    else:
        return None
    outside = {name: text for name, text in made.attrs.items() if name == "outside_training"}
    return {
        "output": str(output),
        "solved": text,
        **{str(n): size for n, size in made.sizes.items()},
        **outside,
    }
