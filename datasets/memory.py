"""How much memory reading a source may take: the limit that sizes in files are compared with before anything
is decoded.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import DataError, InvalidDataError, MemoryLimitError

MEMORY = 2**31
_COPIES = 10  # of an axis while it is read, decoded, indexed and compared
_FIELD = 16  # bytes of a point while one field is interpolated, in float32
MOST_POINTS = 400_000  # along an axis, a hundred metres apart
_NEVER_CHECKED = 2**34  # bytes that are read in some minutes
_RATIO = 2000  # largest credible compression of a whole variable
VARIABLE = "FOURCASTER_MEMORY"
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_limit: ContextVar[int | None] = ContextVar("memory limit", default=None)


def memory_limit() -> int:
    """Return the bytes that may be used: those that ``limited`` sets, those of ``FOURCASTER_MEMORY``, or 2
    GiB.

    Raises:
        ValueError: the variable is not understood.
    """
    if (limit := _limit.get()) is not None:
        return limit
    text = os.environ.get(VARIABLE)
    return parse_bytes(text, VARIABLE) if text else MEMORY


def parse_bytes(text: str, name: str = "memory") -> int:
    """Return the bytes of a text such as 2GiB, 500MB or 1e9; raises ``ValueError`` where it is none."""
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
    """Compare the sizes of what is opened inside with ``memory`` bytes."""
    token = _limit.set(memory)
    try:
        yield
    finally:
        _limit.reset(token)


def check_axis(source: str, name: str, count: int, *, itemsize: int = 8) -> None:
    """Raise ``MemoryLimitError`` if a coordinate of ``count`` values is too long to be indexed within the
    limit.

    Args:
        source: named in the error.
        name: name of the coordinate.
        count: number of values.
        itemsize: bytes of one.
    """
    check_bytes(f"{source}: the coordinate {name!r} of {count} values", count * max(8, itemsize) * _COPIES)


def check_bytes(what: str, size: int) -> None:
    """Raise ``MemoryLimitError`` if something takes more bytes than the limit.

    Args:
        what: named in the error.
        size: bytes that it takes in memory.
    """
    if size > memory_limit():
        raise MemoryLimitError(
            f"{what} would take {show(size)} of memory, more than the limit of {show(memory_limit())}; "
            f"raise the limit, by the argument memory or {VARIABLE}, if you trust the source"
        )


def check_points(text: str, rows: float, columns: float) -> None:
    """Raise ``InvalidDataError`` if a requested grid is too large for a field on it to be computed within
    the limit.

    Args:
        text: the option's value, named in the error.
        rows: number of rows, which may be infinite.
        columns: number of columns.
    """
    size = float(rows) * float(columns) * _FIELD
    if not size <= memory_limit() or max(rows, columns) > MOST_POINTS:
        raise InvalidDataError(
            f"grid {text} has {rows:.6g} x {columns:.6g} points, so a field would take {show(size)} of "
            "memory, "
            f"more than the limit of {show(memory_limit())}; take fewer points, or raise {VARIABLE}"
        )


def check_along(text: str, points: float) -> None:
    """Raise ``InvalidDataError`` if a requested grid has more points along an axis than any part of it is
    taken from.

    Args:
        text: the option's value, named in the error.
        points: number of points, which may be infinite.
    """
    if not points <= MOST_POINTS:
        raise InvalidDataError(
            f"grid {text} has {points:.6g} points along an axis, more than {MOST_POINTS}; take fewer points"
        )


def check_declared(source: str, name: str, size: int, *, stored: int) -> None:
    """Raise ``InvalidDataError`` where compression cannot account for what a variable claims to have.

    deflate packs at most a thousand bytes into one. A variable that claims more was never written: it costs
    days to read, and gives fill values.

    Args:
        source: named in the error.
        name: name of the variable.
        size: bytes of the variable before compression.
        stored: bytes of its file.
    """
    if size > _NEVER_CHECKED and size > _RATIO * stored:
        raise InvalidDataError(
            f"{source}: {name!r} would be {show(size)} of values, but the file has {show(stored)}, so most "
            "was never written; "
            "cut out what there is first, e.g. with ncks -d time,START,STOP"
        )


def show(size: float) -> str:
    """Return a number of bytes in the unit that suits it."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} PiB"
