"""Commands of a jobs file, run without a shell.

The job, the cycle and its end are passed in words of the command and in environment variables.
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
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from ...datasets.durations import format_duration
from ..text import one_line, printable
from .masking import mask
from .shells import refuse_code
from .spec import Job
from .times import format_cycle

_POLL_INTERVAL = 0.2  # s
_LARGEST_OUTPUT = 16 * 2**20  # bytes on the disk
_READ_BYTES = 8192  # of the end of the output
_SHOWN_CHARACTERS = 300
_LONGEST_VALUE = 32 * 1024  # bytes of an environment variable; the system takes 128 KiB
_NAMES = ("name", "cycle", "output", "error", "state")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class HookEvent:
    """End of a cycle, as the commands ``on_success`` and ``on_failure`` receive it.

    Attributes:
        state: ``done`` or ``failed``.
        output: path or URL of the published forecast; empty where there is none.
        error: reason of a failure, without secrets.
    """

    state: str = ""
    output: str = ""
    error: str = ""

    def values(self) -> dict[str, str]:
        """Return the values by name, shortened to what an environment variable can contain."""
        values = {"state": self.state, "output": self.output, "error": self.error}
        return {name: shorten(text) for name, text in values.items()}


def resolve(command: list[str], job: Job, cycle: datetime, *, event: HookEvent | None = None) -> list[str]:
    """Return a command with ``{name}``, ``{cycle:...}`` and others, and environment variables filled in.

    Args:
        command: words, with names in braces and ``${VARIABLE}``.
        job: job whose command it is.
        cycle: initial time.
        event: end of the cycle; without one, ``{state}``, ``{output}`` and ``{error}`` are empty.

    Raises:
        ValueError: an unknown name or variable.
    """
    values = {"name": job.name, "cycle": cycle} | (event or HookEvent()).values()
    words = []
    for word in command:
        try:
            template = _fill_variables(word)
            _refuse_unknown_names(template)
            text = template.format(**values)
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            unknown = error.args[0] if isinstance(error, KeyError) else error
            raise ValueError(
                f"job {job.name}: {word!r} of a command is not understood: {unknown} is neither a name "
                "nor in the environment; braces that are meant are written twice"
            ) from error
        # The text of an error must not become an option of the command.
        words.append(text.lstrip("-") if template.strip() == "{error}" else text)
    return words


def _fill_variables(word: str) -> str:
    """Return a word with ``${VARIABLE}`` replaced; braces in the values are escaped for ``str.format``."""

    def value(match: re.Match[str]) -> str:
        return os.environ[match[1]].replace("{", "{{").replace("}", "}}")

    return _VARIABLE.sub(value, word)


def _refuse_unknown_names(template: str) -> None:
    for _, name, form, _ in string.Formatter().parse(template):
        if name is None:
            continue
        if name not in _NAMES:
            raise KeyError(name)
        if form and (name != "cycle" or "{" in form):
            raise ValueError(f"a form for {{{name}}}, {form!r},")


def check_command(command: list[str], job: Job) -> None:
    """Raise ``ValueError`` where a command cannot be filled in, or would run the text of an error as code."""
    resolve(command, job, datetime(2000, 1, 1))
    refuse_code([_fill_variables(word) for word in command])


def shorten(text: str) -> str:
    """Return a text that an environment variable or a word of a command can contain."""
    data = printable(text).encode(errors="replace")
    return (
        data.decode()
        if len(data) <= _LONGEST_VALUE
        else f"{data[:_LONGEST_VALUE].decode(errors='ignore')} ..."
    )


def hook_environment(job: Job, cycle: datetime, event: HookEvent | None = None) -> dict[str, str]:
    """Return the environment of a command.

    It is that of the service, with ``FOURCASTER_JOB`` and ``FOURCASTER_CYCLE``, and with
    ``FOURCASTER_STATE``, ``FOURCASTER_OUTPUT`` and ``FOURCASTER_ERROR`` where there is an event.
    """
    values = {"job": shorten(job.name), "cycle": format_cycle(cycle)}
    if event is not None:
        values |= event.values()
    return dict(os.environ) | {f"FOURCASTER_{name.upper()}": text for name, text in values.items()}


def run_hook(
    command: list[str] | None,
    job: Job,
    cycle: datetime,
    *,
    event: HookEvent,
    folder: Path,
    log: Callable[..., None],
    stopping: Callable[[], bool],
) -> bool:
    """Run a command after the end of a cycle; its failure is logged and has no other effect.

    Args:
        command: words; None runs nothing.
        job: job whose command it is.
        cycle: initial time.
        event: end of the cycle.
        folder: working directory.
        log: receives the fields of log lines as keywords.
        stopping: returns whether the scheduler must end now.

    Returns:
        False where the command was stopped because the scheduler ends, and must be run again.
    """
    if command is None:
        return True
    try:
        words = resolve(command, job, cycle, event=event)
        environment = hook_environment(job, cycle, event)
        seconds = job.deadline.total_seconds()
        code, output = _run(words, folder, environment, seconds=seconds, stopping=stopping)
    except (OSError, ValueError) as error:
        log(level="error", message=f"{command[0]} could not be run: {error}")
        return True
    if code is None and stopping():
        return False
    if code != 0:
        reason = (
            f"took longer than the deadline of {format_duration(job.deadline)}"
            if code is None
            else f"ended with {code}"
        )
        log(level="error", message=f"{command[0]} {reason}{': ' + output if output else ''}")
    return True


def _run(
    words: list[str],
    folder: Path,
    environment: dict[str, str],
    *,
    seconds: float,
    stopping: Callable[[], bool],
) -> tuple[int | None, str]:
    """Return the exit code of a command and the end of its output; the code is None where it was stopped."""
    with tempfile.TemporaryFile() as output:  # not a pipe, which processes left by the command keep open
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        until = time.monotonic() + seconds
        dropped = b""
        while (code := _wait(process)) is None and time.monotonic() < until and not stopping():
            dropped = _limit_size(output) or dropped
        if code is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with all processes that it started
            process.wait()
        return code, _end_of_output(output, dropped)


def _limit_size(output: IO[bytes]) -> bytes:
    """Empty the file where it has become large, and return its end.

    The command shares the position in the file, so it continues to write at the start.
    """
    if os.fstat(output.fileno()).st_size <= _LARGEST_OUTPUT:
        return b""
    end = _last_bytes(output)
    os.lseek(output.fileno(), 0, os.SEEK_SET)
    os.ftruncate(output.fileno(), 0)
    return end


def _last_bytes(output: IO[bytes]) -> bytes:
    start = max(0, os.fstat(output.fileno()).st_size - _READ_BYTES)
    return os.pread(output.fileno(), _READ_BYTES, start)


def _end_of_output(output: IO[bytes], dropped: bytes) -> str:
    data = (dropped + _last_bytes(output))[-_READ_BYTES:]
    return mask(one_line(data.decode(errors="replace"), 2 * _READ_BYTES))[-_SHOWN_CHARACTERS:]


def _wait(process: "subprocess.Popen[bytes]") -> int | None:
    try:
        return process.wait(_POLL_INTERVAL)
    except subprocess.TimeoutExpired:
        return None
