"""Error messages of the command: one line, an exit code, and a file with an unexpected traceback."""

import errno
import os
import platform
import re
import sys
import tempfile
import traceback

from ... import __version__
from ...datasets.errors import DataError, OutputExistsError
from ...datasets.stopping import DeadlineError, Stopped
from ..text import one_line

BUG = 1
BAD_INPUT = 2
INTERRUPTED = 130
UNFINISHED = 75  # EX_TEMPFAIL: the time limit was over before the end of the work
_LONGEST = 20_000  # characters of a message that are examined
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Errors of libraries that read files, by module; a module that was not imported has raised none.
_LIBRARY_ERRORS = {
    "zipfile": ("BadZipFile", "LargeZipFile"),
    "gzip": ("BadGzipFile",),
    "lzma": ("LZMAError",),
    "zlib": ("error",),
    "struct": ("error",),
    "safetensors": ("SafetensorError",),
    "pickle": ("UnpicklingError",),
    "sqlite3": ("DatabaseError",),
    "yaml": ("YAMLError",),
    "icechunk": ("IcechunkError",),
    "zarr.errors": ("ArrayNotFoundError", "GroupNotFoundError", "NodeNotFoundError"),
}
# netCDF4, HDF5 and the codecs raise a bare RuntimeError, and when memory runs out, several libraries raise a
# RuntimeError or ValueError. Only the texts of these errors distinguish them.
_DAMAGED_TEXT = re.compile(r"netcdf|hdf5? error|blosc|zstd|lz4|codec|decompress|checksum", re.IGNORECASE)
_MEMORY_TEXT = re.compile(
    r"can't allocate memory|cannot allocate|unable to allocate|bad_alloc|bad allocation|not enough memory"
    r"|out of memory|maximum allowed dimension|array is too big|storage size calculation overflow"
    r"|invalid buffer size",
    re.IGNORECASE,
)


def explain(error: BaseException) -> tuple[str, int]:
    """Return the message for an error, in one line, and the exit code."""
    error = _first(error)
    if isinstance(error, Stopped):
        text = error.text or "run the same command again"
        return one_line(f"stopped by {error.signal.name}; {text}"), 128 + error.signal
    if isinstance(error, DeadlineError):
        return one_line(_text(error)), UNFINISHED
    if isinstance(error, KeyboardInterrupt):
        return "stopped; run the same command again", INTERRUPTED
    text = _text(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | ValueError) and _MEMORY_TEXT.search(text)
    ):
        return one_line(
            f"this needs more memory than is available ({text or 'out of memory'}); process less at once, or "
            "use a smaller input"
        ), BAD_INPUT
    if isinstance(error, RecursionError):
        return "the input is nested too deeply to be read; flatten it", BAD_INPUT
    if isinstance(error, OverflowError):
        return one_line(f"a number is out of range ({text}); use a smaller one"), BAD_INPUT
    if isinstance(error, OSError):
        return one_line(f"{_system_message(error, text)}{option_hint(error)}"), BAD_INPUT
    if isinstance(error, ValueError) and text:
        return one_line(f"{text}{option_hint(error)}"), BAD_INPUT
    if _is_damage(error, text):
        return one_line(
            f"a file cannot be read ({_kind(error)}: {text}); it is damaged, or not of the format of its name"
        ), BAD_INPUT
    where = write_traceback(error)
    hint = (
        f"; its traceback is in {where}, please report it"
        if where
        else "; set FOURCASTER_DEBUG=1 to see its traceback"
    )
    return f"{one_line(f'unexpected {_kind(error)}: {text}')}{hint}", BUG


def option_hint(error: BaseException) -> str:
    """Return the flag of the argument that an error or its cause names as ``option``, or an empty text.

    >>> option_hint(DataError("a link", option="follow_links"))
    ' (--follow-links)'
    """
    cause: BaseException | None = error
    while cause is not None:
        option = getattr(cause, "option", None)
        if option is not None and (isinstance(cause, DataError | OutputExistsError) or option == "trust"):
            flag = f"--{option.replace('_', '-')} {getattr(cause, 'example', '')}".rstrip()
            return f" ({flag})"
        cause = cause.__cause__
    return ""


def write_traceback(error: BaseException) -> str | None:
    """Write a traceback without secrets to a new private file, and return its name, or None on failure."""
    try:
        from ..jobs.masking import mask

        trace = "".join(traceback.format_exception(error))
        command = " ".join(sys.argv[1:])
        versions = f"fourcaster {__version__}, Python {platform.python_version()}, {platform.platform()}"
        header = f"{versions}\nforecast {command}\n\n"
        data = mask(header + trace).encode(errors="backslashreplace")
        descriptor, name = tempfile.mkstemp(prefix="forecast-traceback-", suffix=".txt")  # mode 0600
    except Exception:  # noqa: BLE001  reporting an error must not raise another one
        return None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError:
        os.unlink(name)
        return None
    return name


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _system_message(error: OSError, text: str) -> str:
    reason = error.strerror or text
    if error.errno in _NO_ROOM and "no room" not in text:
        return f"no room on the disk ({text}); free some space and run it again"
    if error.errno == errno.ENOMEM:
        return (
            f"this needs more memory than is available ({reason}); process less at once, "
            "or use a smaller input"
        )
    if error.filename is not None and error.strerror:
        name = (
            os.fsdecode(error.filename)
            if isinstance(error.filename, str | bytes | os.PathLike)
            else str(error.filename)
        )
        return f"{name}: {reason}"
    return reason or _kind(error)


def _is_damage(error: BaseException, text: str) -> bool:
    if isinstance(error, (EOFError, *_library_errors())):
        return True
    return type(error) is RuntimeError and bool(_DAMAGED_TEXT.search(text))


def _library_errors() -> tuple[type[BaseException], ...]:
    """Return the error classes of the libraries that were imported."""
    classes = [
        getattr(sys.modules[module], name, None)
        for module, names in _LIBRARY_ERRORS.items()
        if module in sys.modules
        for name in names
    ]
    return tuple(c for c in classes if isinstance(c, type) and issubclass(c, BaseException))


def _kind(error: BaseException) -> str:
    return type(error).__name__


def _text(error: BaseException) -> str:
    try:
        text = str(error)
        return text if len(text) < _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    except Exception:  # noqa: BLE001  an exception of a plugin that cannot be printed
        return ""
