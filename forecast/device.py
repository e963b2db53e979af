"""The device to compute on."""

import torch


def pick_device(name: str | None) -> str:
    """Return the device to use: the one asked for, else a GPU where there is one.

    Raises:
        ValueError: the device does not exist here.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; use cpu, or cuda") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device cuda was asked for, but torch finds no GPU here; use --device cpu, or see `forecast doctor`"
        )
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device {name!r} is not supported; use cpu, or cuda")
    return name
