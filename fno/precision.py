"""Precision of spectral operations: real input and at least float32, also under autocast.

FFTs and small products lose too much in half precision, and PyTorch has no half-precision FFT on CPUs.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .errors import InputError


def require_real(x: Tensor) -> None:
    """Check that a tensor is real, since operations on real fields would drop imaginary parts.

    Raises:
        InputError: ``x`` is complex.
    """
    if x.is_complex():
        raise InputError(
            f"expected real numbers, got a tensor of {x.dtype}; "
            "pass the real and imaginary parts as separate channels"
        )


def at_least_single(x: Tensor) -> Tensor:
    """Return a real tensor, converted to float32 unless it is float64.

    Raises:
        InputError: ``x`` is complex.
    """
    require_real(x)
    return x if x.dtype == torch.float64 else x.float()


def autocasts(x: Tensor) -> bool:
    """Return whether autocast is enabled on the device of a tensor; there is none for ``meta``."""
    return x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)


def without_autocast(function: Callable[..., Any], x: Tensor, *args: Any) -> Any:
    """Return ``function(x, *args)`` computed outside any autocast.

    Args:
        function: function to call.
        x: first argument, whose device determines the autocast to disable.
        *args: further arguments.
    """
    if not autocasts(x):
        return function(x, *args)
    with torch.autocast(x.device.type, enabled=False):
        return function(x, *args)


def full_precision(function: Callable[[Tensor], Tensor], x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return ``function(x)`` computed in at least float32, outside any autocast.

    Args:
        function: maps a real tensor to a real tensor.
        x: argument of the function.
        weight: parameter of the function, if any.

    Returns:
        The result, in the dtype to which PyTorch promotes ``x`` and ``weight`` together.

    Raises:
        InputError: ``x`` is complex.
    """
    require_real(x)
    dtype = x.dtype if weight is None else torch.promote_types(x.dtype, weight.dtype)
    result: Tensor = without_autocast(function, x.to(torch.promote_types(dtype, torch.float32)))
    return result.to(dtype)
