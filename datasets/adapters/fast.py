"""Decoding of chunks in local folders by the package ``zarrs``, whose compiled code opens files itself.

That code follows links, blocks on pipes and decompresses any amount of data. Each file is therefore checked
first: it must be a regular file within the store, and the header of each chunk in it must state the declared
size. A file is checked once, and again after it changed. Arrays that ``zarrs`` does not decode, and files
that do not pass, are decoded by ``CheckedPipeline``.
"""

import asyncio
import importlib.util
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import Any, cast

import numpy as np
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec
from zarr.core.buffer import NDBuffer
from zarr.registry import register_pipeline
from zarr.storage import LocalStore

from .links import FolderStore
from .pipelines import CHECKED_PIPELINE, CheckedPipeline
from .remote import CheckedStore
from .unpacking import blosc_decoded_size, zstd_decoded_size

_LARGEST_CHUNK = 2**26  # bytes; several chunks are decoded at the same time
_MAX_CHECKED = 100_000  # files whose check is remembered
_EMPTY = 2**64 - 1  # offset of a missing chunk in the index of a shard
_HEADER = 16  # bytes


@dataclass(frozen=True)
class ChunkLayout:
    """Layout of the chunks of a zarr format 3 array in its files.

    Attributes:
        chunk_bytes: decoded bytes of a chunk.
        compressor: codec that compresses chunks, None without compression.
        count: chunks in a file.
        index_bytes: bytes of the index of a shard, 0 without sharding.
        index_at_start: whether the index is at the start of a shard.
    """

    chunk_bytes: int
    compressor: type[Any] | None
    count: int = 1
    index_bytes: int = 0
    index_at_start: bool = False

    @classmethod
    def of(cls, metadata: Any) -> "ChunkLayout | None":
        """Return the layout of an array, or None if ``zarrs`` should not decode it."""
        if metadata.zarr_format != 3 or (dtype := metadata.dtype.to_native_dtype()).kind not in "biuf":
            return None
        codecs = list(metadata.codecs)
        shape = metadata.chunks
        file_shape = metadata.chunk_grid.chunk_shape
        sharding = codecs[0] if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec) else None
        if sharding is not None:
            codecs = list(sharding.codecs)
        kinds = [type(codec) for codec in codecs]
        size = prod(shape) * dtype.itemsize
        if (
            kinds not in ([BytesCodec], [BytesCodec, BloscCodec], [BytesCodec, ZstdCodec])
            or size > _LARGEST_CHUNK
        ):
            return None
        compressor = kinds[1] if len(kinds) > 1 else None
        if sharding is None:
            return cls(size, compressor)
        count = prod(whole // part for whole, part in zip(file_shape, shape, strict=True))
        checksum = any(isinstance(codec, Crc32cCodec) for codec in sharding.index_codecs)
        index_bytes = 16 * count + 4 * checksum
        index_at_start = sharding.index_location.value == "start"
        return cls(size, compressor, count, index_bytes, index_at_start)

    def matches(self, descriptor: int, length: int) -> bool:
        """Return whether each chunk in a file has the declared size.

        Args:
            descriptor: descriptor of the open file.
            length: length of the file [bytes].
        """
        if not self.index_bytes:
            return self._chunk_matches(descriptor, 0, length)
        if length < self.index_bytes:
            return False
        offset = 0 if self.index_at_start else length - self.index_bytes
        index = os.pread(descriptor, 16 * self.count, offset)
        spans = np.frombuffer(index, "<u8").reshape(-1, 2)
        spans = spans[spans[:, 0] != _EMPTY]
        if (spans > length).any() or (spans.sum(axis=1) > length).any():
            return False
        return all(self._chunk_matches(descriptor, start, size) for start, size in spans.tolist())

    def _chunk_matches(self, descriptor: int, start: int, length: int) -> bool:
        if self.compressor is None:
            return length == self.chunk_bytes
        if self.compressor is BloscCodec:
            header = os.pread(descriptor, min(_HEADER, length), start)
            return blosc_decoded_size(header, length) == self.chunk_bytes
        return zstd_decoded_size(os.pread(descriptor, length, start)) == self.chunk_bytes


@dataclass(frozen=True)
class FastPipeline(CheckedPipeline):
    """Codec pipeline that decodes by ``zarrs`` where that is safe, otherwise by ``CheckedPipeline``.

    Attributes:
        native: pipeline of ``zarrs``, None if it is not used.
        layout: layout of the chunks in the files.
        checked: inode, size and modification time of the files that passed the check, by key.
    """

    native: Any = None
    layout: ChunkLayout | None = None
    checked: dict[str, tuple[int, int, int]] = field(default_factory=dict, compare=False)

    @classmethod
    def from_array_metadata_and_store(cls, array_metadata: Any, store: Any) -> Any:
        """Return the pipeline of an array."""
        python_pipeline = super().from_array_metadata_and_store(array_metadata, store)
        folder = store.folder if isinstance(store, CheckedStore) else None
        layout = ChunkLayout.of(array_metadata) if folder is not None else None
        if folder is None or layout is None:
            return python_pipeline
        import zarrs

        native = zarrs.ZarrsCodecPipeline.from_array_metadata_and_store(
            array_metadata, LocalStore(folder.folder, read_only=True)
        )
        native.python_impl = CheckedPipeline.from_array_metadata_and_store(array_metadata, store)
        return replace(python_pipeline, native=native, layout=layout)

    async def read(self, batch_info: Iterable[Any], out: NDBuffer, drop_axes: tuple[int, ...] = ()) -> None:
        """Read and decode a batch of chunks into parts of an array."""
        batch = list(batch_info)
        if self.native is None or not await self._all_match([getter.path for getter, *_ in batch]):
            await super().read(batch, out, drop_axes)
            return
        try:
            await self.native.read(batch, out, drop_axes)
        except RuntimeError as error:
            raise self.decoding_error(batch, error) from error

    async def _all_match(self, keys: list[str]) -> bool:
        """Return whether the files of all keys have passed the check, or pass it now."""
        folder = cast("FolderStore", cast("CheckedStore", self.source).folder)
        unchecked = []
        for key in keys:
            path = folder.path_of(key)
            if path is not None and self.checked.get(key) != (state := _state(os.stat(path))):
                unchecked.append((key, path, state))
        if not unchecked:
            return True
        return await asyncio.to_thread(partial(all, map(self._file_matches, unchecked)))

    def _file_matches(self, file: tuple[str, str, tuple[int, int, int]]) -> bool:
        key, path, state = file
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        try:
            matches = (
                self.layout is not None
                and _state(os.fstat(descriptor)) == state
                and self.layout.matches(descriptor, state[1])
            )
        finally:
            os.close(descriptor)
        if matches:
            if len(self.checked) >= _MAX_CHECKED:
                self.checked.clear()
            self.checked[key] = state
        return matches


def _state(status: os.stat_result) -> tuple[int, int, int]:
    """Return inode, size and modification time of a file, which change with its contents."""
    return status.st_ino, status.st_size, status.st_mtime_ns


register_pipeline(FastPipeline)
_FAST = f"{FastPipeline.__module__}.{FastPipeline.__qualname__}"


def preferred_pipeline() -> str:
    """Return the name of the registered pipeline to use: that of ``zarrs`` if it is installed."""
    return CHECKED_PIPELINE if importlib.util.find_spec("zarrs") is None else _FAST
