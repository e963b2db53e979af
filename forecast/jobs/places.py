"""Where outputs lie, and a folder, in which they appear by a rename."""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from ...datasets.store import atomic
from .files import kind_of
from .manifests import (
    Manifest,
    aside_of,
    checksum,
    is_beside,
    is_manifest,
    is_output,
    is_pending,
    manifest_bytes,
    manifest_of,
    published_beside,
    read_manifest,
    with_command_ended,
)

LATEST = "latest"
WORK = ".making"
Ours = Callable[[], bool]


class Lost(Exception):
    """The claim to the cycle was lost before its output was published."""


class Foreign(OSError):
    """Something that was not published from here is in the way; it is left as it is."""


class Place(Protocol):
    """The outputs of one job, by names relative to what ``root`` says."""

    root: str
    work: Path
    """Folder whose folders outputs are made in."""

    def publish(self, name: str, made: Path, beside: dict[str, Path], manifest: Manifest, ours: Ours) -> None:
        """Put a checked output, and what lies beside it, under its name.

        Args:
            name: the name.
            made: the output.
            beside: pictures, by name.
            manifest: what is said of it.
            ours: asked whether it may still be published.

        Raises:
            Lost: it may not.
            Foreign: something else lies under the name.
            OSError: it could not be written.
        """

    def whole(self, name: str, expected: str | None = None) -> str | None:
        """Return the checksum of an output that is there and whole, and the expected one where one is; else
        None.
        """

    def manifests(self) -> Iterator[tuple[str, Manifest]]:
        """Yield each output's name and what its manifest says."""

    def command_ended(self, name: str) -> None:
        """Enter in the manifest of an output that the command ``on_success`` has run."""

    def point(self, name: str) -> None:
        """Let the pointer ``latest`` name an output; raises ``Foreign`` where something else has that name."""

    def latest(self) -> str | None:
        """Return the name that ``latest`` holds."""

    def fetch(self, name: str, folder: Path) -> Path:
        """Return an output, or what lies beside one, as a path; what is far is brought into ``folder``."""

    def put(self, name: str, path: Path) -> None:
        """Put a file beside an output."""

    def beside(self, name: str) -> list[str]:
        """Return the names of what lies beside an output: pictures, scores and report."""

    def remove(self, name: str, checksum: str | None) -> None:
        """Remove an output, its manifest and what was published beside it.

        Args:
            name: the name.
            checksum: what was published under it, by the ledger.

        Raises:
            Foreign: something else lies under the name, or it was changed since.
        """


