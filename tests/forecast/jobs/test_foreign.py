"""What no job made is left as it is: files that `ledger`, `status` or an output name, and links in the way."""

import json
import os
import shutil
import socket
import sqlite3
from pathlib import Path

import pytest
from jobs_helpers import CYCLES, NOW, call, clock, whole

from fourcaster.forecast.jobs.buckets import Bucket
from fourcaster.forecast.jobs.database import Damaged
from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.log import Log
from fourcaster.forecast.jobs.manifests import checksum, is_pending, with_command_pending
from fourcaster.forecast.jobs.places import Folder, Foreign, Lost
from fourcaster.forecast.jobs.publishing import point_latest, retain
from fourcaster.forecast.jobs.reading import load_jobs
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


def other_database(
    path,
    script="CREATE TABLE cycles (x); CREATE TABLE jobs (x); INSERT INTO jobs VALUES (1)",
    application=0,
    version=1,
):
    db = sqlite3.connect(path)
    db.executescript(f"{script}; PRAGMA user_version={version}; PRAGMA application_id={application}")
    db.close()


def other_netcdf(path):
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 40)


FOREIGN = {
    "text": lambda path: path.write_text("my notes\n" * 100),
    "netCDF": other_netcdf,
    "empty": lambda path: path.touch(),
    "short": lambda path: path.write_bytes(b"SQLite format 3\0"),
    "database": other_database,
    "database with an application": lambda path: other_database(path, application=0x47504B47),
    "database without tables": lambda path: other_database(path, "PRAGMA journal_mode=WAL", version=0),
    "damaged database": lambda path: (
        other_database(path),
        path.write_bytes(path.read_bytes()[:3000] + b"x" * 5192),
    ),
    "newer database": lambda path: other_database(path, version=99),
}


def content(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and not p.is_symlink()}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_ledger_that_is_another_programs_file_is_refused_and_kept(write, tmp_path, kind):
    path = write(top={"ledger": "mine/file"})
    (tmp_path / "mine").mkdir()
    FOREIGN[kind](tmp_path / "mine" / "file")
    before = content(tmp_path / "mine")
    for verb, *words in VERBS if kind == "text" else VERBS[:1]:
        code, said = call(verb, path, *words)
        assert (
            code == 2
            and len(said.splitlines()) == 1
            and "is not a ledger of fourcaster, so it is left as it is" in said
        )
    assert content(tmp_path / "mine") == before and not list((tmp_path / "mine").glob(".*"))


