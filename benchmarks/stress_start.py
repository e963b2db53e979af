"""Processes of the stress test: of any command, or forked from one that has imported everything already."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

FORKER = """
import json, os, signal, sys
import fourcaster.forecast.tasks.weather.training, fourcaster.forecast.tasks.weather.task
from fourcaster.forecast.cli.main import main
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = ["forecast", *order["arguments"]]
        try:
            main()
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
        os._exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Forker:
    """A process that starts others by forking itself, one at a time, so that none imports anything."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", FORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.read()

    def read(self) -> str:
        """Return the next line of the process."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the forking process has ended")
        return line.strip()

    def has_line(self) -> bool:
        """Return whether there is a line to read."""
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def start(self, arguments: Sequence[str], log: Path) -> "Forked":
        """Run ``forecast`` with arguments, in a process group of its own.

        Args:
            arguments: words after ``forecast``.
            log: file to which its output is appended.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"arguments": list(arguments), "log": str(log)}) + "\n")
        return Forked(self, int(self.read()))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Forked:
    """A forked process, with the methods of ``subprocess.Popen`` that the stress test uses."""

    def __init__(self, forker: Forker, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._forker = forker

    def poll(self) -> int | None:
        """Return the exit code, None while the process runs."""
        if self.returncode is None and self._forker.has_line():
            self.returncode = int(self._forker.read())
        return self.returncode

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""
        if self.returncode is None:
            self.returncode = int(self._forker.read())
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def start_command(command: Sequence[str], arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Run any command with arguments, in a process group of its own.

    Args:
        command: first words of the command line.
        arguments: further words.
        log: file to which its output is appended.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with open(log, "ab") as file:
        return subprocess.Popen(
            [*command, *arguments], stdout=file, stderr=file, env=environment, start_new_session=True
        )
