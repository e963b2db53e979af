"""The ledger: claims and leases under any clock; damaged, locked and missing ledgers."""

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
from jobs_helpers import CYCLES, NOW, call, clock, count_lines, verify_checksum

from fourcaster.forecast.jobs import publishing
from fourcaster.forecast.jobs.lease import LeaseKeeper
from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.manifests import Manifest
from fourcaster.forecast.jobs.output_store import LeaseLostError, LocalStore
from fourcaster.forecast.jobs.scheduler import Scheduler
from fourcaster.forecast.jobs.states import ClaimState, CycleState


def test_process_that_lost_its_claim_cannot_publish(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite", lease=60)
    assert ledger.open() is None
    ledger.insert("a", ["c"], datetime(2001, 1, 1))
    first = ledger.claim("a", "c")
    assert first is not None
    assert ledger.claim("a", "c") is None
    assert ledger.renew(first) is ClaimState.HELD

    def change(**values):
        with ledger._database.transaction() as db:
            db.execute(
                f"UPDATE cycles SET {', '.join(f'{name}=?' for name in values)}", list(values.values())
            )
        return ledger.record("a", "c")

    record = ledger.record("a", "c")
    assert not ledger.is_claimable(record)
    assert not ledger.is_claimable(change(lease_until=0.0))  # the process is alive, whatever the clock shows
    assert not ledger.is_claimable(change(heard=record.heard - 300))
    assert ledger.is_claimable(change(heard=record.heard - 3600))  # no heartbeat for a long time
    assert not ledger.is_claimable(change(host="elsewhere", lease_until=time.time() + 1))
    change(lease_until=time.time() - 1)  # of another host, with an expired lease
    second = ledger.claim("a", "c")
    assert second is not None
    assert second.interruptions == 1
    assert ledger.renew(first) is ClaimState.LOST
    assert not ledger.begin_publishing(first, "x", "y")
    assert not ledger.end(first, CycleState.DONE)
    assert ledger.begin_publishing(second, "x", "y")
    assert ledger.end(second, CycleState.DONE)
    assert ledger.record("a", "c").state is CycleState.DONE


def test_clock_set_back_blocks_no_cycle(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite", lease=60)
    ledger.open()
    ledger.insert("a", ["c"], datetime(2001, 1, 1))
    first = ledger.claim("a", "c")
    with ledger._database.transaction() as db:
        db.execute("UPDATE cycles SET host='elsewhere', lease_until=?", (time.time() + 86400 * 365,))
    second = ledger.claim("a", "c")
    assert second is not None
    not_before = time.time() + 86400 * 365
    assert ledger.end(second, CycleState.RETRYING, "x", not_before=not_before, failed=True)
    assert ledger.is_claimable(ledger.record("a", "c"))
    assert ledger.record("a", "c").attempts == 1
    assert first.token != second.token


def test_locked_ledger_is_reported(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.open()
    monkeypatch.setattr("fourcaster.forecast.jobs.database._LOCK_TIMEOUT", 0.1)
    with (
        ledger._database.transaction(),
        pytest.raises(
            OSError,
            match=r"l\.sqlite cannot be written \(database is locked; another program has locked it\)",
        ),
    ):
        ledger.insert("a", ["c"], datetime(2001, 1, 1))


def test_claim_is_renewed_while_working_and_checked_before_publishing(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite", lease=1)
    ledger.open()
    ledger.insert("a", ["c"], datetime(2001, 1, 1))
    record = ledger.claim("a", "c")
    output = tmp_path / "output.nc"
    output.write_text("forecast")
    manifest = Manifest({"job": "a", "cycle": "c", "checksum": "0" * 64})
    with LeaseKeeper(ledger, record) as lease:
        time.sleep(2)
        assert ledger.record("a", "c").lease_until > time.time()
        assert lease.is_held()
        ledger.reopen("a", "c")
        with ledger._database.transaction() as db:
            db.execute("UPDATE cycles SET token='another'")
        with pytest.raises(LeaseLostError):
            LocalStore(tmp_path / "out").publish(
                "x.nc", output, manifest, attachments={}, lease_held=lease.is_held
            )
        assert lease.state is ClaimState.LOST
        assert not (tmp_path / "out" / "x.nc").exists()


def test_damaged_ledger_is_rebuilt_from_the_outputs(write_jobs, tmp_path):
    path = write_jobs()
    before = {record.cycle: record.checksum for record in Scheduler(path, clock()).run()}
    # Damage a published output:
    (tmp_path / "out" / "tiny" / "20010105T06.zarr" / "zarr.json").write_text("{}")
    for tail in ("-wal", "-shm"):
        (tmp_path / f"ledger.sqlite{tail}").unlink(missing_ok=True)
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 1000)
    scheduler = Scheduler(path, clock())
    assert len(list(tmp_path.glob("ledger.sqlite.corrupt-*"))) == 1
    assert [record.cycle for record in scheduler.run()] == [CYCLES[1]]
    assert {record.cycle: record.checksum for record in scheduler.ledger.records()} == before


def test_emptied_or_missing_ledger_is_rebuilt_from_the_outputs(write_jobs, tmp_path):
    path = write_jobs(keep=2, on_success=["sh", "-c", "echo {name} >> notified"])
    Scheduler(path, clock()).run()
    before = {
        record.cycle: record.checksum
        for record in Ledger(tmp_path / "ledger.sqlite").records(states=[CycleState.DONE])
    }
    for damage in (lambda file: file.write_bytes(b""), Path.unlink):
        for tail in ("-wal", "-shm"):
            (tmp_path / f"ledger.sqlite{tail}").unlink(missing_ok=True)
        damage(tmp_path / "ledger.sqlite")
        scheduler = Scheduler(path, clock())
        assert scheduler.run() == []
        assert not list(tmp_path.glob("*.corrupt-*"))
        done = scheduler.ledger.records(states=[CycleState.DONE])
        assert {record.cycle: record.checksum for record in done} == before
    assert len((tmp_path / "notified").read_text().split()) == 5
    with scheduler.ledger._database.transaction() as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(ValueError, match="version 99, but this version of fourcaster reads 1; use a newer"):
        Scheduler(path, clock())


@pytest.mark.parametrize("step", ["LocalStore.publish", "Ledger.end", "publishing.set_latest"])
def test_hook_runs_if_the_ledger_is_damaged_before_it(write_jobs, tmp_path, monkeypatch, step):
    path = write_jobs(start=CYCLES[-2], on_success=["sh", "-c", "echo {cycle:%Y-%m-%dT%H:%M} >> notified"])
    owner, name = step.split(".")
    owner = {"LocalStore": LocalStore, "Ledger": Ledger, "publishing": publishing}[owner]
    original = getattr(owner, name)
    remaining = [0 if owner is LocalStore else 1]  # `latest` is also set when a scheduler starts

    def damage_after(*args, **more):
        result = original(*args, **more)
        remaining[0] -= 1
        if remaining[0] == -1:
            for tail in ("-wal", "-shm"):
                (tmp_path / f"ledger.sqlite{tail}").unlink(missing_ok=True)
            (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 1000)
        return result

    monkeypatch.setattr(owner, name, damage_after)
    Scheduler(path, clock()).run(until_ended=True)
    assert len(list(tmp_path.glob("ledger.sqlite.corrupt-*"))) == 1
    records = Ledger(tmp_path / "ledger.sqlite").records()
    expected = [(cycle, CycleState.DONE, None) for cycle in CYCLES[-2:]]
    assert [(record.cycle, record.state, record.token) for record in records] == expected
    notified = (tmp_path / "notified").read_text()
    assert set(notified.split()) == set(CYCLES[-2:])
    for manifest in (tmp_path / "out" / "tiny").glob("*.zarr.json"):
        assert json.loads(manifest.read_text())["on_success"] == "ended"
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 1000)
    assert Scheduler(path, clock()).run() == []
    assert (tmp_path / "notified").read_text() == notified


def test_ledger_damaged_while_serving_is_rebuilt(write_jobs, tmp_path):
    path = write_jobs(start=CYCLES[-2])
    times = [datetime.fromisoformat(CYCLES[-2])]
    scheduler = Scheduler(path, lambda: times[-1])
    thread = threading.Thread(target=scheduler.run, kwargs={"stay": True})
    thread.start()
    while not scheduler.ledger.records(states=[CycleState.DONE]):
        time.sleep(0.1)
    for tail in ("-wal", "-shm"):
        (tmp_path / f"ledger.sqlite{tail}").unlink(missing_ok=True)
    # In place: a truncated file would be, for a moment, an empty foreign database.
    with open(tmp_path / "ledger.sqlite", "r+b") as file:
        file.write(b"no database" * 1000)
    times.append(datetime.fromisoformat(NOW))
    try:
        for _ in range(300):
            time.sleep(0.1)
            if (
                list(tmp_path.glob("*.corrupt-*"))
                and len(scheduler.ledger.records(states=[CycleState.DONE])) == 2
            ):
                break
    finally:
        scheduler.stop()
        thread.join()
    assert count_lines(path, "published as") == Counter(CYCLES[-2:])


@pytest.mark.parametrize("free", [20, 60, 200, 350, 600])
def test_full_disk_loses_no_cycle(write_jobs, tmp_path, free):
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
        path = Path(shutil.copy(write_jobs(start=CYCLES[-2], retries=0), disk))
        with open(disk / "filler", "wb") as file:
            file.write(bytes(4 * 2**20 - (free + 8) * 1024))
        code, output = call("run-due", path, "--now", NOW)
        if code == 2:
            assert "no room on the disk: free some space" in output.splitlines()[-1]
        (disk / "filler").unlink()
        ledger = Ledger(disk / "ledger.sqlite")
        if ledger.path.exists() and ledger.records(states=[CycleState.FAILED]):
            assert code == 1
            assert call("retry", path, "tiny")[0] == 0
        assert call("run-due", path, "--now", NOW, "--wait")[0] == 0
        records = ledger.records()
        assert [record.state for record in records] == [CycleState.DONE] * 2
        assert all(verify_checksum(Path(record.output), record.checksum) for record in records)
        assert not list((disk / "out" / "tiny" / ".making").iterdir())
        assert not list(disk.glob("*.corrupt-*"))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
