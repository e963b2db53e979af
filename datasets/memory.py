"""How much memory reading a source may take: the limit that sizes in files are compared with before anything is decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .schema import Refused

MEMORY = 2**31
_COPIES = 10  # of an axis while it is read, decoded, indexed and compared
_NEVER_CHECKED = 2**34  # bytes that are read in some minutes
_RATIO = 2000  # largest credible compression of a whole variable
_limit: ContextVar[int] = ContextVar("memory limit", default=MEMORY)


def memory_limit() -> int:
    """Return the bytes that reading a source may take, ``MEMORY`` unless ``limited`` sets another number."""
    return _limit.get()


@contextmanager
def limited(memory: int) -> Iterator[None]:
    """Compare the sizes of what is opened inside with ``memory`` bytes."""
    token = _limit.set(memory)
    try:
        yield
    finally:
        _limit.reset(token)


def check_axis(source: str, name: str, count: int, itemsize: int = 8) -> None:
    """Raise ``Refused`` if a coordinate of ``count`` values is too long to be read and indexed within the limit.

    Args:
        source: named in the error.
        name: name of the coordinate.
        count: number of values.
        itemsize: bytes of one.
    """
    check_bytes(f"{source}: the coordinate {name!r} of {count} values", count * max(8, itemsize) * _COPIES)


def check_bytes(what: str, size: int) -> None:
    """Raise ``Refused`` if something takes more bytes than the limit.

    Args:
        what: named in the error.
        size: bytes that it takes in memory.
    """
    if size > memory_limit():
        raise Refused(f"{what} would take {show(size)} of memory, more than the limit of {show(memory_limit())} (--memory)")


def check_declared(source: str, name: str, size: int, stored: int) -> None:
    """Raise ``Refused`` where compression cannot account for what a variable claims to have.

    deflate packs at most a thousand bytes into one. A variable that claims more was never written: it costs days to
    read, and gives fill values.

    Args:
        source: named in the error.
        name: name of the variable.
        size: bytes of the variable before compression.
        stored: bytes of its file.
    """
    if size > _NEVER_CHECKED and size > _RATIO * stored:
        raise Refused(
            f"{source}: {name!r} would be {show(size)} of values, but the file has {show(stored)}, so most was never written; "
            "cut out what there is first, e.g. with ncks -d time,START,STOP"
        )


def show(size: float) -> str:
    """Return a number of bytes in the unit that suits it."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} PiB"
