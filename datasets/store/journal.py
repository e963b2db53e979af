"""Record of the complete parts of a long write, from which an interrupted run resumes."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import atomic


class Journal:
    """Record of the complete parts of an unfinished folder, as marker files in a folder next to it.

    Args:
        path: the unfinished folder.
        identity: everything that the contents depend on; a run of another identity is not resumed.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.folder = path.with_name(f"{path.name}.done")
        self.text = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()

    def resume(self) -> bool:
        """Return whether an unfinished run of this identity can be resumed; otherwise remove its files."""
        marker = self.folder / "identity"
        if self.path.exists() and marker.exists() and marker.read_text() == self.text:
            return True
        self.clear()
        atomic.remove(self.path)
        return False

    @property
    def target(self) -> Path:
        """Folder to pass to zarr."""
        return self.path

    def adopt(self, path: Path) -> None:
        """Link the files of the store at ``path``; later writes replace files, never modify them."""
        shutil.copytree(path, self.path, copy_function=_link)

    def start(self) -> None:
        """Record that the template is written, so that parts can follow."""
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic.sync_all(self.path)
        atomic.write_file(self.folder / "identity", self.text.encode())

    def is_complete(self, part: object) -> bool:
        """Return whether a part is complete."""
        return (self.folder / str(part)).exists()

    def mark_complete(self, part: object, paths: Iterable[str] = ()) -> None:
        """Record that a part is complete, after synchronising its files and folders with the disk.

        Args:
            part: name of the part.
            paths: its files and folders, relative to the unfinished folder.
        """
        for path in paths:
            if (self.path / path).exists():  # zarr writes no chunks of fill values
                atomic.sync_all(self.path / path)
                atomic.sync((self.path / path).parent)
        (self.folder / str(part)).touch()

    def clear(self) -> None:
        """Remove the record."""
        atomic.remove(self.folder)

    def discard(self) -> None:
        """Remove the record and the unfinished folder."""
        atomic.remove(self.path)
        self.clear()

    def sweep(self) -> None:
        """Remove the temporary files of interrupted writes."""
        for temporary in self.path.rglob("*.partial"):
            atomic.remove(temporary)


def _link(source: str, target: str) -> None:
    """Link a file, or copy it if the file system does not support links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
