"""The device to compute on."""

import torch


def pick_device(name: str | None) -> str:
    """Return the named device; by default a GPU if there is one, else the CPU.

    Raises:
        ValueError: unknown, or not available on this machine.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; use cpu, or cuda") from error
    kind = device.type
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device cuda was requested, but torch finds no GPU on this machine; "
            "use cpu, or see `forecast doctor`"
        )
    if kind == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no device {name}; this machine has {torch.cuda.device_count()} of cuda")
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device {name!r} is not supported; use cpu, or cuda")
    return name
