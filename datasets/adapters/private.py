"""Folders of the user's own, in which nobody else can leave or exchange files."""

import os
import stat
from pathlib import Path


def private_folder(path: str | Path) -> str:
    """Create a folder that only the user can write to, or say why an existing one is not.

    A folder of the user's that only the group may write to is closed to it; the folders above must belong to
    the user or to root, and be writable by others only where nobody can remove another's entries (as in
    ``/tmp``).

    Args:
        path: folder.

    Returns:
        An empty text, or the reason why the folder must not be trusted.
    """
    path = Path(path)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.lstat(path)
        if (
            stat.S_ISDIR(status.st_mode)
            and status.st_uid == os.geteuid()
            and _writable(status) == stat.S_IWGRP
        ):
            os.chmod(path, 0o700)
            status = os.lstat(path)
        reason = _distrust(status, "")
        for folder in [] if reason else Path(os.path.abspath(path)).parents:
            reason = reason or _distrust(os.stat(folder), f", in {folder}", above=True)
    except OSError as error:
        return error.strerror or type(error).__name__
    return reason


def _writable(status: os.stat_result) -> int:
    return status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _distrust(status: os.stat_result, where: str, above: bool = False) -> str:
    if not stat.S_ISDIR(status.st_mode):
        return f"it is a link or a file{where}"
    if status.st_uid != os.geteuid() and not (above and status.st_uid == 0):
        return f"it belongs to another user{where}"
    if (status.st_mode & stat.S_IWOTH if above else _writable(status)) and not (
        above and status.st_mode & stat.S_ISVTX
    ):
        return f"other users may write to it{where}"
    return ""
