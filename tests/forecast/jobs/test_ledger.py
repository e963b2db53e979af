"""The ledger: who may have a cycle, whatever the clock says, and what becomes of it when it is damaged, held
or gone.
"""

import json
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest
from jobs_helpers import CYCLES, NOW, call, clock, lines, whole

from fourcaster.forecast.jobs import publishing
from fourcaster.forecast.jobs.hold import Hold
from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.places import Folder, Lost
from fourcaster.forecast.jobs.scheduler import Scheduler


def test_whoever_lost_a_cycle_cannot_publish_it(tmp_path):
    ledger, now = Ledger(tmp_path / "l.sqlite", lease=60), datetime(2001, 1, 1)
    assert ledger.open() is None
    ledger.insert("a", ["c"], now)
    first = ledger.claim("a", "c")
    assert first is not None and ledger.claim("a", "c") is None and ledger.renew(first) == "ours"

    def change(**values):
        with ledger._file.change() as db:
            db.execute(
                f"UPDATE cycles SET {', '.join(f'{name}=?' for name in values)}", list(values.values())
            )
        return ledger.row("a", "c")

    row = ledger.row("a", "c")
    assert not ledger.free(row) and not ledger.free(
        change(lease_until=0.0)
    )  # the process lives, whatever the clock says
    assert not ledger.free(change(heard=row.heard - 300)) and ledger.free(
        change(heard=row.heard - 3600)
    )  # but has been silent for very long
    assert not ledger.free(change(host="elsewhere", lease_until=time.time() + 1))
    change(lease_until=time.time() - 1)  # another host's, whose lease is over
    second = ledger.claim("a", "c")
    assert second is not None and second.interruptions == 1
    assert (
        ledger.renew(first) == "lost"
        and not ledger.publishing(first, "x", "y")
        and not ledger.end(first, "done")
    )
    assert (
        ledger.publishing(second, "x", "y")
        and ledger.end(second, "done")
        and ledger.row("a", "c").state == "done"
    )


