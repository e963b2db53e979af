"""Safe reading of files of unknown origin: regular files of bounded size only, never pipes or devices."""

import os
import stat
from io import BufferedReader
from pathlib import Path

from ..memory import machine_memory


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; links are followed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, pipe, socket or device.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if not path.exists() or path.is_file():
            raise
        raise ValueError(f"{path} is not a regular file; put the file itself there") from error  # a socket
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path} is not a regular file; put the file itself there")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, most: int) -> bytes:
    """Return the contents of a regular file of bounded size.

    Args:
        path: file.
        most: largest size [bytes].

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a regular file, or a larger one.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > most else file.read(most + 1)
    if max(size, len(content)) > most:
        raise ValueError(
            f"{path} has {max(size, len(content))} bytes, more than the allowed {most}; it is damaged or "
            "another kind of file"
        )
    return content


def check_memory(path: Path, size: int) -> None:
    """Check that the tensors of a file fit into the memory of the machine.

    Args:
        path: file, for the error.
        size: size of its tensors [bytes].

    Raises:
        ValueError: they do not.
    """
    memory = machine_memory()
    if size > memory:
        raise ValueError(
            f"{path} contains {size / 1e9:.3g} GB of tensors, more than the memory of this machine, "
            f"{memory / 1e9:.3g} GB"
        )
