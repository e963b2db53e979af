"""Writing so that a path holds the old thing or the new one, never half of either."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def temporary_path(path: Path) -> Path:
    """Return the hidden name beside ``path`` under which it is made."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def replacing(path: Path, overwrite: bool, keep_partial: bool = False) -> Iterator[Path]:
    """Give a temporary path to write a file or folder to, and put it in place of ``path`` once it is whole.

    Args:
        path: what to make.
        overwrite: whether an existing ``path`` may be replaced.
        keep_partial: leave what is written so far if writing stops, so that it can be taken up again.

    Raises:
        FileExistsError: ``path`` exists and may not be replaced.
        OSError: writing failed; a full disk is said in plain words.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; pass --overwrite to replace it, or choose another name")
    temporary, old = temporary_path(path), path.with_name(f".{path.name}.old")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not keep_partial:
        remove(temporary)
    try:
        yield temporary
        remove(old)
        if path.exists():
            os.rename(path, old)
        os.rename(temporary, path)
        remove(old)
    except OSError as error:
        if not keep_partial:
            remove(temporary)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            kept = "what was written so far is kept for the next try" if keep_partial else "nothing was left behind"
            raise OSError(error.errno, f"no room to write {path}; {kept}: free some space and run it again") from error
        raise
    except RuntimeError as error:
        if not keep_partial:
            remove(temporary)
        if "NetCDF" in str(error) or "HDF" in str(error):  # how the netCDF library says that a write failed
            raise OSError(f"cannot write {path} ({error}); nothing was left behind: free some space and run it again") from error
        raise
    except BaseException:
        if not keep_partial:
            remove(temporary)
        raise


def recover(path: Path) -> None:
    """Undo a replacement that was killed between its two renames."""
    old = path.with_name(f".{path.name}.old")
    if old.exists() and not path.exists():
        os.rename(old, path)


def remove(path: Path) -> None:
    """Remove a file or folder if it is there, also while another removes it."""
    if path.is_dir() and not path.is_symlink():
        while path.is_dir():
            with suppress(FileNotFoundError):
                shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Replace a small file so that it holds the old bytes or the new ones, also after a power failure.

    The new bytes are written to a new file with an unpredictable name, so a link planted there is not followed.

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
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Write a file, or the entries of a folder, to the disk.

    File systems that cannot synchronise folders are left to do so by themselves.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
