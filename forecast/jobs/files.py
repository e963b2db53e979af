"""Safe access to files in folders that other users may write to.

No link is followed, and nothing but a regular file is opened.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path


class FileKind(StrEnum):
    """Kind of a directory entry, as messages name it."""

    FILE = "a file"
    FOLDER = "a folder"
    LINK = "a link"
    PIPE = "a pipe"
    SOCKET = "a socket"
    DEVICE = "a device"


_KINDS = {
    stat.S_IFDIR: FileKind.FOLDER,
    stat.S_IFLNK: FileKind.LINK,
    stat.S_IFIFO: FileKind.PIPE,
    stat.S_IFSOCK: FileKind.SOCKET,
    stat.S_IFCHR: FileKind.DEVICE,
    stat.S_IFBLK: FileKind.DEVICE,
}


def kind_of(path: Path) -> FileKind | None:
    """Return the kind of a directory entry, links not followed; None where there is none."""
    try:
        return _kind(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _kind(mode: int) -> FileKind:
    return _KINDS.get(stat.S_IFMT(mode), FileKind.FILE)


def open_file(path: Path, flags: int) -> int:
    """Open a regular file and return its descriptor; the umask sets the mode of a new file.

    Raises:
        OSError: a link, pipe, device or folder, or the file cannot be opened.
    """
    if (kind := kind_of(path)) not in (None, FileKind.FILE):
        raise OSError(f"{path} is {kind}, not a file; remove it")
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(f"{path} is a link, not a file; remove it") from error
        raise
    if (kind := _kind(os.fstat(descriptor).st_mode)) is not FileKind.FILE:
        os.close(descriptor)
        raise OSError(f"{path} is {kind}, not a file; remove it")
    return descriptor


def read_start(path: Path, size: int) -> bytes:
    """Return the first ``size`` bytes of a regular file; raises as ``open_file`` does."""
    with os.fdopen(open_file(path, os.O_RDONLY), "rb") as stream:
        return stream.read(size)


def read_small(path: Path, limit: int = 2**20) -> bytes:
    """Return the content of a small file.

    Raises:
        OSError: not a regular file, or it cannot be read.
        ValueError: larger than ``limit`` bytes.
    """
    data = read_start(path, limit + 1)
    if len(data) > limit:
        raise ValueError(f"{path} is larger than {limit} bytes")
    return data


@contextmanager
def locked(path: Path, operation: int = fcntl.LOCK_EX) -> Iterator[int]:
    """Lock a file against other processes for the duration of the context and return its descriptor.

    The file is created if it does not exist.
    """
    descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, operation)
        yield descriptor
    finally:
        os.close(descriptor)
