"""Proof that a SQLite file was written by this program, so that no other file is ever replaced.

Each of three marks proves it: the application number in the header of the file, the statements
that created the tables, and the inode of the file, which is recorded in the lock file when the file is
created. The last one proves it even where the first page of the file is overwritten.
"""

import fcntl
import os
import re
import sqlite3
from pathlib import Path

from .files import FileKind, kind_of, locked, read_start

APPLICATION = 0x46434C47
"""Application number in bytes 68 to 71 of our SQLite files."""
HEAD_BYTES = 2**16
"""Bytes at the start of a file in which the statements that created the tables are looked for."""
LOG_ENDINGS = ("-wal", "-shm", "-journal")
"""Endings of the files that SQLite writes next to a database."""
_MAGIC = b"SQLite format 3\0"
_LOG_MAGIC = (b"", b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_LOCK_TITLE = b"fourcaster ledger"
_LOCK_BYTES = 200


def lock_path(path: Path) -> Path:
    """Return the lock file of a database."""
    return path.with_name(f".{path.name}.lock")


def has_application_number(head: bytes) -> bool:
    """Return whether the header of a database contains our application number."""
    return int.from_bytes(head[68:72], "big") == APPLICATION


def is_marked(head: bytes, schema: str) -> bool:
    """Return whether the start of a file shows that this program wrote it.

    Args:
        head: first ``HEAD_BYTES`` of the file.
        schema: statements that create the tables.
    """
    if not head.startswith(_MAGIC):
        return False
    if has_application_number(head):
        return True
    text = b" ".join(head.split())
    statements = [" ".join(statement.split()) for statement in schema.split(";")]
    return all(statement.replace(" IF NOT EXISTS", "").encode() in text for statement in statements)


def is_recorded(path: Path) -> bool:
    """Return whether the lock file, where there is one, records that the file is ours."""
    if kind_of(lock_path(path)) is not FileKind.FILE:
        return False
    with locked(lock_path(path), fcntl.LOCK_SH) as lock:
        return path.stat().st_ino in recorded_inodes(lock)


def recorded_inodes(lock: int) -> set[int]:
    """Return the inodes of our files that an open lock file records."""
    words = os.pread(lock, _LOCK_BYTES, 0).split()
    if b" ".join(words[:2]) != _LOCK_TITLE:
        return set()
    return {int(word) for word in words[2:] if word.isdigit()}


def record_inodes(lock: int, *paths: Path) -> None:
    """Record in an open lock file that files are ours."""
    inodes = [str(path.stat().st_ino).encode() for path in paths if path.exists()]
    text = b" ".join([_LOCK_TITLE, *inodes]) + b"\n"
    before = os.pread(lock, _LOCK_BYTES, 0)
    if before != text and (not before or before.startswith(_LOCK_TITLE)):
        os.pwrite(lock, text, 0)
        os.ftruncate(lock, len(text))
        os.fsync(lock)


def refuse_foreign_log(path: Path) -> None:
    """Raise ``ValueError`` where another program's file has the name of the write-ahead log."""
    for ending in LOG_ENDINGS:
        log = path.with_name(path.name + ending)
        if kind_of(log) is None:
            continue
        magic = read_start(log, 4)
        if ending == "-wal" and magic not in _LOG_MAGIC and not lock_path(path).exists():
            raise ValueError(f"{log} is in the way of the ledger, and is not of SQLite; move it away")


def is_sound_database(path: Path, head: bytes) -> bool:
    """Return whether a file is an undamaged SQLite database, of whichever program."""
    if not head.startswith(_MAGIC):
        return False
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            return bool(db.execute("PRAGMA quick_check").fetchone()[0] == "ok")
        finally:
            db.close()
    except sqlite3.DatabaseError:
        return False


def columns_of(db: sqlite3.Connection, schema: str) -> list[tuple[object, ...]]:
    """Return the columns of our tables, and the triggers and views, which could change what is written."""
    entries: list[tuple[object, ...]] = []
    for name in re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", schema):
        columns = db.execute(f"SELECT name, type, \"notnull\", pk FROM pragma_table_info('{name}')")
        entries += [(name, *column) for column in columns]
    others = db.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')")
    return entries + [tuple(other) for other in others]


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Return whether an error means a damaged database or missing tables, not one that is out of reach."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code & 0xFF == sqlite3.SQLITE_ERROR:  # SQLite has no other code for a missing table
        return bool(re.search(r"no such (table|column)|has no column|malformed", str(error)))
    broken = (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
    )
    return code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF in broken
