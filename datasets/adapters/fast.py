"""Chunks in folders decoded by the package ``zarrs``, whose compiled code reads files by itself.

It follows links, waits for pipes and unpacks whatever a chunk claims to be. So each file is looked at first:
that it is an ordinary one inside of the store, and that each chunk in it has the declared size by its header.
That is done once for each file, and again where it has changed. What it does not decode, or is not as
declared, goes through ``CheckedPipeline``.
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
from .pipelines import CHECKED, CheckedPipeline
from .remote import Source
from .unpacking import blosc_size, zstd_size

_LARGEST_CHUNK = 2**26  # bytes: several are decoded at a time
_KNOWN = 100_000  # files that are remembered
_EMPTY = 2**64 - 1
_HEADER = 16


@dataclass(frozen=True)
class Layout:
    """How the chunks of a format 3 array lie in its files.

    Attributes:
        bytes: of a chunk when unpacked.
        packer: codec that chunks are packed by, None for none.
        count: chunks in a file.
        index: bytes of the index of a shard, 0 without shards.
        first: whether the index comes first.
    """

    bytes: int
    packer: type[Any] | None
    count: int = 1
    index: int = 0
    first: bool = False

    @classmethod
    def of(cls, metadata: Any) -> "Layout | None":
        """Return the layout of an array, None where ``zarrs`` is not to decode it."""
        if metadata.zarr_format != 3 or (dtype := metadata.dtype.to_native_dtype()).kind not in "biuf":
            return None
        codecs, shape, file = list(metadata.codecs), metadata.chunks, metadata.chunk_grid.chunk_shape
        shards = codecs[0] if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec) else None
        if shards is not None:
            codecs = list(shards.codecs)
        kinds = [type(codec) for codec in codecs]
        size = prod(shape) * dtype.itemsize
        if (
            kinds not in ([BytesCodec], [BytesCodec, BloscCodec], [BytesCodec, ZstdCodec])
            or size > _LARGEST_CHUNK
        ):
            return None
        packer = kinds[1] if len(kinds) > 1 else None
        if shards is None:
            return cls(size, packer)
        count = prod(whole // part for whole, part in zip(file, shape, strict=True))
        checksum = any(isinstance(codec, Crc32cCodec) for codec in shards.index_codecs)
        return cls(size, packer, count, 16 * count + 4 * checksum, shards.index_location.value == "start")

    def holds(self, descriptor: int, length: int) -> bool:
        """Return whether each chunk in a file has the size that is declared."""
        if not self.index:
            return self._holds(descriptor, 0, length)
        if length < self.index:
            return False
        index = os.pread(descriptor, 16 * self.count, 0 if self.first else length - self.index)
        spans = np.frombuffer(index, "<u8").reshape(-1, 2)
        spans = spans[spans[:, 0] != _EMPTY]
        if (spans > length).any() or (spans.sum(axis=1) > length).any():
            return False
        return all(self._holds(descriptor, start, size) for start, size in spans.tolist())

    def _holds(self, descriptor: int, start: int, length: int) -> bool:
        if self.packer is None:
            return length == self.bytes
        if self.packer is BloscCodec:
            return blosc_size(os.pread(descriptor, min(_HEADER, length), start)) == self.bytes
        return zstd_size(os.pread(descriptor, length, start)) == self.bytes


@dataclass(frozen=True)
class FastPipeline(CheckedPipeline):
    """Decode by ``zarrs`` what may be, else by ``CheckedPipeline``.

    Attributes:
        native: pipeline of ``zarrs``, None where it is not used.
        layout: of the files.
        known: state of the files that were looked at, by key.
    """

    native: Any = None
    layout: Layout | None = None
    known: dict[str, tuple[int, int, int]] = field(default_factory=dict, compare=False)

    @classmethod
    def from_array_metadata_and_store(cls, array_metadata: Any, store: Any) -> Any:
        """Return the pipeline of an array."""
        checked = super().from_array_metadata_and_store(array_metadata, store)
        folder = store.folder if isinstance(store, Source) else None
        layout = Layout.of(array_metadata) if folder is not None else None
        if folder is None or layout is None:
            return checked
        import zarrs

        native = zarrs.ZarrsCodecPipeline.from_array_metadata_and_store(
            array_metadata, LocalStore(folder.folder, read_only=True)
        )
        native.python_impl = CheckedPipeline.from_array_metadata_and_store(array_metadata, store)
        return replace(checked, native=native, layout=layout)

    async def read(self, batch_info: Iterable[Any], out: NDBuffer, drop_axes: tuple[int, ...] = ()) -> None:
        """Read and decode some chunks into parts of an array."""
        batch = list(batch_info)
        if self.native is None or not await self._all_hold([getter.path for getter, *_ in batch]):
            await super().read(batch, out, drop_axes)
            return
        try:
            await self.native.read(batch, out, drop_axes)
        except RuntimeError as error:
            raise self.broken(batch, error) from error

    async def _all_hold(self, keys: list[str]) -> bool:
        folder = cast("FolderStore", cast("Source", self.source).folder)
        unknown = []
        for key in keys:
            path = folder.path_of(key)
            if path is not None and self.known.get(key) != (state := _state(os.stat(path))):
                unknown.append((key, path, state))
        holds = True
        if unknown:
            holds = await asyncio.to_thread(partial(all, map(self._holds, unknown)))
        return holds

    def _holds(self, file: tuple[str, str, tuple[int, int, int]]) -> bool:
        key, path, state = file
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        try:
            holds = (
                self.layout is not None
                and _state(os.fstat(descriptor)) == state
                and self.layout.holds(descriptor, state[1])
            )
        finally:
            os.close(descriptor)
        if holds:
            if len(self.known) >= _KNOWN:
                self.known.clear()
            self.known[key] = state
        return holds


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


register_pipeline(FastPipeline)
_FAST = f"{FastPipeline.__module__}.{FastPipeline.__qualname__}"


def fastest() -> str:
    """Return the name by which zarr knows the pipeline to use: that of ``zarrs`` where it is installed."""
    return CHECKED if importlib.util.find_spec("zarrs") is None else _FAST
