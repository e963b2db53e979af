"""Limits on what the metadata of an untrusted zarr store may declare.

A few bytes of metadata or of compressed values can stand for any amount of memory, so declared sizes are
compared with the memory limit before anything is allocated.
"""

from dataclasses import dataclass

from .. import memory as limits
from ..errors import UntrustedDataError

VARIABLE = limits.VARIABLE
METADATA_BYTES = 2**24  # of one file: a hundred times what large archives have
NESTING = 64  # of lists and objects in a file
ARRAYS = 5000  # of a store
LISTED = 20_000  # names in a folder
DIMENSIONS = 32  # of an array
ARRAY_BYTES = 2**60  # of an array, decoded
CHUNKS_ALONG = 10**7  # along one axis
CHUNKS_IN_SHARD = 2**20
CHUNKS_AT_OPENING = 300_000  # of coordinates, each in a file of its own
STRING_BYTES = 64  # of memory for a short string
memory_limit = limits.memory_limit
parse_bytes = limits.parse_bytes


@dataclass(frozen=True)
class DeclaredChunks:
    """Sizes of the chunks of an array, as its metadata declare them.

    Attributes:
        chunk_bytes: decoded bytes of the unit of decoding, an inner chunk if the array is sharded.
        file_bytes: upper bound for the bytes of one file of the array.
        chunks_in_file: inner chunks of a shard, 1 without sharding.
    """

    chunk_bytes: int
    file_bytes: int
    chunks_in_file: int = 1


def max_chunk_bytes(memory: int) -> int:
    """Return the largest decoded chunk [bytes] allowed within a memory limit.

    A chunk exists compressed, decoded and in the output array at the same time.
    """
    return memory // 4


def max_coordinate_bytes(memory: int) -> int:
    """Return the largest total size [bytes] of the coordinates read when a store is opened."""
    return memory // 8


def max_compressed_bytes(size: int) -> int:
    """Return an upper bound for the compressed size of ``size`` bytes of incompressible values."""
    return size + size // 8 + 4096


def limit_advice(memory: int) -> str:
    """Return the end of a message about the memory limit, with how to raise it."""
    return (
        f"more than a limit of {limits.format_bytes(memory)} of memory allows; "
        f"raise the limit, by the argument memory or {VARIABLE}, if you trust the source"
    )


def oversized_error(store: str, key: str, size: int, *, max_bytes: int) -> UntrustedDataError:
    """Return the error for a file that is longer than its declared contents can need.

    Args:
        store: path or URL of the store.
        key: path of the file in the store.
        size: size of the file [bytes].
        max_bytes: largest size that its contents can need [bytes].
    """
    return UntrustedDataError(
        f"{store}: {key} is {limits.format_bytes(max(size, 0))} long, "
        f"but can need {limits.format_bytes(max_bytes)} at most; download it again"
    )
