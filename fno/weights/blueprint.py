"""Check that a network fits the tensors of a file before anything as large as a tensor is allocated.

A description with a width of a million or a billion layers is rejected by comparison with the contents of the
file: first by counting, since each layer needs a tensor, then name by name with the network built on
PyTorch's meta device, whose tensors have a shape but no memory. What passes is no larger than the file.
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
    """A tensor, or its entry in the header of a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each dimension."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the elements."""


def check_blueprint(
    build: Callable[[], nn.Module], tensors: Mapping[str, Shaped], *, layers: int, source: str
) -> None:
    """Check that tensors are those of a network.

    Args:
        build: returns the network.
        tensors: tensors by name, or their entries in the header of a file.
        layers: number of layers of the network, each of which has at least one tensor.
        source: name of the file, for errors.

    Raises:
        WeightsError: the network cannot be built, or has other tensors; those that are missing, unknown or
            of another shape or type are listed.
    """
    check_counts(tensors, layers=layers, weights=0, source=source)
    try:
        with torch.device("meta"), _ShapesOnly():
            model = build()
    except Exception as error:  # constructors raise any error for impossible arguments
        raise WeightsError(
            f"the network that {source} describes cannot be built: {' '.join(str(error).split())[:200]}"
        ) from error
    compare(model, tensors, source)


def check_counts(tensors: Mapping[str, Shaped], *, layers: int, weights: int, source: str) -> None:
    """Check that there are enough tensors and weights for a network, in negligible time.

    Args:
        tensors: tensors by name, or their entries in the header of a file.
        layers: number of layers of the network, each of which has at least one tensor.
        weights: number of weights of the network, or a lower bound.
        source: name of the file, for errors.

    Raises:
        WeightsError: there are too few.
    """
    if layers > len(tensors):
        raise WeightsError(
            f"{source} describes a network of {layers} layers, but contains {len(tensors)} tensors"
        )
    if weights > (total := sum(math.prod(entry.shape) for entry in tensors.values())):
        raise WeightsError(
            f"{source} describes a network of at least {weights} weights, but contains {total}"
        )


class _ShapesOnly(TorchFunctionMode):
    """Skip the arithmetic of initial weights, for which PyTorch would import modules for a second."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn:
            return torch.empty(*args, **kwargs)
        tensor = args[0] if args else kwargs.get("tensor")
        if (
            func in _KEEP_SHAPE
            and isinstance(tensor, Tensor)
            and not any(isinstance(other, Tensor) for other in args[1:])
        ):
            return tensor
        return func(*args, **kwargs)


_KEEP_SHAPE = {
    Tensor.mul,
    Tensor.__mul__,
    Tensor.__rmul__,
    nn.init.normal_,
    nn.init.uniform_,
    nn.init.zeros_,
    nn.init.ones_,
}


def compare(model: nn.Module, tensors: Mapping[str, Shaped], source: str) -> None:
    """Check that tensors are those of ``model`` by name, shape and type.

    Weights may have any real floating-point type, other tensors only that of the model.

    Args:
        model: model to compare with.
        tensors: tensors by name, or their entries in the header of a file.
        source: name of the file, for errors.

    Raises:
        WeightsError: tensors are missing, unknown or of another shape or type; these are listed.
    """
    stored = dict(tensors)
    for name, module in model.named_modules():
        # The first version of the package called these parameters ``weight``.
        if isinstance(module, FiniteDifference) and f"{name}.weight" in stored:
            stored[f"{name}.matrices"] = stored.pop(f"{name}.weight")
    expected = model.state_dict()
    wrong = [f"missing {name}" for name in expected if name not in stored]
    wrong += [f"unknown {name[:100]}" for name in stored if name not in expected]
    both = [name for name in expected if name in stored]
    shapes = [(name, tuple(stored[name].shape), tuple(expected[name].shape)) for name in both]
    wrong += [
        f"{name} has shape {shape}, expected {right}" for name, shape, right in shapes if shape != right
    ]
    types = [(name, stored[name].dtype, expected[name].dtype) for name in both]
    wrong += [
        f"{name} has type {_name(dtype)}, expected {_name(right)}"
        for name, dtype, right in types
        if not _converts(dtype, right)
    ]
    if wrong:
        more = f"; and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
        raise WeightsError(
            f"{source} does not fit {type(model).__name__}: {'; '.join(wrong[:_LISTED])}{more}"
        )


def _converts(stored: torch.dtype, expected: torch.dtype) -> bool:
    return stored == expected or (stored in _REAL and expected in _REAL)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
