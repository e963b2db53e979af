"""Device that tensors without values stand for, so that planning chooses the methods of that device."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_planned: ContextVar[str] = ContextVar("planned device", default="cpu")


def device_type(x: Tensor) -> str:
    """Return the kind of device of a tensor; of one on ``meta`` the device that it stands for."""
    kind = x.device.type
    return _planned.get() if kind == "meta" else kind


@contextmanager
def planned_for(device: str) -> Iterator[None]:
    """Let tensors on the device ``meta`` stand for tensors on another kind of device within the context.

    Args:
        device: kind of device, ``cpu`` or ``cuda``.
    """
    token = _planned.set(device)
    try:
        yield
    finally:
        _planned.reset(token)
