"""Memory of the machine, which sizes of unknown origin are compared with before anything is allocated."""

import os

_ASSUMED = 2**36  # where the system does not report it


def machine_memory() -> int:
    """Return the physical memory of this machine [bytes], or 64 GiB where the system does not report it."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _ASSUMED
    return memory if memory > 0 else _ASSUMED
