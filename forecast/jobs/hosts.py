"""Identity of this machine and of its processes."""

import os
import socket
import time
from pathlib import Path


def this_host() -> str:
    """Return an identity of this machine, its present boot and its namespace of process numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:  # not Linux
        boot = "-"
        namespace = "-"
    return f"{socket.gethostname()}/{boot}/{namespace}"


def uptime() -> float:
    """Return the seconds since this machine was started.

    All its processes read the same value, which does not change when the clock is set.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def process_started(pid: int) -> str | None:
    """Return when a living process was started, or None where there is no such process.

    The value distinguishes it from a later process with the same number; it is ``-`` where the system does
    not report it.
    """
    try:
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return values[19] if values[0] not in "ZX" else None  # a zombie counts as dead
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
