"""Record of the complete parts of a long write, kept next to it, from which an interrupted run resumes."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import atomic


class Journal:
    """Marks of the complete parts of an unfinished folder, valid for one identity.

    Args:
        path: the unfinished folder.
        identity: all that the contents depend on.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.folder = path.with_name(f"{path.name}.done")
        self.text = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()

    def begun(self) -> bool:
        """Return whether an unfinished run of this identity can be resumed; otherwise remove its remains."""
        mark = self.folder / "identity"
        if self.path.exists() and mark.exists() and mark.read_text() == self.text:
            return True
        self.clear()
        atomic.remove(self.path)
        return False

    @property
    def target(self) -> Path:
        """Folder that zarr writes to."""
        return self.path

    def adopt(self, path: Path) -> None:
        """Start from links to the files of the store at ``path``; writes replace files, never modify them."""
        shutil.copytree(path, self.path, copy_function=_link)

    def begin(self) -> None:
        """Record that the template is written and parts may follow."""
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic.sync_all(self.path)
        atomic.write_file(self.folder / "identity", self.text.encode())

    def done(self, part: object) -> bool:
        """Return whether a part is complete."""
        return (self.folder / str(part)).exists()

    def mark(self, part: object, paths: Iterable[str] = ()) -> None:
        """Record that a part is complete, after its files and folders are synchronised with the disk.

        Args:
            part: its name.
            paths: its files and folders, relative to the unfinished folder.
        """
        for path in paths:
            if (self.path / path).exists():  # zarr writes no chunks of fill values
                atomic.sync_all(self.path / path)
                atomic.sync((self.path / path).parent)
        (self.folder / str(part)).touch()

    def clear(self) -> None:
        """Remove all marks."""
        atomic.remove(self.folder)

    def discard(self) -> None:
        """Remove all marks and the unfinished folder."""
        atomic.remove(self.path)
        self.clear()

    def sweep(self) -> None:
        """Remove the temporary files of interrupted writes."""
        for left in self.path.rglob("*.partial"):
            atomic.remove(left)


def _link(source: str, target: str) -> None:
    """Link a file, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