class Folder:
    """Outputs in a folder of this machine's file system.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root, self._root = str(root), root
        self.work = root / WORK  # on the same disk, so that a rename is enough

    def publish(self, name: str, made: Path, beside: dict[str, Path], manifest: Manifest, ours: Ours) -> None:
        """See ``Place``; the manifest comes first, so that no output is ever without one."""
        output = self._root / name
        new_folders = [above for above in output.parents if not above.exists()]
        output.parent.mkdir(parents=True, exist_ok=True)
        for path in [
            made,
            *made.rglob("*"),
            *beside.values(),
        ]:  # all on the disk before the name is, should the power fail
            atomic.sync(path)
        if not ours():
            raise Lost
        known = self._refuse_foreign(output, beside, manifest)
        atomic.write_file(manifest_of(output), manifest_bytes(manifest, beside))
        for other, path in beside.items():
            os.replace(path, output.parent / other)
        if known:  # and not whole, or it would not have been made: keep it, out of the way
            aside = aside_of(output)
            atomic.remove(aside)
            os.rename(output, aside)
        os.rename(made, output)
        for folder in (output.parent, *(above.parent for above in new_folders)):
            atomic.sync(folder)

    def _refuse_foreign(self, output: Path, beside: dict[str, Path], manifest: Manifest) -> bool:
        """Return whether an output of this cycle is there; raises ``Foreign`` where something else is in the
        way.
        """
        earlier = read_manifest(manifest_of(output))
        ours = is_manifest(earlier) and earlier["cycle"] == manifest.get("cycle")
        for path in (output, manifest_of(output), *(output.parent / other for other in beside)):
            kind = kind_of(path)
            wanted = ("a folder", "a file") if path == output else ("a file",)
            if kind is not None and not (ours and kind in wanted):
                raise Foreign(
                    f"{path} is in the way, {kind} that no job published for this cycle; move it away"
                )
        return kind_of(output) is not None

    def whole(self, name: str, expected: str | None = None) -> str | None:
        """See ``Place``."""
        output = self._root / name
        found = read_manifest(manifest_of(output))
        said = str(found.get("checksum"))
        if not is_manifest(found) or kind_of(output) not in ("a folder", "a file"):
            return None
        return said if expected in (None, said) and checksum(output) == said else None

    def manifests(self) -> Iterator[tuple[str, Manifest]]:
        """See ``Place``."""
        for path in sorted(self._root.rglob("*.json")) if self._root.is_dir() else ():
            if any(path.name.endswith(f"{suffix}.json") for suffix in (".zarr", ".nc")) and is_manifest(
                found := read_manifest(path)
            ):
                yield path.relative_to(self._root).as_posix().removesuffix(".json"), found

    def command_ended(self, name: str) -> None:
        """See ``Place``."""
        path = manifest_of(self._root / name)
        if is_pending(found := read_manifest(path)):
            atomic.write_file(path, with_command_ended(found))

    def point(self, name: str) -> None:
        """See ``Place``; a symbolic link."""
        link = self._root / LATEST
        if (kind := kind_of(link)) is not None and self.latest() is None:
            raise Foreign(f"{link} is {kind} that no job made, so it does not point to {name}; move it away")
        if self.latest() != name:
            temporary = self._root / f".{LATEST}.{secrets.token_hex(8)}"
            temporary.symlink_to(name)
            try:
                os.replace(temporary, link)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            atomic.sync(self._root)

    def latest(self) -> str | None:
        """See ``Place``."""
        link = self._root / LATEST
        name = os.readlink(link) if link.is_symlink() else ""
        return name if is_output(name) else None

    def fetch(self, name: str, folder: Path) -> Path:
        """See ``Place``."""
        return self._root / name

    def put(self, name: str, path: Path) -> None:
        """See ``Place``."""
        target = self._root / name
        if (kind := kind_of(target)) not in (None, "a file"):
            raise Foreign(f"{target} is in the way, {kind} that no job made; move it away")
        atomic.write_file(target, path.read_bytes())

    def beside(self, name: str) -> list[str]:
        """See ``Place``."""
        output = self._root / name
        found = sorted(p for p in output.parent.glob("*") if is_beside(p.name, output.name))
        return [p.relative_to(self._root).as_posix() for p in found]

    def remove(self, name: str, checksum: str | None) -> None:
        """See ``Place``; the output is out of sight at once, and a kill in the middle leaves what the next
        call removes.
        """
        output = self._root / name
        found = read_manifest(manifest_of(output))
        if kind_of(output) is not None:
            if not checksum or self.whole(name) != checksum:
                raise Foreign(
                    f"{output} is not what was published there, so it is not removed; remove it by hand"
                )
            self.work.mkdir(parents=True, exist_ok=True)
            gone = self.work / f"removed-{secrets.token_hex(8)}"
            os.rename(output, gone)
            atomic.sync(output.parent)
            atomic.remove(gone)
        if not is_manifest(found) or (checksum and found["checksum"] != checksum):
            return
        for other in published_beside(found, output.name, [Path(other).name for other in self.beside(name)]):
            if kind_of(path := output.parent / other) == "a file":
                path.unlink(missing_ok=True)
        atomic.remove(aside_of(output))
        manifest_of(output).unlink(missing_ok=True)
