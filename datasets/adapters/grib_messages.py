"""Validation of the messages of a GRIB file: completeness, and size of the grids that they declare.

cfgrib skips a truncated message, and a constant field on a grid of any size takes a hundred bytes. Formats:
FM 92 GRIB, editions 1 and 2, of the WMO Manual on Codes.
"""

import os
from typing import BinaryIO

from ..errors import InvalidDataError
from ..memory import check_bytes

MESSAGES = 500_000  # largest number of messages in a file
_LARGE = 0x800000  # flag of edition 1 for lengths beyond 8 MB
_BYTES = 32  # per grid point while a field is decoded: float64 values, mask and copies
_MISSING = (2**16 - 1, 2**32 - 1)  # number of points along an axis of a reduced grid
# Grid templates of edition 2 with the numbers of points along both axes, Ni and Nj.
_WITH_AXES = frozenset([*range(4), 10, *range(20, 24), *range(30, 34), *range(40, 44), 90])
_GAP = 2**16  # bytes read at once to find the next message


def check_messages(path: str) -> None:
    """Raise unless all messages of a GRIB file are complete, and each of their fields fits in memory.

    Raises:
        InvalidDataError: the file has too many messages.
        MemoryLimitError: a grid has too many points.
        ValueError: a message is cut off, or there are other bytes between messages.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        at = 0
        number = 0
        while at < size:
            file.seek(at)
            head = file.read(16)
            if head[:4] != b"GRIB":  # padding between messages
                rest = head + file.read(_GAP)
                skip = rest.find(b"GRIB")
                if skip < 0:
                    if rest.strip(b"\0"):
                        raise ValueError(f"the bytes after {number} messages are not GRIB")
                    at += len(rest) - (3 if at + len(rest) < size else 0)
                else:
                    at += skip
                continue
            if len(head) < 16:
                raise ValueError(f"message {number + 1} is cut off")
            length = _length_edition_1(file, at, head) if head[7] == 1 else int.from_bytes(head[8:16], "big")
            number += 1
            if number > MESSAGES:
                raise InvalidDataError(
                    f"{path} has more than {MESSAGES} messages; "
                    f"split it first, e.g. with grib_copy {path} 'part_[dataDate].grib'"
                )
            points = (
                _points_edition_1(file, at)
                if head[7] == 1
                else _points_edition_2(file, at, length, number=number)
            )
            check_bytes(f"{path}: a field of message {number}, on {points} points,", _BYTES * points)
            file.seek(at + max(length, 4) - 4)
            if at + length > size or file.read(4) != b"7777":
                raise ValueError(f"message {number} is cut off")
            at += length


def _length_edition_1(file: BinaryIO, at: int, head: bytes) -> int:
    """Return the length [bytes] of a message of edition 1.

    Beyond 8 MB, ECMWF writes the length in units of 120 bytes.
    """
    length = int.from_bytes(head[4:7], "big")
    if not length & _LARGE:
        return length
    offset = at + 8
    file.seek(offset)
    flags = file.read(8)[7:]
    for present in (True, bool(flags) and flags[0] & 0x80, bool(flags) and flags[0] & 0x40):
        if present:
            file.seek(offset)
            offset += int.from_bytes(file.read(3), "big")
    file.seek(offset)
    data = int.from_bytes(file.read(3), "big")  # less than 120 in such a message
    return (length & (_LARGE - 1)) * 120 - data + 4 if data < 120 else length


def _points_edition_1(file: BinaryIO, at: int) -> int:
    """Return the grid points of a message of edition 1, or 0 for a catalogued or reduced grid."""
    file.seek(at + 8)
    section = file.read(8)
    if len(section) < 8 or not section[7] & 0x80:
        return 0
    file.seek(at + 8 + int.from_bytes(section[:3], "big"))
    grid = file.read(10)
    columns, rows = (int.from_bytes(grid[a : a + 2], "big") for a in (6, 8))
    return 0 if columns in _MISSING or rows in _MISSING else columns * rows


def _points_edition_2(file: BinaryIO, at: int, length: int, *, number: int) -> int:
    """Return the grid points of the largest field of a message of edition 2, which may contain several."""
    offset = at + 16
    points = 0
    while offset < at + length - 4:
        file.seek(offset)
        head = file.read(38)
        size = int.from_bytes(head[:4], "big")
        if size < 5:
            raise ValueError(f"message {number} has a section of {size} bytes")
        if head[4] == 3:
            columns, rows = (int.from_bytes(head[a : a + 4], "big") for a in (30, 34))
            template = int.from_bytes(head[12:14], "big")
            regular = template in _WITH_AXES and columns not in _MISSING and rows not in _MISSING
            points = max(points, int.from_bytes(head[6:10], "big"), columns * rows if regular else 0)
        offset += size
    return points
