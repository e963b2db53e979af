"""Packed bytes of a chunk unpacked up to the size that its array declares, whatever they claim or expand to.

Blosc, Zstandard and LZ4 write the unpacked size into the first bytes, and the libraries allocate what is
written there; gzip and its kin do not say, and are unpacked up to the limit.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numcodecs.compat import ensure_contiguous_ndarray, ensure_ndarray
from numpy.typing import NDArray

from .untrusted import packed_bytes, show_bytes

Bytes = NDArray[np.uint8]

_BLOSC_HEADER = 16
_ZSTD_MAGIC = 0xFD2FB528
_LZMA_MEMORY = 2**28


class UnpackingError(ValueError):
    """A chunk that is not what its array declares."""


def unpack(codec: Any, packed: Any, expected: int) -> Any:
    """Return the decoded bytes or array of one codec of numcodecs.

    Args:
        codec: of numcodecs, one that ``codecs`` allows.
        packed: bytes.
        expected: bytes that the whole chunk has when all is decoded; checksums and values that grow when
            packed may add a little.

    Raises:
        UnpackingError: they are more.
    """
    name = codec.codec_id
    most = packed_bytes(expected)
    if name in _STREAMS:
        return _STREAMS[name](_bytes(packed), most)
    if name == "blosc":
        _check(int.from_bytes(_bytes(packed)[4:8].tobytes(), "little"), most)
    elif name == "lz4":
        _check(int.from_bytes(_bytes(packed)[:4].tobytes(), "little"), most)
    elif name == "zstd":
        return _unpack_zstd(codec, _bytes(packed), expected, most)
    elif name == "packbits":
        most *= 8
    value = codec.decode(packed)
    _check(ensure_ndarray(value).nbytes, most)
    return value


def unpack_texts(packed: Any, count: int) -> list[str]:
    """Return texts: their number, then of each its length and its bytes in UTF-8.

    Raises:
        UnpackingError: there are not ``count`` of them.
    """
    data = _bytes(packed).tobytes()
    if len(data) < 4 or int.from_bytes(data[:4], "little") != count or len(data) < 4 * (count + 1):
        raise UnpackingError(f"it does not hold {count} texts")
    texts = []
    at = 4
    for _ in range(count):
        start = at + 4
        at = start + int.from_bytes(data[at:start], "little")
        if at > len(data):
            raise UnpackingError("a text is cut off")
        texts.append(data[start:at].decode())
    return texts


def blosc_size(header: bytes) -> int | None:
    """Return the unpacked size that the first 16 bytes of a Blosc chunk give, None where they are none."""
    return int.from_bytes(header[4:8], "little") if len(header) >= _BLOSC_HEADER else None


def zstd_size(packed: bytes | memoryview) -> int | None:
    """Return the unpacked size of a chunk of one Zstandard frame that gives it, None otherwise.

    The size alone proves nothing where other frames follow, so the blocks of the frame are walked to its end.
    """
    if len(packed) < 6 or int.from_bytes(packed[:4], "little") != _ZSTD_MAGIC:
        return None
    size, at = _zstd_header(packed)
    last = False
    while size is not None and not last:
        if at + 3 > len(packed):
            return None
        block = int.from_bytes(packed[at : at + 3], "little")
        last = bool(block & 1)
        at += 3 + (1 if (block >> 1) & 3 == 1 else block >> 3)
    return size if at + 4 * ((packed[4] >> 2) & 1) == len(packed) else None


def _zstd_header(packed: bytes | memoryview) -> tuple[int | None, int]:
    """Return the size that a frame gives, None where it gives none, and where its blocks begin."""
    descriptor = packed[4]
    single, flag = (descriptor >> 5) & 1, descriptor >> 6
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    length = {0: single, 1: 2, 2: 4, 3: 8}[flag]
    if not length or at + length > len(packed):
        return None, at
    return int.from_bytes(packed[at : at + length], "little") + (256 if flag == 1 else 0), at + length


def _unpack_zstd(codec: Any, packed: Bytes, expected: int, most: int) -> Any:
    view = packed.data
    size = _zstd_header(view)[0] if len(view) >= 6 else None
    if size is not None:
        _check(size, most)
        return codec.decode(packed, out=np.empty(size, np.uint8)) if size else codec.decode(packed)
    # The size is not written: what is unpacked must be the expected bytes, neither more nor fewer.
    out = np.empty(expected, np.uint8)
    codec.decode(packed, out=out)
    try:
        codec.decode(packed, out=np.empty(expected - 1, np.uint8))
    except (RuntimeError, ValueError):
        return out
    raise UnpackingError(f"it unpacks to fewer bytes than the {expected} that are declared")


def _bytes(packed: Any) -> Bytes:
    array: Bytes = ensure_contiguous_ndarray(packed, flatten=True).view(np.uint8)
    return array


def _check(size: int, most: int) -> None:
    if size > most:
        raise UnpackingError(
            f"it unpacks to {show_bytes(size)}, where {show_bytes(most)} are declared at most"
        )


def _unpack_zlib(packed: Bytes, most: int, window: int = zlib.MAX_WBITS) -> bytes:
    pieces = []
    rest: Any = packed.data
    count = 0
    while rest:
        stream = zlib.decompressobj(window)
        pieces.append(stream.decompress(rest, most - count + 1))
        count += len(pieces[-1])
        _check(count, most)
        if not stream.eof:
            raise UnpackingError("it is cut off")
        rest = (
            stream.unused_data.lstrip(b"\0") if window > zlib.MAX_WBITS else b""
        )  # gzip may have several members
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _unpack_gzip(packed: Bytes, most: int) -> bytes:
    return _unpack_zlib(packed, most, zlib.MAX_WBITS + 16)


def _unpack_bz2(packed: Bytes, most: int) -> bytes:
    return _unpack_stream(bz2.BZ2Decompressor(), packed, most)


def _unpack_lzma(packed: Bytes, most: int) -> bytes:
    return _unpack_stream(lzma.LZMADecompressor(memlimit=_LZMA_MEMORY), packed, most)


def _unpack_stream(stream: Any, packed: Bytes, most: int) -> bytes:
    data: bytes = stream.decompress(packed.data, most + 1)
    _check(len(data), most)
    if not stream.eof:
        raise UnpackingError("it is cut off")
    return data


_STREAMS: dict[str, Callable[[Bytes, int], bytes]] = {
    "zlib": _unpack_zlib,
    "gzip": _unpack_gzip,
    "bz2": _unpack_bz2,
    "lzma": _unpack_lzma,
}
