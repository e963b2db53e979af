"""Where outputs lie: a folder, in which they appear by a rename, or a bucket, in which a marker that is written last says that they are whole."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ...datasets import atomic
from ...datasets.adapters.remote import TRIES, connect

LATEST = "latest"
WORK = ".making"
Manifest = dict[str, Any]
T = TypeVar("T")
Ours = Callable[[], bool]


class Lost(Exception):
    """The claim to the cycle was lost before its output was published."""


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
            OSError: it could not be written.
        """

    def whole(self, name: str, expected: str | None = None) -> str | None:
        """Return the checksum of an output that is there and whole, and the expected one where one is; else None."""

    def manifests(self) -> Iterator[tuple[str, Manifest]]:
        """Yield each output's name and what its manifest says."""

    def point(self, name: str) -> None:
        """Let the pointer ``latest`` name an output."""

    def latest(self) -> str | None:
        """Return the name that ``latest`` holds."""

    def fetch(self, name: str, folder: Path) -> Path:
        """Return an output, or what lies beside one, as a path; what is far is brought into ``folder``."""

    def put(self, name: str, path: Path) -> None:
        """Put a file beside an output."""

    def beside(self, name: str) -> list[str]:
        """Return the names of what lies beside an output: pictures, scores and report."""

    def remove(self, name: str) -> None:
        """Remove an output, its manifest and what lies beside it."""


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
        output.parent.mkdir(parents=True, exist_ok=True)
        for path in [made, *made.rglob("*")]:  # all on the disk before the name is, should the power fail
            _settle(path)
        if not ours():
            raise Lost
        write(output.with_name(f"{output.name}.json"), json.dumps(manifest, indent=1))
        for other, path in beside.items():
            os.replace(path, output.parent / other)
        if output.exists():  # and not whole, or it would not have been made: keep it, out of the way
            aside = _aside(output)
            atomic.remove(aside)
            os.rename(output, aside)
        os.rename(made, output)
        _settle(output.parent)

    def whole(self, name: str, expected: str | None = None) -> str | None:
        """See ``Place``."""
        output = self._root / name
        try:
            said = str(json.loads(output.with_name(f"{output.name}.json").read_text())["checksum"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return said if output.exists() and expected in (None, said) and checksum(output) == said else None

    def manifests(self) -> Iterator[tuple[str, Manifest]]:
        """See ``Place``."""
        for path in sorted(self._root.rglob("*.json")) if self._root.is_dir() else ():
            if any(path.name.endswith(f"{suffix}.json") for suffix in (".zarr", ".nc")):
                try:
                    found = json.loads(path.read_text())
                except (OSError, ValueError):
                    continue
                if isinstance(found, dict):
                    yield path.relative_to(self._root).as_posix().removesuffix(".json"), found

    def point(self, name: str) -> None:
        """See ``Place``; a symbolic link."""
        if self.latest() != name:
            temporary = self._root / f".{LATEST}"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(name)
            os.replace(temporary, self._root / LATEST)

    def latest(self) -> str | None:
        """See ``Place``."""
        link = self._root / LATEST
        return os.readlink(link) if link.is_symlink() else None

    def fetch(self, name: str, folder: Path) -> Path:
        """See ``Place``."""
        return self._root / name

    def put(self, name: str, path: Path) -> None:
        """See ``Place``."""
        target = self._root / name
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.write_bytes(path.read_bytes())
        os.replace(temporary, target)

    def beside(self, name: str) -> list[str]:
        """See ``Place``."""
        output = self._root / name
        found = sorted(p for p in output.parent.glob("*") if is_beside(p.name, output.name))
        return [p.relative_to(self._root).as_posix() for p in found]

    def remove(self, name: str) -> None:
        """See ``Place``."""
        output = self._root / name
        for path in (*(self._root / other for other in self.beside(name)), output, output.with_name(f"{output.name}.json"), _aside(output)):
            atomic.remove(path)


class Bucket:
    """Outputs in an object store; an output is there once its manifest is.

    Args:
        root: URL, as in ``s3://bucket/forecasts``.
        near: folder of this machine, for what is not uploaded yet.
    """

    def __init__(self, root: str, near: Path) -> None:
        self.root, self._store = root, connect(root)
        self.work = near / WORK / hashlib.sha256(root.encode()).hexdigest()[:8]

    def publish(self, name: str, made: Path, beside: dict[str, Path], manifest: Manifest, ours: Ours) -> None:
        """See ``Place``; the manifest comes last, and readers wait for it."""
        if not ours():
            raise Lost
        parent = name.rpartition("/")[0]
        self._drop([f"{name}.json"])
        files = {name: made} if made.is_file() else {f"{name}/{p.relative_to(made).as_posix()}": p for p in sorted(made.rglob("*")) if p.is_file()}
        self._drop([key for key in self._keys(f"{name}/") if key not in files])
        for key, path in (files | {f"{parent}/{other}" if parent else other: path for other, path in beside.items()}).items():
            self.put(key, path)
        size = sum(path.stat().st_size for path in files.values())
        if not ours():  # an upload may take long
            raise Lost
        self._put(f"{name}.json", json.dumps(manifest | {"objects": len(files), "bytes": size}, indent=1).encode())

    def whole(self, name: str, expected: str | None = None) -> str | None:
        """See ``Place``; its objects are counted, not read."""
        try:
            said = json.loads(self._get(f"{name}.json"))
            checksum, wanted = str(said["checksum"]), (int(said["objects"]), int(said["bytes"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        sizes = list(self._keys(f"{name}/").values()) or [size for key, size in self._keys(name).items() if key == name]
        return checksum if expected in (None, checksum) and (len(sizes), sum(sizes)) == wanted else None

    def manifests(self) -> Iterator[tuple[str, Manifest]]:
        """See ``Place``."""
        for key in self._keys(""):
            if key.endswith((".zarr.json", ".nc.json")):
                try:
                    found = json.loads(self._get(key))
                except (ValueError, FileNotFoundError):
                    continue
                if isinstance(found, dict):
                    yield key.removesuffix(".json"), found

    def point(self, name: str) -> None:
        """See ``Place``; an object that holds the name."""
        if self.latest() != name:
            self._put(LATEST, name.encode())

    def latest(self) -> str | None:
        """See ``Place``."""
        try:
            return self._get(LATEST).decode()
        except FileNotFoundError:
            return None

    def fetch(self, name: str, folder: Path) -> Path:
        """See ``Place``."""
        inside = self._keys(f"{name}/")
        for key in inside or [name]:
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._get(key))
        return folder / name

    def put(self, name: str, path: Path) -> None:
        """See ``Place``."""
        self._put(name, path.read_bytes())

    def beside(self, name: str) -> list[str]:
        """See ``Place``."""
        parent, _, last = name.rpartition("/")
        found = self._keys(f"{parent}/" if parent else "", deep=False)
        return sorted(key for key in found if is_beside(key.rpartition("/")[2], last))

    def remove(self, name: str) -> None:
        """See ``Place``; the marker goes first."""
        self._drop([f"{name}.json"])
        self._drop([*self._keys(f"{name}/"), *(key for key in self._keys(name) if key == name), *self.beside(name)])

    def _keys(self, prefix: str, deep: bool = True) -> dict[str, int]:
        """Return the objects under a prefix, and their sizes."""
        # The store knows whole names between slashes only.
        folder = prefix.rpartition("/")[0]

        def listed() -> dict[str, int]:
            if deep:
                found = [entry for page in self._store.list(folder or None) for entry in page]
            else:
                found = list(self._store.list_with_delimiter(folder or None)["objects"])
            return {entry["path"]: entry["size"] for entry in found if entry["path"].startswith(prefix)}

        return self._tried(listed, f"{prefix} could not be listed")

    def _get(self, key: str) -> bytes:
        return self._tried(lambda: bytes(self._store.get(key).bytes()), f"{key} could not be read")

    def _put(self, key: str, value: bytes) -> None:
        self._tried(lambda: self._store.put(key, value), f"{key} could not be written")

    def _drop(self, keys: list[str]) -> None:
        if keys:
            self._tried(lambda: self._store.delete(keys), f"{keys[0]} could not be removed")

    def _tried(self, work: Callable[[], T], what: str) -> T:
        for attempt in range(TRIES):
            try:
                return work()
            except FileNotFoundError:
                raise
            except Exception as error:  # noqa: BLE001 (of obstore, which has many)
                kind = type(error).__name__.removesuffix("Error")
                if kind in ("PermissionDenied", "Unauthenticated"):
                    raise OSError(f"{self.root}: {what} with these credentials, or without any; check them and the name") from None
                if attempt + 1 == TRIES:
                    raise OSError(f"{self.root}: {what} in {TRIES} tries ({kind.lower()})") from None
            time.sleep(0.1 * 2**attempt)
        raise AssertionError


def _settle(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _aside(output: Path) -> Path:
    """Return where what stood under the name of an output, and was not whole, is kept."""
    return output.with_name(f".{output.name}.replaced")


def is_beside(name: str, output: str) -> bool:
    """Return whether a file is a picture, the scores or the report of an output."""
    stem = output.rpartition(".")[0]
    return name.startswith(f"{stem}.") and name.endswith((".png", ".scores.nc", ".report.html")) and name != output


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of a folder's files."""
    if path.is_file():
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(f"{file.relative_to(path).as_posix()}\0{checksum(file)}\n".encode())
    return total.hexdigest()


def write(path: Path, text: str) -> None:
    """Write a small file whole or not at all, through to the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