def test_a_clock_that_is_set_back_holds_nothing_up(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite", lease=60)
    ledger.open()
    ledger.insert("a", ["c"], datetime(2001, 1, 1))
    first = ledger.claim("a", "c")
    with ledger._file.change() as db:
        db.execute("UPDATE cycles SET host='elsewhere', lease_until=?", (time.time() + 86400 * 365,))
    second = ledger.claim("a", "c")
    assert second is not None and ledger.end(
        second, "retrying", "x", not_before=time.time() + 86400 * 365, failed=True
    )
    assert (
        ledger.free(ledger.row("a", "c"))
        and ledger.row("a", "c").attempts == 1
        and first.token != second.token
    )


def test_a_ledger_that_is_held_is_said_so(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.open()
    monkeypatch.setattr("fourcaster.forecast.jobs.database._PATIENCE", 0.1)
    with (
        ledger._file.change(),
        pytest.raises(
            OSError,
            match=r"l\.sqlite cannot be written \(database is locked; another program holds it\); nothing is lost",
        ),
    ):
        ledger.insert("a", ["c"], datetime(2001, 1, 1))


def test_a_claim_is_renewed_whatever_is_done_meanwhile_and_asked_for_before_publishing(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite", lease=1)
    ledger.open()
    ledger.insert("a", ["c"], datetime(2001, 1, 1))
    row = ledger.claim("a", "c")
    made = tmp_path / "made.nc"
    made.write_text("forecast")
    with Hold(ledger, row) as hold:
        time.sleep(2)
        assert ledger.row("a", "c").lease_until > time.time() and hold.ours()
        ledger.reopen("a", "c")
        with ledger._file.change() as db:
            db.execute("UPDATE cycles SET token='another'")
        with pytest.raises(Lost):
            Folder(tmp_path / "out").publish("x.nc", made, {}, {}, hold.ours)
        assert hold.state == "lost" and not (tmp_path / "out" / "x.nc").exists()


def test_a_ledger_that_is_damaged_is_rebuilt_from_the_outputs(write, tmp_path):
    path = write()
    before = {row.cycle: row.checksum for row in Scheduler(path, clock()).run()}
    (tmp_path / "out" / "tiny" / "20010105T06.zarr" / "zarr.json").write_text(
        "{}"
    )  # no longer what was published
    for tail in ("-wal", "-shm"):
        (tmp_path / f"ledger.sqlite{tail}").unlink(missing_ok=True)
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 1000)
    again = Scheduler(path, clock())
    assert len(list(tmp_path.glob("ledger.sqlite.corrupt-*"))) == 1
    assert [row.cycle for row in again.run()] == [CYCLES[1]]
    assert {row.cycle: row.checksum for row in again.ledger.rows()} == before


def test_a_ledger_that_is_emptied_or_gone_is_made_up_for(write, tmp_path):
    path = write(keep=2, on_success=["sh", "-c", "echo {name} >> told"])
    Scheduler(path, clock()).run()
    before = {
        row.cycle: (row.state, row.checksum)
        for row in Ledger(tmp_path / "ledger.sqlite").rows()
        if row.state == "done"
    }
    for damage in (lambda file: file.write_bytes(b""), Path.unlink):
        for tail in ("-wal", "-shm"):
            (tmp_path / f"ledger.sqlite{tail}").unlink(missing_ok=True)
        damage(tmp_path / "ledger.sqlite")
        again = Scheduler(path, clock())
        assert again.run() == [] and not list(tmp_path.glob("*.corrupt-*"))
        assert {
            row.cycle: (row.state, row.checksum) for row in again.ledger.rows() if row.state == "done"
        } == before
    assert len((tmp_path / "told").read_text().split()) == 5
    with again.ledger._file.change() as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(
        ValueError, match="of version 99, this version of fourcaster knows 1; use a newer one"
    ):
        Scheduler(path, clock())


@pytest.mark.parametrize("step", ["Folder.publish", "Ledger.end", "publishing.point_latest"])
def test_the_command_is_run_where_the_ledger_is_damaged_before_it(write, tmp_path, monkeypatch, step):
    path = write(start=CYCLES[-2], on_success=["sh", "-c", "echo {cycle:%Y-%m-%dT%H:%M} >> told"])
    owner, name = step.split(".")
    owner = {"Folder": Folder, "Ledger": Ledger, "publishing": publishing}[owner]
    plain, left = (
        getattr(owner, name),
        [0 if owner is Folder else 1],
    )  # latest is looked at when a scheduler starts

    def damaging(*args, **more):
        found = plain(*args, **more)
        left[0] -= 1
        if left[0] == -1:
            for tail in ("-wal", "-shm"):
                (tmp_path / f"ledger.sqlite{tail}").unlink(missing_ok=True)
            (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 1000)
        return found

    monkeypatch.setattr(owner, name, damaging)
    Scheduler(path, clock()).run(until_ended=True)
    assert len(list(tmp_path.glob("ledger.sqlite.corrupt-*"))) == 1
    rows = Ledger(tmp_path / "ledger.sqlite").rows()
    assert [(row.cycle, row.state, row.token) for row in rows] == [
        (cycle, "done", None) for cycle in CYCLES[-2:]
    ]
    assert set((tmp_path / "told").read_text().split()) == set(CYCLES[-2:])
    told = (tmp_path / "told").read_text()
    for manifest in (tmp_path / "out" / "tiny").glob("*.zarr.json"):
        assert json.loads(manifest.read_text())["on_success"] == "ended"
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 1000)
    assert Scheduler(path, clock()).run() == [] and (tmp_path / "told").read_text() == told


def test_a_ledger_damaged_under_a_service_is_rebuilt(write, tmp_path):
    path = write(start=CYCLES[-2])
    times = [datetime.fromisoformat(CYCLES[-2])]
    scheduler = Scheduler(path, lambda: times[-1])
    thread = threading.Thread(target=scheduler.run, kwargs={"stay": True})
    thread.start()
    while not scheduler.ledger.rows(states=("done",)):
        time.sleep(0.1)
    for tail in ("-wal", "-shm"):
        (tmp_path / f"ledger.sqlite{tail}").unlink(missing_ok=True)
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 1000)
    times.append(datetime.fromisoformat(NOW))
    try:
        for _ in range(300):
            time.sleep(0.1)
            if list(tmp_path.glob("*.corrupt-*")) and len(scheduler.ledger.rows(states=("done",))) == 2:
                break
    finally:
        scheduler.stop()
        thread.join()
    assert lines(path, "published as") == Counter(CYCLES[-2:])


@pytest.mark.parametrize("left", [20, 60, 200, 350, 600])
def test_a_disk_without_room_loses_nothing(write, tmp_path, left):
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("a small disk cannot be mounted here")
    try:
        path = Path(shutil.copy(write(start=CYCLES[-2], retries=0), disk))
        with open(disk / "filler", "wb") as file:
            file.write(bytes(4 * 2**20 - (left + 8) * 1024))
        code, said = call("run-due", path, "--now", NOW)
        if code == 2:
            assert "no room on the disk: free some space" in said.splitlines()[-1]
        (disk / "filler").unlink()
        ended = (
            [row.state for row in Ledger(disk / "ledger.sqlite").rows()]
            if (disk / "ledger.sqlite").exists()
            else []
        )
        if "failed" in ended:
            assert code == 1 and call("retry", path, "tiny")[0] == 0
        assert call("run-due", path, "--now", NOW, "--wait")[0] == 0
        rows = Ledger(disk / "ledger.sqlite").rows()
        assert [row.state for row in rows] == ["done", "done"] and all(
            whole(Path(row.output), row.checksum) for row in rows
        )
        assert not list((disk / "out" / "tiny" / ".making").iterdir()) and not list(disk.glob("*.corrupt-*"))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
