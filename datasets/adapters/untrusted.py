"""Limits of what a store of unknown origin may declare, and the error of one that goes beyond them.

A few bytes of metadata or of compressed values can stand for any amount of memory. What a store declares is
compared with the memory that may be used before anything is allocated for it.
"""

from dataclasses import dataclass

from .. import memory as limits
from ..errors import UntrustedDataError

VARIABLE = limits.VARIABLE
METADATA_BYTES = 2**24  # of one file: a hundred times what large archives have
NESTING = 64
ARRAYS = 5000
LISTED = 20_000  # names in a folder
DIMENSIONS = 32
ARRAY_BYTES = 2**60
CHUNKS_ALONG = 10**7
CHUNKS_IN_SHARD = 2**20
CHUNKS_AT_OPENING = 300_000  # of coordinates, each a file that is read
STRING_BYTES = 64  # of memory that a short text takes
memory_limit = limits.memory_limit
parse_bytes = limits.parse_bytes


@dataclass(frozen=True)
class Declared:
    """What the metadata of an array say of its chunks.

    Attributes:
        chunk_bytes: bytes of what is decoded at once, an inner chunk where the array is sharded.
        file_bytes: most bytes that a file of the array needs.
        chunks_in_file: inner chunks of a shard, 1 where there are none.
    """

    chunk_bytes: int
    file_bytes: int
    chunks_in_file: int = 1


def most_of_a_chunk(memory: int) -> int:
    """Return the most bytes of one chunk: it is there packed, unpacked and in the array that is filled from
    it.
    """
    return memory // 4


def most_of_coordinates(memory: int) -> int:
    """Return the most bytes of what is read when a store is opened."""
    return memory // 8


def packed_bytes(size: int) -> int:
    """Return the most bytes that ``size`` bytes take when packed, of values that do not shrink."""
    return size + size // 8 + 4096


def show_bytes(count: int) -> str:
    """Return a number of bytes with a unit."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("kiB", 2**10)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"


def advice(memory: int) -> str:
    """Return how to allow more memory."""
    return (
        f"more than a limit of {show_bytes(memory)} of memory allows; "
        f"raise the limit, by the argument memory or {VARIABLE}, if you trust the source"
    )


def too_long(store: str, key: str, size: int, most: int) -> UntrustedDataError:
    """Return the error of a file that is longer than what it holds can need."""
    return UntrustedDataError(
        f"{store}: {key} is {show_bytes(max(size, 0))} long, but can need {show_bytes(most)} at most; fetch it again"
    )
