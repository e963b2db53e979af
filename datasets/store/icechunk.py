"""Stores in an Icechunk repository, where every change is a transaction: https://icechunk.io."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zarr
from zarr.abc.store import Store

from ..errors import OutputExistsError
from . import atomic
from .outputs import has_attributes

if TYPE_CHECKING:
    from icechunk import Repository, Session

BRANCH = "fourcaster-writing"


def is_repository(path: str | Path) -> bool:
    """Return whether a folder is an Icechunk repository."""
    return all((Path(path) / name).is_dir() for name in ("refs", "snapshots"))


def repository_store(path: str | Path) -> Store:
    """Return the newest snapshot of an Icechunk repository as a read-only zarr store.

    Raises:
        ValueError: it contains no complete store.
    """
    repository = _open_repository(Path(path))
    if _is_empty(repository):
        raise ValueError("it is an Icechunk repository without a complete store")
    store: Store = repository.readonly_session("main").store
    return store


def _is_empty(repository: "Repository") -> bool:
    return len(list(repository.ancestry(branch="main"))) == 1


def _open_repository(path: Path) -> "Repository":
    os.environ.setdefault("ICECHUNK_LOG", "error")
    try:
        import icechunk
    except ImportError as error:
        raise ValueError(
            f"{path} is an Icechunk repository, which requires another package: "
            "pip install 'fourcaster[icechunk]'"
        ) from error
    storage = icechunk.local_filesystem_storage(str(path))
    return icechunk.Repository.open(storage) if is_repository(path) else icechunk.Repository.create(storage)


class Transaction:
    """A resumable write to an Icechunk repository.

    Parts are commits on a branch, to which ``main`` is reset at the end. The methods are those of
    ``Journal``, which does the same for a folder.

    Args:
        path: repository; created if it does not exist.
        identity: everything that the contents depend on; a run of another identity is not resumed.
        overwrite: whether the newest snapshot of an existing repository may be replaced; older ones stay in
            its history.

    Raises:
        FileExistsError: the path exists and may not be replaced.
        ValueError: the package icechunk is not installed.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], overwrite: bool) -> None:
        if path.exists() and not is_repository(path):
            raise FileExistsError(f"{path} exists and is not an Icechunk repository; choose another name")
        self.path = path
        text = json.dumps(identity, sort_keys=True, default=str)
        self.text = hashlib.sha256(text.encode()).hexdigest()
        self._repository = _open_repository(path)
        if not _is_empty(self._repository):
            if not overwrite:
                raise OutputExistsError(
                    f"{path} exists; overwrite it to replace its newest snapshot, or choose another name"
                )
            newest = zarr.open_group(self._repository.readonly_session("main").store, mode="r")
            if not has_attributes(newest.attrs, "store"):
                raise FileExistsError(
                    f"{path} is an Icechunk repository of other data, which overwriting does not replace; "
                    "choose another name"
                )
        self._session: Session | None = None
        self._completed: set[str] = set()

    @property
    def target(self) -> Store:
        """Store to pass to zarr."""
        if self._session is None:
            self._session = self._repository.writable_session(BRANCH)
        store: Store = self._session.store
        return store

    def resume(self) -> bool:
        """Return whether an interrupted run of this identity can be resumed; otherwise create the branch."""
        if BRANCH in self._repository.list_branches():
            for commit in self._repository.ancestry(branch=BRANCH):
                self._completed.add(str(commit.metadata.get("part")))
                if "identity" in commit.metadata:
                    if commit.metadata["identity"] == self.text:
                        return True
                    break
        self.clear()
        self._repository.create_branch(BRANCH, self._repository.lookup_branch("main"))
        return False

    def adopt(self, path: Path) -> None:
        """Do nothing, since the branch starts from ``main``."""

    def start(self) -> None:
        """Record that the template is written, so that parts can follow."""
        self._commit("begin", {"identity": self.text})

    def is_complete(self, part: object) -> bool:
        """Return whether a part is complete."""
        return str(part) in self._completed

    def mark_complete(self, part: object, paths: Iterable[str] = ()) -> None:
        """Record that a part is complete; the commit contains its files, so ``paths`` are ignored."""
        self._completed.add(str(part))
        if self._session is not None and self._session.has_uncommitted_changes:
            self._commit(f"part {part}", {"part": str(part)})

    def _commit(self, message: str, metadata: dict[str, str]) -> None:
        assert self._session is not None
        self._session.commit(message, metadata)
        self._session = None

    def clear(self) -> None:
        """Delete the branch."""
        self._session = None
        self._completed = set()
        if BRANCH in self._repository.list_branches():
            self._repository.delete_branch(BRANCH)

    def discard(self) -> None:
        """Delete the branch, and the repository if it is otherwise empty."""
        self.clear()
        if _is_empty(self._repository):
            atomic.remove(self.path)

    def finish(self) -> None:
        """Reset ``main`` to the new snapshot."""
        self._repository.reset_branch("main", self._repository.lookup_branch(BRANCH))
        self.clear()
