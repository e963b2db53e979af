"""Writing so that a path holds the old thing or the new one, never half of either."""

import errno
import os
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
