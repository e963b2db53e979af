"""One writer per output: an advisory lock of the operating system on a file next to it."""

import errno
import fcntl
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_WITHOUT = "FOURCASTER_NO_LOCKS"
_PROBE_SECONDS = 0.02  # longest time that a look at a lock takes
_READ_SECONDS = 1.0  # time that the owner of a lock may take to identify itself in the file


class OutputLockedError(OSError):
    """Another process, or another thread of this one, is writing the output."""


@dataclass
class _Lock:
    """A lock of this process.

    Attributes:
        thread: thread that holds it.
        depth: number of nested contexts.
    """

    thread: int
    depth: int = 1


_locks: dict[Path, _Lock] = {}
_mutex = threading.Lock()


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Keep all other processes, threads and machines from writing ``path`` within the context.

    The lock is ``flock`` on the hidden file ``.NAME.lock`` next to ``path``. The kernel releases it when the
    process ends, also if it is killed; on NFS it is valid between machines (as a lock on the server). The
    lock is reentrant within a thread. Folders above ``path`` are created, and removed again if they are still
    empty at the end.

    On a file system without locks, ``FOURCASTER_NO_LOCKS=1`` disables them.

    Args:
        path: output to lock.

    Raises:
        OutputLockedError: the lock is held elsewhere; the message names host, process and command.
        OSError: the folder cannot be written to, or its file system has no locks.
    """
    key = path.parent.resolve() / path.name
    with _mutex:
        lock = _locks.get(key)
        if lock is not None and lock.thread != threading.get_ident():
            raise OutputLockedError(
                f"{path} is being written by another thread of this process; choose another name"
            )
        if lock is not None:
            lock.depth += 1
    if lock is not None:
        try:
            yield
        finally:
            lock.depth -= 1
        return
    created = _create_folder(path.parent)
    try:
        with _locked(path):
            with _mutex:
                _locks[key] = _Lock(threading.get_ident())
            try:
                yield
            finally:
                with _mutex:
                    del _locks[key]
    finally:
        for folder in created:
            with suppress(OSError):  # not empty any more
                folder.rmdir()


def writer_of(path: Path) -> str | None:
    """Return a description of the process that is writing ``path``; None if there is none, or none is known.

    Args:
        path: output that a process may have locked.
    """
    try:
        file = path.with_name(f".{path.name}.lock")
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_owner(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def _create_folder(folder: Path) -> list[Path]:
    """Create a folder and its parents; return the new ones, the deepest first."""
    created = [f for f in (folder, *folder.parents) if not f.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"the folder {folder} cannot be created ({error.strerror}); choose another one"
        ) from error
    return created


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    if os.environ.get(_WITHOUT, "0") not in ("", "0"):
        yield
        return
    file = path.with_name(f".{path.name}.lock")
    descriptor = _acquire(file, path)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _owner().encode(), 0)
        yield
    finally:
        # Before the lock is released, so that no other process locks a file without a name.
        file.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(file: Path, path: Path) -> int:
    """Return the descriptor of the locked file."""
    attempts = 2
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise OSError(
                f"{path} cannot be written ({error.strerror}: {file}); choose another folder"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _still_named(file, descriptor):
                return descriptor
        except BlockingIOError:
            attempts -= 1
            if attempts:  # ``writer_of`` locks the file for a moment
                os.close(descriptor)
                time.sleep(_PROBE_SECONDS)
                continue
            text = _read_owner(descriptor)
            os.close(descriptor)
            raise OutputLockedError(
                f"{path} is being written by {text}; wait until it has ended, or choose another name"
            ) from None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _UNSUPPORTED:
                raise
            raise OSError(
                f"the file system of {path.parent} has no locks ({error.strerror}), so a second command "
                f"could mix its output with this one's; write elsewhere, or set {_WITHOUT}=1 where nothing "
                "else writes there"
            ) from error
        # The previous owner removed the file after it was opened and before it was locked.
        os.close(descriptor)


def _still_named(file: Path, descriptor: int) -> bool:
    """Return whether a path still refers to an open file."""
    try:
        return os.path.samestat(os.stat(file, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _owner() -> str:
    """Return JSON that identifies this process: host, process identifier and command."""
    command = " ".join([Path(sys.argv[0] or "python").name, *sys.argv[1:2]])[:200]
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "command": command})


def _read_owner(descriptor: int) -> str:
    """Return a description of the owner of a lock, who may not have written it yet."""
    until = time.monotonic() + _READ_SECONDS
    while time.monotonic() < until:
        try:
            owner = json.loads(os.pread(descriptor, 4096, 0))
            return (
                f"process {int(owner['pid'])} on {str(owner['host'])[:100]} ({str(owner['command'])[:100]})"
            )
        except (ValueError, KeyError, TypeError, OSError):
            time.sleep(0.02)
    return "another process"
