"""New runs that start from the weights of an earlier one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...fno.training.start import START, fork_state, read_origin

_STATE = "training.safetensors"


@contextmanager
def forked(run: Path, output: Path, *, wanted: bool) -> Iterator[None]:
    """Give a new run the weights of an earlier one as its initial weights.

    A run that has them already is resumed. If an error within the context ends the new run before its first
    state is saved, the weights are removed again.

    Args:
        run: folder of the earlier run, which is only read.
        output: folder of the new run.
        wanted: whether to do so; otherwise the context does nothing.

    Raises:
        ValueError: ``run`` has no state, ``output`` is the same folder, or it contains a run that did not
            start from these weights.
    """
    if not wanted:
        yield
        return
    if os.path.realpath(run) == os.path.realpath(output):
        raise ValueError(f"the new run cannot be in the folder {run} of the earlier one; choose another one")
    states = sorted(path.relative_to(run) for path in run.glob(f"**/state/{_STATE}"))
    if Path("state", _STATE) not in states:
        raise ValueError(f"{run} has no saved state (state/{_STATE}) that a new run could start from")
    written = [_fork(run, output, state) for state in states]
    try:
        yield
    except ValueError:
        for folder in written:
            if folder is not None and not (folder / _STATE).exists():
                (folder / START).unlink(missing_ok=True)
                with suppress(OSError):  # not empty
                    folder.rmdir()
                    folder.parent.rmdir()
        raise


def _fork(run: Path, output: Path, state: Path) -> Path | None:
    """Write the initial weights of a new run, and return their folder; None if they are there already."""
    folder = output / state.parent
    origin = read_origin(folder)
    if origin is not None:
        if origin["run"] != str(run):
            raise ValueError(
                f"{output} contains a run that started from {origin['run']}, not from {run}; choose another "
                "folder"
            )
        return None
    if (folder / _STATE).exists() or (output / "checkpoint").exists():
        raise ValueError(f"{output} contains a run that did not start from {run}; choose another folder")
    fork_state(run / state, folder, str(run))
    return folder
