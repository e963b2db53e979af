"""Decompression of chunks up to the size that their array declares, as protection against malicious chunks.

Blosc, Zstandard and LZ4 store the decompressed size in a header, and their libraries allocate as much; that
size is checked first. gzip, bz2 and lzma store none, and are decompressed incrementally up to the limit.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numcodecs.compat import ensure_contiguous_ndarray, ensure_ndarray
from numpy.typing import NDArray

from ..memory import format_bytes
from .untrusted import max_compressed_bytes

Bytes = NDArray[np.uint8]

_BLOSC_HEADER = 16
_ZSTD_MAGIC = 0xFD2FB528
_LZMA_MEMORY = 2**28


class ChunkSizeError(ValueError):
    """A chunk does not have the size that its array declares."""


def decode_bounded(codec: Any, encoded: Any, expected: int) -> Any:
    """Return the bytes or array that a codec decodes, within a bound.

    Args:
        codec: numcodecs codec that ``codecs`` allows.
        encoded: encoded bytes.
        expected: decoded bytes of the whole chunk. Checksums and incompressible values may add a little to
            the result of a single codec.

    Raises:
        ChunkSizeError: the result is larger, or the encoded bytes are cut off.
    """
    name = codec.codec_id
    max_bytes = max_compressed_bytes(expected)
    if name in _STREAMS:
        return _STREAMS[name](_bytes(encoded), max_bytes)
    if name == "blosc":
        _check_blosc(_bytes(encoded), max_bytes)
    elif name == "lz4":
        _check(int.from_bytes(_bytes(encoded)[:4].tobytes(), "little"), max_bytes)
    elif name == "zstd":
        return _decompress_zstd(codec, _bytes(encoded), expected, max_bytes=max_bytes)
    elif name == "packbits":
        max_bytes *= 8
    value = codec.decode(encoded)
    _check(ensure_ndarray(value).nbytes, max_bytes)
    return value


def decode_texts(encoded: Any, count: int) -> list[str]:
    """Return the strings of a vlen-utf8 chunk: their number, then length and UTF-8 bytes of each.

    Args:
        encoded: bytes of the chunk.
        count: expected number of strings.

    Raises:
        ChunkSizeError: the chunk does not contain ``count`` strings.
    """
    data = _bytes(encoded).tobytes()
    if len(data) < 4 or int.from_bytes(data[:4], "little") != count or len(data) < 4 * (count + 1):
        raise ChunkSizeError(f"it does not contain {count} strings")
    strings = []
    at = 4
    for _ in range(count):
        start = at + 4
        at = start + int.from_bytes(data[at:start], "little")
        if at > len(data):
            raise ChunkSizeError("a string is cut off")
        strings.append(data[start:at].decode())
    return strings


def blosc_decoded_size(header: bytes, length: int) -> int | None:
    """Return the decompressed size of a Blosc chunk [bytes], or None if it is not complete.

    Args:
        header: first 16 bytes of the chunk.
        length: size of the chunk [bytes].
    """
    if len(header) < _BLOSC_HEADER or int.from_bytes(header[12:16], "little") != length:
        return None
    return int.from_bytes(header[4:8], "little")


def zstd_decoded_size(encoded: bytes | memoryview) -> int | None:
    """Return the decompressed size of a chunk of a single Zstandard frame, or None if it is not stored.

    Further frames could follow the first, so its blocks are walked to check that it ends with the chunk.
    """
    if len(encoded) < 6 or int.from_bytes(encoded[:4], "little") != _ZSTD_MAGIC:
        return None
    size, at = _zstd_header(encoded)
    last = False
    while size is not None and not last:
        if at + 3 > len(encoded):
            return None
        block = int.from_bytes(encoded[at : at + 3], "little")
        last = bool(block & 1)
        at += 3 + (1 if (block >> 1) & 3 == 1 else block >> 3)
    return size if at + 4 * ((encoded[4] >> 2) & 1) == len(encoded) else None


def _zstd_header(encoded: bytes | memoryview) -> tuple[int | None, int]:
    """Return the decompressed size in a frame header, or None, and the offset of the first block."""
    descriptor = encoded[4]
    single = (descriptor >> 5) & 1
    flag = descriptor >> 6
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    length = {0: single, 1: 2, 2: 4, 3: 8}[flag]
    if not length or at + length > len(encoded):
        return None, at
    return int.from_bytes(encoded[at : at + length], "little") + (256 if flag == 1 else 0), at + length


def _decompress_zstd(codec: Any, encoded: Bytes, expected: int, *, max_bytes: int) -> Any:
    """Return the decompressed bytes, whose size is checked first if the chunk states it."""
    view = encoded.data
    size = _zstd_header(view)[0] if len(view) >= 6 else None
    if size is not None:
        _check(size, max_bytes)
        return codec.decode(encoded, out=np.empty(size, np.uint8)) if size else codec.decode(encoded)
    # Without a stored size, decompression must yield exactly the expected bytes.
    out = np.empty(expected, np.uint8)
    codec.decode(encoded, out=out)
    try:
        codec.decode(encoded, out=np.empty(expected - 1, np.uint8))
    except (RuntimeError, ValueError):
        return out
    raise ChunkSizeError(f"it decompresses to fewer bytes than the declared {expected}")


def _bytes(encoded: Any) -> Bytes:
    array: Bytes = ensure_contiguous_ndarray(encoded, flatten=True).view(np.uint8)
    return array


def _check_blosc(encoded: Bytes, max_bytes: int) -> None:
    """Check the sizes in a header, since the library reads beyond the end of a chunk that is cut off."""
    header = encoded[:_BLOSC_HEADER].tobytes()
    if len(header) < _BLOSC_HEADER or int.from_bytes(header[12:16], "little") > len(encoded):
        raise ChunkSizeError("it is cut off")
    _check(int.from_bytes(header[4:8], "little"), max_bytes)


def _check(size: int, max_bytes: int) -> None:
    """Raise ``ChunkSizeError`` for a decompressed size beyond ``max_bytes``."""
    if size > max_bytes:
        raise ChunkSizeError(
            f"it decompresses to {format_bytes(size)}, more than the declared {format_bytes(max_bytes)}"
        )


def _decompress_zlib(encoded: Bytes, max_bytes: int, window: int = zlib.MAX_WBITS) -> bytes:
    parts = []
    rest: Any = encoded.data
    count = 0
    while rest:
        stream = zlib.decompressobj(window)
        parts.append(stream.decompress(rest, max_bytes - count + 1))
        count += len(parts[-1])
        _check(count, max_bytes)
        if not stream.eof:
            raise ChunkSizeError("it is cut off")
        # A gzip file may have several members.
        rest = stream.unused_data.lstrip(b"\0") if window > zlib.MAX_WBITS else b""
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _decompress_gzip(encoded: Bytes, max_bytes: int) -> bytes:
    return _decompress_zlib(encoded, max_bytes, zlib.MAX_WBITS + 16)


def _decompress_bz2(encoded: Bytes, max_bytes: int) -> bytes:
    return _decompress_stream(bz2.BZ2Decompressor(), encoded, max_bytes)


def _decompress_lzma(encoded: Bytes, max_bytes: int) -> bytes:
    return _decompress_stream(lzma.LZMADecompressor(memlimit=_LZMA_MEMORY), encoded, max_bytes)


def _decompress_stream(stream: Any, encoded: Bytes, max_bytes: int) -> bytes:
    data: bytes = stream.decompress(encoded.data, max_bytes + 1)
    _check(len(data), max_bytes)
    if not stream.eof:
        raise ChunkSizeError("it is cut off")
    return data


_STREAMS: dict[str, Callable[[Bytes, int], bytes]] = {
    "zlib": _decompress_zlib,
    "gzip": _decompress_gzip,
    "bz2": _decompress_bz2,
    "lzma": _decompress_lzma,
}
