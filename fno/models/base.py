"""What all models have in common: checks of their input, weights, constants in full precision."""

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..errors import InputError, ResolutionWarning, WeightsError
from ..layers.local import FiniteDifference
from ..precision import require_real
from ..weights.blueprint import compare


class GridModel(nn.Module):
    """A model of gridded fields that knows its channels and the grids it was trained on.

    With ``FOURCASTER_DEBUG`` set in the environment, inputs that are not finite are refused.

    Args:
        in_channels: channels of the input.
        dimensions: number of grid dimensions.
    """

    def __init__(self, in_channels: int, dimensions: int) -> None:
        super().__init__()
        self.in_channels, self.dimensions = in_channels, dimensions
        self.trained_sizes: set[tuple[int, ...]] = set()

    def check(self, x: Tensor) -> None:
        """Refuse a tensor that does not fit; warn where a grid lies outside those of training.

        Raises:
            InputError: wrong rank or number of channels, complex numbers, another type than the weights have,
                or (in debug mode) values that are not finite.
        """
        if x.ndim != self.dimensions + 2 or x.shape[1] != self.in_channels:
            wanted = ", ".join(["batch", str(self.in_channels), *["n"] * self.dimensions])
            raise InputError(f"expected a tensor of shape ({wanted}), got {tuple(x.shape)}")
        check_dtype(self, x)
        if torch.compiler.is_compiling():
            return
        if os.environ.get("FOURCASTER_DEBUG") and not torch.isfinite(x).all():
            channel = int((~torch.isfinite(x)).flatten(2).any(-1).any(0).nonzero()[0])
            raise InputError(
                f"the input is not finite: channel {channel} holds NaN or infinity; fill or mask it first"
            )
        size = tuple(int(n) for n in x.shape[2:])
        if self.training:
            self.trained_sizes.add(size)
        elif self.trained_sizes:
            low, high = ([f(s[d] for s in self.trained_sizes) for d in range(len(size))] for f in (min, max))
            if any(not a <= n <= b for n, a, b in zip(size, low, high, strict=True)):
                trained = " to ".join(str(tuple(s)) for s in ([low] if low == high else [low, high]))
                message = f"a grid of {size} points lies outside what the model was trained on, {trained}; compare with interpolating its forecast there"
                warnings.warn(message, ResolutionWarning, stacklevel=3)


def weights_dtype(network: nn.Module, default: torch.dtype) -> torch.dtype:
    """Return the type of a network's weights, or ``default`` where there are none."""
    weight = next(network.parameters(), None)
    return weight.dtype if weight is not None and weight.is_floating_point() else default


def check_dtype(network: nn.Module, x: Tensor) -> None:
    """Refuse a tensor of another type than the weights, but for those that autocast converts.

    Raises:
        InputError: complex numbers, or another type.
    """
    require_real(x)
    wanted = weights_dtype(network, x.dtype)
    casts = torch.is_autocast_enabled(x.device.type) and {x.dtype, wanted} <= {
        torch.float32,
        torch.bfloat16,
        torch.float16,
    }
    if x.dtype != wanted and not casts:
        raise InputError(
            f"expected a tensor of {wanted}, the type of the weights, got {x.dtype}; convert it with x.to({wanted})"
        )


class PreciseConstants(nn.Module):
    """A module whose own buffers, such as means and scales in physical units, stay in at least float32.

    Half precision would round 288 K to 288 K +- 1 K, and its largest number is 65504.
    """

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        before = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in self.named_buffers(recurse=False):
            if buffer.dtype in (torch.float16, torch.bfloat16):
                self._buffers[name] = before[name].to(buffer.device)
        return self


def mark_trained(network: nn.Module, size: tuple[int, ...]) -> None:
    """Note for every model in ``network`` that it was trained on a grid of this size."""
    for module in network.modules():
        if isinstance(module, GridModel):
            module.trained_sizes = {tuple(size)}


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Give a model exactly these weights.

    Raises:
        WeightsError: they do not fit, each missing, unknown and mis-shaped one being listed, or are not
            finite; none was loaded.
    """
    compare(model, tensors, source)
    for name, module in model.named_modules():
        if isinstance(module, FiniteDifference):
            tensors = module.upgraded(tensors, f"{name}.")
    types = {name: t.dtype for name, t in model.state_dict().items()}
    if not_finite := [name for name, t in tensors.items() if not _all_finite(t.to(types[name]))]:
        raise WeightsError(
            f"{source} has weights that are not finite: {'; '.join(not_finite[:3])}; train again, or use another checkpoint"
        )
    model.load_state_dict(dict(tensors))


def _all_finite(t: Tensor) -> bool:
    # The sum takes a fraction of the time of a look at each value, and is finite unless a value is not or the
    # sum overflows.
    return bool(torch.isfinite(t.sum())) or bool(torch.isfinite(t).all())