@pytest.mark.parametrize(
    ("make", "said"),
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
def test_a_ledger_that_is_no_file_is_refused(write, tmp_path, monkeypatch, make, said):
    path = write(top={"ledger": "file"})
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    make(Path("file"))
    code, text = call("status", path)
    assert code == 2 and len(text.splitlines()) == 1 and said in text


def test_links_planted_beside_the_ledger_are_not_followed(write, tmp_path):
    path = write()
    victim, lock = tmp_path / "victim", tmp_path / ".ledger.sqlite.lock"
    victim.write_text("precious")
    lock.symlink_to(victim)
    assert ".ledger.sqlite.lock is a link, not a file; remove it" in call("status", path)[1]
    lock.unlink()
    os.mkfifo(lock)
    assert "is a pipe, not a file" in call("status", path)[1]
    lock.unlink()
    (tmp_path / ".ledger.sqlite.latest").symlink_to(victim)
    code, said = call("run-due", path, "--now", "2001-01-01")
    assert (
        code == 0
        and ".ledger.sqlite.latest is a link, not a file" in said
        and victim.read_text() == "precious"
    )


def without_log(ledger):
    for tail in ("-wal", "-shm"):
        ledger.with_name(ledger.name + tail).unlink(missing_ok=True)


def cut(ledger, size):
    os.truncate(ledger, size)


def overwrite(ledger, start, size):
    with open(ledger, "r+b") as file:
        file.seek(start)
        file.write(os.urandom(size))


def drop(ledger, script):
    db = sqlite3.connect(ledger)
    db.executescript(script)
    db.close()


DAMAGE = {
    "pages": lambda ledger: overwrite(ledger, 4096, 4096),
    "rest of the first page": lambda ledger: overwrite(ledger, 100, 3996),
    "first page": lambda ledger: overwrite(ledger, 0, 4096),
    "cut": lambda ledger: cut(ledger, 5000),
    "cut in the header": lambda ledger: cut(ledger, 50),
    "text": lambda ledger: ledger.write_text("no database"),
    "no table": lambda ledger: drop(ledger, "DROP TABLE cycles"),
    "no other table": lambda ledger: drop(ledger, "DROP TABLE jobs"),
    "no column": lambda ledger: drop(ledger, "DROP TABLE jobs; CREATE TABLE jobs (name TEXT PRIMARY KEY)"),
    "other column": lambda ledger: drop(ledger, "ALTER TABLE cycles RENAME COLUMN error TO mistake"),
    "trigger": lambda ledger: drop(
        ledger, "CREATE TRIGGER t BEFORE INSERT ON jobs BEGIN SELECT RAISE(ABORT, 'no'); END"
    ),
    "version": lambda ledger: drop(ledger, "PRAGMA user_version = 0"),
}


@pytest.fixture
def ledger(tmp_path):
    """Return the path of a ledger, and what opens it."""
    path = tmp_path / "folder" / "ledger.sqlite"

    def start(rebuild=lambda ledger: None):
        made = Ledger(path, rebuild=rebuild)
        return made.open(), made

    start()
    return path, start


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_ledger_of_ours_is_put_aside_and_rebuilt(ledger, kind):
    path, start = ledger
    start()[1].insert("a", ["2001-01-05T00:00"], clock()())
    without_log(path)
    DAMAGE[kind](path)
    damaged = path.read_bytes()
    seen = []
    aside, again = start(lambda fresh: seen.append(fresh.rows()))
    assert aside.read_bytes() == damaged and seen == [[]] and again.rebuilt
    assert again.insert("a", ["2001-01-05T06:00"], clock()()) == 1
    assert start()[0] is None and len(list(path.parent.glob("*.corrupt-*"))) == 1
    assert {p.name for p in path.parent.iterdir()} <= {
        aside.name,
        path.name,
        ".ledger.sqlite.lock",
        f"{path.name}-wal",
        f"{path.name}-shm",
    }


def test_a_ledger_overwritten_with_another_programs_database_is_refused(ledger):
    path, start = ledger
    without_log(path)
    other_database(path.with_name("other"))
    shutil.copyfile(path.with_name("other"), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is not a ledger of fourcaster"):
        start()
    assert path.read_bytes() == before


def test_a_ledger_whose_first_page_is_lost_and_that_nothing_proves_ours_is_refused(ledger):
    path, start = ledger
    path.with_name(".ledger.sqlite.lock").unlink()
    without_log(path)
    overwrite(path, 0, 4096)
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match="move this one away if it was a ledger: it is rebuilt from the outputs"
    ):
        start()
    assert path.read_bytes() == before
    path.rename(path.with_name("away"))
    assert start()[1].rows() == []


def test_a_ledger_of_an_earlier_version_is_known_and_marked(ledger):
    path, start = ledger
    start()[1].insert("a", ["2001-01-05T00:00"], clock()())
    drop(path, "PRAGMA application_id = 0; PRAGMA wal_checkpoint(TRUNCATE)")
    path.with_name(".ledger.sqlite.lock").write_bytes(b"")
    aside, again = start()
    assert aside is None and len(again.rows()) == 1
    drop(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.read_bytes()[68:72] == b"FCLG"
    drop(path, "PRAGMA application_id = 0; PRAGMA wal_checkpoint(TRUNCATE)")
    path.with_name(".ledger.sqlite.lock").write_bytes(b"")
    without_log(path)
    overwrite(path, 4096, 4096)
    assert start()[0] is not None  # its statements prove it


def test_a_ledger_that_loses_a_table_or_is_removed_under_a_service_is_rebuilt(write, tmp_path):
    scheduler = Scheduler(write(start="2001-02-01"), clock())  # nothing is due
    drop(tmp_path / "ledger.sqlite", "DROP TABLE cycles")
    with pytest.raises(OSError, match=r"is damaged \(no such table: cycles\); the next start puts it aside"):
        scheduler.ledger.rows()
    assert (
        scheduler.run() == []
        and scheduler.ledger.rows() == []
        and len(list(tmp_path.glob("ledger.sqlite.corrupt-*"))) == 1
    )
    for file in tmp_path.glob("ledger.sqlite*"):
        file.unlink()
    with pytest.raises(OSError, match="is gone; the next start rebuilds it from the outputs"):
        scheduler.ledger.rows()
    assert scheduler.run() == [] and scheduler.ledger.rows() == []


def test_a_ledger_that_another_scheduler_has_rebuilt_ends_none(write):
    path = write(start="2001-02-01")
    scheduler, plain = Scheduler(path, clock()), Ledger.insert
    left = [1]

    def insert(ledger, *more):
        if left:
            left.pop()
            raise Damaged("is damaged")
        return plain(ledger, *more)

    scheduler.ledger.insert = lambda *more: insert(scheduler.ledger, *more)
    assert scheduler.run() == []
    left.extend([1] * 100)
    with pytest.raises(Damaged):
        scheduler.run()


@pytest.mark.parametrize("name", ["index.html", "status.json", "metrics.prom"])
def test_a_foreign_page_is_not_replaced(write, tmp_path, name):
    path = write(start=CYCLES[-1])
    for text in ("<!doctype html><title>My home</title>", ""):
        (tmp_path / "status").mkdir(exist_ok=True)
        (tmp_path / "status" / name).write_text(text)
        code, said = call("status", path)
        assert (
            code == 2
            and len(said.splitlines()) == 1
            and "is not of the status page, so it is not replaced" in said
        )
        assert (tmp_path / "status" / name).read_text() == text and len(
            list((tmp_path / "status").iterdir())
        ) == 1
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "status" / name).unlink()
    (tmp_path / "status" / name).symlink_to(tmp_path / "victim")
    assert call("status", path)[0] == 2 and (tmp_path / "victim").read_text() == "precious"
    (tmp_path / "status" / name).unlink()
    assert call("status", path)[0] == 0 and call("status", path)[0] == 0


def test_a_status_page_that_cannot_be_written_is_reported_once(write, tmp_path):
    path = write(start=CYCLES[-1])
    scheduler = Scheduler(path, clock())
    said = []
    scheduler.log.write = lambda **values: said.append(values["message"])
    (tmp_path / "status").write_text("a file")
    assert all("the status page in" in scheduler.report() for _ in range(3)) and len(said) == 1
    code, text = call("status", path)
    assert code == 2 and "status" in text
    (tmp_path / "status").unlink()
    assert scheduler.report() is None
    (tmp_path / "status" / "index.html").unlink()
    (tmp_path / "status" / "index.html").mkdir()
    assert "is a folder that is not of the status page" in scheduler.report() and len(said) == 2


def test_a_status_page_without_room_fails_the_verb(write, tmp_path, monkeypatch):
    path = write()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fourcaster.forecast.jobs.reports.atomic.write_file", full)
    code, said = call("status", path, "--now", NOW)
    assert (
        code == 2 and said.count("could not be written: No space left on device") == 1 and "next due" in said
    )


COLLISIONS = [
    ({"top": {"ledger": "jobs.yaml"}}, "ledger jobs.yaml is the jobs file"),
    ({"top": {"ledger": "x", "status": "x"}}, "is the folder of the status page"),
    ({"top": {"status": "jobs.yaml"}}, "status jobs.yaml is the jobs file"),
    ({"top": {"ledger": "in.zarr/ledger"}}, "ledger in.zarr/ledger lies in the source of job tiny"),
    ({"top": {"ledger": "in.zarr"}}, "ledger in.zarr is the source"),
    ({"top": {"status": "in.zarr"}}, "status in.zarr is the source"),
    ({"top": {"status": "model"}, "checkpoint": "model"}, "status model is the checkpoint"),
    ({"truth": "t.zarr", "top": {"ledger": "t.zarr/x"}}, "lies in the truth"),
    ({"output": "in.zarr/{cycle:%Y%m%dT%H}.zarr"}, "lie in or replace the source"),
    ({"output": "model/{cycle:%Y%m%dT%H}.zarr", "checkpoint": "model"}, "lie in or replace the checkpoint"),
    (
        {"output": "out/{cycle:%Y%m%dT%H}.zarr", "truth": "out/20010105T06.zarr"},
        "lie in or replace the truth",
    ),
    (
        {"output": "out/{cycle:%Y%m%dT%H}.zarr", "truth": "out/20010105T06.zarr/inside.zarr"},
        "lie in or replace the truth",
    ),
    ({"output": "{cycle:%Y%m%dT%H}.nc", "top": {"ledger": "20010105T06.nc"}}, "lie in or replace the ledger"),
    (
        {"output": "{cycle:%Y%m%dT%H}.zarr", "top": {"status": "20010105T06.zarr/page"}},
        "lie in or replace the status page",
    ),
    ({"output": "{cycle:%Y%m%dT%H}.nc", "source": {"files": "{cycle:%Y}*.nc"}}, "are among its files"),
]


@pytest.mark.parametrize(("changes", "said"), COLLISIONS)
def test_paths_in_each_others_way_are_refused(write, tmp_path, tiny_store, tiny_checkpoint, changes, said):
    (tmp_path / "in.zarr").symlink_to(tiny_store)
    (tmp_path / "model").symlink_to(tiny_checkpoint)
    path = write(**{"source": "in.zarr"} | changes)
    before = path.read_bytes(), sorted(tiny_store.rglob("*")), sorted(tiny_checkpoint.rglob("*"))
    code, text = call("status", path)
    assert code == 2 and len(text.splitlines()) == 1 and said in text, text
    assert (path.read_bytes(), sorted(tiny_store.rglob("*")), sorted(tiny_checkpoint.rglob("*"))) == before


def test_paths_that_only_lie_near_are_taken(write, tmp_path, tiny_store):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "store.zarr").symlink_to(tiny_store)
    load_jobs(
        write(
            source="out/store.zarr",
            output="out/{cycle:%Y%m%dT%H}.zarr",
            truth="out/store.zarr",
            top={"ledger": "out/l", "status": "out"},
        )
    )
    load_jobs(write(source="out/latest", prepare=["true"], output="out/{cycle:%Y%m%dT%H}.zarr"))


