"""Stores of published outputs: their common interface, and folders, in which outputs appear by a rename."""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from ...datasets.store import atomic
from .files import FileKind, kind_of
from .manifests import (
    Manifest,
    checksum,
    is_attachment,
    is_output_name,
    manifest_path,
    read_manifest,
    read_manifest_file,
    replaced_path,
)

LATEST = "latest"
"""Name of the link or object that names the latest output."""
WORK_FOLDER = ".making"
"""Name of the folder of unfinished outputs."""
LeaseCheck = Callable[[], bool]
"""Function that returns whether the claim to a cycle still holds."""


class LeaseLostError(Exception):
    """The claim to the cycle was lost before its output was published."""


class ForeignFileError(OSError):
    """A file that was not published from here is in the way; it is left as it is."""


class OutputStore(Protocol):
    """Outputs of one job, by names relative to ``root``.

    Attributes:
        root: folder or URL.
        work: local folder in which attempts have their own folders.
    """

    root: str
    work: Path

    def publish(
        self,
        name: str,
        output: Path,
        manifest: Manifest,
        *,
        attachments: Mapping[str, Path],
        lease_held: LeaseCheck,
    ) -> None:
        """Move a checked output and its attachments to their final names.

        Args:
            name: name to publish under.
            output: the new output.
            manifest: its manifest.
            attachments: files to publish next to it, by name.
            lease_held: returns whether the output may still be published.

        Raises:
            LeaseLostError: the output may no longer be published.
            ForeignFileError: another file has the name.
            OSError: the output could not be written.
        """

    def verify_checksum(self, name: str, expected: str | None = None) -> str | None:
        """Return the checksum of an output if it is complete and unchanged, else None.

        Args:
            name: name of the output.
            expected: checksum that it must have; by default the one in its manifest.
        """

    def manifests(self) -> Iterator[tuple[str, Manifest]]:
        """Yield the name and the manifest of each output."""

    def record_hook_ended(self, name: str) -> None:
        """Record in the manifest of an output that the command ``on_success`` has run."""

    def set_latest(self, name: str) -> None:
        """Point ``latest`` to an output; raises ``ForeignFileError`` where another file has that name."""

    def latest(self) -> str | None:
        """Return the name that ``latest`` points to."""

    def fetch(self, name: str, folder: Path) -> Path:
        """Return the path of an output or attachment; a remote one is downloaded to ``folder``."""

    def attach(self, name: str, path: Path) -> None:
        """Publish a file next to an output."""

    def attachments(self, name: str) -> list[str]:
        """Return the names of the attachments of an output."""

    def remove(self, name: str, checksum: str | None) -> None:
        """Remove an output, its manifest and the attachments published with it.

        Args:
            name: name of the output.
            checksum: checksum of what was published, from the ledger.

        Raises:
            ForeignFileError: another file has the name, or the output was changed since.
        """


