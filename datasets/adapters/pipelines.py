"""A zarr codec pipeline that bounds the memory of decoding.

Each chunk is decompressed up to its declared size (see ``unpacking``), and the number of chunks decoded at
the same time is limited by the memory limit.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Self

import numpy as np
from zarr.abc.codec import Codec
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ShardingCodec, VLenUTF8Codec, ZstdCodec
from zarr.codecs._v2 import V2Codec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.registry import get_ndbuffer_class, register_pipeline

from ..errors import IncompleteDataError, UntrustedDataError
from .codecs import TEXT
from .remote import CheckedStore
from .unpacking import ChunkSizeError, decode_bounded, decode_texts
from .untrusted import STRING_BYTES, max_chunk_bytes, max_compressed_bytes

_TEXT_BYTES = 2**26  # assumed for a chunk of strings, whose size is not declared


class ByteBudget:
    """A byte-counting semaphore shared by all threads and event loops of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used = 0
        self._waiting: deque[tuple[int, int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def reserve(self, count: int, limit: int) -> AsyncIterator[None]:
        """Reserve bytes within the context, waiting until all reservations fit into a limit.

        A reservation larger than the limit is granted when there is no other.

        Args:
            count: number of bytes.
            limit: largest total of all reservations.
        """
        with self._lock:
            future = None
            if self._waiting or (self._used and self._used + count > limit):
                loop = asyncio.get_running_loop()
                future = loop.create_future()
                self._waiting.append((count, limit, loop, future))
            else:
                self._used += count
        if future is not None:
            try:
                await future
            except asyncio.CancelledError:
                self._abandon(count, future)
                raise
        try:
            yield
        finally:
            self._release(count)

    def _abandon(self, count: int, future: "asyncio.Future[None]") -> None:
        """Give up a reservation that waits, or that was granted while it was cancelled."""
        with self._lock:
            waited = [entry for entry in self._waiting if entry[3] is future]
            for entry in waited:
                self._waiting.remove(entry)
        if not waited:
            self._release(count)

    def _release(self, count: int) -> None:
        with self._lock:
            self._used -= count
            while self._waiting and (
                not self._used or self._used + self._waiting[0][0] <= self._waiting[0][1]
            ):
                needed, _, loop, future = self._waiting.popleft()
                self._used += needed
                loop.call_soon_threadsafe(_wake, future)


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


_BUDGET = ByteBudget()
_SHARD_BUDGET = ByteBudget()  # separate, since its readers already hold a reservation of the other


@dataclass(frozen=True)
class CheckedPipeline(BatchedCodecPipeline):
    """Codec pipeline that decodes chunks within the size that their array declares.

    Attributes:
        source: store of the array, None for the inner chunks of a shard.
        metadata: metadata of the array, None for the inner chunks of a shard.
    """

    source: CheckedStore | None = None
    metadata: Any = None

    @classmethod
    def from_codecs(cls, codecs: Iterable[Codec], *, batch_size: int | None = None) -> Self:
        """Return the pipeline of some codecs, with checked sharding; arguments as for zarr's pipelines."""
        checked = [
            CheckedSharding.of(codec) if isinstance(codec, ShardingCodec) else codec for codec in codecs
        ]
        return super().from_codecs(checked, batch_size=batch_size)

    @classmethod
    def from_array_metadata_and_store(cls, array_metadata: Any, store: Any) -> Any:
        """Return the pipeline of an array: zarr's default one unless the store is a ``CheckedStore``."""
        codecs = (
            array_metadata.codecs
            if array_metadata.zarr_format == 3
            else [V2Codec(array_metadata.filters, array_metadata.compressor)]
        )
        if not isinstance(store, CheckedStore):
            return BatchedCodecPipeline.from_codecs(codecs)
        return replace(cls.from_codecs(codecs), source=store, metadata=array_metadata)

    def __reduce__(self) -> Any:
        if self.source is None:
            return type(self).from_codecs, (list(self),)
        return type(self).from_array_metadata_and_store, (self.metadata, self.source)

    async def read_batch(
        self, batch_info: Iterable[Any], out: NDBuffer, drop_axes: tuple[int, ...] = ()
    ) -> None:
        """Read and decode a batch of chunks into parts of an array.

        Raises:
            ValueError: a chunk cannot be decoded as declared; the message names store and chunk.
        """
        batch = list(batch_info)
        sharded = isinstance(self.array_bytes_codec, ShardingCodec)
        if self.source is None:
            async with _SHARD_BUDGET.reserve(
                sum(_decoded_bytes(spec) for _, spec, *_ in batch), CheckedSharding.max_bytes
            ):
                await super().read_batch(batch, out, drop_axes)
            return
        needed = 0 if sharded else sum(_decoded_bytes(spec) for _, spec, *_ in batch)
        try:
            async with _BUDGET.reserve(needed, max_chunk_bytes(self.source.memory)):
                await super().read_batch(batch, out, drop_axes)
        except (UntrustedDataError, IncompleteDataError, OSError):
            raise
        except Exception as error:  # codecs raise many types
            raise self.decoding_error(batch, error) from error

    def decoding_error(self, batch: Sequence[Any], error: Exception) -> ValueError:
        """Return the error for a chunk that cannot be decoded.

        Args:
            batch: batch of chunks, of which the first is named.
            error: error of the codec.
        """
        assert self.source is not None
        key = str(getattr(batch[0][0], "path", "")) if batch else ""
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        kind = UntrustedDataError if isinstance(error, ChunkSizeError) else ValueError
        return kind(
            f"{self.source.name}: the chunk {key} cannot be decoded ({reason[:160]}); "
            "it is damaged: download it again"
        )

    async def decode_batch(
        self, chunk_bytes_and_specs: Iterable[tuple[Buffer | None, ArraySpec]]
    ) -> Iterable[NDBuffer | None]:
        """Decode a batch of chunks."""
        batch = list(chunk_bytes_and_specs)
        chunks = [chunk for chunk, _ in batch]
        specs = [spec for _, spec in batch]
        array_codecs, (serializer, serializer_specs), bytes_codecs = (
            self._codecs_with_resolved_metadata_batched(specs)
        )
        for bytes_codec, encoded_specs in reversed(bytes_codecs):
            chunks = [
                None
                if chunk is None
                else await _decompress(bytes_codec, chunk, spec, serializer=self.array_bytes_codec)
                for chunk, spec in zip(chunks, encoded_specs, strict=True)
            ]
        arrays: Iterable[NDBuffer | None] = await _to_arrays(serializer, chunks, serializer_specs)
        for array_codec, array_specs in reversed(array_codecs):
            arrays = await array_codec.decode(zip(arrays, array_specs, strict=True))
        return arrays


@dataclass(frozen=True)
class CheckedSharding(ShardingCodec):
    """Sharding codec that decodes inner chunks by a ``CheckedPipeline``.

    Attributes:
        max_bytes: largest total size of inner chunks that are decoded at the same time [bytes].
    """

    max_bytes = 2**29

    @classmethod
    def of(cls, codec: ShardingCodec) -> "CheckedSharding":
        """Return a checked codec with the same configuration."""
        return cls(
            chunk_shape=codec.chunk_shape,
            codecs=codec.codecs,
            index_codecs=codec.index_codecs,
            index_location=codec.index_location,
        )

    @property
    def codec_pipeline(self) -> CheckedPipeline:
        """Pipeline of the inner chunks."""
        return CheckedPipeline.from_codecs(self.codecs)


def _decoded_bytes(spec: ArraySpec) -> int:
    """Return the decoded bytes of a chunk, for strings an upper bound."""
    dtype = spec.dtype.to_native_dtype()
    count: int = prod(spec.shape)
    return max(count * STRING_BYTES, _TEXT_BYTES) if dtype.kind in "OT" else count * int(dtype.itemsize)


async def _decompress(codec: Any, chunk: Buffer, spec: ArraySpec, *, serializer: Any) -> Buffer:
    """Return the bytes that a bytes-to-bytes codec decodes."""
    if isinstance(codec, Crc32cCodec):
        (checked,) = await codec.decode([(chunk, spec)])
        assert checked is not None
        return checked
    if isinstance(codec, BloscCodec):
        inner = codec._blosc_codec
    elif isinstance(codec, ZstdCodec):
        inner = codec._zstd_codec
    elif isinstance(codec, GzipCodec):
        inner = codec._gzip_codec
    else:
        inner = codec._codec
    expected = _decoded_bytes(spec)
    if isinstance(serializer, ShardingCodec):  # a shard contains compressed chunks and an index
        count = prod(whole // part for whole, part in zip(spec.shape, serializer.chunk_shape, strict=True))
        expected = max_compressed_bytes(expected) + (4096 + 16) * count
    data = await asyncio.to_thread(decode_bounded, inner, chunk.as_numpy_array(), expected)
    return spec.prototype.buffer.from_array_like(
        np.frombuffer(data, np.uint8) if isinstance(data, bytes) else _flat(data)
    )


def _flat(data: Any) -> Any:
    return np.asarray(data).reshape(-1).view("B")


async def _to_arrays(
    serializer: Any, chunks: Sequence[Buffer | None], specs: Sequence[ArraySpec]
) -> list[NDBuffer | None]:
    if isinstance(serializer, V2Codec | VLenUTF8Codec):
        return [
            None if chunk is None else await asyncio.to_thread(_to_array, serializer, chunk, spec)
            for chunk, spec in zip(chunks, specs, strict=True)
        ]
    return list(await serializer.decode(zip(chunks, specs, strict=True)))


def _to_array(serializer: Any, chunk: Buffer, spec: ArraySpec) -> NDBuffer:
    """Return a chunk of zarr format 2, or one of strings, as an array."""
    codecs: list[Any] = []
    order: Any = "C"
    if isinstance(serializer, V2Codec):
        applied = (serializer.compressor, *reversed(serializer.filters or ()))
        codecs = [codec for codec in applied if codec is not None]
        order = spec.order
    data: Any = chunk.as_numpy_array()
    dtype = spec.dtype.to_native_dtype()
    count = prod(spec.shape)
    text = dtype.kind in "OT"
    if text:
        expected = _decoded_bytes(spec)
    else:
        expected = count * max([dtype.itemsize, *(_max_item_size(codec) for codec in codecs)])
    for codec in codecs:
        if codec.codec_id != TEXT:
            data = decode_bounded(codec, data, expected)
    if text:
        array = np.array(decode_texts(data, count), dtype=object).astype(dtype)
    elif isinstance(data, bytes):
        array = np.frombuffer(data, dtype)
    else:
        array = np.asarray(data).reshape(-1, order="A").view(dtype)
    return get_ndbuffer_class().from_numpy_array(array.reshape(spec.shape, order=order))


def _max_item_size(codec: Any) -> int:
    """Return the largest item size [bytes] among the input and output of a filter."""
    names = (getattr(codec, key, None) for key in ("dtype", "astype", "encode_dtype", "decode_dtype"))
    return max((np.dtype(name).itemsize for name in names if name is not None), default=0)


register_pipeline(CheckedPipeline)
CHECKED_PIPELINE = f"{CheckedPipeline.__module__}.{CheckedPipeline.__qualname__}"
