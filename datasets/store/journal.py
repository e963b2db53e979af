"""What is done of a long write, beside the unfinished thing, so that a run that was killed goes on."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import atomic


class Journal:
    """Marks of the parts that are whole, valid for one identity.

    Args:
        path: the unfinished folder.
        identity: everything that its contents depend on.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path, self.folder = path, path.with_name(f"{path.name}.done")
        self.text = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()

    def begun(self) -> bool:
        """Return whether an earlier run of this identity got past its beginning; else clear what lies there."""
        mark = self.folder / "identity"
        if self.path.exists() and mark.exists() and mark.read_text() == self.text:
            return True
        self.clear()
        atomic.remove(self.path)
        return False

    @property
    def target(self) -> Path:
        """What zarr writes to."""
        return self.path

    def adopt(self, path: Path) -> None:
        """Go on from the store at ``path``, whose files are linked: writes replace files and never change
        them.
        """
        shutil.copytree(path, self.path, copy_function=_link)

    def begin(self) -> None:
        """Say that the unfinished folder is ready to be filled."""
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic.sync_all(self.path)
        atomic.write_file(self.folder / "identity", self.text.encode())

    def done(self, part: object) -> bool:
        """Return whether a part is whole."""
        return (self.folder / str(part)).exists()

    def mark(self, part: object, paths: Iterable[str] = ()) -> None:
        """Record that a part is whole, once the files and folders that it consists of are on the disk.

        Args:
            part: its name.
            paths: what was written of it, relative to the unfinished folder.
        """
        for path in paths:
            if (self.path / path).exists():  # zarr writes no chunks of fill values
                atomic.sync_all(self.path / path)
                atomic.sync((self.path / path).parent)
        (self.folder / str(part)).touch()

    def clear(self) -> None:
        """Forget everything."""
        atomic.remove(self.folder)

    def discard(self) -> None:
        """Forget everything, and remove the unfinished folder."""
        atomic.remove(self.path)
        self.clear()

    def sweep(self) -> None:
        """Remove what writes that were killed left behind in the folder."""
        for left in self.path.rglob("*.partial"):
            atomic.remove(left)


def _link(source: str, target: str) -> None:
    """Link a file, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
