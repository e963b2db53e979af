"""Cached constant matrices of the transforms: tensors in eager mode, an operator in compiled graphs."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Builder = Callable[..., NDArray[np.float64]]
_BUILDERS: dict[str, Builder] = {}


def table_builder(function: Builder) -> Builder:
    """Register a function of integers that returns a matrix, for ``table`` to call by its name."""
    _BUILDERS[function.__name__] = function
    return function


@lru_cache(maxsize=512)
def _array(name: str, arguments: tuple[int, ...], single: bool) -> NDArray[Any]:
    return np.ascontiguousarray(_BUILDERS[name](*arguments), dtype=np.float32 if single else np.float64)


@lru_cache(maxsize=512)
def _on_device(name: str, arguments: tuple[int, ...], single: bool, device: str) -> Tensor:
    with torch.inference_mode(False):
        return torch.from_numpy(_array(name, arguments, single)).to(device)


def table(name: str, arguments: list[int], like: Tensor) -> Tensor:
    """Return a constant matrix in the precision and on the device of ``like``.

    Args:
        name: name of a function marked with ``table_builder``.
        arguments: its arguments.
        like: tensor of the dtype, float32 or float64, and device of the result.
    """
    single = like.dtype == torch.float32
    device = str(like.device)
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        return cast(Tensor, torch.ops.fourcaster.table(name, arguments, single, device))
    # On the host a new tensor shares the cached array: a tensor created in inference mode or while a graph is
    # traced must not be used again in training.
    key = (name, tuple(arguments), single)
    return torch.from_numpy(_array(*key)) if device == "cpu" else _on_device(*key, device)


@torch.library.custom_op("fourcaster::table", mutates_args=())
def _table(name: str, arguments: list[int], single: bool, device: str) -> Tensor:
    # A copy, since a compiled graph may reuse the memory of its inputs.
    return torch.from_numpy(_array(name, tuple(arguments), single).copy()).to(device)


@_table.register_fake
def _(name: str, arguments: list[int], single: bool, device: str) -> Tensor:
    shape = _array(name, tuple(arguments), single).shape
    return torch.empty(shape, dtype=torch.float32 if single else torch.float64, device=device)
