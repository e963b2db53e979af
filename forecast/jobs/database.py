"""A SQLite file that is put aside and rebuilt when it is damaged, safe to use from several threads, processes and machines."""

import fcntl
import os
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE = 30.0  # seconds to wait for another's transaction
_BESIDE = ("-wal", "-shm", "-journal")  # files that SQLite keeps beside its own
_ROOM = 2**20  # bytes that must be free for a transaction to find room


class Database:
    """A SQLite file with tables of its own.

    Args:
        path: file; made where there is none.
        schema: statements that make its tables.
        version: number of the schema.
        shared: whether the file is on a disk that several machines share, where SQLite's write-ahead log cannot be used.
    """

    def __init__(self, path: Path, schema: str, version: int, shared: bool = False) -> None:
        self.path, self.shared, self._schema, self._newest = path, shared, schema, version

    def open(self, rebuild: "Callable[[Database], None]") -> Path | None:
        """Make the file where there is none; put a damaged one aside and return where it is.

        Args:
            rebuild: called with the new file before anybody else sees it.

        Raises:
            OSError: another program holds it, or there is no room.
            ValueError: a newer version of this package wrote it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if (version := self._version()) == self._newest:
                return None
            # Without a log beside it, which would stay behind when the file is renamed.
            fresh = Database(self.path.with_name(f".{self.path.name}.rebuilt"), self._schema, self._newest, shared=True)
            try:
                fresh._make(rebuild, needed=version is None)
                aside = self.path.with_name(f"{self.path.name}.corrupt-{uuid.uuid4().hex[:8]}") if version is None else None
                if aside is not None:
                    shutil.copy2(self.path, aside)
                self._remove(*_BESIDE)  # or they would be taken for the new one's
                os.replace(fresh.path, self.path)
            finally:
                fresh._remove("", *_BESIDE)
            return aside

    def _make(self, rebuild: "Callable[[Database], None]", needed: bool) -> None:
        """Make the tables and have them filled; what cannot be read is left out unless it is needed."""
        self._remove("", *_BESIDE)
        with self._transaction() as db:
            for statement in f"{self._schema}; PRAGMA user_version = {self._newest}".split(";"):
                db.execute(statement)
        try:
            rebuild(self)
        except OSError:  # of outputs that are out of reach
            if needed:
                raise

    def _remove(self, *tails: str) -> None:
        for tail in tails:
            self.path.with_name(self.path.name + tail).unlink(missing_ok=True)

    @contextmanager
    def _alone(self, how: int = fcntl.LOCK_EX) -> Iterator[None]:
        """Keep others from exchanging the file meanwhile, or all others from using it."""
        with open(self.path.with_name(f".{self.path.name}.lock"), "a") as lock:
            fcntl.flock(lock, how)
            yield

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute(f"PRAGMA journal_mode={'DELETE' if self.shared else 'WAL'}")
        db.execute("PRAGMA synchronous=FULL")
        return db

    def _version(self) -> int | None:
        """Return the version of the file, 0 where there is none or an empty one, None where it is no sound database."""
        if not self.path.exists():
            return 0
        try:
            db = self._connect()
            try:
                if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                    return None
                version, tables = (
                    int(db.execute(f"SELECT {what}").fetchone()[0]) for what in ("* FROM pragma_user_version", "COUNT(*) FROM sqlite_master")
                )
            finally:
                db.close()
        except sqlite3.DatabaseError as error:
            if not _damage(error):
                raise OSError(f"{self.path} cannot be opened ({self._reason(error)})") from error
            return None
        if version > self._newest:
            raise ValueError(f"{self.path} is of version {version}, this version of fourcaster knows {self._newest}; use a newer one")
        return version if version or not tables else None

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Give a connection as ``_transaction`` does, to a file that nobody exchanges meanwhile."""
        with self._alone(fcntl.LOCK_SH), self._transaction() as db:
            yield db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Give a connection within a transaction that begins at once, so that what is read is still true when it is written."""
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
            if _damage(error):
                raise OSError(f"{self.path} is damaged ({error}); the next start puts it aside and rebuilds it from the outputs") from error
            raise OSError(f"{self.path} cannot be written ({self._reason(error)}); nothing is lost: the same command goes on from here") from error

    def _reason(self, error: sqlite3.DatabaseError) -> str:
        """Return why it failed, and what to do."""
        if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return f"{error}; another program holds it"
        full = shutil.disk_usage(self.path.parent).free < _ROOM
        return f"{error}; no room on the disk: free some space" if full else str(error)


def _damage(error: sqlite3.DatabaseError) -> bool:
    """Return whether an error tells of a file that is no sound database, rather than of one that is out of reach now."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
