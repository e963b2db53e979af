"""Outputs in an object store, where the manifest is written last and marks an output as complete."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from ...datasets.adapters.remote import TRIES, connect
from .manifests import LARGEST_MANIFEST, Manifest, is_attachment, is_output_name, parse_object
from .output_store import LATEST, WORK_FOLDER, ForeignFileError, LeaseCheck, LeaseLostError

UNFINISHED = ".making"
"""Ending of the object that identifies an unfinished upload."""
_FIRST_PAUSE = 0.1  # s before the second try
T = TypeVar("T")


class ObjectStore:
    """Outputs in an object store; an output exists once its manifest does.

    Args:
        root: URL, as in ``s3://bucket/forecasts``.
        local: folder on this machine, for outputs that are not uploaded yet.
    """

    def __init__(self, root: str, local: Path) -> None:
        self.root = root
        self._store = connect(root)
        self.work = local / WORK_FOLDER / hashlib.sha256(root.encode()).hexdigest()[:8]

    def publish(
        self,
        name: str,
        output: Path,
        manifest: Manifest,
        *,
        attachments: Mapping[str, Path],
        lease_held: LeaseCheck,
    ) -> None:
        """See ``OutputStore``; readers wait for the manifest, which is written last."""
        if not lease_held():
            raise LeaseLostError
        files = _files_to_upload(name, output)
        others = {_sibling(name, attachment): path for attachment, path in attachments.items()}
        existing = self._refuse_foreign(name, list(others), manifest)
        manifest = manifest.with_attachments(list(attachments))
        self._put(f"{name}{UNFINISHED}", manifest.to_bytes())  # identifies what a killed upload leaves
        self._delete([f"{name}.json"])
        self._delete([key for key in existing if key not in files])
        for key, path in (files | others).items():
            self.attach(key, path)
        size = sum(path.stat().st_size for path in files.values())
        if not lease_held():  # an upload may take long
            raise LeaseLostError
        self._put(f"{name}.json", manifest.updated(objects=len(files), bytes=size).to_bytes())
        self._delete([f"{name}{UNFINISHED}"])

    def _refuse_foreign(self, name: str, others: list[str], manifest: Manifest) -> list[str]:
        """Return the objects of an output of this cycle; raise ``ForeignFileError`` for any other object."""
        earlier = [self._manifest(f"{name}{ending}") for ending in (".json", UNFINISHED)]
        siblings = self._list(name.rpartition("/")[0] + "/" if "/" in name else "", recursive=False)
        existing = [*self._list(f"{name}/"), *(key for key in siblings if key == name)]
        taken = [*existing, *(key for key in siblings if key in others or key == f"{name}.json")]
        if taken and not any(one is not None and one.cycle == manifest.cycle for one in earlier):
            raise ForeignFileError(
                f"{self.root}: {taken[0]} is in the way, which no job published for this cycle; move it away"
            )
        return existing

    def _manifest(self, key: str) -> Manifest | None:
        return Manifest.of(self._object(key))

    def _object(self, key: str) -> dict[str, object]:
        """Return the JSON object under a key; an empty one where there is none."""
        try:
            return parse_object(self._get(key))
        except FileNotFoundError:
            return {}

    def verify_checksum(self, name: str, expected: str | None = None) -> str | None:
        """See ``OutputStore``; objects are counted, not read."""
        manifest = self._manifest(f"{name}.json")
        if manifest is None:
            return None
        try:
            recorded = (int(manifest.values["objects"]), int(manifest.values["bytes"]))
        except (ValueError, KeyError, TypeError, OverflowError):
            return None
        sizes = list(self._list(f"{name}/").values()) or [
            size for key, size in self._list(name).items() if key == name
        ]
        complete = expected in (None, manifest.checksum) and (len(sizes), sum(sizes)) == recorded
        return manifest.checksum if complete else None

    def manifests(self) -> Iterator[tuple[str, Manifest]]:
        """See ``OutputStore``."""
        for key in self._list(""):
            if key.endswith((".zarr.json", ".nc.json")) and (manifest := self._manifest(key)):
                yield key.removesuffix(".json"), manifest

    def record_hook_ended(self, name: str) -> None:
        """See ``OutputStore``."""
        if (manifest := self._manifest(f"{name}.json")) and manifest.hook_pending:
            self._put(f"{name}.json", manifest.with_hook_ended().to_bytes())

    def set_latest(self, name: str) -> None:
        """See ``OutputStore``; an object that contains the name."""
        content = self._read_latest()
        if content is not None and not is_output_name(content):
            raise ForeignFileError(
                f"{self.root}/{LATEST} is an object that no job published, "
                f"so it does not point to {name}; move it away"
            )
        if content != name:
            self._put(LATEST, name.encode())

    def latest(self) -> str | None:
        """See ``OutputStore``."""
        content = self._read_latest()
        return content if content is not None and is_output_name(content) else None

    def _read_latest(self) -> str | None:
        try:
            return self._get(LATEST)[:LARGEST_MANIFEST].decode(errors="replace")
        except FileNotFoundError:
            return None

    def fetch(self, name: str, folder: Path) -> Path:
        """See ``OutputStore``."""
        for key in self._list(f"{name}/") or [name]:
            if ".." in key.split("/"):
                raise ForeignFileError(f"{self.root}: {key} leads out of its folder")
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._get(key))
        return folder / name

    def attach(self, name: str, path: Path) -> None:
        """See ``OutputStore``."""
        self._put(name, path.read_bytes())

    def attachments(self, name: str) -> list[str]:
        """See ``OutputStore``."""
        parent, _, last = name.rpartition("/")
        keys = self._list(f"{parent}/" if parent else "", recursive=False)
        return sorted(key for key in keys if is_attachment(key.rpartition("/")[2], last))

    def remove(self, name: str, checksum: str | None) -> None:
        """See ``OutputStore``; the manifest goes first, so that no reader takes the rest for complete."""
        key = f"{name}.json"
        marker = f"{name}{UNFINISHED}"
        existing = [*self._list(f"{name}/"), *(other for other in self._list(name) if other == name)]
        manifest = self._manifest(marker)
        if manifest is None or not manifest.is_being_removed or manifest.checksum != checksum:
            content = self._object(key)
            if not existing and not content:
                return
            manifest = Manifest.of(content)
            if manifest is None or not checksum or self.verify_checksum(name) != checksum:
                raise ForeignFileError(
                    f"{self.root}/{name} is not what was published there, so it is not removed; "
                    "remove it by hand"
                )
            self._put(marker, manifest.updated(removing=True).to_bytes())  # lets the next call complete it
        self._delete([key])
        names = [other.rpartition("/")[2] for other in self.attachments(name)]
        published = manifest.published_attachments(name.rpartition("/")[2], names)
        self._delete([*existing, *(_sibling(name, attachment) for attachment in published)])
        self._delete([marker])

    def _list(self, prefix: str, *, recursive: bool = True) -> dict[str, int]:
        """Return the objects with a prefix, and their sizes [bytes]."""
        folder = prefix.rpartition("/")[0]  # the store lists by complete parts of names only

        def objects() -> dict[str, int]:
            if recursive:
                entries = [entry for page in self._store.list(folder or None) for entry in page]
            else:
                entries = list(self._store.list_with_delimiter(folder or None)["objects"])
            return {entry["path"]: entry["size"] for entry in entries if entry["path"].startswith(prefix)}

        return self._retry(objects, f"{prefix} could not be listed")

    def _get(self, key: str) -> bytes:
        return self._retry(lambda: bytes(self._store.get(key).bytes()), f"{key} could not be read")

    def _put(self, key: str, value: bytes) -> None:
        self._retry(lambda: self._store.put(key, value), f"{key} could not be written")

    def _delete(self, keys: list[str]) -> None:
        if keys:
            self._retry(lambda: self._store.delete(keys), f"{keys[0]} could not be removed")

    def _retry(self, operation: Callable[[], T], failure: str) -> T:
        """Return the result of an operation, tried several times; raise ``OSError`` where all tries fail."""
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

        for attempt in range(TRIES):
            try:
                return operation()
            except FileNotFoundError:
                raise
            except (PermissionDeniedError, UnauthenticatedError):
                raise OSError(
                    f"{self.root}: {failure} with these credentials, or without any; check them and the name"
                ) from None
            except Exception as error:  # noqa: BLE001  not all errors of obstore and its transport share a base
                kind = type(error).__name__.removesuffix("Error")
                if attempt + 1 == TRIES:
                    raise OSError(f"{self.root}: {failure} in {TRIES} tries ({kind.lower()})") from None
            time.sleep(_FIRST_PAUSE * 2**attempt)
        raise AssertionError


def _files_to_upload(name: str, output: Path) -> dict[str, Path]:
    """Return the files of an output by the keys of their objects."""
    if output.is_file():
        return {name: output}
    files = sorted(path for path in output.rglob("*") if path.is_file())
    return {f"{name}/{path.relative_to(output).as_posix()}": path for path in files}


def _sibling(name: str, other: str) -> str:
    """Return the key of an object next to an output."""
    parent = name.rpartition("/")[0]
    return f"{parent}/{other}" if parent else other
