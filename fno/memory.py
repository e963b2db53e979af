"""Memory of the machine, which sizes of unknown origin are compared with before anything is allocated."""

import os

_ASSUMED = 2**36  # where the system does not report it
_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Limits of the control group of a container, versions 2 and 1."""


def machine_memory() -> int:
    """Return the physical memory of this machine [bytes], or 64 GiB where the system does not report it."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _ASSUMED
    return memory if memory > 0 else _ASSUMED


def usable_memory() -> int:
    """Return the memory that processes may use [bytes]: of the machine, or less in a limited container."""
    limits = [machine_memory()]
    for path in _GROUP_LIMITS:
        try:
            with open(path) as file:
                limits.append(int(file.read()))
        except (OSError, ValueError):  # no such version, or "max"
            continue
    return min(limit for limit in limits if limit > 0)


def resident_memory() -> int:
    """Return the memory that this process occupies [bytes], or 0 where the system does not report it."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
