"""The saved state of a training run: one safetensors file, which is replaced atomically."""

import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import OtherRunError, WeightsError
from ..weights.blueprint import compare
from ..weights.regular_file import check_memory
from ..weights.tensor_file import read_file, read_header
from .changes import explain_changes
from .files import replacing_file
from .finite import check_saved
from .optimizers.mixed import state_shapes
from .restoration import Restoration

Tensors = dict[str, Tensor]
_NUMBERS: dict[str, Any] = {"bool": bool, "int": int, "float": float}


def save_tensors(tensors: Tensors, path: Path, meta: dict[str, Any] | None = None) -> None:
    """Write tensors to a new safetensors file, flush it to the disk, and give it the default file mode.

    Args:
        tensors: tensors by name.
        path: file to create.
        meta: metadata, anything that JSON can represent.

    Raises:
        OSError: the file exists or cannot be written, most likely because the disk is full.
    """
    # safetensors writes through a temporary file of mode 0600; the umask applies to a file opened here.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    try:
        save_file(tensors, path, metadata=None if meta is None else {"meta": json.dumps(meta)})
        with open(path, "rb") as file:
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
    except (SafetensorError, OSError) as error:
        raise OSError(
            f"no room to write {path} ({error}); the previous content is kept: free some space and run it "
            "again"
        ) from error


