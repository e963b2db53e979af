"""Disk cache of the chunks of remote stores."""

import hashlib
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pooch

from ..store.atomic import replace_file
from .private import private_folder
from .untrusted import parse_bytes

log = logging.getLogger(__name__)

CACHE_BYTES = 2**31  # largest size of the user's cache, by default
_TEMPORARY = ".tmp"
_ABANDONED = 3600.0  # seconds after which a temporary file counts as abandoned
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)


class DiskCache:
    """A least-recently-used cache of byte strings in a folder.

    An entry is valid only if it is a regular file of the user whose checksum matches its name and bytes:
    damaged, planted or renamed entries are fetched again. Several processes may share a folder.

    Args:
        folder: folder of the cache, created with access for the user only.
        limit: largest total size [bytes].

    Raises:
        ValueError: another user could write to the folder.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        if reason := private_folder(folder):
            raise ValueError(f"{folder} cannot be used to cache downloads: {reason}")
        self._size = sum(size for _, size, _ in self._entries())

    @classmethod
    def of_user(cls) -> "DiskCache | None":
        """Return the user's cache; None if it is disabled or, with a warning, if its folder is not private.

        ``FOURCASTER_CACHE_BYTES`` sets its size (0 disables it) and ``FOURCASTER_CACHE`` its folder.
        """
        limit = parse_bytes(
            os.environ.get("FOURCASTER_CACHE_BYTES", str(CACHE_BYTES)), "FOURCASTER_CACHE_BYTES"
        )
        folder = Path(os.environ.get("FOURCASTER_CACHE") or pooch.os_cache("fourcaster")) / "remote"
        try:
            return cls(folder, limit) if limit else None
        except ValueError as error:
            log.warning("%s; chunks are not cached. Set FOURCASTER_CACHE to a private folder", error)
            return None

    def _entries(self) -> Iterator[tuple[int, int, str]]:
        """Yield time of use, size and path of each entry, and remove abandoned temporary files."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(OSError):  # another process may remove it meanwhile
                    status = entry.stat(follow_symlinks=False)
                    if not entry.name.endswith(_TEMPORARY):
                        yield status.st_mtime_ns, status.st_size, entry.path
                    elif time.time() - status.st_mtime > _ABANDONED:
                        os.unlink(entry.path)

    def _path(self, name: str) -> Path:
        return self.folder / hashlib.sha256(name.encode()).hexdigest()

    def get(self, name: str) -> bytes | None:
        """Return the bytes cached under a name, or None if there is no valid entry."""
        path = self._path(name)
        try:
            descriptor = os.open(path, _FLAGS)
            with open(descriptor, "rb", buffering=0) as file:
                status = os.fstat(descriptor)
                own = (
                    stat.S_ISREG(status.st_mode)
                    and status.st_uid == os.geteuid()
                    and status.st_size <= self.limit
                )
                entry = file.readall() if own else b""
                if entry:
                    os.utime(descriptor)
        except FileNotFoundError:
            return None
        except OSError:  # e.g. a link in its place
            entry = b""
        value = entry[32:]
        if entry[:32] == _checksum(name, value):
            return value
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return None

    def put(self, name: str, value: bytes) -> None:
        """Cache bytes under a name, unless there is no room for them."""
        if len(value) > self.limit // 2:
            return
        temporary = ""
        try:
            # Not synced to disk: the checksum detects an entry damaged by a power failure.
            descriptor, temporary = tempfile.mkstemp(_TEMPORARY, dir=self.folder)
            with open(descriptor, "wb", buffering=0) as file:
                file.write(_checksum(name, value))
                file.write(value)
            replace_file(Path(temporary), self._path(name), durable=False)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary)
            return
        self._size += len(value) + 32
        if self._size > self.limit:
            self._evict()

    def _evict(self) -> None:
        """Remove the least recently used entries until a tenth of the cache is free."""
        entries = sorted(self._entries())
        self._size = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if self._size <= 0.9 * self.limit:
                return
            with suppress(FileNotFoundError):
                os.unlink(path)
            self._size -= size


def _checksum(name: str, value: bytes) -> bytes:
    digest = hashlib.sha256(f"{len(name)} {name}".encode())
    digest.update(value)
    return digest.digest()
