"""Earlier states of a run: those of the last epochs, of the best epoch, and the one to go back to.

They are hard links to the saved state, which is never changed in place, so that they cost no time to write.
"""

import os
import re
import shutil
from pathlib import Path

from .files import replacing_file

_EPOCH = re.compile(r"epoch_(\d{4,})\.safetensors")


class StateHistory:
    """Earlier states next to the saved state of a run.

    Args:
        path: file of the saved state.
        keep: number of states at the end of an epoch to keep, apart from that of the best epoch; 0 for none.

    Attributes:
        best: state at the end of the best epoch.
        restore_point: state to go back to.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        self.keep = keep
        self.best = path.with_name("best.safetensors")
        self.restore_point = path.with_name("restore.safetensors")

    def epoch(self, number: int) -> Path:
        """Return the file of the state at the end of an epoch, counted from 1."""
        return self.path.with_name(f"epoch_{number:04d}.safetensors")

    def record(self, number: int, *, best: bool) -> None:
        """Keep the saved state as that of the end of an epoch, and remove those that are too old.

        Args:
            number: number of finished epochs.
            best: whether the last of them is the best so far.

        Raises:
            OSError: no room to keep it.
        """
        if not self.keep or not number:
            return
        _link(self.path, self.epoch(number))
        if best:
            _link(self.path, self.best)
        for file in self.path.parent.iterdir():
            match = _EPOCH.fullmatch(file.name)
            if match and int(match[1]) <= number - self.keep:
                file.unlink()

    def set_restore_point(self) -> None:
        """Keep the saved state as the one to go back to."""
        _link(self.path, self.restore_point)


def _link(source: Path, target: Path) -> None:
    """Let ``target`` refer to the present content of ``source``, by a copy where links are not supported."""
    if target.exists() and os.path.samefile(source, target):
        return
    temporary = target.with_name(f".{target.name}.link")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        with replacing_file(target) as copied:
            shutil.copyfile(source, copied)
        return
    os.replace(temporary, target)
