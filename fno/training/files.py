"""Replacement of a file that leaves its old or its new contents, also after a power failure."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to ``path`` at the end of the context.

    The new file is on the disk before it is renamed, and the new name when the context ends. If the context
    raises, the old file is kept.

    Args:
        path: file to replace.

    Raises:
        OSError: another user's file or folder has the name of the temporary folder.
    """
    with _private_folder(path.with_name(f".{path.name}.tmp")) as folder:
        temporary = folder / path.name
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    with suppress(OSError):  # of file systems that cannot synchronise folders
        _sync(path.parent)


@contextmanager
def _private_folder(path: Path) -> Iterator[Path]:
    """Create a folder that no other user can write to, and remove it with its contents at the end.

    A folder that an interrupted run of the same user left is removed first.
    """
    _remove_own(path)
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _remove_own(path: Path) -> None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if status.st_uid != os.geteuid():
        raise OSError(f"{path} belongs to another user; remove it, or choose another output")
    if stat.S_ISDIR(status.st_mode):
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
