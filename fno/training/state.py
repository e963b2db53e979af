"""The saved state of a training run: one safetensors file, replaced whole."""

import json
import math
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import WeightsError
from ..weights.blueprint import compare
from ..weights.regular_file import check_memory
from ..weights.tensor_file import read_file, read_header

Tensors = dict[str, Tensor]


def save_tensors(tensors: Tensors, path: Path, meta: dict[str, Any] | None = None) -> None:
    """Write tensors to a new safetensors file and onto the disk, with the mode that any new file gets.

    Raises:
        OSError: the file cannot be written, most likely for lack of room, or exists.
    """
    # The library writes through a temporary file that no one else may read; the umask applies to a file
    # opened here.
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
            f"no room to write {path} ({error}); what was there before is kept: free some space and run it again"
        ) from error


def save_state(path: Path, groups: dict[str, Tensors], meta: dict[str, Any]) -> None:
    """Write tensors and metadata so that ``path`` always holds the old state or the new one, also after a
    power failure.

    Args:
        path: file to replace.
        groups: tensors by group and name.
        meta: anything JSON can hold.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{group}:{name}": t.detach().contiguous()
        for group, named in groups.items()
        for name, t in named.items()
    }
    with private_folder(path.with_name(f".{path.name}.tmp")) as folder:
        save_tensors(tensors, folder / path.name, meta)
        os.replace(folder / path.name, path)
    sync_folder(path.parent)


@contextmanager
def private_folder(path: Path) -> Iterator[Path]:
    """Make a folder that nobody else can write to, and remove it with all it holds afterwards.

    One that an earlier run left when it was killed is removed first, where it belongs to this user.

    Raises:
        OSError: something else has the name.
    """
    _clear(path)
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _clear(path: Path) -> None:
    try:
        owner, mode = os.lstat(path).st_uid, os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if owner != os.geteuid():
        raise OSError(f"{path} belongs to another user; remove it, or choose another output")
    if stat.S_ISDIR(mode):
        shutil.rmtree(path)
    else:
        path.unlink()


def sync_folder(path: Path) -> None:
    """Write the entries of a folder to the disk, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # of file systems that leave it to themselves
    finally:
        os.close(descriptor)


class StateMeta(dict[str, Any]):
    """What a saved state holds besides tensors; raises ``ValueError`` for a key that is missing."""

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        super().__init__(values)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise _no_state(self.path, f"it holds no {key}")


def load_state(path: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Read what ``save_state`` wrote.

    Raises:
        ValueError: the file is not such a state.
    """
    groups: dict[str, Tensors] = {}
    try:
        entries = read_header(path)
        check_memory(path, sum(entry.nbytes for entry in entries.values()))
        with safe_open(path, framework="pt") as file:
            meta = json.loads(file.metadata()["meta"])
        for key, tensor in read_file(path, entries).items():
            group, name = key.split(":", 1)
            groups.setdefault(group, {})[name] = tensor
    except FileNotFoundError:
        raise
    except (SafetensorError, KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        raise _no_state(path, str(error)) from error
    if not isinstance(meta, dict):
        raise _no_state(path, f"its description is a {type(meta).__name__}")
    for name, value in meta.items():
        if not _fits(name, value):
            raise _no_state(path, f"its {name} is {str(value)[:80]!r}")
    return groups, StateMeta(meta, path)


def _no_state(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} is not a training state ({why}); remove it to start over")


def _fits(name: str, value: Any) -> bool:
    """Return whether a value of the description can be what its name says."""
    if name in ("step", "done"):
        return type(value) is int and 0 <= value < 2**53
    if name == "best_epoch":
        return value is None or (type(value) is int and 0 <= value < 2**53)
    if name == "best_score":
        return value is None or (isinstance(value, float | int) and not isinstance(value, bool))
    if name == "window":
        return isinstance(value, dict) and type(value.get("iterations")) is int
    if name == "fingerprint":
        return isinstance(value, str)
    if name == "totals":
        return (
            isinstance(value, dict)
            and set(value) == {"residual", "held_out"}
            and all(_finite(total) for total in value.values())
        )
    return True


def _finite(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)


def restore_model(model: nn.Module, groups: Mapping[str, Tensors], group: str, path: Path) -> Tensors:
    """Give a model the tensors of a group of a saved state, and return them.

    Raises:
        ValueError: they are not those of the model.
    """
    tensors = matching(model, groups, group, path)
    model.load_state_dict(tensors)
    return tensors


def matching(model: nn.Module, groups: Mapping[str, Tensors], group: str, path: Path) -> Tensors:
    """Return the tensors of a group of a saved state once they are known to be those of a model.

    Raises:
        ValueError: they are not.
    """
    try:
        compare(model, groups.get(group, {}), f"the group {group} of {path}")
    except WeightsError as error:
        raise _no_state(path, str(error)) from error
    return groups[group]


def optimizer_tensors(optimizer: Optimizer) -> Tensors:
    """Return the optimizer's state as named tensors."""
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimizer(optimizer: Optimizer, tensors: Tensors) -> None:
    """Put back what ``optimizer_tensors`` returned.

    Raises:
        ValueError: the tensors are not those of the optimizer's parameters.
    """
    state = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state["state"] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        if (
            not index.isdecimal()
            or int(index) >= len(parameters)
            or value.shape not in ((), parameters[int(index)].shape)
        ):
            raise ValueError(
                f"the saved moments {key[:80]!r} of the optimizer fit no parameter; remove the training state to start over"
            )
        state["state"].setdefault(int(index), {})[name] = value
    names = {frozenset(moments) for moments in state["state"].values()}
    if len(names) > 1 or len(state["state"]) not in (0, len(parameters)):
        raise ValueError(
            "the saved moments of the optimizer are not those of all parameters; remove the training state to start over"
        )
    optimizer.load_state_dict(state)
