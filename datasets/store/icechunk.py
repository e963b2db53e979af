"""A store kept in an Icechunk repository, where every change is a transaction: https://icechunk.io."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import Store

from ..errors import OutputExistsError
from . import atomic
from .outputs import has_attributes

BRANCH = "fourcaster-writing"


def is_repository(path: str | Path) -> bool:
    """Return whether a folder is an Icechunk repository."""
    return all((Path(path) / name).is_dir() for name in ("refs", "snapshots"))


def repository_store(path: str | Path) -> Store:
    """Return the newest state of an Icechunk repository, as zarr opens it to read.

    Raises:
        ValueError: it contains no complete store.
    """
    repository = _repository(Path(path))
    if _empty(repository):
        raise ValueError("it is an Icechunk repository without a complete store")
    return repository.readonly_session("main").store  # type: ignore[no-any-return]


def _empty(repository: Any) -> bool:
    return len(list(repository.ancestry(branch="main"))) == 1


def _repository(path: Path) -> Any:
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
    """A resumable write to an Icechunk repository: parts are commits on a branch, to which ``main`` is reset
    at the end.

    Has the methods of ``Journal``, which does the same for a folder.

    Args:
        path: repository; created if it does not exist.
        identity: all that the contents depend on.
        overwrite: whether the newest state of an existing one may be replaced; older states stay in its
            history.

    Raises:
        FileExistsError: it exists and may not be replaced.
        ValueError: something else is there, or a package is missing.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], overwrite: bool) -> None:
        if path.exists() and not is_repository(path):
            raise FileExistsError(f"{path} exists and is no Icechunk repository; choose another name")
        self.path = path
        text = json.dumps(identity, sort_keys=True, default=str)
        self.text = hashlib.sha256(text.encode()).hexdigest()
        self._repository = _repository(path)
        if not _empty(self._repository):
            if not overwrite:
                raise OutputExistsError(
                    f"{path} exists; overwrite it to replace its newest state, or choose another name"
                )
            newest = zarr.open_group(self._repository.readonly_session("main").store, mode="r")
            if not has_attributes(newest.attrs, "store"):
                raise FileExistsError(
                    f"{path} is an Icechunk repository of other data, which overwriting does not replace; "
                    "choose another name"
                )
        self._session: Any = None
        self._done: set[str] = set()

    @property
    def target(self) -> Store:
        """Store that zarr writes to."""
        if self._session is None:
            self._session = self._repository.writable_session(BRANCH)
        return self._session.store  # type: ignore[no-any-return]

    def begun(self) -> bool:
        """Return whether an interrupted run of this identity can be resumed; otherwise create the branch."""
        if BRANCH in self._repository.list_branches():
            for commit in self._repository.ancestry(branch=BRANCH):
                self._done.add(str(commit.metadata.get("part")))
                if "identity" in commit.metadata:
                    if commit.metadata["identity"] == self.text:
                        return True
                    break
        self.clear()
        self._repository.create_branch(BRANCH, self._repository.lookup_branch("main"))
        return False

    def adopt(self, path: Path) -> None:
        """Do nothing: the branch starts from ``main``."""

    def begin(self) -> None:
        """Record that the template is written and times may follow."""
        self._commit("begin", {"identity": self.text})

    def done(self, part: object) -> bool:
        """Return whether a part is complete."""
        return str(part) in self._done

    def mark(self, part: object, paths: Iterable[str] = ()) -> None:
        """Record that a part is complete; its ``paths`` are in the commit."""
        self._done.add(str(part))
        if self._session is not None and self._session.has_uncommitted_changes:
            self._commit(f"part {part}", {"part": str(part)})

    def _commit(self, message: str, metadata: dict[str, str]) -> None:
        assert self._session is not None
        self._session.commit(message, metadata)
        self._session = None

    def clear(self) -> None:
        """Delete the branch."""
        self._session, self._done = None, set()
        if BRANCH in self._repository.list_branches():
            self._repository.delete_branch(BRANCH)

    def discard(self) -> None:
        """Delete the branch, and the repository if nothing else is in it."""
        self.clear()
        if _empty(self._repository):
            atomic.remove(self.path)

    def finish(self) -> None:
        """Point ``main`` to the new state."""
        self._repository.reset_branch("main", self._repository.lookup_branch(BRANCH))
        self.clear()
