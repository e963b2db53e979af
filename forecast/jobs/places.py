"""Where outputs lie: a folder, in which they appear by a rename, or a bucket, in which a marker that is written last says that they are whole."""

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ...datasets import atomic
from ...datasets.adapters.remote import TRIES, connect
from .files import kind_of, open_file, read_small

LATEST = "latest"
WORK = ".making"
BEGUN = ".making"
"""Ending of the object that says whose unfinished upload lies under a name of a bucket."""
Manifest = dict[str, Any]
T = TypeVar("T")
Ours = Callable[[], bool]


_MOST = 2**20  # bytes of a manifest, or of what ``latest`` holds


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
        """Return the checksum of an output that is there and whole, and the expected one where one is; else None."""

    def manifests(self) -> Iterator[tuple[str, Manifest]]:
        """Yield each output's name and what its manifest says."""

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
        for path in [made, *made.rglob("*"), *beside.values()]:  # all on the disk before the name is, should the power fail
            atomic.sync(path)
        if not ours():
            raise Lost
        known = self._refuse_foreign(output, beside, manifest)
        atomic.write_file(_manifest_of(output), _manifest(manifest, beside))
        for other, path in beside.items():
            os.replace(path, output.parent / other)
        if known:  # and not whole, or it would not have been made: keep it, out of the way
            aside = _aside(output)
            atomic.remove(aside)
            os.rename(output, aside)
        os.rename(made, output)
        for folder in (output.parent, *(above.parent for above in new_folders)):
            atomic.sync(folder)

    def _refuse_foreign(self, output: Path, beside: dict[str, Path], manifest: Manifest) -> bool:
        """Return whether an output of this cycle is there; raises ``Foreign`` where something else is in the way."""
        earlier = _read(_manifest_of(output))
        ours = is_manifest(earlier) and earlier["cycle"] == manifest.get("cycle")
        for path in (output, _manifest_of(output), *(output.parent / other for other in beside)):
            kind = kind_of(path)
            wanted = ("a folder", "a file") if path == output else ("a file",)
            if kind is not None and not (ours and kind in wanted):
                raise Foreign(f"{path} is in the way, {kind} that no job published for this cycle; move it away")
        return kind_of(output) is not None

    def whole(self, name: str, expected: str | None = None) -> str | None:
        """See ``Place``."""
        output = self._root / name
        found = _read(_manifest_of(output))
        said = str(found.get("checksum"))
        if not is_manifest(found) or kind_of(output) not in ("a folder", "a file"):
            return None
        return said if expected in (None, said) and checksum(output) == said else None

    def manifests(self) -> Iterator[tuple[str, Manifest]]:
        """See ``Place``."""
        for path in sorted(self._root.rglob("*.json")) if self._root.is_dir() else ():
            if any(path.name.endswith(f"{suffix}.json") for suffix in (".zarr", ".nc")) and is_manifest(found := _read(path)):
                yield path.relative_to(self._root).as_posix().removesuffix(".json"), found

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
        return name if _is_output(name) else None

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
        """See ``Place``; the output is out of sight at once, and a kill in the middle leaves what the next call removes."""
        output = self._root / name
        found = _read(_manifest_of(output))
        if kind_of(output) is not None:
            if not checksum or self.whole(name) != checksum:
                raise Foreign(f"{output} is not what was published there, so it is not removed; remove it by hand")
            self.work.mkdir(parents=True, exist_ok=True)
            gone = self.work / f"removed-{secrets.token_hex(8)}"
            os.rename(output, gone)
            atomic.sync(output.parent)
            atomic.remove(gone)
        if not is_manifest(found) or (checksum and found["checksum"] != checksum):
            return
        for other in _published_beside(found, output.name, [Path(other).name for other in self.beside(name)]):
            if kind_of(path := output.parent / other) == "a file":
                path.unlink(missing_ok=True)
        atomic.remove(_aside(output))
        _manifest_of(output).unlink(missing_ok=True)


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
        files = {name: made} if made.is_file() else {f"{name}/{p.relative_to(made).as_posix()}": p for p in sorted(made.rglob("*")) if p.is_file()}
        others = {f"{parent}/{other}" if parent else other: path for other, path in beside.items()}
        there = self._refuse_foreign(name, others, manifest)
        self._put(f"{name}{BEGUN}", _manifest(manifest, beside))  # whose what follows is, should it not come to an end
        self._drop([f"{name}.json"])
        self._drop([key for key in there if key not in files])
        for key, path in (files | others).items():
            self.put(key, path)
        size = sum(path.stat().st_size for path in files.values())
        if not ours():  # an upload may take long
            raise Lost
        self._put(f"{name}.json", _manifest(manifest | {"objects": len(files), "bytes": size}, beside))
        self._drop([f"{name}{BEGUN}"])

    def _refuse_foreign(self, name: str, others: dict[str, Path], manifest: Manifest) -> list[str]:
        """Return the objects of an output of this cycle; raises ``Foreign`` where something else is in the way."""
        earlier = [self._manifest(f"{name}{ending}") for ending in (".json", BEGUN)]
        near = self._keys(name.rpartition("/")[0] + "/" if "/" in name else "", deep=False)
        there = [*self._keys(f"{name}/"), *(key for key in near if key == name)]
        taken = [*there, *(key for key in near if key in others or key == f"{name}.json")]
        if taken and not any(is_manifest(found) and found["cycle"] == manifest.get("cycle") for found in earlier):
            raise Foreign(f"{self.root}: {taken[0]} is in the way, which no job published for this cycle; move it away")
        return there

    def _manifest(self, key: str) -> Manifest:
        try:
            found = json.loads(self._get(key))
        except (FileNotFoundError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def whole(self, name: str, expected: str | None = None) -> str | None:
        """See ``Place``; its objects are counted, not read."""
        said = self._manifest(f"{name}.json")
        try:
            checksum, wanted = str(said["checksum"]), (int(said["objects"]), int(said["bytes"]))
        except (ValueError, KeyError, TypeError, OverflowError):
            return None
        if not is_manifest(said):
            return None
        sizes = list(self._keys(f"{name}/").values()) or [size for key, size in self._keys(name).items() if key == name]
        return checksum if expected in (None, checksum) and (len(sizes), sum(sizes)) == wanted else None

    def manifests(self) -> Iterator[tuple[str, Manifest]]:
        """See ``Place``."""
        for key in self._keys(""):
            if key.endswith((".zarr.json", ".nc.json")) and is_manifest(found := self._manifest(key)):
                yield key.removesuffix(".json"), found

    def point(self, name: str) -> None:
        """See ``Place``; an object that holds the name."""
        before = self._pointer()
        if before is not None and not _is_output(before):
            raise Foreign(f"{self.root}/{LATEST} is an object that no job made, so it does not point to {name}; move it away")
        if before != name:
            self._put(LATEST, name.encode())

    def latest(self) -> str | None:
        """See ``Place``."""
        before = self._pointer()
        return before if before is not None and _is_output(before) else None

    def _pointer(self) -> str | None:
        try:
            return self._get(LATEST)[:_MOST].decode(errors="replace")
        except FileNotFoundError:
            return None

    def fetch(self, name: str, folder: Path) -> Path:
        """See ``Place``."""
        inside = self._keys(f"{name}/")
        for key in inside or [name]:
            if ".." in key.split("/"):
                raise Foreign(f"{self.root}: {key} leads out of its folder")
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

    def remove(self, name: str, checksum: str | None) -> None:
        """See ``Place``; the manifest goes first, so that no reader takes what is left for whole."""
        manifest, begun = f"{name}.json", f"{name}{BEGUN}"
        there = [*self._keys(f"{name}/"), *(key for key in self._keys(name) if key == name)]
        found = self._manifest(begun)
        if found.get("removing") is not True or found.get("checksum") != checksum:
            found = self._manifest(manifest)
            if not there and not found:
                return
            if not checksum or self.whole(name) != checksum:
                raise Foreign(f"{self.root}/{name} is not what was published there, so it is not removed; remove it by hand")
            self._put(begun, json.dumps(found | {"removing": True}, indent=1).encode())  # what a kill leaves is ours to remove
        self._drop([manifest])
        parent, _, last = name.rpartition("/")
        beside = _published_beside(found, last, [key.rpartition("/")[2] for key in self.beside(name)])
        self._drop([*there, *(f"{parent}/{other}" if parent else other for other in beside)])
        self._drop([begun])

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


def is_manifest(found: Manifest) -> bool:
    """Return whether a manifest is one that was published with an output."""
    return (
        isinstance(found.get("job"), str)
        and isinstance(found.get("cycle"), str)
        and re.fullmatch(r"[0-9a-f]{64}", str(found.get("checksum"))) is not None
    )


def _manifest_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.json")


def _manifest(manifest: Manifest, beside: dict[str, Path]) -> bytes:
    return json.dumps(manifest | {"beside": sorted(beside)}, indent=1).encode()


def _read(path: Path) -> Manifest:
    """Return what a manifest says; nothing where it is none."""
    try:
        found = json.loads(read_small(path, _MOST))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_output(name: str) -> bool:
    """Return whether ``latest`` may hold a name, which is relative and that of an output."""
    return name.endswith((".zarr", ".nc")) and not name.startswith("/") and ".." not in name.split("/") and len(name) < 4096


def _published_beside(manifest: Manifest, output: str, near: list[str]) -> list[str]:
    """Return the names of pictures, scores and reports that were published with an output; earlier versions did not list their pictures."""
    stem, listed = output.rpartition(".")[0], manifest.get("beside")
    scores = [f"{stem}.scores.nc", f"{stem}.report.html"]
    return [name for name in near if name in scores or (not isinstance(listed, list) or name in listed)]


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
        with os.fdopen(open_file(path, os.O_RDONLY), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_symlink() or p.is_file()):
        if file.is_symlink():  # none of ours is one
            total.update(f"{file.relative_to(path).as_posix()}\0-> {os.readlink(file)}\n".encode(errors="surrogateescape"))
            continue
        total.update(f"{file.relative_to(path).as_posix()}\0{checksum(file)}\n".encode())
    return total.hexdigest()
