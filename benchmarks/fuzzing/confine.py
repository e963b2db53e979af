"""Restrict a process by Landlock so that it cannot change files outside given folders, even as root."""

import ctypes
import os
import struct
from contextlib import suppress

# System calls of Landlock, the same on all architectures.
_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
# Access rights.
_WRITE_FILE = 1 << 1
_REMOVE_DIR = 1 << 4
_REMOVE_FILE = 1 << 5
_MAKE = sum(1 << n for n in range(6, 13))
_REFER = 1 << 13
_TRUNCATE = 1 << 14
_CHANGES = _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE
_NO_NEW_PRIVILEGES = 38
DEVICES = ("/dev/null", "/dev/full", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/tty")


def available() -> int:
    """Return the version of Landlock in the kernel, or 0 if there is none."""
    return max(0, ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, 1))


def confine(folders: list[str]) -> None:
    """Allow this process and its children to change files only below these folders; devices stay writable.

    Raises:
        OSError: the kernel rejects the rules.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    changes = _CHANGES | (_REFER if available() >= 2 else 0) | (_TRUNCATE if available() >= 3 else 0)
    rules = struct.pack("Q", changes)
    ruleset = _checked(libc, libc.syscall(_CREATE_RULESET, rules, len(rules), 0))
    for path, allowed in [
        *((folder, changes) for folder in (*folders, "/dev/shm")),
        *((device, _WRITE_FILE) for device in DEVICES),
    ]:
        with suppress(FileNotFoundError):
            parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", allowed, parent)
            _checked(libc, libc.syscall(_ADD_RULE, ruleset, 1, rule, 0))
            os.close(parent)
    _checked(libc, libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _checked(libc, libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _checked(libc: ctypes.CDLL, result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "the process cannot be confined")
    return result
