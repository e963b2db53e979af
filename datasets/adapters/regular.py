"""Check that an input is a regular file: opening a pipe blocks, and a device has no end."""

import os
import stat
from pathlib import Path

from ..errors import InvalidDataError

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def check_regular(path: str | Path) -> None:
    """Raise unless a path, or the target of a link, is a regular file; the file is not opened.

    Args:
        path: path to check.

    Raises:
        FileNotFoundError: the path does not exist.
        InvalidDataError: the path is not a regular file.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path} does not exist; check the path") from None
    except ValueError:  # a null byte
        raise InvalidDataError(f"{str(path)!r} is not a path") from None
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "not a regular file")
        raise InvalidDataError(
            f"{path} is {kind}; expected a regular file, e.g. one that the output of a pipe was saved to"
        )
