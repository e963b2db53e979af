"""Run each case in a process forked from one that has imported everything, and check the outcome."""

import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .cases import CANARY, Case
from .confine import available, confine
from .watch import differences, snapshot, watch

SECONDS = 60  # duration after which a command is killed
BYTES = 2 * 2**30  # resident memory beyond which a command fails
_EXTRA_ADDRESS_SPACE = 6 * 2**30  # beyond that of the parent process [bytes]
_LARGEST_FILE = 2**30  # bytes
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass
class Outcome:
    """Outcome of a case.

    Attributes:
        kind: kind of input.
        label: defect of the input.
        words: arguments of ``forecast``.
        code: exit code, negative for a signal.
        seconds: duration [s].
        bytes: largest resident memory [bytes].
        faults: violations of the requirements.
        message: its error message.
        skipped: reason why its input could not be written, or empty.
    """

    kind: str
    label: str
    words: list[str]
    code: int = 0
    seconds: float = 0.0
    bytes: int = 0
    faults: list[str] = field(default_factory=list)
    message: str = ""
    skipped: str = ""

    @property
    def verdict(self) -> str:
        """Return ``skipped``, ``failed``, ``refused`` or ``accepted``."""
        if self.skipped:
            return "skipped"
        return "failed" if self.faults else "accepted" if self.code == 0 else "refused"


