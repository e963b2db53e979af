"""Keeping parts of a model in full precision."""

from collections.abc import Callable

import torch
from torch import Tensor


def without_autocast(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return ``function(x)`` computed outside any autocast: FFTs and small products lose too much in half precision."""
    if not torch.is_autocast_enabled(x.device.type):
        return function(x)
    with torch.autocast(x.device.type, enabled=False):
        return function(x)
