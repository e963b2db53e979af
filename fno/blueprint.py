"""Whether a network fits the tensors of a file, found out before anything as large as a tensor is allocated.

A description that names a width of a million or a billion layers is refused by comparing it with what the file holds: first by counting,
since each layer needs a tensor of its own, then name by name with the network built on PyTorch's meta device, whose tensors have a shape and
no memory. What passes is no larger than the file.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import nn

from .errors import WeightsError
from .layers.local import FiniteDifference

_LISTED = 50
_REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Shaped(Protocol):
    """What is asked of a tensor, or of its entry in the header of a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each dimension."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of a number."""


def check_blueprint(build: Callable[[], nn.Module], given: Mapping[str, Shaped], layers: int, source: str) -> None:
    """Refuse tensors that are not those of a network.

    Args:
        build: returns the network.
        given: tensors by name, or their entries in the header of a file.
        layers: layers of the network, of which each has one tensor or more.
        source: named in errors.

    Raises:
        WeightsError: the network cannot be built, or has other tensors: each missing, unknown and mis-shaped one is listed.
    """
    if layers > len(given):
        raise WeightsError(f"{source} describes a network of {layers} layers, but holds {len(given)} tensors")
    try:
        with torch.device("meta"):
            model = build()
    except Exception as error:  # whatever numbers that no network can have raise in its constructor
        raise WeightsError(f"the network that {source} describes cannot be made: {' '.join(str(error).split())[:200]}") from error
    compare(model, given, source)


def compare(model: nn.Module, given: Mapping[str, Shaped], source: str) -> None:
    """Refuse tensors that are not those of ``model`` by name, shape and type.

    Weights may have any real floating-point type, other tensors only that of the model.

    Raises:
        WeightsError: each missing, unknown and mis-shaped one is listed.
    """
    given = dict(given)
    for name, module in model.named_modules():
        if isinstance(module, FiniteDifference) and f"{name}.weight" in given:  # as the first version called them
            given[f"{name}.matrices"] = given.pop(f"{name}.weight")
    wanted = model.state_dict()
    wrong = [f"missing {name}" for name in wanted if name not in given]
    wrong += [f"unknown {name[:100]}" for name in given if name not in wanted]
    both = [name for name in wanted if name in given]
    shapes = [(name, tuple(given[name].shape), tuple(wanted[name].shape)) for name in both]
    wrong += [f"{name} has shape {shape}, wanted {right}" for name, shape, right in shapes if shape != right]
    types = [(name, given[name].dtype, wanted[name].dtype) for name in both]
    wrong += [f"{name} has type {_name(dtype)}, wanted {_name(right)}" for name, dtype, right in types if not _converts(dtype, right)]
    if wrong:
        more = f"; and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
        raise WeightsError(f"{source} does not fit {type(model).__name__}: {'; '.join(wrong[:_LISTED])}{more}")


def _converts(given: torch.dtype, wanted: torch.dtype) -> bool:
    return given == wanted or (given in _REAL and wanted in _REAL)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
