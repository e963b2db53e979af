"""Detect forbidden actions of a command: starting processes, writing elsewhere, changing its inputs."""

import hashlib
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any

_STARTS = ("os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen", "pty.spawn")
_WRITES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "shutil.rmtree",
)
_DANGEROUS = ("os", "posix", "nt", "subprocess", "shutil", "socket", "runpy", "importlib")
_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_LARGEST_HASHED = 2**27  # bytes


def watch(allowed: list[str], report: int, processes: bool) -> None:
    """Write a line to the descriptor ``report`` for each forbidden action of this process.

    Args:
        allowed: folders that may be written to.
        report: file descriptor.
        processes: whether the process may start others.
    """
    roots = [os.path.realpath(folder) + "/" for folder in allowed]
    busy = [False]

    def outside(path: Any) -> bool:
        if isinstance(path, int) or path is None:
            return False
        full = os.path.realpath(os.fsdecode(path)) + "/"
        return not full.startswith(tuple(roots))

    def write_report(text: str) -> None:
        os.write(report, (text.replace("\n", " ")[:300] + "\n").encode(errors="backslashreplace"))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if busy[0]:
            return
        busy[0] = True
        try:
            if event == "open":
                path, mode, flags = arguments
                writes = (
                    bool(set(mode) & set("wax+")) if isinstance(mode, str) else bool((flags or 0) & _FLAGS)
                )
                if (
                    writes
                    and outside(path)
                    and not os.path.realpath(os.fsdecode(path)).startswith(("/dev/", "/proc/self/"))
                ):
                    write_report(f"wrote {path!r}")
            # ctypes runs ldconfig to find libraries.
            elif event in _STARTS and not processes and "ldconfig" not in str(arguments[0]):
                write_report(f"started {event} {arguments[:2]!r}")
            elif event in _WRITES and not any(isinstance(a, int) and a > 0 for a in arguments[1:]):
                removes = event in ("os.remove", "os.rename", "os.rmdir", "shutil.rmtree")
                path = arguments[1] if event in ("os.link", "os.symlink") else arguments[0]
                if outside(os.path.dirname(os.path.abspath(path))) and (os.path.lexists(path) or not removes):
                    write_report(f"{event} {path!r}")
            elif event == "pickle.find_class" and str(arguments[0]).partition(".")[0] in _DANGEROUS:
                write_report(f"unpickled {arguments!r}")
        except (OSError, ValueError, TypeError):
            pass
        finally:
            busy[0] = False

    sys.addaudithook(hook)


def snapshot(folder: Path, contents: bool = False, skip: re.Pattern[str] | None = None) -> dict[str, Any]:
    """Return the state of each file below a folder: type, size, modification time and optionally checksum.

    Args:
        folder: the folder.
        contents: compute the checksums of regular files.
        skip: pattern of the paths that are left out, relative to the folder.
    """
    states: dict[str, Any] = {}
    for root, folders, files in os.walk(folder):
        if skip is not None:
            for names in (folders, files):
                names[:] = [
                    name
                    for name in names
                    if not skip.fullmatch(os.path.relpath(os.path.join(root, name), folder))
                ]
        for name in (*folders, *files):
            path = os.path.join(root, name)
            status = os.lstat(path)
            entry: tuple[Any, ...] = (
                status.st_mode,
                status.st_size if name in files else 0,
                status.st_mtime_ns if name in files else 0,
            )
            regular = name in files and stat.S_ISREG(status.st_mode)
            if contents and regular and status.st_size < _LARGEST_HASHED:
                with open(path, "rb") as file:
                    entry += (hashlib.sha256(file.read()).hexdigest(),)
            states[os.path.relpath(path, folder)] = entry
    return states


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return a description of each difference between two snapshots."""
    changed = [f"{name} changed" for name in before if name in after and before[name] != after[name]]
    gone = [f"{name} is gone" for name in before if name not in after]
    return [*changed, *gone, *(f"{name} is new" for name in after if name not in before)]