@pytest.fixture
def publish(tmp_path):
    """Return what publishes a small forecast of a cycle in a folder."""
    place = Folder(tmp_path / "out" / "tiny")

    def make(cycle, name, picture="t2m_12h"):
        place.work.mkdir(parents=True, exist_ok=True)
        made, drawn = place.work / "made.zarr", place.work / "made.png"
        made.mkdir()
        (made / "zarr.json").write_text(f"forecast of {cycle}")
        drawn.write_text("picture")
        manifest = {"job": "tiny", "cycle": cycle, "checksum": checksum(made)}
        place.publish(f"{name}.zarr", made, {f"{name}.{picture}.png": drawn}, manifest, lambda: True)
        return manifest["checksum"]

    return make


@pytest.mark.parametrize(
    "kind",
    [
        "folder",
        "file",
        "link",
        "manifest",
        "picture",
        "manifest of another cycle",
        "manifest that is a folder",
    ],
)
def test_what_lies_at_the_name_of_an_output_is_neither_moved_nor_removed(tmp_path, publish, kind):
    folder = tmp_path / "out" / "tiny"
    output, manifest = folder / "x.zarr", folder / "x.zarr.json"
    (output / "mine").mkdir(parents=True)
    if kind != "folder":
        shutil.rmtree(output)
    if kind == "file":
        output.write_text("mine")
    elif kind == "link":
        output.symlink_to(tmp_path / "victim")
    elif kind == "manifest":
        manifest.write_text('{"mine": 1}')
    elif kind == "picture":
        (folder / "x.t2m_12h.png").write_text("mine")
    elif kind == "manifest of another cycle":
        manifest.write_text(json.dumps({"job": "tiny", "cycle": CYCLES[1], "checksum": "0" * 64}))
    elif kind == "manifest that is a folder":
        manifest.mkdir()
    before = sorted((p, p.is_file() and p.read_bytes()) for p in folder.rglob("*"))
    with pytest.raises(
        Foreign, match=r"is in the way, .* that no job published for this cycle; move it away"
    ):
        publish(CYCLES[0], "x")
    assert (
        sorted((p, p.is_file() and p.read_bytes()) for p in folder.rglob("*") if ".making" not in p.parts)
        == before
    )


