"""Files of other programs are rejected as ledgers and kept; damaged ledgers are rebuilt."""

import os
import shutil
import socket
import sqlite3
from pathlib import Path

import pytest
from jobs_helpers import CYCLES, NOW, call, clock

from fourcaster.forecast.jobs.database import DamagedError
from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.scheduler import Scheduler

VERBS = (
    ("status",),
    ("run-due", "--now", NOW),
    ("run", "tiny", "--cycle", CYCLES[0]),
    ("backfill", "tiny", "--from", CYCLES[0], "--to", CYCLES[1]),
    ("retry", "tiny"),
    ("cancel", "tiny", "--cycle", CYCLES[0]),
    ("logs", "tiny"),
)


def foreign_database(
    path,
    script="CREATE TABLE cycles (x); CREATE TABLE jobs (x); INSERT INTO jobs VALUES (1)",
    application=0,
    version=1,
):
    db = sqlite3.connect(path)
    db.executescript(f"{script}; PRAGMA user_version={version}; PRAGMA application_id={application}")
    db.close()


def foreign_netcdf(path):
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 40)


FOREIGN = {
    "text": lambda path: path.write_text("my notes\n" * 100),
    "netCDF": foreign_netcdf,
    "empty": lambda path: path.touch(),
    "short": lambda path: path.write_bytes(b"SQLite format 3\0"),
    "database": foreign_database,
    "database with an application": lambda path: foreign_database(path, application=0x47504B47),
    "database without tables": lambda path: foreign_database(path, "PRAGMA journal_mode=WAL", version=0),
    "damaged database": lambda path: (
        foreign_database(path),
        path.write_bytes(path.read_bytes()[:3000] + b"x" * 5192),
    ),
    "newer database": lambda path: foreign_database(path, version=99),
}


