"""Whether a network fits the tensors of a file, found out before anything as large as a tensor is allocated.

A description that names a width of a million or a billion layers is refused by comparing it with what the
file holds: first by counting, since each layer needs a tensor of its own, then name by name with the network
built on PyTorch's meta device, whose tensors have a shape and no memory. What passes is no larger than the
file.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import WeightsError
from ..layers.local import FiniteDifference

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


def check_blueprint(
    build: Callable[[], nn.Module], given: Mapping[str, Shaped], layers: int, source: str
) -> None:
    """Refuse tensors that are not those of a network.

    Args:
        build: returns the network.
        given: tensors by name, or their entries in the header of a file.
        layers: layers of the network, of which each has one tensor or more.
        source: named in errors.

    Raises:
        WeightsError: the network cannot be built, or has other tensors: each missing, unknown and mis-shaped
            one is listed.
    """
    check_counts(given, layers, 0, source)
    try:
        with torch.device("meta"), _ShapesAlone():
            model = build()
    except Exception as error:  # whatever numbers that no network can have raise in its constructor
        raise WeightsError(
            f"the network that {source} describes cannot be made: {' '.join(str(error).split())[:200]}"
        ) from error
    compare(model, given, source)


def check_counts(given: Mapping[str, Shaped], layers: int, numbers: int, source: str) -> None:
    """Refuse tensors that are fewer, or together smaller, than those of a network, by counts that take no
    time.

    Args:
        given: tensors by name, or their entries in the header of a file.
        layers: layers of the network, of which each has one tensor or more.
        numbers: weights of the network, or a part of them.
        source: named in errors.

    Raises:
        WeightsError: there are too few.
    """
    if layers > len(given):
        raise WeightsError(f"{source} describes a network of {layers} layers, but holds {len(given)} tensors")
    if numbers > (total := sum(math.prod(entry.shape) for entry in given.values())):
        raise WeightsError(f"{source} describes a network of {numbers} weights or more, but holds {total}")


class _ShapesAlone(TorchFunctionMode):
    """Leaves out the arithmetic of initial weights, for which PyTorch loads a second's worth of modules on
    the meta device.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn:
            return torch.empty(*args, **kwargs)
        tensor = args[0] if args else kwargs.get("tensor")
        if (
            func in _VALUES_ALONE
            and isinstance(tensor, Tensor)
            and not any(isinstance(other, Tensor) for other in args[1:])
        ):
            return tensor
        return func(*args, **kwargs)


_VALUES_ALONE = {
    Tensor.mul,
    Tensor.__mul__,
    Tensor.__rmul__,
    nn.init.normal_,
    nn.init.uniform_,
    nn.init.zeros_,
    nn.init.ones_,
}


def compare(model: nn.Module, given: Mapping[str, Shaped], source: str) -> None:
    """Refuse tensors that are not those of ``model`` by name, shape and type.

    Weights may have any real floating-point type, other tensors only that of the model.

    Raises:
        WeightsError: each missing, unknown and mis-shaped one is listed.
    """
    given = dict(given)
    for name, module in model.named_modules():
        if (
            isinstance(module, FiniteDifference) and f"{name}.weight" in given
        ):  # as the first version called them
            given[f"{name}.matrices"] = given.pop(f"{name}.weight")
    wanted = model.state_dict()
    wrong = [f"missing {name}" for name in wanted if name not in given]
    wrong += [f"unknown {name[:100]}" for name in given if name not in wanted]
    both = [name for name in wanted if name in given]
    shapes = [(name, tuple(given[name].shape), tuple(wanted[name].shape)) for name in both]
    wrong += [f"{name} has shape {shape}, wanted {right}" for name, shape, right in shapes if shape != right]
    types = [(name, given[name].dtype, wanted[name].dtype) for name in both]
    wrong += [
        f"{name} has type {_name(dtype)}, wanted {_name(right)}"
        for name, dtype, right in types
        if not _converts(dtype, right)
    ]
    if wrong:
        more = f"; and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
        raise WeightsError(
            f"{source} does not fit {type(model).__name__}: {'; '.join(wrong[:_LISTED])}{more}"
        )


def _converts(given: torch.dtype, wanted: torch.dtype) -> bool:
    return given == wanted or (given in _REAL and wanted in _REAL)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
