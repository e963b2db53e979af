"""Settings of the process that only the command changes, never the library."""

import ctypes
import ctypes.util
import logging
import os
import time


def keep_freed_memory() -> None:
    """Let glibc keep freed arrays for reuse instead of returning them to the system.

    Each training step allocates and frees the same arrays; otherwise each allocation would cause page faults.
    Has no effect with other C libraries.
    """
    trim_threshold = -1  # numbers of the parameters in malloc.h
    mmap_threshold = -3
    largest = 2**25  # threshold of arrays that are returned at once [B], the maximum
    try:
        mallopt = ctypes.CDLL(ctypes.util.find_library("c")).mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_threshold, largest)
    mallopt(trim_threshold, 2**31 - 1)


def process_age() -> float:
    """Return the time since this process was started [s]; 0 on systems without ``/proc``."""
    try:
        with open("/proc/self/stat") as file:
            started = int(file.read().rsplit(")", 1)[1].split()[19])  # clock ticks after the system started
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        return max(0.0, now - started / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, ValueError, IndexError):
        return 0.0


def is_first_process() -> bool:
    """Return whether this process shows progress, warnings and results; all do but those of ``torchrun``."""
    return os.environ.get("RANK", "0") == "0"


def quiet_unless_first() -> None:
    """Show no log lines of a process that repeats what the first one of ``torchrun`` shows."""
    if not is_first_process():
        logging.disable(logging.WARNING)
