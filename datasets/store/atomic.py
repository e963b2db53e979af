"""Atomic, durable replacement of outputs.

At any time, also after a power failure, a path refers to the old output or to the complete new one.
"""

import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import WriteError
from . import outputs
from .locks import OutputLockedError, exclusive

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PATIENCE = 5.0  # seconds that a reader waits for a replacement to end
_SYNC_THREADS = 8
_DISCARDED = "discarded"


@contextmanager
def reserved(
    path: str | Path, kind: str, *, overwrite: bool = False, inputs: Iterable[outputs.Input] = ()
) -> Iterator[Path]:
    """Check that an output may be written, and keep others from writing it until the end of the context.

    Args:
        path: output.
        kind: key of ``outputs.FORMATS``, or ``checkpoint``.
        overwrite: whether an earlier output of this kind may be replaced.
        inputs: data that are read within the context.

    Raises:
        FileExistsError: the output exists, and may not be replaced or was not written by this package.
        OutputLockedError: another process is writing it.
        ValueError: its ending is that of another format, or it is, contains or lies in an input.
    """
    path = outputs.check_output(path, kind)
    outputs.check_separate(path, inputs)
    with exclusive(path):
        recover(path)
        outputs.check_replaceable(path, kind, overwrite)
        yield path


def workspace(path: Path) -> Path:
    """Return the hidden folder next to ``path`` in which its replacement is written.

    It contains the new output under its own name, the record of an unfinished one (``Journal``), and ``old``
    while the two are exchanged; ``discarded`` is an old output that is being removed.
    """
    return path.with_name(f".{path.name}.partial")


def temporary_path(path: Path) -> Path:
    """Return the path at which the replacement of ``path`` is written."""
    return workspace(path) / path.name


@contextmanager
def replacing(path: Path, *, overwrite: bool, kind: str, keep_partial: bool = False) -> Iterator[Path]:
    """Yield a temporary path for a file or folder, and move it to ``path`` once it is complete.

    The output is locked within the context (``locks.exclusive``). Its contents are on the disk before it is
    renamed.

    Args:
        path: file or folder to write.
        overwrite: whether an existing ``path`` may be replaced.
        kind: kind of output; only an output of this kind that this package wrote is replaced.
        keep_partial: keep unfinished files if writing stops, so that the next attempt can resume.

    Raises:
        FileExistsError: ``path`` exists and may not be replaced.
        OutputLockedError: another process is writing it.
        OSError: writing failed; the message says so if the disk is full.
    """
    with exclusive(path):
        recover(path)
        outputs.check_replaceable(path, kind, overwrite)
        folder = workspace(path)
        _enter(folder, path, keep_partial)
        try:
            yield folder / path.name
            _publish(folder, path, overwrite)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            kept = "nothing was left behind"
            if keep_partial:
                kept = "what was written so far is kept for the next try"
            message = f"no room to write {path}; {kept}: free some space and run it again"
            raise OSError(error.errno, message) from error
        except WriteError as error:
            raise OSError(
                f"cannot write {path} ({error}); nothing was left behind: free some space and run it again"
            ) from error
        finally:
            if not keep_partial:
                remove(folder)
            with suppress(OSError):  # not empty: unfinished files are kept
                folder.rmdir()


def _enter(folder: Path, path: Path, keep_partial: bool) -> None:
    """Create the workspace, or reuse that of an earlier attempt of the same user.

    Raises:
        FileExistsError: a folder of this name was not left by this package.
    """
    if not keep_partial and _is_workspace(folder, path):
        remove(folder)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        if not _is_workspace(folder, path):
            raise FileExistsError(
                f"{folder} is in the way and was not left by this command; move it away"
            ) from None
        remove(folder / _DISCARDED)


def _is_workspace(folder: Path, path: Path) -> bool:
    try:
        status = os.lstat(folder)
    except FileNotFoundError:
        return False
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
    names = {path.name, f"{path.name}.done", "old", _DISCARDED, "store.zarr", "progress.json"}
    return ours and set(os.listdir(folder)) <= names


def _publish(folder: Path, path: Path, overwrite: bool) -> None:
    """Move the new output to ``path``, and remove the workspace with the old one."""
    new = folder / path.name
    old = folder / "old"
    sync_all(new)
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(f"{path} was created meanwhile and is kept; choose another name")
    swap(new, path, old)
    if os.path.lexists(old):  # otherwise `recover` could restore it after a kill during its removal
        os.rename(old, folder / _DISCARDED)
    remove(folder)


def recover(path: Path) -> None:
    """Undo a replacement that was killed between its two renames, or wait for one that is in progress."""
    old = workspace(path) / "old"
    until = time.monotonic() + _PATIENCE
    while not os.path.lexists(path) and os.path.lexists(old):
        try:
            with exclusive(path):
                if not os.path.lexists(path) and os.path.lexists(old):
                    os.rename(old, path)
                    sync(path.parent)
                    with suppress(OSError):  # not empty: it also contains an unfinished output
                        workspace(path).rmdir()
        except OutputLockedError:
            if time.monotonic() > until:
                return
            time.sleep(0.01)
        except OSError:  # the folder is read only
            return


def swap(new: Path, path: Path, old: Path) -> None:
    """Move a new output to its path, and a previous one, if any, out of the way; all on one file system.

    If the process is killed between the two renames, there is no ``path``; ``recover`` repairs that for the
    folders of ``workspace``. The caller synchronises ``new`` with the disk first.

    Args:
        new: new output.
        path: its final path.
        old: path to move the previous output to.
    """
    if os.path.lexists(path):
        remove(old)
        os.rename(path, old)
    os.rename(new, path)
    sync(path.parent)


def replace_file(temporary: Path, path: Path, *, durable: bool = True) -> None:
    """Rename a file or link to ``path`` in one step, replacing a file or link that is there.

    Args:
        temporary: file on the same file system; the caller synchronises it with the disk first.
        path: new path.
        durable: synchronise the folder with the disk too, before the function returns.
    """
    os.replace(temporary, path)
    if durable:
        sync(path.parent)


def remove(path: Path) -> None:
    """Remove a file or folder if it exists, also while another process removes it."""
    if path.is_dir() and not path.is_symlink():
        while path.is_dir():
            with suppress(FileNotFoundError):
                shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Replace a small file so that it contains the old or the new bytes, also after a power failure.

    The new bytes are written to a new file with an unpredictable name, so that no other user can place a link
    there.

    Args:
        path: file to replace.
        data: new contents.

    Raises:
        OSError: the file cannot be written; the old one is kept.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        replace_file(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Synchronise a file, or the entries of a folder, with the disk.

    Folders on file systems that cannot synchronise them are ignored.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def sync_all(path: Path) -> None:
    """Synchronise a file, or a folder with all its contents, with the disk, if it exists."""
    if not path.is_dir():
        if path.exists():
            sync(path)
        return
    paths = [path]
    for folder, folders, files in os.walk(path):
        paths += [Path(folder, name) for name in (*files, *folders)]
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:  # since disks process several requests at once
        list(pool.map(sync, paths))
