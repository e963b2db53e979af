"""Private folders of the user, in which no other user can place or replace files."""

import os
import stat
from pathlib import Path


def private_folder(path: str | Path) -> str:
    """Create a folder that only the user can write to, or return why an existing one cannot be trusted.

    Group write permission on the user's own folder is removed. Parent folders must belong to the user or to
    root, and be writable by others only with the sticky bit set, as ``/tmp`` is.

    Args:
        path: folder.

    Returns:
        The reason why the folder cannot be trusted, empty if it can.
    """
    path = Path(path)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.lstat(path)
        if (
            stat.S_ISDIR(status.st_mode)
            and status.st_uid == os.geteuid()
            and _write_bits(status) == stat.S_IWGRP
        ):
            os.chmod(path, 0o700)
            status = os.lstat(path)
        reason = _reason_for_distrust(status, "")
        for folder in [] if reason else Path(os.path.abspath(path)).parents:
            reason = reason or _reason_for_distrust(os.stat(folder), f", in {folder}", is_parent=True)
    except OSError as error:
        return error.strerror or type(error).__name__
    return reason


def _write_bits(status: os.stat_result) -> int:
    return status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _reason_for_distrust(status: os.stat_result, where: str, *, is_parent: bool = False) -> str:
    """Return why a folder cannot be trusted, empty if it can."""
    if not stat.S_ISDIR(status.st_mode):
        return f"it is a link or a file{where}"
    if status.st_uid != os.geteuid() and not (is_parent and status.st_uid == 0):
        return f"it belongs to another user{where}"
    if (status.st_mode & stat.S_IWOTH if is_parent else _write_bits(status)) and not (
        is_parent and status.st_mode & stat.S_ISVTX
    ):
        return f"other users may write to it{where}"
    return ""
