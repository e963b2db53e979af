"""Zarr stores in folders, read without leaving the folder: links out of it, pipes and devices are refused."""

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
from .untrusted import LISTED, too_long

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)


class FolderStore(LocalStore):  # type: ignore[misc]
    """A folder that is read only, of which every file is an ordinary one that lies in it.

    The folder itself may be named by a link. Links inside it may lead to other places inside it.

    Args:
        folder: path.
        follow_links: follow links that lead out of the folder too.
    """

    def __init__(self, folder: Path | str, follow_links: bool = False) -> None:
        super().__init__(Path(folder), read_only=True)
        self.folder, self.follow_links = os.fspath(folder), follow_links
        self._real = os.path.realpath(folder)
        self._inside: set[str] = set()

    def with_read_only(self, read_only: bool = False) -> "FolderStore":
        """Return itself, which only reads."""
        return self

    async def fetch(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None, most: int
    ) -> Buffer | None:
        """Return the bytes of a key, None where there is none.

        Raises:
            UntrustedDataError: it lies outside of the folder, is no ordinary file, or is longer than
                ``most``.
        """
        data = await asyncio.to_thread(self.read, key, byte_range, most)
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a key, None where there is none."""
        return await self.fetch(key, prototype or default_buffer_prototype(), byte_range, 2**63)

    def read(self, key: str, byte_range: ByteRequest | None, most: int) -> bytes | None:
        """Return the bytes of a key, as ``fetch`` does."""
        if (path := self.path_of(key)) is None:
            return None
        try:
            descriptor = os.open(path, _FLAGS)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        with open(descriptor, "rb", buffering=0) as file:
            start, length = _span(byte_range, os.fstat(descriptor).st_size)
            if not 0 <= length <= most:
                raise too_long(self.folder, key, length, most)
            file.seek(start)
            return _read_all(file, length)

    def path_of(self, key: str) -> str | None:
        """Return the path of a key that is an ordinary file, None where there is none.

        Raises:
            UntrustedDataError: it lies outside of the folder, or is a pipe, socket or device.
        """
        at = key.find("/")
        while at >= 0:
            if (folder := key[:at]) not in self._inside:
                if self._resolved(folder) is None:
                    return None
                self._inside.add(folder)
            at = key.find("/", at + 1)
        path = self._resolved(key)
        if path is None:
            return None
        mode = os.lstat(path).st_mode
        if not stat.S_ISREG(mode):
            if stat.S_ISDIR(mode):
                return None
            raise _not_ordinary(f"{self.folder}/{key}", mode)
        return path

    def _resolved(self, key: str) -> str | None:
        """Return the path of a file or folder whose own folder is known to be inside, None where there is
        none.
        """
        path = f"{self.folder}/{key}"
        try:
            if not stat.S_ISLNK(os.lstat(path).st_mode):
                return path
        except (FileNotFoundError, NotADirectoryError):
            return None
        target = os.path.realpath(path)
        if not self.follow_links and not _within(target, self._real):
            raise _leads_out(path, target)
        return target if os.path.exists(target) else None

    async def exists(self, key: str) -> bool:
        """Return whether there is a file of this key."""
        return await asyncio.to_thread(self.path_of, key) is not None

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names in a folder."""
        for name in await asyncio.to_thread(self._names, prefix.rstrip("/")):
            yield name

    def _names(self, prefix: str) -> list[str]:
        if prefix:
            self.path_of(f"{prefix}/")
        names: list[str] = []
        try:
            with os.scandir(f"{self.folder}/{prefix}") as entries:
                for entry in entries:
                    if len(names) == LISTED:
                        raise UntrustedDataError(
                            f"{self.folder}/{prefix} holds more than {LISTED} names, which is no group of arrays"
                        )
                    names.append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return names


def check_tree(folder: str | Path, follow_links: bool = False) -> None:
    """Raise ``UntrustedDataError`` where a folder holds a link that leads out of it, a pipe, a socket or a
    device.

    For what a library reads by itself, file by file.
    """
    real = os.path.realpath(folder)
    for entry in _walk(os.fspath(folder)):
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if not follow_links and not _within(target, real):
                raise _leads_out(entry.path, target)
        elif not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
            raise _not_ordinary(entry.path, entry.stat(follow_symlinks=False).st_mode)


def _walk(folder: str) -> Iterator[Any]:
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _leads_out(path: str, target: str) -> LinkRefusedError:
    return LinkRefusedError(
        f"{path} is a link that leads out of the store, to {target}; "
        "pass follow_links=True if you trust it, or copy its target into the store"
    )


def _not_ordinary(path: str, mode: int) -> UntrustedDataError:
    kinds = {
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return UntrustedDataError(
        f"{path} is {kinds.get(stat.S_IFMT(mode), 'no file')}, not a file; remove it, or fetch the store again"
    )


def _span(byte_range: ByteRequest | None, size: int) -> tuple[int, int]:
    """Return where the requested bytes of a file begin, and how many they are."""
    if isinstance(byte_range, RangeByteRequest):
        return min(byte_range.start, size), min(byte_range.end, size) - min(byte_range.start, size)
    if isinstance(byte_range, OffsetByteRequest):
        return min(byte_range.offset, size), size - min(byte_range.offset, size)
    if isinstance(byte_range, SuffixByteRequest):
        return max(0, size - byte_range.suffix), min(size, byte_range.suffix)
    return 0, size


def _read_all(file: Any, length: int) -> bytes:
    """Read ``length`` bytes; one call reads at most 2 GiB."""
    data: bytes = file.read(length)
    if len(data) == length:
        return data
    pieces, count = [data], len(data)
    while count < length and (piece := file.read(length - count)):
        pieces.append(piece)
        count += len(piece)
    if count < length:
        raise OSError(errno.EIO, "a file became shorter while it was read")
    return b"".join(pieces)