def test_a_damaged_output_of_ours_is_replaced_and_kept_out_of_the_way(tmp_path, publish):
    publish(CYCLES[0], "x")
    (tmp_path / "out" / "tiny" / "x.zarr" / "zarr.json").write_text("damaged")
    publish(CYCLES[0], "x")
    assert whole(tmp_path / "out" / "tiny" / "x.zarr")
    assert (tmp_path / "out" / "tiny" / ".x.zarr.replaced" / "zarr.json").read_text() == "damaged"


def test_a_foreign_folder_fails_the_cycle(write, tmp_path):
    (tmp_path / "out" / "tiny" / "20010106T00.zarr" / "mine").mkdir(parents=True)
    path = write(start=CYCLES[-1], retries=0)
    code, said = call("run-due", path, "--now", NOW)
    assert code == 1 and "failed: could not be published: " in said and "move it away" in said
    assert (tmp_path / "out" / "tiny" / "20010106T00.zarr" / "mine").is_dir()


def test_latest_of_the_user_is_not_replaced(write, tmp_path):
    path = write(start=CYCLES[-1])
    folder = tmp_path / "out" / "tiny"
    folder.mkdir(parents=True)
    (folder / "latest").mkdir()
    code, said = call("run-due", path, "--now", NOW)
    assert code == 0 and "latest is a folder that no job made" in said and (folder / "latest").is_dir()
    jobs, ledger = load_jobs(path), Ledger(tmp_path / "ledger.sqlite")
    (folder / "latest").rmdir()
    for make in (
        lambda p: p.write_text("mine"),
        lambda p: p.symlink_to(tmp_path),
        lambda p: p.symlink_to("../mine.zarr"),
    ):
        make(folder / "latest")
        with pytest.raises(Foreign, match="that no job made"):
            point_latest(jobs, jobs.jobs[0], ledger)
        (folder / "latest").unlink()
    (folder / "latest").symlink_to("20010105T00.zarr")
    point_latest(jobs, jobs.jobs[0], ledger)
    assert os.readlink(folder / "latest") == "20010106T00.zarr"


