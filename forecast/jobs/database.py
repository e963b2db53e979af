"""A SQLite file that is put aside and rebuilt when it is damaged.

It is safe to use from several threads, processes and machines. Only a file that this program wrote is ever
replaced, see ``ownership``.
"""

import errno
import fcntl
import functools
import os
import re
import secrets
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

from ...datasets.store import atomic
from . import ownership
from .files import FileKind, kind_of, locked, read_start

_LOCK_TIMEOUT = 30.0  # s to wait for another transaction
_ROOM = 2**20  # bytes that a transaction may need on the disk
_FULL = (errno.ENOSPC, errno.EDQUOT)


class DamagedError(OSError):
    """The file is damaged, or gone; opening it again rebuilds it."""


class _Condition(Enum):
    """Condition of the file."""

    SOUND = "sound"
    DAMAGED = "damaged"
    MISSING = "missing"


class Database:
    """A SQLite file with its own tables.

    Args:
        path: file; created where there is none.
        schema: statements that create the tables.
        version: number of the schema.
        shared: whether the file is on a disk that several machines share, where SQLite's write-ahead log
            cannot be used.

    Attributes:
        rebuilt: whether the last ``open`` created the file.
    """

    def __init__(self, path: Path, schema: str, version: int, *, shared: bool = False) -> None:
        self.path = path
        self.shared = shared
        self.rebuilt = False
        self._schema = schema
        self._version = version

    def open(self, rebuild: "Callable[[Database], None]") -> Path | None:
        """Create the file where there is none; put a damaged one aside and return its new path.

        Args:
            rebuild: fills the new file before any other process sees it.

        Raises:
            OSError: another program has locked it, or there is no room.
            ValueError: not a file of this program, or of a newer version.
        """
        if (kind := kind_of(self.path)) not in (None, FileKind.FILE):
            raise ValueError(f"{self.path} is {kind}, not a ledger; let `ledger` name a file of its own")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if kind is None:
                ownership.refuse_foreign_log(self.path)
            elif not self._is_marked() and not ownership.is_recorded(self.path):
                self._refuse()  # so that no lock file is created next to another program's file
            with locked(ownership.lock_path(self.path)) as lock:
                return self._open(rebuild, lock)
        except OSError as error:
            if error.errno in _FULL:
                raise OSError(
                    f"{self.path} cannot be written ({error.strerror}; no room on the disk: free some space)"
                ) from error
            raise

    def _open(self, rebuild: "Callable[[Database], None]", lock: int) -> Path | None:
        condition = self._condition(ownership.recorded_inodes(lock))
        self.rebuilt = condition is not _Condition.SOUND
        if condition is _Condition.SOUND:
            with suppress(OSError):  # needed only once the file is damaged
                ownership.record_inodes(lock, self.path)
            return None
        self._sweep()
        damaged = condition is _Condition.DAMAGED
        path = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}.rebuilt")
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
        # Shared: without a log file, which would stay behind when the file is renamed.
        fresh = Database(path, self._schema, self._version, shared=True)
        try:
            fresh._create(rebuild, required=damaged)
            atomic.sync(fresh.path)
            aside = self._put_aside() if damaged else None
            ownership.record_inodes(lock, fresh.path, self.path)
            self._remove(*ownership.LOG_ENDINGS)  # SQLite would take them for the new file's
            atomic.replace_file(fresh.path, self.path)
            with suppress(OSError):
                ownership.record_inodes(lock, self.path)
        finally:
            fresh._remove("", *ownership.LOG_ENDINGS)
            ownership.lock_path(fresh.path).unlink(missing_ok=True)
        return aside

    def _create(self, rebuild: "Callable[[Database], None]", *, required: bool) -> None:
        """Create the tables and fill them; outputs that cannot be read are ignored unless required."""
        settings = f"PRAGMA user_version = {self._version}; PRAGMA application_id = {ownership.APPLICATION}"
        with self._transaction() as db:
            for statement in f"{self._schema}; {settings}".split(";"):
                db.execute(statement)
        try:
            rebuild(self)
        except OSError:  # of outputs that are out of reach
            if required:
                raise

    def _put_aside(self) -> Path:
        """Keep a damaged file, and its log, under another name."""
        tag = f"corrupt-{uuid.uuid4().hex[:8]}"
        aside = self.path.with_name(f"{self.path.name}.{tag}")
        try:
            os.link(self.path, aside, follow_symlinks=False)
        except OSError:  # a file system without hard links
            shutil.copy2(self.path, aside, follow_symlinks=False)
            atomic.sync(aside)
        log = self.path.with_name(f"{self.path.name}-wal")
        if kind_of(log) is FileKind.FILE and log.stat().st_size:
            os.rename(log, self.path.with_name(f"{log.name}.{tag}"))
        return aside

    def _remove(self, *endings: str) -> None:
        for ending in endings:
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove the files of a rebuild that was killed."""
        unfinished = re.compile(
            r"\.?" + re.escape(f".{self.path.name}.") + r"[0-9a-f]{16}\.rebuilt(-wal|-shm|-journal|\.lock)?"
        )
        for path in self.path.parent.iterdir():
            if unfinished.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        # Never creates the file: an empty one in place of one that was removed would lack our tables.
        db = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw", timeout=_LOCK_TIMEOUT, isolation_level=None, uri=True
        )
        db.row_factory = sqlite3.Row
        db.text_factory = _decode
        db.execute(f"PRAGMA journal_mode={'DELETE' if self.shared else 'WAL'}")
        db.execute("PRAGMA synchronous=FULL")
        return db

    def _is_marked(self) -> bool:
        return ownership.is_marked(read_start(self.path, ownership.HEAD_BYTES), self._schema)

    def _condition(self, recorded: set[int]) -> _Condition:
        """Return the condition of the file; raise ``ValueError`` where it is not ours.

        Args:
            recorded: inodes of our files.
        """
        kind = kind_of(self.path)
        if kind is None:
            return _Condition.MISSING
        if kind is not FileKind.FILE:
            raise ValueError(f"{self.path} is {kind}, not a ledger; let `ledger` name a file of its own")
        head = read_start(self.path, ownership.HEAD_BYTES)
        if ownership.is_marked(head, self._schema):
            return self._check(head)
        is_ours = self.path.stat().st_ino in recorded
        if not is_ours or ownership.is_sound_database(self.path, head):  # overwritten by another program's
            self._refuse()
        return _Condition.DAMAGED if head else _Condition.MISSING

    def _refuse(self) -> None:
        raise ValueError(
            f"{self.path} is not a ledger of fourcaster, so it is left as it is; let `ledger` name another "
            "file, or move this one away if it was a ledger: it is rebuilt from the outputs"
        )

    def _check(self, head: bytes) -> _Condition:
        """Return whether a file of ours is sound; raise ``ValueError`` where a newer version wrote it."""
        try:
            db = self._connect()
            try:
                if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                    return _Condition.DAMAGED
                version = int(db.execute("SELECT * FROM pragma_user_version").fetchone()[0])
                if version > self._version:
                    raise ValueError(
                        f"{self.path} has version {version}, but this version of fourcaster reads "
                        f"{self._version}; use a newer one"
                    )
                columns = ownership.columns_of(db, self._schema)
                if version != self._version or columns != _expected_columns(self._schema):
                    return _Condition.DAMAGED
                if not ownership.has_application_number(head):  # written before there was one
                    with suppress(sqlite3.DatabaseError):
                        db.execute(f"PRAGMA application_id = {ownership.APPLICATION}")
            finally:
                db.close()
        except sqlite3.DatabaseError as error:
            if not ownership.is_damage(error):
                raise OSError(f"{self.path} cannot be opened ({self._reason(error)})") from error
            return _Condition.DAMAGED
        return _Condition.SOUND

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Provide a connection within a transaction, while no process replaces the file.

        Raises:
            DamagedError: the file is damaged or gone.
            OSError: the file cannot be written.
        """
        with locked(ownership.lock_path(self.path), fcntl.LOCK_SH), self._transaction() as db:
            yield db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Provide a connection within a transaction that locks the database before anything is read."""
        try:
            db = self._connect()
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                if db.in_transaction:
                    db.execute("COMMIT")
            finally:
                db.close()
        except sqlite3.DatabaseError as error:
            if ownership.is_damage(error):
                raise DamagedError(
                    f"{self.path} is damaged ({error}); "
                    "the next start puts it aside and rebuilds it from the outputs"
                ) from error
            if kind_of(self.path) is None:
                raise DamagedError(
                    f"{self.path} is gone; the next start rebuilds it from the outputs"
                ) from error
            raise OSError(
                f"{self.path} cannot be written ({self._reason(error)}); "
                "nothing is lost: the same command resumes from here"
            ) from error

    def _reason(self, error: sqlite3.DatabaseError) -> str:
        """Return why an operation failed, and what to do."""
        if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return f"{error}; another program has locked it"
        full = shutil.disk_usage(self.path.parent).free < _ROOM
        return f"{error}; no room on the disk: free some space" if full else str(error)


def _decode(data: bytes) -> str:
    return data.decode(errors="replace")  # one damaged text must not make the table unreadable


@functools.cache
def _expected_columns(schema: str) -> list[tuple[object, ...]]:
    """Return the columns of a new file with this schema."""
    db = sqlite3.connect(":memory:")
    try:
        db.executescript(schema)
        return ownership.columns_of(db, schema)
    finally:
        db.close()