def save_state(path: Path, groups: dict[str, Tensors], meta: dict[str, Any]) -> None:
    """Replace a state so that ``path`` contains the old or the new one, even after a power failure.

    Args:
        path: file to replace.
        groups: tensors by group and name.
        meta: metadata, anything that JSON can represent.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{group}:{name}": t.detach().contiguous()
        for group, named in groups.items()
        for name, t in named.items()
    }
    with replacing_file(path) as temporary:
        save_tensors(tensors, temporary, meta)


class StateMeta(dict[str, Any]):
    """Metadata of a saved state; a missing key raises ``ValueError`` with the path of the file."""

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        super().__init__(values)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise not_a_state(self.path, f"it has no {key}")


def load_state(path: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Return the tensors by group and name, and the metadata, that ``save_state`` wrote.

    Raises:
        ValueError: the file is not a training state.
    """
    groups: dict[str, Tensors] = {}
    meta = load_meta(path)
    try:
        entries = read_header(path)
        check_memory(path, sum(entry.nbytes for entry in entries.values()))
        for key, tensor in read_file(path, entries).items():
            group, name = key.split(":", 1)
            groups.setdefault(group, {})[name] = tensor
    except FileNotFoundError:
        raise
    except (SafetensorError, KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        raise not_a_state(path, str(error)) from error
    return groups, meta


def load_meta(path: Path) -> dict[str, Any]:
    """Return the metadata that ``save_state`` wrote, without reading the tensors.

    Raises:
        ValueError: the file is not a training state.
    """
    try:
        read_header(path)
        with safe_open(path, framework="pt") as file:
            meta = json.loads(file.metadata()["meta"])
    except FileNotFoundError:
        raise
    except (SafetensorError, KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        raise not_a_state(path, str(error)) from error
    if not isinstance(meta, dict):
        raise not_a_state(path, f"its metadata is a {type(meta).__name__}")
    for name, value in meta.items():
        if not _is_valid(name, value):
            raise not_a_state(path, f"its {name} is {str(value)[:80]!r}")
    return StateMeta(meta, path)


def load_own_state(
    path: Path, fingerprint: str, *, description: Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensors], dict[str, Any]] | None:
    """Return the state that an earlier start of the same run saved, as ``load_state`` does; None without one.

    Args:
        path: file of the state.
        fingerprint: identifies everything that the result of the run depends on.
        description: what the fingerprint was computed from, as nested JSON values.

    Raises:
        OtherRunError: the state has another fingerprint; the message lists what changed.
        ValueError: the file is not a training state.
        NonFiniteError: the state has values that are not finite.
    """
    if not path.exists():
        return None
    groups, meta = load_state(path)
    if meta["fingerprint"] != fingerprint:
        changes = explain_changes(meta.get("description"), description or {})
        raise OtherRunError(
            f"{path.parent} contains a run with other settings or data ({changes}); choose another output, "
            "or remove it"
        )
    check_saved(path, groups, meta["step"])
    return groups, meta


def not_a_state(path: Path, why: str) -> ValueError:
    """Return the error for a file that is not a training state.

    Args:
        path: file.
        why: reason, for the message.
    """
    return ValueError(f"{path} is not a training state ({why}); remove it to start over")


def _is_valid(name: str, value: Any) -> bool:
    """Return whether a value of the metadata has the type and range that its name requires."""
    if name in ("step", "done", "stale", "total"):
        return type(value) is int and 0 <= value < 2**53
    if name == "best_epoch":
        return value is None or (type(value) is int and 0 <= value < 2**53)
    if name in ("best_score", "lead_hours"):
        return value is None or (isinstance(value, float | int) and not isinstance(value, bool))
    if name == "window":
        return isinstance(value, dict) and type(value.get("iterations")) is int
    if name == "fingerprint":
        return isinstance(value, str)
    if name == "unvalidated":
        return isinstance(value, bool)
    if name == "description":
        return isinstance(value, dict)
    if name == "origin":
        return value is None or (isinstance(value, dict) and {"run", "step", "fingerprint"} <= set(value))
    if name == "sums":
        return isinstance(value, dict) and all(_is_sum(entry) for entry in value.values())
    if name == "restorations":
        return isinstance(value, list) and all(Restoration.accepts(entry) for entry in value)
    if name == "totals":
        return (
            isinstance(value, dict)
            and set(value) == {"residual", "held_out"}
            and all(_finite(total) for total in value.values())
        )
    return True


def _is_sum(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_finite(number) for number in value)


def _finite(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)


def restore_model(model: nn.Module, groups: Mapping[str, Tensors], group: str, *, path: Path) -> Tensors:
    """Load a group of a saved state into a model, and return its tensors.

    Args:
        model: model to change.
        groups: tensors of the state by group and name.
        group: group to load.
        path: file of the state, for error messages.

    Raises:
        ValueError: the tensors do not match the model.
    """
    tensors = matching(model, groups, group, path=path)
    model.load_state_dict(tensors)
    return tensors


def matching(model: nn.Module, groups: Mapping[str, Tensors], group: str, *, path: Path) -> Tensors:
    """Return the tensors of a group of a saved state after comparing names and shapes with a model.

    Args:
        model: model to compare with.
        groups: tensors of the state by group and name.
        group: group to return.
        path: file of the state, for error messages.

    Raises:
        ValueError: the tensors do not match the model.
    """
    try:
        compare(model, groups.get(group, {}), f"the group {group} of {path}")
    except WeightsError as error:
        raise not_a_state(path, str(error)) from error
    return groups[group]


def optimizer_tensors(optimizer: Optimizer) -> Tensors:
    """Return the state of an optimizer as named tensors.

    Python numbers are named ``index.name#type``, so that they are restored as such.

    Raises:
        ValueError: the optimizer keeps something else, which cannot be saved.
    """
    tensors: Tensors = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value
            elif type(value).__name__ in _NUMBERS:
                exact = torch.float64 if isinstance(value, float) else None
                tensors[f"{index}.{name}#{type(value).__name__}"] = torch.tensor(value, dtype=exact)
            else:
                raise ValueError(
                    f"the optimizer {type(optimizer).__name__} keeps {name!r} as a {type(value).__name__}, "
                    "which cannot be saved: it needs tensors and numbers"
                )
    return tensors


def restore_optimizer(optimizer: Optimizer, tensors: Tensors) -> None:
    """Restore the state of an optimizer.

    Args:
        optimizer: optimizer to change.
        tensors: state as named tensors, from ``optimizer_tensors``.

    Raises:
        ValueError: the tensors do not match the parameters of the optimizer.
    """
    state = optimizer.state_dict()
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    expected = state_shapes(optimizer)
    state["state"] = {}
    for key, value in tensors.items():
        index, _, rest = key.partition(".")
        name, _, number = rest.partition("#")
        known = index.isdecimal() and int(index) < count and (not number or number in _NUMBERS)
        if known and expected is not None:
            known = expected[int(index)].get(name) == tuple(value.shape) and not number
        if not known:
            raise ValueError(
                f"the saved moments {key[:80]!r} of the optimizer fit no parameter; remove the training "
                "state to start over"
            )
        moments = state["state"].setdefault(int(index), {})
        moments[name] = _NUMBERS[number](value.item()) if number else value
    # A parameter that is not used has no moments.
    if expected is not None and any(set(m) != set(expected[i]) for i, m in state["state"].items()):
        raise ValueError(
            "the saved moments of the optimizer are not those of all parameters; remove the training state "
            "to start over"
        )
    optimizer.load_state_dict(state)