class LocalStore:
    """Outputs in a folder of a local file system.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self._root = root
        self.work = root / WORK_FOLDER  # on the same file system, so that a rename suffices

    def publish(
        self,
        name: str,
        output: Path,
        manifest: Manifest,
        *,
        attachments: Mapping[str, Path],
        lease_held: LeaseCheck,
    ) -> None:
        """See ``OutputStore``; the manifest is written first, so that no output is ever without one."""
        target = self._root / name
        new_folders = [folder for folder in target.parents if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        for path in [output, *output.rglob("*"), *attachments.values()]:
            atomic.sync(path)  # a power failure must not leave a name without content
        if not lease_held():
            raise LeaseLostError
        self._refuse_foreign(target, manifest, list(attachments))
        atomic.write_file(manifest_path(target), manifest.with_attachments(list(attachments)).to_bytes())
        for attachment, path in attachments.items():
            atomic.replace_file(path, target.parent / attachment, durable=False)
        atomic.swap(output, target, replaced_path(target))  # an earlier output is damaged; it is kept
        for folder in new_folders:
            atomic.sync(folder.parent)

    def _refuse_foreign(self, target: Path, manifest: Manifest, attachments: list[str]) -> None:
        """Raise ``ForeignFileError`` where a file other than an output of this cycle has one of the names."""
        earlier = read_manifest(target)
        same_cycle = earlier is not None and earlier.cycle == manifest.cycle
        for path in (target, manifest_path(target), *(target.parent / name for name in attachments)):
            kind = kind_of(path)
            expected = (FileKind.FOLDER, FileKind.FILE) if path == target else (FileKind.FILE,)
            if kind is not None and not (same_cycle and kind in expected):
                raise ForeignFileError(
                    f"{path} is in the way, {kind} that no job published for this cycle; move it away"
                )

    def verify_checksum(self, name: str, expected: str | None = None) -> str | None:
        """See ``OutputStore``."""
        output = self._root / name
        manifest = read_manifest(output)
        if manifest is None or kind_of(output) not in (FileKind.FOLDER, FileKind.FILE):
            return None
        if expected not in (None, manifest.checksum) or checksum(output) != manifest.checksum:
            return None
        return manifest.checksum

    def manifests(self) -> Iterator[tuple[str, Manifest]]:
        """See ``OutputStore``."""
        for path in sorted(self._root.rglob("*.json")) if self._root.is_dir() else ():
            if path.name.endswith((".zarr.json", ".nc.json")) and (manifest := read_manifest_file(path)):
                yield path.relative_to(self._root).as_posix().removesuffix(".json"), manifest

    def record_hook_ended(self, name: str) -> None:
        """See ``OutputStore``."""
        output = self._root / name
        if (manifest := read_manifest(output)) and manifest.hook_pending:
            atomic.write_file(manifest_path(output), manifest.with_hook_ended().to_bytes())

    def set_latest(self, name: str) -> None:
        """See ``OutputStore``; a symbolic link."""
        link = self._root / LATEST
        if (kind := kind_of(link)) is not None and self.latest() is None:
            raise ForeignFileError(
                f"{link} is {kind} that no job published, so it does not point to {name}; move it away"
            )
        if self.latest() != name:
            temporary = self._root / f".{LATEST}.{secrets.token_hex(8)}"
            temporary.symlink_to(name)
            try:
                atomic.replace_file(temporary, link)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise

    def latest(self) -> str | None:
        """See ``OutputStore``."""
        link = self._root / LATEST
        name = os.readlink(link) if link.is_symlink() else ""
        return name if is_output_name(name) else None

    def fetch(self, name: str, folder: Path) -> Path:
        """See ``OutputStore``."""
        return self._root / name

    def attach(self, name: str, path: Path) -> None:
        """See ``OutputStore``."""
        target = self._root / name
        if (kind := kind_of(target)) not in (None, FileKind.FILE):
            raise ForeignFileError(f"{target} is in the way, {kind} that no job published; move it away")
        atomic.write_file(target, path.read_bytes())

    def attachments(self, name: str) -> list[str]:
        """See ``OutputStore``."""
        output = self._root / name
        paths = sorted(p for p in output.parent.glob("*") if is_attachment(p.name, output.name))
        return [p.relative_to(self._root).as_posix() for p in paths]

    def remove(self, name: str, checksum: str | None) -> None:
        """See ``OutputStore``; the output disappears at once, and another call completes a killed removal."""
        output = self._root / name
        manifest = read_manifest(output)
        if kind_of(output) is not None:
            if not checksum or self.verify_checksum(name) != checksum:
                raise ForeignFileError(
                    f"{output} is not what was published there, so it is not removed; remove it by hand"
                )
            self.work.mkdir(parents=True, exist_ok=True)
            removed = self.work / f"removed-{secrets.token_hex(8)}"
            os.rename(output, removed)
            atomic.sync(output.parent)
            atomic.remove(removed)
        if manifest is None or (checksum and manifest.checksum != checksum):
            return
        names = [Path(attachment).name for attachment in self.attachments(name)]
        for attachment in manifest.published_attachments(output.name, names):
            if kind_of(path := output.parent / attachment) is FileKind.FILE:
                path.unlink(missing_ok=True)
        atomic.remove(replaced_path(output))
        manifest_path(output).unlink(missing_ok=True)