def test_retention_removes_what_was_published_only(write, tmp_path, publish):
    path = write(keep=1)
    jobs, ledger = load_jobs(path), Ledger(tmp_path / "ledger.sqlite")
    ledger.open()
    folder = tmp_path / "out" / "tiny"
    names = [f"{cycle[:13].replace('-', '')}" for cycle in CYCLES]
    for cycle, name in zip(CYCLES, names, strict=True):
        ledger.enter_done("tiny", cycle, str(folder / f"{name}.zarr"), publish(cycle, name), clock()())
    shutil.rmtree(folder / "20010105T00.zarr")
    (folder / "20010105T00.zarr").mkdir()
    (folder / "20010105T00.zarr" / "mine").write_text("mine")
    (folder / "20010105T06.zarr" / "note").write_text("mine")
    (folder / "20010105T12.zarr.json").unlink()
    (folder / "20010105T18.mine.png").write_text("mine")
    said = []
    retain(jobs, jobs.jobs[0], ledger, lambda **line: said.append(line["message"]))
    left = {p.name for p in folder.iterdir()}
    assert {
        "20010105T00.zarr",
        "20010105T06.zarr",
        "20010105T12.zarr",
        "20010105T18.mine.png",
        "20010106T00.zarr",
    } <= left
    assert not left & {"20010105T18.zarr", "20010105T18.t2m_12h.png", "20010105T18.zarr.json"}
    assert (
        (folder / "20010105T00.zarr" / "mine").read_text()
        == (folder / "20010105T06.zarr" / "note").read_text()
        == "mine"
    )
    rows = ledger.rows()
    assert [row.state for row in rows] == ["removed"] * 4 + ["done"]
    assert sum("is not removed; remove it by hand" in (row.error or "") for row in rows) == 3
    assert [line.split()[0] for line in said] == ["kept"] * 3 + ["removed"]
    retain(jobs, jobs.jobs[0], ledger, None)  # nothing more to do or to log


