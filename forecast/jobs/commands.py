"""Commands of the operator's, run without a shell; what they are told comes in words, and in variables of the
environment.
"""

import os
import re
import signal
import string
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO

from ..text import one_line, printable
from .masking import mask
from .shells import refuse_code
from .spec import Job, spoken, written

Ending = Callable[[], bool]
_TICK = 0.2
_MOST = 16 * 2**20  # bytes of output that may lie on the disk
_LOOKED_AT = 8192  # bytes at the end of the output that are read
_SHOWN = 300  # characters of them that are logged
_LONGEST = 32 * 1024  # bytes of a variable; the system takes 128 KiB
_NAMES = ("name", "cycle", "output", "error", "state")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def resolve(command: list[str], job: Job, cycle: datetime, **more: str) -> list[str]:
    """Return a command with ``{name}``, ``{cycle:...}`` and others filled in, and ``${VARIABLE}`` of the
    environment.

    Raises:
        ValueError: a name or variable that is not known.
    """
    values = {"name": job.name, "cycle": cycle, "output": "", "error": "", "state": ""}
    values |= {name: bounded(text) for name, text in more.items()}
    filled = []
    for word in command:
        try:
            text = _VARIABLE.sub(
                lambda found: os.environ[found[1]].replace("{", "{{").replace("}", "}}"), word
            )
            _refuse_names(text)
            done = text.format(**values)
            # A text of others does not become an option of the command.
            filled.append(done.lstrip("-") if text.strip() == "{error}" else done)
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            unknown = error.args[0] if isinstance(error, KeyError) else error
            raise ValueError(
                f"job {job.name}: {word!r} of a command is not understood: {unknown} is neither a name nor in the environment; "
                "braces that are meant are written twice"
            ) from error
    return filled


def _refuse_names(text: str) -> None:
    for _, name, form, _ in string.Formatter().parse(text):
        if name is None:
            continue
        if name not in _NAMES:
            raise KeyError(name)
        if form and (name != "cycle" or "{" in form):
            raise ValueError(f"a form for {{{name}}}, {form!r},")


def check_command(command: list[str], job: Job) -> None:
    """Raise ``ValueError`` where a command cannot be filled in, or would run text of others as code."""
    resolve(command, job, datetime(2000, 1, 1))
    refuse_code(
        [
            _VARIABLE.sub(lambda found: os.environ[found[1]].replace("{", "{{").replace("}", "}}"), word)
            for word in command
        ]
    )


def bounded(text: str) -> str:
    """Return a text that an environment variable or a word of a command can hold."""
    data = printable(text).encode(errors="replace")
    return data.decode() if len(data) <= _LONGEST else f"{data[:_LONGEST].decode(errors='ignore')} ..."


def variables(job: Job, cycle: datetime, **what: str) -> dict[str, str]:
    """Return the environment of a command: that of the service, and ``FOURCASTER_JOB``, ``FOURCASTER_CYCLE``
    and what else it is told.
    """
    told = {"JOB": job.name, "CYCLE": written(cycle)} | {name.upper(): text for name, text in what.items()}
    return dict(os.environ) | {f"FOURCASTER_{name}": bounded(text) for name, text in told.items()}


def tell(
    command: list[str] | None,
    job: Job,
    cycle: datetime,
    folder: Path,
    say: Callable[..., None],
    ending: Ending,
    **what: str,
) -> bool:
    """Run a command that is told of an end; what becomes of it changes nothing but the log.

    Returns:
        False where it was stopped since the scheduler ends, and is to be run again.
    """
    if command is None:
        return True
    try:
        words, environment = resolve(command, job, cycle, **what), variables(job, cycle, **what)
        code, text = _run(words, folder, environment, job.deadline.total_seconds(), ending)
    except (OSError, ValueError) as error:
        say(level="error", message=f"{command[0]} could not be run: {error}")
        return True
    if code is None and ending():
        return False
    if code != 0:
        reason = (
            f"took longer than the deadline of {spoken(job.deadline)}"
            if code is None
            else f"ended with {code}"
        )
        say(level="error", message=f"{command[0]} {reason}{': ' + text if text else ''}")
    return True


def _run(
    words: list[str], folder: Path, environment: dict[str, str], seconds: float, ending: Ending
) -> tuple[int | None, str]:
    """Return the exit code of a command and the end of what it wrote; None where it was stopped."""
    with tempfile.TemporaryFile() as output:  # not a pipe: what the command leaves running may write on
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        until, dropped = time.monotonic() + seconds, b""
        while (code := _code(process)) is None and time.monotonic() < until and not ending():
            dropped = _bound(output) or dropped
        if code is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with all that it started
            process.wait()
        return code, _end_of(output, dropped)


def _bound(output: IO[bytes]) -> bytes:
    """Drop what was written where it becomes much, and return the end of it.

    The command writes on from the start, for its position in the file is the same.
    """
    if os.fstat(output.fileno()).st_size <= _MOST:
        return b""
    end = _last_bytes(output)
    os.lseek(output.fileno(), 0, os.SEEK_SET)
    os.ftruncate(output.fileno(), 0)
    return end


def _last_bytes(output: IO[bytes]) -> bytes:
    return os.pread(output.fileno(), _LOOKED_AT, max(0, os.fstat(output.fileno()).st_size - _LOOKED_AT))


def _end_of(output: IO[bytes], dropped: bytes) -> str:
    data = (dropped + _last_bytes(output))[-_LOOKED_AT:]
    return mask(one_line(data.decode(errors="replace"), 2 * _LOOKED_AT))[-_SHOWN:]


def _code(process: "subprocess.Popen[bytes]") -> int | None:
    try:
        return process.wait(_TICK)
    except subprocess.TimeoutExpired:
        return None
