"""Files in folders that others may write to: no link is followed, nothing but a regular file is opened."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind_of(path: Path) -> str | None:
    """Return what a path is in words, ``a file`` where it is a regular one, None where there is nothing."""
    try:
        return _kind(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "a file")


def open_file(path: Path, flags: int) -> int:
    """Open a regular file and return its descriptor; new files get the mode that the umask leaves.

    Raises:
        OSError: it is a link, pipe, device or folder, or cannot be opened.
    """
    if (kind := kind_of(path)) not in (None, "a file"):
        raise OSError(f"{path} is {kind}, not a file; remove it")
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(f"{path} is a link, not a file; remove it") from error
        raise
    if (kind := _kind(os.fstat(descriptor).st_mode)) != "a file":
        os.close(descriptor)
        raise OSError(f"{path} is {kind}, not a file; remove it")
    return descriptor


def read_start(path: Path, most: int) -> bytes:
    """Return the first ``most`` bytes of a regular file; raises as ``open_file`` does."""
    with os.fdopen(open_file(path, os.O_RDONLY), "rb") as stream:
        return stream.read(most)


def read_small(path: Path, most: int = 2**20) -> bytes:
    """Return what a small file holds.

    Raises:
        OSError: it is no regular file, or cannot be read.
        ValueError: it is larger than ``most`` bytes.
    """
    data = read_start(path, most + 1)
    if len(data) > most:
        raise ValueError(f"{path} is larger than {most} bytes")
    return data


@contextmanager
def locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[int]:
    """Hold a lock between processes and give the descriptor of its file, which is made where there is none."""
    descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, how)
        yield descriptor
    finally:
        os.close(descriptor)