def test_retention_waits_for_what_follows_an_end(write, tmp_path, publish):
    path = write(keep=1)
    jobs, ledger = load_jobs(path), Ledger(tmp_path / "ledger.sqlite")
    ledger.open()
    for cycle in CYCLES[:3]:
        name = cycle[:13].replace("-", "")
        ledger.enter_done(
            "tiny", cycle, f"{name}.zarr", publish(cycle, name), clock()(), followed=cycle == CYCLES[0]
        )
    retain(jobs, jobs.jobs[0], ledger, lambda **line: None)
    assert [row.state for row in ledger.rows()] == ["removed", "done", "done"]
    assert ledger.release(ledger.claim("tiny", CYCLES[1]))
    retain(jobs, jobs.jobs[0], ledger, lambda **line: None)
    assert [row.state for row in ledger.rows()] == ["removed", "removed", "done"]


def test_a_removal_that_was_killed_is_taken_up(tmp_path):
    place, made = Folder(tmp_path / "out"), tmp_path / "made.nc"
    made.write_text("forecast")
    manifest = {"job": "a", "cycle": CYCLES[0], "checksum": checksum(made)}
    place.publish("x.nc", made, {}, manifest, lambda: True)
    with pytest.raises(Foreign, match="not what was published"):
        place.remove("x.nc", "0" * 64)
    with pytest.raises(Foreign, match="not what was published"):
        place.remove("x.nc", None)
    os.rename(tmp_path / "out" / "x.nc", tmp_path / "gone")  # as far as the one that was killed came
    place.remove("x.nc", manifest["checksum"])
    assert not list((tmp_path / "out").glob("x*"))


def test_links_planted_for_logs_and_work_are_not_followed(write, tmp_path):
    path = write(start=CYCLES[-1], retries=0)
    victim, elsewhere = tmp_path / "victim", tmp_path / "elsewhere"
    victim.write_text("precious")
    elsewhere.mkdir()
    log = Log(tmp_path / "ledger.sqlite").path("tiny", CYCLES[-1])
    log.parent.mkdir(parents=True)
    log.symlink_to(victim)
    (tmp_path / "out" / "tiny").mkdir(parents=True)
    (tmp_path / "out" / "tiny" / ".making").symlink_to(elsewhere)
    code, said = call("run-due", path, "--now", NOW)
    assert (
        code == 1 and ".making is a link, not a folder; remove it" in said and "is a link, not a file" in said
    )
    assert victim.read_text() == "precious" and not list(elsewhere.iterdir())


def test_a_log_that_is_a_pipe_or_another_file_is_left(tmp_path, capsys):
    log = Log(tmp_path / "ledger.sqlite")
    path = log.path("tiny", CYCLES[0])
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    log.write(job="tiny", cycle=CYCLES[0], message="x")
    assert "is a pipe, not a file" in capsys.readouterr().err
    path.unlink()
    path.write_text("mine")
    log.write(job="tiny", cycle=CYCLES[0], message="x")
    assert "is not a log of fourcaster" in capsys.readouterr().err and path.read_text() == "mine"
    for job, cycle in (("../../x", CYCLES[0]), ("tiny", "../x"), ("tiny", "2001/../x")):
        log.write(job=job, cycle=cycle, message="x")
        assert "there is no log of" in capsys.readouterr().err
    assert {p.name for p in tmp_path.rglob("*")} == {"logs", "tiny", path.name}


class Memory(Bucket):
    """A bucket in memory."""

    def __init__(self, near):
        self.root, self._store, self.work = (
            "memory://x",
            pytest.importorskip("obstore").store.MemoryStore(),
            near,
        )