def content(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and not p.is_symlink()}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_file_is_rejected_as_ledger_and_kept(write_jobs, tmp_path, kind):
    path = write_jobs(top={"ledger": "mine/file"})
    (tmp_path / "mine").mkdir()
    FOREIGN[kind](tmp_path / "mine" / "file")
    before = content(tmp_path / "mine")
    for verb, *args in VERBS if kind == "text" else VERBS[:1]:
        code, output = call(verb, path, *args)
        assert code == 2
        assert len(output.splitlines()) == 1
        assert "is not a ledger of fourcaster, so it is left as it is" in output
    assert content(tmp_path / "mine") == before
    assert not list((tmp_path / "mine").glob(".*"))


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (os.mkfifo, "is a pipe, not a ledger"),
        (os.mkdir, "is a folder, not a ledger"),
        (lambda path: os.symlink("elsewhere", path), "is a link, not a ledger"),
        (lambda path: os.symlink("jobs.yaml", path), "ledger file is the jobs file"),
        (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "is a socket, not a ledger"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ledger_that_is_not_a_regular_file_is_rejected(write_jobs, tmp_path, monkeypatch, create, message):
    path = write_jobs(top={"ledger": "file"})
    monkeypatch.chdir(tmp_path)  # socket paths are limited in length
    create(Path("file"))
    code, output = call("status", path)
    assert code == 2
    assert len(output.splitlines()) == 1
    assert message in output


def test_planted_symlinks_next_to_the_ledger_are_not_followed(write_jobs, tmp_path):
    path = write_jobs()
    victim = tmp_path / "victim"
    lock = tmp_path / ".ledger.sqlite.lock"
    victim.write_text("precious")
    lock.symlink_to(victim)
    assert ".ledger.sqlite.lock is a link, not a file; remove it" in call("status", path)[1]
    lock.unlink()
    os.mkfifo(lock)
    assert "is a pipe, not a file" in call("status", path)[1]
    lock.unlink()
    (tmp_path / ".ledger.sqlite.latest").symlink_to(victim)
    code, output = call("run-due", path, "--now", "2001-01-01")
    assert code == 0
    assert ".ledger.sqlite.latest is a link, not a file" in output
    assert victim.read_text() == "precious"


def remove_wal(ledger):
    for tail in ("-wal", "-shm"):
        ledger.with_name(ledger.name + tail).unlink(missing_ok=True)


def truncate(ledger, size):
    os.truncate(ledger, size)


def overwrite(ledger, start, size):
    with open(ledger, "r+b") as file:
        file.seek(start)
        file.write(os.urandom(size))


def execute(ledger, script):
    db = sqlite3.connect(ledger)
    db.executescript(script)
    db.close()


DAMAGE = {
    "pages": lambda ledger: overwrite(ledger, 4096, 4096),
    "rest of the first page": lambda ledger: overwrite(ledger, 100, 3996),
    "first page": lambda ledger: overwrite(ledger, 0, 4096),
    "truncated": lambda ledger: truncate(ledger, 5000),
    "truncated header": lambda ledger: truncate(ledger, 50),
    "text": lambda ledger: ledger.write_text("no database"),
    "missing cycles table": lambda ledger: execute(ledger, "DROP TABLE cycles"),
    "missing jobs table": lambda ledger: execute(ledger, "DROP TABLE jobs"),
    "missing column": lambda ledger: execute(
        ledger, "DROP TABLE jobs; CREATE TABLE jobs (name TEXT PRIMARY KEY)"
    ),
    "renamed column": lambda ledger: execute(ledger, "ALTER TABLE cycles RENAME COLUMN error TO mistake"),
    "trigger": lambda ledger: execute(
        ledger, "CREATE TRIGGER t BEFORE INSERT ON jobs BEGIN SELECT RAISE(ABORT, 'no'); END"
    ),
    "version": lambda ledger: execute(ledger, "PRAGMA user_version = 0"),
}


@pytest.fixture
def ledger(tmp_path):
    """Return the path of a ledger, and a function that opens it."""
    path = tmp_path / "folder" / "ledger.sqlite"

    def open_ledger(rebuild=lambda ledger: None):
        opened = Ledger(path, rebuild=rebuild)
        return opened.open(), opened

    open_ledger()
    return path, open_ledger


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_ledger_is_backed_up_and_rebuilt(ledger, kind):
    path, open_ledger = ledger
    open_ledger()[1].insert("a", ["2001-01-05T00:00"], clock()())
    remove_wal(path)
    DAMAGE[kind](path)
    damaged = path.read_bytes()
    rebuilt_from = []
    backup, rebuilt = open_ledger(lambda fresh: rebuilt_from.append(fresh.records()))
    assert backup.read_bytes() == damaged
    assert rebuilt_from == [[]]
    assert rebuilt.rebuilt
    assert rebuilt.insert("a", ["2001-01-05T06:00"], clock()()) == 1
    assert open_ledger()[0] is None
    assert len(list(path.parent.glob("*.corrupt-*"))) == 1
    assert {p.name for p in path.parent.iterdir()} <= {
        backup.name,
        path.name,
        ".ledger.sqlite.lock",
        f"{path.name}-wal",
        f"{path.name}-shm",
    }


def test_ledger_overwritten_with_a_foreign_database_is_rejected(ledger):
    path, open_ledger = ledger
    remove_wal(path)
    foreign_database(path.with_name("other"))
    shutil.copyfile(path.with_name("other"), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is not a ledger of fourcaster"):
        open_ledger()
    assert path.read_bytes() == before


def test_ledger_without_first_page_and_marker_is_rejected(ledger):
    path, open_ledger = ledger
    path.with_name(".ledger.sqlite.lock").unlink()
    remove_wal(path)
    overwrite(path, 0, 4096)
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match="move this one away if it was a ledger: it is rebuilt from the outputs"
    ):
        open_ledger()
    assert path.read_bytes() == before
    path.rename(path.with_name("away"))
    assert open_ledger()[1].records() == []


def test_ledger_of_an_earlier_version_is_recognised_and_marked(ledger):
    path, open_ledger = ledger
    open_ledger()[1].insert("a", ["2001-01-05T00:00"], clock()())
    execute(path, "PRAGMA application_id = 0; PRAGMA wal_checkpoint(TRUNCATE)")
    path.with_name(".ledger.sqlite.lock").write_bytes(b"")
    backup, opened = open_ledger()
    assert backup is None
    assert len(opened.records()) == 1
    execute(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.read_bytes()[68:72] == b"FCLG"
    execute(path, "PRAGMA application_id = 0; PRAGMA wal_checkpoint(TRUNCATE)")
    path.with_name(".ledger.sqlite.lock").write_bytes(b"")
    remove_wal(path)
    overwrite(path, 4096, 4096)
    assert open_ledger()[0] is not None  # recognised by its schema


def test_ledger_that_loses_a_table_or_is_removed_while_serving_is_rebuilt(write_jobs, tmp_path):
    scheduler = Scheduler(write_jobs(start="2001-02-01"), clock())  # nothing is due
    execute(tmp_path / "ledger.sqlite", "DROP TABLE cycles")
    with pytest.raises(OSError, match=r"is damaged \(no such table: cycles\); the next start puts it aside"):
        scheduler.ledger.records()
    assert scheduler.run() == []
    assert scheduler.ledger.records() == []
    assert len(list(tmp_path.glob("ledger.sqlite.corrupt-*"))) == 1
    for file in tmp_path.glob("ledger.sqlite*"):
        file.unlink()
    with pytest.raises(OSError, match="is gone; the next start rebuilds it from the outputs"):
        scheduler.ledger.records()
    assert scheduler.run() == []
    assert scheduler.ledger.records() == []


def test_ledger_rebuilt_by_another_scheduler_stops_no_scheduler(write_jobs):
    path = write_jobs(start="2001-02-01")
    scheduler = Scheduler(path, clock())
    remaining_errors = [1]

    def insert(*more):
        if remaining_errors:
            remaining_errors.pop()
            raise DamagedError("is damaged")
        return Ledger.insert(scheduler.ledger, *more)

    scheduler.ledger.insert = insert
    assert scheduler.run() == []
    remaining_errors.extend([1] * 100)
    with pytest.raises(DamagedError):
        scheduler.run()
