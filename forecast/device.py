"""Which device to compute on, and what makes a CPU fast."""

import ctypes
import ctypes.util

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


def keep_freed_memory() -> None:
    """Ask glibc to keep freed arrays for reuse rather than hand them back to the system.

    A training step frees and takes the same arrays again; without this each pays for its page faults. Does
    nothing on other C libraries.
    """
    trim_threshold, mmap_threshold, largest = -1, -3, 2**25
    try:
        mallopt = ctypes.CDLL(ctypes.util.find_library("c")).mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_threshold, largest)
    mallopt(trim_threshold, 2**31 - 1)
