"""Settings of the process that only the command changes, never the library."""

import ctypes
import ctypes.util


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
