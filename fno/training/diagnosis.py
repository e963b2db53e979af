"""Where a loss or gradient that is not finite comes from: variable, place and step of the first such value.

The data of the batch are examined first, then the loss is computed again while the outputs of each step of
the model are recorded, then its gradient with respect to these outputs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .protocols import Loss


@dataclass(frozen=True)
class FieldLabels:
    """Names of the channels and coordinates of the points of fields, for messages.

    Attributes:
        channels: name of each channel.
        axes: names of the two axes, rows first, e.g. latitude and longitude.
        rows: coordinate of each row.
        columns: coordinate of each column.
    """

    channels: tuple[str, ...]
    axes: tuple[str, str]
    rows: NDArray[np.floating]
    columns: NDArray[np.floating]

    def channel(self, index: int) -> str:
        """Return the name of a channel."""
        return self.channels[index] if index < len(self.channels) else f"channel {index}"

    def place(self, row: int, column: int) -> str:
        """Return the coordinates of a point."""
        if row >= len(self.rows) or column >= len(self.columns):
            return _index((row, column))
        first, second = self.axes
        return f"{first} {float(self.rows[row]):g}, {second} {float(self.columns[column]):g}"


def locate(objective: Any, batch: Any, compute: Callable[[], Loss]) -> str:
    """Describe the first field value that is not finite; empty if nothing is known.

    Args:
        objective: objective of the training. For variable and place it has the attributes ``stepper`` (the
            model of one step, whose output has shape (batch, channel, H, W)) and ``labels``.
        batch: training batch.
        compute: computes the loss of the batch again.
    """
    labels = getattr(objective, "labels", None)
    stepper = getattr(objective, "stepper", None)
    with suppress(RuntimeError, MemoryError, ValueError):  # the error to explain matters more than the place
        if text := _in_batch(batch, labels, getattr(stepper, "mask", None)):
            return text
        if isinstance(stepper, nn.Module):
            return _in_forecast(stepper, labels, compute)
    return ""


def _in_batch(batch: Any, labels: FieldLabels | None, mask: Tensor | None) -> str:
    """Describe the first value of the batch that is not finite, apart from those outside a mask."""
    if not is_dataclass(batch):
        return ""
    for field in fields(batch):
        values = getattr(batch, field.name)
        if not isinstance(values, Tensor) or field.name == "solution":  # which is NaN outside the domain
            continue
        broken = ~torch.isfinite(values)
        if mask is not None and values.dim() == 5 and values.shape[2:] == mask.shape:
            broken &= mask
        if (position := _first(broken)) is None:
            continue
        value = values[position].item()
        name = {"state": "data", "background": "seasonal cycle"}.get(field.name, field.name)
        if values.dim() == 5 and labels is not None:
            sample, time, channel, row, column = position
            what = f" of {labels.channel(channel)}" if field.name != "forcing" else f" {channel}"
            at = f"{labels.place(row, column)}, state {time + 1} of sample {sample + 1}"
            return f"the {name}{what} of the batch: {value} at {at}"
        return f"the {name} of the batch: {value} at {_index(position)}"
    return ""


def _in_forecast(stepper: nn.Module, labels: FieldLabels | None, compute: Callable[[], Loss]) -> str:
    """Describe the first output of a step, or its gradient, that is not finite."""
    with _recorded(stepper) as outputs, torch.enable_grad():
        loss = compute()
    for step, output in enumerate(outputs, start=1):
        if position := _first(~torch.isfinite(output.detach())):
            return f"the forecast of {_where(position, output, labels)}, step {step} of {len(outputs)}"
    if not outputs or not torch.isfinite(loss.value):
        return ""
    loss.value.backward()
    for step, output in reversed(list(enumerate(outputs, start=1))):
        if output.grad is not None and (position := _first(~torch.isfinite(output.grad))):
            where = _where(position, output.grad, labels)
            return f"the gradient with respect to the forecast of {where}, step {step} of {len(outputs)}"
    largest = max(outputs, key=lambda output: float(output.detach().abs().max()))
    index = int(largest.detach().abs().argmax())
    position = tuple(int(i) for i in np.unravel_index(index, largest.shape))
    return f"all fields are finite, and the largest forecast is that of {_where(position, largest, labels)}"


@contextmanager
def _recorded(module: nn.Module) -> Iterator[list[Tensor]]:
    """Record the outputs of a module within the context, with their gradients."""
    outputs: list[Tensor] = []

    def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            if output.requires_grad:
                output.retain_grad()
            outputs.append(output)

    handle = module.register_forward_hook(record)
    try:
        yield outputs
    finally:
        handle.remove()


def _where(position: tuple[int, ...], values: Tensor, labels: FieldLabels | None) -> str:
    """Describe a position in values of shape (sample, channel, H, W)."""
    value = f"{values[position].item():.3g}"
    if labels is None or len(position) != 4:
        return f"the field: {value} at {_index(position)}"
    sample, channel, row, column = position
    return f"{labels.channel(channel)}: {value} at {labels.place(row, column)} of sample {sample + 1}"


def _first(broken: Tensor) -> tuple[int, ...] | None:
    """Return the first position that is true, None without any."""
    flat = broken.flatten()
    if not bool(flat.any()):
        return None
    index = int(flat.to(torch.uint8).argmax())
    return tuple(int(i) for i in np.unravel_index(index, broken.shape))


def _index(position: tuple[int, ...]) -> str:
    return f"index {list(position)}"
