"""The saved state of a training run: one safetensors file, replaced whole."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

Tensors = dict[str, Tensor]


def save_tensors(tensors: Tensors, path: Path, meta: dict[str, Any] | None = None) -> None:
    """Write tensors to a safetensors file and onto the disk.

    Raises:
        OSError: the file cannot be written, most likely for lack of room.
    """
    try:
        save_file(tensors, path, metadata=None if meta is None else {"meta": json.dumps(meta)})
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    except (SafetensorError, OSError) as error:
        raise OSError(f"no room to write {path} ({error}); what was there before is kept: free some space and run it again") from error


def save_state(path: Path, groups: dict[str, Tensors], meta: dict[str, Any]) -> None:
    """Write tensors and metadata so that ``path`` always holds the old state or the new one.

    Args:
        path: file to replace.
        groups: tensors by group and name.
        meta: anything JSON can hold.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"{group}:{name}": t.detach().contiguous() for group, named in groups.items() for name, t in named.items()}
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        save_tensors(tensors, temporary, meta)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_state(path: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Read what ``save_state`` wrote.

    Raises:
        ValueError: the file is not such a state.
    """
    groups: dict[str, Tensors] = {}
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads(file.metadata()["meta"])
            for key in file.keys():  # noqa: SIM118 (not a dict)
                group, name = key.split(":", 1)
                groups.setdefault(group, {})[name] = file.get_tensor(key)
    except FileNotFoundError:
        raise
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(f"{path} is not a training state ({error}); remove it to start over") from error
    return groups, meta


def optimizer_tensors(optimizer: Optimizer) -> Tensors:
    """Return the optimizer's state as named tensors."""
    return {f"{index}.{name}": torch.as_tensor(value) for index, state in optimizer.state_dict()["state"].items() for name, value in state.items()}


def restore_optimizer(optimizer: Optimizer, tensors: Tensors) -> None:
    """Put back what ``optimizer_tensors`` returned."""
    state = optimizer.state_dict()
    state["state"] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state["state"].setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(state)
