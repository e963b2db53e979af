"""Commands of the operator's, run without a shell."""

import os
import re
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .spec import Job


def resolve(command: list[str], job: "Job", cycle: datetime, **more: str) -> list[str]:
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


def tell(command: list[str] | None, job: "Job", cycle: datetime, folder: Path, say: Callable[..., None], **what: str) -> None:
    """Run a command that is told of an end; what becomes of it changes nothing but the log."""
    if command is None:
        return
    try:
        words = resolve(command, job, cycle, **what)
        ended = subprocess.run(
            words, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=job.deadline.total_seconds(), check=False,
        )  # fmt: skip
        if ended.returncode:
            say(level="error", message=f"{command[0]} ended with {ended.returncode}: {ended.stderr.strip()[-300:]}")
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        say(level="error", message=f"{command[0]} could not be run: {error}")
