"""Constant matrices of the transforms, made once and kept: in memory for eager calls, behind an operator for
compiled ones.
"""

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
    """Make a function of integers that returns a matrix known to ``table`` by its name."""
    _BUILDERS[function.__name__] = function
    return function


@lru_cache(maxsize=512)
def _array(name: str, numbers: tuple[int, ...], single: bool) -> NDArray[Any]:
    return np.ascontiguousarray(_BUILDERS[name](*numbers), dtype=np.float32 if single else np.float64)


@lru_cache(maxsize=512)
def _on_device(name: str, numbers: tuple[int, ...], single: bool, device: str) -> Tensor:
    with torch.inference_mode(False):
        return torch.from_numpy(_array(name, numbers, single)).to(device)


def table(name: str, numbers: list[int], like: Tensor) -> Tensor:
    """Return a constant matrix in the precision and on the device of ``like``.

    Args:
        name: of a function marked with ``table_builder``.
        numbers: its arguments.
        like: tensor that says float32 or float64, and where.
    """
    single, device = like.dtype == torch.float32, str(like.device)
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        return cast(Tensor, torch.ops.fourcaster.table(name, numbers, single, device))
    # On the host the tensor shares the kept array and is made anew: one made in inference mode or while a
    # graph is
    # traced must not be met again in training.
    key = (name, tuple(numbers), single)
    return torch.from_numpy(_array(*key)) if device == "cpu" else _on_device(*key, device)


@torch.library.custom_op("fourcaster::table", mutates_args=())
def _table(name: str, numbers: list[int], single: bool, device: str) -> Tensor:
    # A copy, since a compiled graph may take the memory of what it no longer needs.
    return torch.from_numpy(_array(name, tuple(numbers), single).copy()).to(device)


@_table.register_fake
def _(name: str, numbers: list[int], single: bool, device: str) -> Tensor:
    shape = _array(name, tuple(numbers), single).shape
    return torch.empty(shape, dtype=torch.float32 if single else torch.float64, device=device)
