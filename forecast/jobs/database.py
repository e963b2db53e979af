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
            fresh = Database(self.path.with_name(f".{self.path.name}.rebuilt"), self._schema, self._newest, self.shared)
            fresh._remove("", "-wal", "-shm")
            with fresh._transaction() as db:
                for statement in f"{self._schema}; PRAGMA user_version = {self._newest}".split(";"):
                    db.execute(statement)
            try:
                rebuild(fresh)
            except OSError:  # of outputs that are out of reach: a new file can do without them
                if version is None:
                    raise
            aside = None
            if version is None:
                aside = self.path.with_name(f"{self.path.name}.corrupt-{uuid.uuid4().hex[:8]}")
                shutil.copy2(self.path, aside)
            self._remove("-wal", "-shm")  # or they would be taken for the new one's
            os.replace(fresh.path, self.path)
            return aside

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
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "unable to open" in str(error):
                raise OSError(f"{self.path} cannot be opened ({error}); another program holds it, or may not be read") from error
            return None
        except sqlite3.DatabaseError:
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
        except sqlite3.OperationalError as error:
            raise OSError(f"{self.path} cannot be written ({error}); nothing is lost: the same command goes on from here") from error
        except sqlite3.DatabaseError as error:
            raise OSError(f"{self.path} is damaged ({error}); the next start puts it aside and rebuilds it from the outputs") from error
