"""Which machine this is, and whether a process of it still lives."""

import os
import socket
import time
from pathlib import Path


def this_host() -> str:
    """Return what tells this machine, since it was started, and this space of process numbers from others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        space = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:  # not Linux
        boot = space = "-"
    return f"{socket.gethostname()}/{boot}/{space}"


def awake() -> float:
    """Return the seconds since this machine was started, the same for all its processes, whatever its clock
    is set to.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def process_started(pid: int) -> str | None:
    """Return what tells a living process from a later one of its number, or None where there is none."""
    try:
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return values[19] if values[0] not in "ZX" else None  # dead, and not yet buried
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self").exists():
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "-"
