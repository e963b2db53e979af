"""Read-only zarr stores in folders, without symbolic links out of the folder, pipes and devices."""

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import LocalStore

from ..errors import LinkRefusedError, UntrustedDataError
from .untrusted import LISTED, oversized_error

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)


class FolderStore(LocalStore):
    """A read-only folder that serves only regular files within it.

    The folder itself may be a symbolic link, and links inside it may lead to other paths inside it.

    Args:
        folder: path of the store.
        follow_links: whether to follow links that lead out of the folder.
    """

    def __init__(self, folder: Path | str, follow_links: bool = False) -> None:
        super().__init__(Path(folder), read_only=True)
        self.folder = os.fspath(folder)
        self.follow_links = follow_links
        self._real = os.path.realpath(folder)
        self._inside: set[str] = set()

    def with_read_only(self, read_only: bool = False) -> "FolderStore":
        """Return the store itself, which is always read only."""
        return self

    async def fetch(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None, *, max_bytes: int
    ) -> Buffer | None:
        """Return the bytes of a key, or None if it does not exist.

        Args:
            key: path of the file in the store.
            prototype: kind of buffer to return.
            byte_range: part of the file; all of it by default.
            max_bytes: largest size of the part [bytes].

        Raises:
            UntrustedDataError: the file lies outside of the folder, is not a regular file, or is longer than
                ``max_bytes``.
        """
        data = await asyncio.to_thread(self.read, key, byte_range, max_bytes)
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a key, or None if it does not exist."""
        return await self.fetch(key, prototype or default_buffer_prototype(), byte_range, max_bytes=2**63)

    def read(self, key: str, byte_range: ByteRequest | None, max_bytes: int) -> bytes | None:
        """Return the bytes of a key synchronously, see ``fetch``."""
        if (path := self.path_of(key)) is None:
            return None
        try:
            descriptor = os.open(path, _FLAGS)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        with open(descriptor, "rb", buffering=0) as file:
            start, length = _span(byte_range, os.fstat(descriptor).st_size)
            if not 0 <= length <= max_bytes:
                raise oversized_error(self.folder, key, length, max_bytes=max_bytes)
            file.seek(start)
            return _read_all(file, length)

    def path_of(self, key: str) -> str | None:
        """Return the path of a key, or None if it is not an existing regular file.

        Raises:
            UntrustedDataError: the path leads out of the folder, or is a pipe, socket or device.
        """
        slash = key.find("/")
        while slash >= 0:
            if (folder := key[:slash]) not in self._inside:
                if self._resolve(folder) is None:
                    return None
                self._inside.add(folder)
            slash = key.find("/", slash + 1)
        path = self._resolve(key)
        if path is None:
            return None
        mode = os.lstat(path).st_mode
        if not stat.S_ISREG(mode):
            if stat.S_ISDIR(mode):
                return None
            raise _not_regular(f"{self.folder}/{key}", mode)
        return path

    def _resolve(self, key: str) -> str | None:
        """Return the path of a file or folder in a checked parent folder, or None if it does not exist."""
        path = f"{self.folder}/{key}"
        try:
            if not stat.S_ISLNK(os.lstat(path).st_mode):
                return path
        except (FileNotFoundError, NotADirectoryError):
            return None
        target = os.path.realpath(path)
        if not self.follow_links and not _is_within(target, self._real):
            raise _escape_error(path, target)
        return target if os.path.exists(target) else None

    async def exists(self, key: str) -> bool:
        """Return whether a key exists."""
        return await asyncio.to_thread(self.path_of, key) is not None

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names in a folder of the store."""
        for name in await asyncio.to_thread(self._list_names, prefix.rstrip("/")):
            yield name

    def _list_names(self, prefix: str) -> list[str]:
        if prefix:
            self.path_of(f"{prefix}/")
        names: list[str] = []
        try:
            with os.scandir(f"{self.folder}/{prefix}") as entries:
                for entry in entries:
                    if len(names) == LISTED:
                        raise UntrustedDataError(
                            f"{self.folder}/{prefix} contains more than {LISTED} names, "
                            "too many for a group of arrays"
                        )
                    names.append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return names


def check_folder_tree(folder: str | Path, follow_links: bool = False) -> None:
    """Check that a folder contains no link out of it, pipe, socket or device.

    This is for stores whose files are opened by a library and not by ``FolderStore``.

    Args:
        folder: folder to check.
        follow_links: whether to allow links out of it.

    Raises:
        UntrustedDataError: the folder contains one of these.
    """
    real = os.path.realpath(folder)
    for entry in _walk(os.fspath(folder)):
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if not follow_links and not _is_within(target, real):
                raise _escape_error(entry.path, target)
        elif not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
            raise _not_regular(entry.path, entry.stat(follow_symlinks=False).st_mode)


def _walk(folder: str) -> Iterator[Any]:
    """Yield the entries of a folder and of all folders in it."""
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _escape_error(path: str, target: str) -> LinkRefusedError:
    return LinkRefusedError(
        f"{path} is a link that leads out of the store, to {target}; "
        "pass follow_links=True if you trust it, or copy its target into the store"
    )


def _not_regular(path: str, mode: int) -> UntrustedDataError:
    kinds = {
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return UntrustedDataError(
        f"{path} is {kinds.get(stat.S_IFMT(mode), 'special')}, not a file; "
        "remove it, or download the store again"
    )


def _span(byte_range: ByteRequest | None, size: int) -> tuple[int, int]:
    """Return the offset and the number of the requested bytes of a file."""
    if isinstance(byte_range, RangeByteRequest):
        return min(byte_range.start, size), min(byte_range.end, size) - min(byte_range.start, size)
    if isinstance(byte_range, OffsetByteRequest):
        return min(byte_range.offset, size), size - min(byte_range.offset, size)
    if isinstance(byte_range, SuffixByteRequest):
        return max(0, size - byte_range.suffix), min(size, byte_range.suffix)
    return 0, size


def _read_all(file: Any, length: int) -> bytes:
    """Return ``length`` bytes of a file, since one read returns at most 2 GiB."""
    data: bytes = file.read(length)
    if len(data) == length:
        return data
    pieces = [data]
    count = len(data)
    while count < length and (piece := file.read(length - count)):
        pieces.append(piece)
        count += len(piece)
    if count < length:
        raise OSError(errno.EIO, "a file was truncated while it was read")
    return b"".join(pieces)
