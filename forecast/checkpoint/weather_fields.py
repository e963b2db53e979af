"""Checks of the fields in the checkpoint of a forecast model: static fields, mask and seasonal cycle."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ...fno.errors import WeightsError
from ...fno.weights.tensor_file import Entry

_NAMES = ("fields.static", "fields.mask", "fields.cycle", "fields.cycle_minutes")
_FORCING_MASK = "fields.forcing_mask"


def check_entries(
    entries: Mapping[str, Entry], channels: int, grid: tuple[int, ...], *, source: str, forcings: int = 0
) -> int:
    """Check shapes and types of the fields in the header, and return the number of static fields.

    Args:
        entries: header of the weights.
        channels: number of channels.
        grid: shape of the grid.
        source: name of the checkpoint in errors.
        forcings: number of channels of stored forcings.

    Raises:
        WeightsError: one is missing, unknown, or has another shape or type.
    """
    names = (*_NAMES, _FORCING_MASK) if forcings else _NAMES
    if missing := [name for name in names if name not in entries]:
        raise WeightsError(f"{source} lacks {', '.join(missing)} in weights.safetensors")
    if unknown := [name for name in entries if name.startswith("fields.") and name not in names]:
        raise WeightsError(f"{source} has an unknown field {unknown[0][:80]} in weights.safetensors")
    static, mask, cycle, minutes = (entries[name] for name in _NAMES)
    times_of_day = minutes.shape[0] if len(minutes.shape) == 1 else 0
    terms = cycle.shape[1] if len(cycle.shape) == 5 else 0
    expected = {
        "fields.static": (static, (static.shape[0] if static.shape else 0, *grid), torch.float32),
        "fields.mask": (mask, (channels, *grid), torch.bool),
        "fields.cycle": (cycle, (times_of_day, terms, channels, *grid), torch.float32),
        "fields.cycle_minutes": (minutes, (times_of_day,), torch.int64),
    }
    if forcings:
        expected[_FORCING_MASK] = (entries[_FORCING_MASK], (forcings, *grid), torch.bool)
    for name, (entry, shape, dtype) in expected.items():
        if entry.shape != shape or entry.dtype != dtype:
            received = f"{entry.shape} of {entry.dtype}".replace("torch.", "")
            raise WeightsError(
                f"{source}: {name} has shape {received}, expected {shape} of {dtype}".replace("torch.", "")
            )
    if not 1 <= times_of_day <= 1440 or terms % 2 != 1:
        raise WeightsError(
            f"{source}: fields.cycle has {times_of_day} times of day and {terms} terms, "
            "expected 1 to 1440 and an odd number"
        )
    return static.shape[0]


def check_values(fields: Mapping[str, Tensor], source: str) -> None:
    """Check the values of the fields.

    Args:
        fields: fields by name.
        source: name of the checkpoint in errors.

    Raises:
        WeightsError: a mask with values other than 0 and 1, a static field or an unmasked part of the cycle
            that is not finite, or times of day that do not increase.
    """
    static, mask, cycle, minutes = (fields[name] for name in _NAMES)
    for name, points in (("fields.mask", mask), (_FORCING_MASK, fields.get(_FORCING_MASK, mask))):
        if points.numel() and int(points.view(torch.uint8).max()) > 1:
            raise WeightsError(f"{source}: {name} has values other than 0 and 1")
    if not bool(torch.isfinite(static).all()):
        raise WeightsError(f"{source}: fields.static has values that are not finite")
    # The sum takes a tenth of the time of a test of each value, which only a cycle with missing values needs.
    if not bool(torch.isfinite(cycle.sum())) and not bool((torch.isfinite(cycle) | ~mask).all()):
        raise WeightsError(f"{source}: fields.cycle has values that are not finite")
    times = minutes.numpy()
    if times[0] < 0 or times[-1] >= 1440 or (np.diff(times) <= 0).any():
        raise WeightsError(f"{source}: fields.cycle_minutes should be increasing minutes of a day")
