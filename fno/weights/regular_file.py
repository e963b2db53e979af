"""Files of unknown origin opened so that a pipe or device neither blocks nor is read, and sizes checked
before contents.
"""

import os
import stat
from io import BufferedReader
from pathlib import Path


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; links are followed.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: a folder, pipe, socket or device.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if not path.exists() or path.is_file():
            raise
        raise ValueError(f"{path} is no regular file; put the file itself there") from error  # a socket
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path} is no regular file; put the file itself there")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, most: int) -> bytes:
    """Return the contents of a regular file of at most ``most`` bytes.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: not a regular file, or a larger one.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > most else file.read(most + 1)
    if max(size, len(content)) > most:
        raise ValueError(
            f"{path} has {max(size, len(content))} bytes, of which there may be {most}; it is damaged or something else"
        )
    return content


def check_memory(path: Path, size: int) -> None:
    """Refuse tensors that are larger than the machine's memory.

    Raises:
        ValueError: ``size`` bytes do not fit.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > memory:
        raise ValueError(
            f"{path} holds {size / 1e9:.3g} GB of tensors, more than the memory of this machine, {memory / 1e9:.3g} GB"
        )
