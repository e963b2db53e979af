"""Limit on the memory for reading a source, checked against sizes in files before they are decoded."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import DataError, InvalidDataError, MemoryLimitError

MEMORY = 2**31  # bytes
_COPIES = 10  # copies of an axis in memory while it is read, decoded, indexed and compared
_BYTES_PER_POINT = 16  # while one float32 field is interpolated
MAX_AXIS_POINTS = 400_000  # a spacing of 100 m round the globe
_UNCHECKED_BYTES = 2**34  # can be read within minutes
_MAX_COMPRESSION = 2000  # largest plausible compression ratio of a whole variable
VARIABLE = "FOURCASTER_MEMORY"
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_limit: ContextVar[int | None] = ContextVar("memory limit", default=None)


def memory_limit() -> int:
    """Return the limit in bytes: that of ``limited``, else ``FOURCASTER_MEMORY``, else 2 GiB.

    Raises:
        ValueError: the environment variable is invalid.
    """
    if (limit := _limit.get()) is not None:
        return limit
    text = os.environ.get(VARIABLE)
    return parse_bytes(text, VARIABLE) if text else MEMORY


def parse_bytes(text: str, name: str = "memory") -> int:
    """Return the number of bytes in a text such as 2GiB, 500MB or 1e9.

    Raises:
        ValueError: the text is not a number of bytes.
    """
    match = re.fullmatch(r"\s*([\d.]+(?:e\d{1,2})?)\s*([KMGT]?)(i?B)?\s*", text, re.IGNORECASE)
    try:
        if match is not None:
            return int(float(match[1]) * _BYTES[match[2].upper()])
    except (ValueError, OverflowError):  # such as 1.2.3
        pass
    raise DataError(
        f"{name} {text} is not understood; write e.g. 4GiB",
        option=None if name == VARIABLE else "memory",
    )


@contextmanager
def limited(memory: int) -> Iterator[None]:
    """Set the limit to ``memory`` bytes within the context."""
    token = _limit.set(memory)
    try:
        yield
    finally:
        _limit.reset(token)


def check_axis(source: str, name: str, count: int, *, itemsize: int = 8) -> None:
    """Check that a coordinate can be indexed within the limit.

    Args:
        source: name of the source for the message.
        name: name of the coordinate.
        count: number of values.
        itemsize: bytes per value.

    Raises:
        MemoryLimitError: it is too long.
    """
    check_bytes(f"{source}: the coordinate {name!r} of {count} values", count * max(8, itemsize) * _COPIES)


def check_bytes(what: str, size: int) -> None:
    """Check that an operation stays within the limit.

    Args:
        what: the operation, for the message.
        size: memory that it needs [bytes].

    Raises:
        MemoryLimitError: it needs more than the limit.
    """
    if size > memory_limit():
        raise MemoryLimitError(
            f"{what} would take {format_bytes(size)} of memory, more than the limit of "
            f"{format_bytes(memory_limit())}; raise the limit, by the argument memory or {VARIABLE}, "
            "if you trust the source"
        )


def check_points(text: str, rows: float, columns: float) -> None:
    """Check that a field on a requested grid can be computed within the limit.

    Args:
        text: description of the grid for the message.
        rows: number of rows, which may be infinite.
        columns: number of columns, which may be infinite.

    Raises:
        InvalidDataError: the grid has too many points.
    """
    size = float(rows) * float(columns) * _BYTES_PER_POINT
    if not size <= memory_limit() or max(rows, columns) > MAX_AXIS_POINTS:
        raise InvalidDataError(
            f"grid {text} has {rows:.6g} x {columns:.6g} points, so a field would take "
            f"{format_bytes(size)} of memory, more than the limit of {format_bytes(memory_limit())}; "
            f"take fewer points, or raise {VARIABLE}"
        )


def check_along(text: str, points: float) -> None:
    """Check the number of points along an axis of a requested grid.

    Args:
        text: description of the grid for the message.
        points: number of points, which may be infinite.

    Raises:
        InvalidDataError: there are more than ``MAX_AXIS_POINTS``.
    """
    if not points <= MAX_AXIS_POINTS:
        raise InvalidDataError(
            f"grid {text} has {points:.6g} points along an axis, more than {MAX_AXIS_POINTS}; "
            "take fewer points"
        )


def check_declared(source: str, name: str, size: int, *, stored: int) -> None:
    """Check that the declared size of a variable is plausible for the size of its file.

    Deflate compresses by at most a factor of 1000. Most of a variable with a larger ratio was never written;
    reading it would take days and return fill values.

    Args:
        source: name of the source for the message.
        name: name of the variable.
        size: size of the variable before compression [bytes].
        stored: size of its file [bytes].

    Raises:
        InvalidDataError: the size is not plausible.
    """
    if size > _UNCHECKED_BYTES and size > _MAX_COMPRESSION * stored:
        raise InvalidDataError(
            f"{source}: {name!r} would be {format_bytes(size)} of values, but the file has "
            f"{format_bytes(stored)}, so most was never written; "
            "extract the written part first, e.g. with ncks -d time,START,STOP"
        )


def format_bytes(size: float) -> str:
    """Format a number of bytes with a binary unit, e.g. ``1.5 GiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if size >= 1000 else f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} PiB"