def fill(bucket, **objects):
    for key, value in objects.items():
        bucket._store.put(key.replace("__", "/").replace("_", "."), value)


def keys(bucket):
    return {key: bucket._get(key) for key in bucket._keys("")}


@pytest.fixture
def upload(tmp_path):
    """Return a bucket, and what publishes a small forecast in it."""
    bucket = Memory(tmp_path)

    def make(cycle=CYCLES[0], ours=lambda: True):
        made, drawn = tmp_path / "made.zarr", tmp_path / "made.png"
        made.mkdir(exist_ok=True)
        (made / "zarr.json").write_text("forecast")
        drawn.write_text("picture")
        manifest = {"job": "tiny", "cycle": cycle, "checksum": checksum(made)}
        bucket.publish("x.zarr", made, {"x.t2m.png": drawn}, manifest, ours)
        return manifest["checksum"]

    return bucket, make


@pytest.mark.parametrize("key", ["x_zarr__mine", "x_zarr", "x_zarr_json", "x_t2m_png", "x_zarr__zarr_json"])
def test_objects_of_others_in_a_bucket_are_kept(upload, key):
    bucket, publish = upload
    fill(bucket, **{key: b"mine"})
    before = keys(bucket)
    with pytest.raises(Foreign, match="is in the way, which no job published for this cycle; move it away"):
        publish()
    assert keys(bucket) == before and bucket.whole("x.zarr") is None
    with pytest.raises(Foreign, match="is in the way"):
        publish(CYCLES[1])


def test_a_manifest_in_a_bucket_says_whether_the_command_was_run(upload):
    bucket, publish = upload
    known = publish()
    before = keys(bucket)
    bucket.command_ended("x.zarr")
    assert keys(bucket) == before  # of earlier versions, and of jobs without a command
    bucket._put("x.zarr.json", json.dumps(with_command_pending(json.loads(before["x.zarr.json"]))).encode())
    assert is_pending(dict(bucket.manifests())["x.zarr"])
    bucket.command_ended("x.zarr")
    ((_, found),) = bucket.manifests()
    assert not is_pending(found) and found["on_success"] == "ended" and bucket.whole("x.zarr", known)
    bucket.command_ended("y.zarr")
    assert "y.zarr.json" not in keys(bucket)


def test_a_bucket_takes_up_its_own_and_removes_no_other(upload):
    bucket, publish = upload
    answers = iter([True, False])
    with pytest.raises(Lost):
        publish(ours=lambda: next(answers))  # the upload does not come to an end
    assert "x.zarr.making" in keys(bucket) and bucket.whole("x.zarr") is None
    known = publish()
    assert bucket.whole("x.zarr", known) and set(keys(bucket)) == {
        "x.zarr/zarr.json",
        "x.zarr.json",
        "x.t2m.png",
    }
    fill(bucket, x_mine_png=b"mine", x_zarr__mine=b"mine")
    with pytest.raises(Foreign, match="is not what was published there"):
        bucket.remove("x.zarr", known)
    bucket._drop(["x.zarr/mine"])
    with pytest.raises(Foreign, match="is not what was published there"):
        bucket.remove("x.zarr", "0" * 64)
    plain, left = bucket._drop, [1]

    def killed(names):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        plain(names)

    bucket._drop = killed
    with pytest.raises(KeyboardInterrupt):
        bucket.remove("x.zarr", known)
    bucket._drop = plain
    assert "x.zarr.json" not in keys(bucket) and "x.zarr/zarr.json" in keys(bucket)
    bucket.remove("x.zarr", known)
    assert set(keys(bucket)) == {"x.mine.png"}
    bucket.remove("x.zarr", known)


def test_latest_of_the_user_in_a_bucket_is_kept(upload):
    bucket, _ = upload
    for value in (b"my file", b"\xff\xfe", b"../x.zarr"):
        fill(bucket, latest=value)
        with pytest.raises(Foreign, match="latest is an object that no job made"):
            bucket.point("x.zarr")
        assert bucket.latest() is None and keys(bucket) == {"latest": value}
    fill(bucket, latest=b"w.zarr")
    bucket.point("x.zarr")
    assert bucket.latest() == "x.zarr"
