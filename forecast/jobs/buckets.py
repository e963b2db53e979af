"""Outputs in a bucket, in which a marker that is written last says that an output is whole."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ...datasets.adapters.remote import TRIES, connect
from .manifests import (
    MOST,
    Manifest,
    is_beside,
    is_manifest,
    is_output,
    is_pending,
    manifest_bytes,
    published_beside,
    with_command_ended,
)
from .places import LATEST, WORK, Foreign, Lost, Ours

BEGUN = ".making"
"""Ending of the object that says whose unfinished upload lies under a name of a bucket."""
T = TypeVar("T")


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
        files = (
            {name: made}
            if made.is_file()
            else {
                f"{name}/{p.relative_to(made).as_posix()}": p for p in sorted(made.rglob("*")) if p.is_file()
            }
        )
        others = {f"{parent}/{other}" if parent else other: path for other, path in beside.items()}
        there = self._refuse_foreign(name, others, manifest)
        self._put(
            f"{name}{BEGUN}", manifest_bytes(manifest, beside)
        )  # whose what follows is, should it not come to an end
        self._drop([f"{name}.json"])
        self._drop([key for key in there if key not in files])
        for key, path in (files | others).items():
            self.put(key, path)
        size = sum(path.stat().st_size for path in files.values())
        if not ours():  # an upload may take long
            raise Lost
        self._put(f"{name}.json", manifest_bytes(manifest | {"objects": len(files), "bytes": size}, beside))
        self._drop([f"{name}{BEGUN}"])

    def _refuse_foreign(self, name: str, others: dict[str, Path], manifest: Manifest) -> list[str]:
        """Return the objects of an output of this cycle; raises ``Foreign`` where something else is in the
        way.
        """
        earlier = [self._manifest(f"{name}{ending}") for ending in (".json", BEGUN)]
        near = self._keys(name.rpartition("/")[0] + "/" if "/" in name else "", deep=False)
        there = [*self._keys(f"{name}/"), *(key for key in near if key == name)]
        taken = [*there, *(key for key in near if key in others or key == f"{name}.json")]
        if taken and not any(
            is_manifest(found) and found["cycle"] == manifest.get("cycle") for found in earlier
        ):
            raise Foreign(
                f"{self.root}: {taken[0]} is in the way, which no job published for this cycle; move it away"
            )
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
        sizes = list(self._keys(f"{name}/").values()) or [
            size for key, size in self._keys(name).items() if key == name
        ]
        return checksum if expected in (None, checksum) and (len(sizes), sum(sizes)) == wanted else None

    def manifests(self) -> Iterator[tuple[str, Manifest]]:
        """See ``Place``."""
        for key in self._keys(""):
            if key.endswith((".zarr.json", ".nc.json")) and is_manifest(found := self._manifest(key)):
                yield key.removesuffix(".json"), found

    def command_ended(self, name: str) -> None:
        """See ``Place``."""
        if is_pending(found := self._manifest(f"{name}.json")):
            self._put(f"{name}.json", with_command_ended(found))

    def point(self, name: str) -> None:
        """See ``Place``; an object that holds the name."""
        before = self._pointer()
        if before is not None and not is_output(before):
            raise Foreign(
                f"{self.root}/{LATEST} is an object that no job made, so it does not point to {name}; move it away"
            )
        if before != name:
            self._put(LATEST, name.encode())

    def latest(self) -> str | None:
        """See ``Place``."""
        before = self._pointer()
        return before if before is not None and is_output(before) else None

    def _pointer(self) -> str | None:
        try:
            return self._get(LATEST)[:MOST].decode(errors="replace")
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
                raise Foreign(
                    f"{self.root}/{name} is not what was published there, so it is not removed; remove it by hand"
                )
            self._put(
                begun, json.dumps(found | {"removing": True}, indent=1).encode()
            )  # what a kill leaves is ours to remove
        self._drop([manifest])
        parent, _, last = name.rpartition("/")
        beside = published_beside(found, last, [key.rpartition("/")[2] for key in self.beside(name)])
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
                    raise OSError(
                        f"{self.root}: {what} with these credentials, or without any; check them and the name"
                    ) from None
                if attempt + 1 == TRIES:
                    raise OSError(f"{self.root}: {what} in {TRIES} tries ({kind.lower()})") from None
            time.sleep(0.1 * 2**attempt)
        raise AssertionError
