"""A SQLite file that is put aside and rebuilt when it is damaged, safe to use from several threads, processes
and machines.

Only a file that was ours is ever replaced. Three things prove that, each enough by itself: the application's
number in the header of the file, the statements that made our tables, and the number of the file on its disk
(inode), which is noted in the lock file when the file is made. The last one proves it also where the first
page of the file is overwritten.
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
from .files import kind_of, locked, read_start

_PATIENCE = 30.0  # seconds to wait for another's transaction
_BESIDE = ("-wal", "-shm", "-journal")  # files that SQLite keeps beside its own
_ROOM = 2**20  # bytes that must be free for a transaction to find room
_APPLICATION = 0x46434C47
"""Number that tells our files from those of other programs, in bytes 68 to 71 of a SQLite file."""
_MAGIC = b"SQLite format 3\0"
_HEAD = 2**16  # bytes in which the statements that made the tables are looked for
_LOCK = b"fourcaster ledger"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Damaged(OSError):
    """The file is damaged, or gone; opening it again rebuilds it."""


class _Found(Enum):
    SOUND = "sound"
    DAMAGED = "damaged"
    NOTHING = "nothing"


class Database:
    """A SQLite file with tables of its own.

    Args:
        path: file; made where there is none.
        schema: statements that make its tables.
        version: number of the schema.
        shared: whether the file is on a disk that several machines share, where SQLite's write-ahead log
            cannot be used.

    Attributes:
        rebuilt: whether the last ``open`` made the file.
    """

    def __init__(self, path: Path, schema: str, version: int, shared: bool = False) -> None:
        self.path, self.shared, self._schema, self._newest = path, shared, schema, version
        self.rebuilt = False

    def open(self, rebuild: "Callable[[Database], None]") -> Path | None:
        """Make the file where there is none; put a damaged one aside and return where it is.

        Args:
            rebuild: called with the new file before anybody else sees it.

        Raises:
            OSError: another program holds it, or there is no room.
            ValueError: it is not a file of ours, or a newer version of this package wrote it.
        """
        if (kind := kind_of(self.path)) not in (None, "a file"):
            raise ValueError(f"{self.path} is {kind}, not a ledger; let `ledger` name a file of its own")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if kind is None:
                self._refuse_foreign_log()
            elif self._foreign(read_start(self.path, _HEAD)) and not self._noted():
                self._refuse()  # before a lock file is made beside another's file
            with self._alone() as lock:
                return self._open(rebuild, lock)
        except OSError as error:
            if error.errno in _FULL:
                raise OSError(
                    f"{self.path} cannot be written ({error.strerror}; no room on the disk: free some space)"
                ) from error
            raise

    def _open(self, rebuild: "Callable[[Database], None]", lock: int) -> Path | None:
        found = self._look(_inodes(lock))
        self.rebuilt = found is not _Found.SOUND
        if found is _Found.SOUND:
            with suppress(OSError):  # of use only once the file is damaged
                _note(lock, self.path)
            return None
        self._sweep()
        name = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}.rebuilt")
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
        # Without a log beside it, which would stay behind when the file is renamed.
        fresh = Database(name, self._schema, self._newest, shared=True)
        try:
            fresh._make(rebuild, needed=found is _Found.DAMAGED)
            atomic.sync(fresh.path)
            aside = self._put_aside() if found is _Found.DAMAGED else None
            _note(lock, fresh.path, self.path)
            self._remove(*_BESIDE)  # or they would be taken for the new one's
            os.replace(fresh.path, self.path)
            atomic.sync(self.path.parent)
            with suppress(OSError):
                _note(lock, self.path)
        finally:
            fresh._remove("", *_BESIDE)
            fresh._lock.unlink(missing_ok=True)
        return aside

    def _make(self, rebuild: "Callable[[Database], None]", needed: bool) -> None:
        """Make the tables and have them filled; what cannot be read is left out unless it is needed."""
        with self._transaction() as db:
            for statement in f"{self._schema}; PRAGMA user_version = {self._newest}; PRAGMA application_id = {_APPLICATION}".split(
                ";"
            ):
                db.execute(statement)
        try:
            rebuild(self)
        except OSError:  # of outputs that are out of reach
            if needed:
                raise

    def _put_aside(self) -> Path:
        """Keep a damaged file, and its log, under another name."""
        tag = f"corrupt-{uuid.uuid4().hex[:8]}"
        aside = self.path.with_name(f"{self.path.name}.{tag}")
        try:
            os.link(self.path, aside, follow_symlinks=False)
        except OSError:  # a file system without links
            shutil.copy2(self.path, aside, follow_symlinks=False)
            atomic.sync(aside)
        log = self.path.with_name(f"{self.path.name}-wal")
        if kind_of(log) == "a file" and log.stat().st_size:
            os.rename(log, self.path.with_name(f"{log.name}.{tag}"))
        return aside

    def _remove(self, *tails: str) -> None:
        for tail in tails:
            self.path.with_name(self.path.name + tail).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what was left by one that was killed while it rebuilt the file."""
        left = re.compile(
            r"\.?" + re.escape(f".{self.path.name}.") + r"[0-9a-f]{16}\.rebuilt(-wal|-shm|-journal|\.lock)?"
        )
        for path in self.path.parent.iterdir():
            if left.fullmatch(path.name):
                path.unlink(missing_ok=True)

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    @contextmanager
    def _alone(self, how: int = fcntl.LOCK_EX) -> Iterator[int]:
        """Keep others from exchanging the file meanwhile, or all others from using it."""
        with locked(self._lock, how) as lock:
            yield lock

    def _connect(self) -> sqlite3.Connection:
        # Never made here: an empty file in place of one that was removed would be one without our tables.
        db = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw", timeout=_PATIENCE, isolation_level=None, uri=True
        )
        db.row_factory = sqlite3.Row
        db.text_factory = _text
        db.execute(f"PRAGMA journal_mode={'DELETE' if self.shared else 'WAL'}")
        db.execute("PRAGMA synchronous=FULL")
        return db

    def _look(self, noted: set[int]) -> _Found:
        """Return what is there; raises ``ValueError`` where it is not ours."""
        kind = kind_of(self.path)
        if kind is None:
            return _Found.NOTHING
        if kind != "a file":
            raise ValueError(f"{self.path} is {kind}, not a ledger; let `ledger` name a file of its own")
        head = read_start(self.path, _HEAD)
        known = self.path.stat().st_ino in noted
        if self._foreign(head):
            if not known or self._sound_of_another(head):
                self._refuse()
            return _Found.DAMAGED if head else _Found.NOTHING
        return self._check(head)

    def _foreign(self, head: bytes) -> bool:
        """Return whether nothing in the file shows that it is ours."""
        words = b" ".join(head.split())
        statements = [
            " ".join(statement.split()).replace(" IF NOT EXISTS", "").encode()
            for statement in self._schema.split(";")
        ]
        ours = int.from_bytes(head[68:72], "big") == _APPLICATION or all(
            statement in words for statement in statements
        )
        return not (head.startswith(_MAGIC) and ours)

    def _noted(self) -> bool:
        """Return whether the lock file, where there is one, says that the file is ours."""
        if kind_of(self._lock) != "a file":
            return False
        with locked(self._lock, fcntl.LOCK_SH) as lock:
            return self.path.stat().st_ino in _inodes(lock)

    def _refuse_foreign_log(self) -> None:
        for tail in _BESIDE:
            beside = self.path.with_name(self.path.name + tail)
            if kind_of(beside) is None:
                continue
            magic = read_start(beside, 4)
            if (
                tail == "-wal"
                and magic not in (b"", b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
                and not self._lock.exists()
            ):
                raise ValueError(f"{beside} is in the way of the ledger, and is not of SQLite; move it away")

    def _sound_of_another(self, head: bytes) -> bool:
        """Return whether the file was overwritten by a sound one of another program."""
        if not head.startswith(_MAGIC):
            return False
        try:
            db = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
            try:
                return bool(db.execute("PRAGMA quick_check").fetchone()[0] == "ok")
            finally:
                db.close()
        except sqlite3.DatabaseError:
            return False

    def _refuse(self) -> None:
        raise ValueError(
            f"{self.path} is not a ledger of fourcaster, so it is left as it is; let `ledger` name another file, or move this one away "
            "if it was a ledger: it is rebuilt from the outputs"
        )

    def _check(self, head: bytes) -> _Found:
        """Return whether a file of ours is sound; raises ``ValueError`` where it is of a newer version."""
        try:
            db = self._connect()
            try:
                if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                    return _Found.DAMAGED
                version = int(db.execute("SELECT * FROM pragma_user_version").fetchone()[0])
                if version > self._newest:
                    raise ValueError(
                        f"{self.path} is of version {version}, this version of fourcaster knows {self._newest}; use a newer one"
                    )
                if version != self._newest or _tables(db, self._schema) != _expected(self._schema):
                    return _Found.DAMAGED
                if (
                    int.from_bytes(head[68:72], "big") != _APPLICATION
                ):  # of a version that did not write it yet
                    with suppress(sqlite3.DatabaseError):
                        db.execute(f"PRAGMA application_id = {_APPLICATION}")
            finally:
                db.close()
        except sqlite3.DatabaseError as error:
            if not _damage(error):
                raise OSError(f"{self.path} cannot be opened ({self._reason(error)})") from error
            return _Found.DAMAGED
        return _Found.SOUND

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Give a connection as ``_transaction`` does, to a file that nobody exchanges meanwhile."""
        with self._alone(fcntl.LOCK_SH), self._transaction() as db:
            yield db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Give a connection within a transaction that begins at once, so that what is read is still true when
        it is written.
        """
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
                raise Damaged(
                    f"{self.path} is damaged ({error}); the next start puts it aside and rebuilds it from the outputs"
                ) from error
            if kind_of(self.path) is None:
                raise Damaged(f"{self.path} is gone; the next start rebuilds it from the outputs") from error
            raise OSError(
                f"{self.path} cannot be written ({self._reason(error)}); nothing is lost: the same command goes on from here"
            ) from error

    def _reason(self, error: sqlite3.DatabaseError) -> str:
        """Return why it failed, and what to do."""
        if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return f"{error}; another program holds it"
        full = shutil.disk_usage(self.path.parent).free < _ROOM
        return f"{error}; no room on the disk: free some space" if full else str(error)


def _text(data: bytes) -> str:
    return data.decode(errors="replace")  # one text that is damaged does not make the table unreadable


def _inodes(lock: int) -> set[int]:
    """Return the numbers of our files that a lock file notes."""
    words = os.pread(lock, 200, 0).split()
    if b" ".join(words[:2]) != _LOCK:
        return set()
    return {int(word) for word in words[2:] if word.isdigit()}


def _note(lock: int, *paths: Path) -> None:
    """Note in the lock file that files are ours."""
    inodes = [str(path.stat().st_ino).encode() for path in paths if path.exists()]
    text = b" ".join([_LOCK, *inodes]) + b"\n"
    before = os.pread(lock, 200, 0)
    if before != text and (not before or before.startswith(_LOCK)):
        os.pwrite(lock, text, 0)
        os.ftruncate(lock, len(text))
        os.fsync(lock)


def _tables(db: sqlite3.Connection, schema: str) -> list[tuple[object, ...]]:
    """Return the columns of our tables, and what could change what is done to them."""
    found: list[tuple[object, ...]] = []
    for name in re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", schema):
        columns = db.execute(f"SELECT name, type, \"notnull\", pk FROM pragma_table_info('{name}')")
        found += [(name, *column) for column in columns]
    others = db.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')")
    return found + [tuple(other) for other in others]


@functools.cache
def _expected(schema: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(":memory:")
    try:
        db.executescript(schema)
        return _tables(db, schema)
    finally:
        db.close()


def _damage(error: sqlite3.DatabaseError) -> bool:
    """Return whether an error tells of a file that is no sound database, or lacks our tables, rather than of
    one that is out of reach now.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code & 0xFF == sqlite3.SQLITE_ERROR:
        return bool(re.search(r"no such (table|column)|has no column|malformed", str(error)))
    broken = (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
    )
    return code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF in broken
