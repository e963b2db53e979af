"""Commands of the operator's, run without a shell."""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from .spec import Job, spoken

Ending = Callable[[], bool]
_TICK = 0.2


def resolve(command: list[str], job: Job, cycle: datetime, **more: str) -> list[str]:
    """Return a command with ``{name}``, ``{cycle:...}`` and others filled in, and ``${VARIABLE}`` of the environment.

    Raises:
        ValueError: a name or variable that is not known.
    """
    filled = []
    for word in command:
        try:
            text = re.sub(r"\$\{(\w+)\}", lambda found: os.environ[found[1]].replace("{", "{{").replace("}", "}}"), word)
            filled.append(text.format(name=job.name, cycle=cycle, **({"output": "", "error": "", "state": ""} | more)))
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            unknown = error.args[0] if isinstance(error, KeyError) else error
            raise ValueError(
                f"job {job.name}: {word!r} of a command is not understood: {unknown} is neither a name nor in the environment; "
                "braces that are meant are written twice"
            ) from error
    return filled


def tell(command: list[str] | None, job: Job, cycle: datetime, folder: Path, say: Callable[..., None], ending: Ending, **what: str) -> bool:
    """Run a command that is told of an end; what becomes of it changes nothing but the log.

    Returns:
        False where it was stopped since the scheduler ends, and is to be run again.
    """
    if command is None:
        return True
    try:
        code, text = _run(resolve(command, job, cycle, **what), folder, job.deadline.total_seconds(), ending)
    except (OSError, ValueError) as error:
        say(level="error", message=f"{command[0]} could not be run: {error}")
        return True
    if code is None and ending():
        return False
    if code != 0:
        reason = f"took longer than the deadline of {spoken(job.deadline)}" if code is None else f"ended with {code}"
        say(level="error", message=f"{command[0]} {reason}{': ' + text if text else ''}")
    return True


def _run(words: list[str], folder: Path, seconds: float, ending: Ending) -> tuple[int | None, str]:
    """Return the exit code of a command and the end of what it wrote; None where it was stopped."""
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
        until = time.monotonic() + seconds
        while (code := _code(process)) is None and time.monotonic() < until and not ending():
            pass
        if code is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with all that it started
            process.wait()
        output.seek(0)
        return code, output.read().strip()[-300:]


def _code(process: "subprocess.Popen[bytes]") -> int | None:
    try:
        return process.wait(_TICK)
    except subprocess.TimeoutExpired:
        return None
