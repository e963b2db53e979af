"""Regular files, and nothing else, as input: a pipe blocks whoever opens it, and a device never ends."""

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
    """Raise unless a path, or what it links to, is a regular file; never opens it, so never blocks.

    Args:
        path: file.

    Raises:
        FileNotFoundError: it does not exist.
        InvalidDataError: it is something else than a file.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path} does not exist; check the path") from None
    except ValueError:  # a null byte
        raise InvalidDataError(f"{str(path)!r} is no path") from None
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise InvalidDataError(
            f"{path} is {kind}; name a regular file, e.g. one that a pipe was first written to"
        )
