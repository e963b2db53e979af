"""Initial weights of a run that continues another one: a file next to its state."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from .state import Tensors, load_state, matching, save_state

START = "start.safetensors"


def fork_state(state: Path, folder: Path, run: str) -> dict[str, Any]:
    """Write the weights of a saved state as the initial weights of a new run.

    They are what training would return if it ended with that state: the averaged weights of the best
    validation score, or without one the latest averaged weights. Optimizer, step and scores start again.

    Args:
        state: file of the saved state.
        folder: folder of the state of the new run.
        run: name of the earlier run, for its record.

    Returns:
        The record of the origin: run, step and fingerprint of the earlier run.

    Raises:
        ValueError: it is not the state of a network that is trained step by step.
    """
    groups, meta = load_state(state)
    weights = groups.get("best") or groups.get("average")
    if weights is None:
        raise ValueError(f"{state} has no averaged weights that another run could start from")
    origin = {"run": run, "step": meta["step"], "fingerprint": meta["fingerprint"]}
    save_state(folder / START, {"model": weights}, {"step": 0, "origin": origin})
    return origin


def read_origin(folder: Path) -> dict[str, Any] | None:
    """Return the record of the origin of a run's initial weights; None without such weights."""
    path = folder / START
    return dict(load_state(path)[1]["origin"]) if path.exists() else None


def load_start(
    model: nn.Module, folder: Path, parts: Callable[[Tensors], Tensors] = dict
) -> dict[str, Any] | None:
    """Load the initial weights of a run into a model, and return the record of their origin.

    None without such weights.

    Args:
        model: model to change.
        folder: folder of the state of the run.
        parts: returns this process's parts of the tensors of the model.

    Raises:
        ValueError: the weights do not fit the model.
    """
    path = folder / START
    if not path.exists():
        return None
    groups, meta = load_state(path)
    origin: dict[str, Any] = meta["origin"]
    try:
        tensors = matching(model, groups, "model", path=path)
    except ValueError as error:
        cause = error.__cause__ or error
        raise ValueError(
            f"the weights of {origin['run']} do not fit the model of the new run ({cause}); the model and "
            "the variables must be the same"
        ) from error
    model.load_state_dict(parts(tensors))
    return origin