class Runner:
    """Runs cases in a folder.

    Args:
        root: folder with ``fixtures`` and ``home``, which no case may change.
        slot: number of this runner among those that use the same folder.
        failures: folder to which the inputs of failed cases are copied.

    Raises:
        OSError: root runs this on a kernel without Landlock.
    """

    def __init__(self, root: Path, slot: int, failures: Path) -> None:
        self.root = root
        self.slot = slot
        self.failures = failures
        self.folder = root / f"work{slot}"
        self.temporary = root / f"tmp{slot}"
        if not available() and os.geteuid() == 0:
            raise OSError(
                "this kernel has no Landlock to confine processes, so run this as a user other than root"
            )
        self.before = self._protected()

    def _protected(self) -> dict[str, Any]:
        """Return the state of the files that no case may change; caches are excluded."""
        return snapshot(self.root, skip=re.compile(r"(work|tmp|results)\d+|home/\.cache"))

    def run(self, kind: str, case: Case) -> Outcome:
        """Run a case and return its outcome."""
        outcome = Outcome(kind, case.label, list(case.words))
        for folder in (self.folder, self.temporary):
            _remove(folder)
            folder.mkdir()
        (self.folder / "in").mkdir()
        (self.folder / "out").mkdir()
        if case.prepare is not None and (reason := self._prepare(case)):
            outcome.skipped = reason
            return outcome
        inputs = snapshot(self.folder / "in", contents=True)
        self._execute(case, outcome)
        self._check(case, outcome)
        after = {
            name: state
            for name, state in snapshot(self.folder / "in", contents=True).items()
            if not name.endswith(".lock")
        }
        outcome.faults += [f"input {text}" for text in differences(inputs, after)][:3]
        if changed := differences(self.before, self._protected()):
            outcome.faults += [f"outside: {text}" for text in changed][:3]
            self.before = self._protected()
            (self.folder / CANARY).unlink(missing_ok=True)
        if outcome.faults:
            self._save_failure(outcome)
        return outcome

    def _prepare(self, case: Case) -> str:
        """Write the inputs in a child process, and return the error or an empty string."""
        child = os.fork()
        if child == 0:
            try:
                with open(self.temporary / "prepare", "w") as file:
                    try:
                        assert case.prepare is not None
                        case.prepare(self.folder)
                    except BaseException:  # noqa: BLE001  reported by the parent
                        traceback.print_exc(file=file)
                        file.flush()
                        os._exit(1)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        return (self.temporary / "prepare").read_text().strip().splitlines()[-1] if status else ""

    def _execute(self, case: Case, outcome: Outcome) -> None:
        """Run the command in a child process, and record its duration, memory and exit code."""
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            self._run_command(case)
        while True:
            pid, status, usage = os.wait4(child, os.WNOHANG)
            if pid:
                break
            if time.monotonic() - start > SECONDS:
                os.killpg(child, signal.SIGKILL)
                _, status, usage = os.wait4(child, 0)
                outcome.faults.append(f"hang over {SECONDS} s")
                break
            time.sleep(0.005)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # processes that it may have left behind
        outcome.seconds = round(time.monotonic() - start, 2)
        outcome.bytes = usage.ru_maxrss * 1024
        outcome.code = os.waitstatus_to_exitcode(status)

    def _run_command(self, case: Case) -> None:
        """Run the command in this process, which is confined and watched, and end the process."""
        code = 70
        try:
            os.setsid()
            os.chdir(self.folder)
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(self.temporary / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            report = os.open(self.temporary / "report", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            cache = str(self.root / "home" / ".cache")
            os.environ |= {
                "HOME": str(self.root / "home"),
                "TMPDIR": str(self.temporary),
                "MPLCONFIGDIR": cache,
            }
            tempfile.tempdir = None
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
            limit = _address_space() + _EXTRA_ADDRESS_SPACE
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            own = [str(self.folder), str(self.temporary), cache]
            if available():
                confine(own)
            watch([*own, *case.writable], report, processes=case.words[:1] == ("jobs",))
            sys.argv = ["forecast", *case.words]
            sys.dont_write_bytecode = True
            sys.stdout = open(1, "w", closefd=False, errors="strict")  # noqa: SIM115
            sys.stderr = open(2, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115
            from fourcaster.forecast.cli.main import main

            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            sys.stdout.flush()
        except BaseException:  # noqa: BLE001  any exception is a fault, detected by its traceback
            os.write(2, traceback.format_exc().encode(errors="backslashreplace"))
        finally:
            os._exit(code)

    def _check(self, case: Case, outcome: Outcome) -> None:
        """Record the violations of the requirements that the outcome and the output show."""
        output, errors, report = (
            (self.temporary / name).read_bytes() for name in ("stdout", "stderr", "report")
        )
        text = errors.decode(errors="surrogateescape")
        lines = [line for line in text.splitlines() if line.startswith("forecast: ")]
        outcome.message = (lines or [""])[-1][:300]
        if tracebacks := list(self.temporary.glob("forecast-traceback-*")):
            outcome.faults.append(
                "unexpected error: " + tracebacks[0].read_text().strip().splitlines()[-1][:200]
            )
        elif "Traceback (most recent call last)" in text:
            outcome.faults.append("traceback: " + text.strip().splitlines()[-1][:200])
        elif outcome.code < 0 or outcome.code not in case.codes:
            outcome.faults.append(f"exit code {outcome.code}: {text.strip()[-200:]}")
        if outcome.code == 2 and len(lines) != 1:
            outcome.faults.append(f"{len(lines)} lines of error: {text[:200]!r}")
        if outcome.code == 2 and output.strip():
            outcome.faults.append(f"refused, but printed {output[:100]!r}")
        if outcome.code == 0 and case.refused:
            outcome.faults.append("accepted invalid input")
        if outcome.code != 0 and case.accepted:
            outcome.faults.append(f"refused valid input: {outcome.message}")
        if outcome.bytes > BYTES:
            outcome.faults.append(f"memory of {outcome.bytes / 2**30:.1f} GiB")
        if character := _CONTROL_CHARACTERS.search(text + output.decode(errors="surrogateescape")):
            outcome.faults.append(f"prints the control character {character[0]!r}")
        outcome.faults += sorted(set(report.decode(errors="replace").splitlines()))[:3]
        if (self.folder / CANARY).exists():
            outcome.faults.append("ran code of its input")

    def _save_failure(self, outcome: Outcome) -> None:
        """Copy the inputs and the output of a failed case."""
        target = self.failures / f"{outcome.kind}-{self.slot}-{sum(1 for _ in self.failures.glob('*-*'))}"
        with suppress(OSError, shutil.Error):
            shutil.copytree(self.folder / "in", target / "in", symlinks=True, ignore=_irregular)
        target.mkdir(parents=True, exist_ok=True)
        for name in ("stdout", "stderr"):
            shutil.copyfile(self.temporary / name, target / name)
        for path in self.temporary.glob("forecast-traceback-*"):
            shutil.copyfile(path, target / "traceback")
        (target / "case.json").write_text(json.dumps(asdict(outcome), indent=1))


def _irregular(folder: str, names: list[str]) -> list[str]:
    """Return the names that are neither files, folders nor links, and therefore cannot be copied."""
    return [
        name
        for name in names
        if not any(f(os.path.join(folder, name)) for f in (os.path.isfile, os.path.isdir, os.path.islink))
    ]


def _remove(folder: Path) -> None:
    for root, folders, _ in os.walk(folder):
        for name in folders:
            with suppress(OSError):
                os.chmod(os.path.join(root, name), 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
