"""What is due is made once, late data are waited for, what fails is tried again and said; the verbs."""

import json
import os
import shutil
import subprocess
import time
from collections import Counter
from datetime import datetime, timedelta

import xarray as xr
from jobs_helpers import CYCLES, NOW, call, clock, lines, whole

from fourcaster.forecast.inference.forecaster import load, open_forecast
from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.places import Folder
from fourcaster.forecast.jobs.scheduler import Scheduler, clock_from


def test_what_is_due_is_made_once(write, tmp_path, tiny_checkpoint, tiny_store):
    path = write(plots=None, variables=["t2m"], truth=str(tiny_store))
    code, said = call("run-due", path, "--now", NOW)
    assert code == 0 and [line.split()[1:] for line in said.splitlines() if line.startswith("tiny ")] == [
        [c, "done"] for c in CYCLES
    ]
    code, said = call("run-due", path, "--now", NOW)
    assert code == 0 and "nothing to do" in said
    folder = tmp_path / "out" / "tiny"
    assert os.readlink(folder / "latest") == "20010106T00.zarr"
    straight = load(tiny_checkpoint).run(tiny_store, CYCLES[-1], "12h", variables=["t2m"])
    xr.testing.assert_equal(open_forecast(folder / "latest").load(), straight)
    for output in folder.glob("*.zarr"):
        assert whole(output) and (folder / f"{output.stem}.t2m_12h.png").stat().st_size > 1000
        assert (folder / f"{output.stem}.scores.nc").exists()
    assert not list((folder / ".making").iterdir())
    found = json.loads(call("status", path, "--now", NOW, "--json")[1])["jobs"][0]
    assert (
        found["next"] == "2001-01-06T06:00"
        and found["counts"]["done"] == 5
        and all(c["verified"] for c in found["cycles"])
    )
    page = (tmp_path / "status" / "index.html").read_text()
    assert "src='maps/tiny-2001-01-06T0000.png'" in page and page.count("class='state done'") == 5
    assert (
        'fourcaster_cycles{job="tiny",state="done"} 5' in (tmp_path / "status" / "metrics.prom").read_text()
    )
    assert all(json.loads(line)["job"] == "tiny" for line in call("logs", path, "tiny")[1].splitlines())


def test_late_data_are_waited_for_until_the_deadline(write, tmp_path, tiny_store):
    path = write(source="late.zarr", prepare=["true"], start=CYCLES[-1], deadline="2h", max_catchup=1)
    code, said = call("run-due", path, "--now", "2001-01-06T00:30")
    assert code == 3 and "waiting: late.zarr does not exist" in said.replace(str(tmp_path) + "/", "")
    assert call("run-due", path, "--now", "2001-01-06T01:59")[0] in (0, 3)
    (tmp_path / "late.zarr").symlink_to(tiny_store)
    time.sleep(1.1)  # until it looks again
    assert call("run-due", path, "--now", "2001-01-06T02:10")[0] == 0
    code, said = call("run-due", path, "--now", "2001-02-20T00:10")  # beyond what the source holds
    assert code == 3 and "lacks 2001-02-" in said
    time.sleep(1.1)
    code, said = call("run-due", path, "--now", "2001-02-20T03:10")
    assert code == 1 and "failed: the data did not come within 2 h" in said


def test_waiting_by_a_clock_that_was_set_ends_at_the_deadline(write):
    """The clock of --now goes on from there, at the pace of real time."""
    path = write(source="late.zarr", prepare=["true"], start=CYCLES[-1], deadline="3s", retries=0)
    began = time.monotonic()
    code, said = call("run-due", path, "--now", CYCLES[-1], "--wait")
    late = (
        "failed: the data did not come within 3 s",
        "failed: took longer than the deadline of 3 s",
    )  # where an attempt is slow
    assert code == 1 and any(reason in said for reason in late)
    assert 3 <= time.monotonic() - began < 60
    tick = clock_from(datetime(2001, 1, 1))
    first = tick()
    time.sleep(0.2)
    assert timedelta(seconds=0.2) <= tick() - first < timedelta(seconds=20) and first - datetime(
        2001, 1, 1
    ) < timedelta(seconds=20)


def test_ensembles_and_bounds_of_a_job_are_those_of_a_run(write, tmp_path, tiny_checkpoint, tiny_store):
    options = {"members": 3, "seed": 5, "amplitude": 0.2}
    path = write(start=CYCLES[-1], lead="6h", grid="5x9", clip={"t2m": [270, None]}, bounds=False, **options)
    assert call("run-due", path, "--now", NOW)[0] == 0
    straight = load(tiny_checkpoint).run(
        tiny_store, CYCLES[-1], "6h", grid="5x9", clip={"t2m": (270, None)}, **options
    )
    with open_forecast(tmp_path / "out" / "tiny" / "20010106T00.zarr") as made:
        xr.testing.assert_equal(made.load(), straight)
        assert (
            made["t2m"].attrs["clipped"] == straight["t2m"].attrs["clipped"]
            and made["number"].attrs == straight["number"].attrs
        )


def test_data_that_are_being_written_are_waited_for(write, tmp_path, tiny_store):
    path = write(prepare=["sh", "-c", "exit 75"], start=CYCLES[-1], retries=0)
    code, said = call("run-due", path, "--now", NOW)
    assert code == 3 and "waiting: the data are not there yet, says the prepare command sh" in said
    shutil.copytree(tiny_store, tmp_path / "part.zarr")
    for chunk in (tmp_path / "part.zarr" / "t2m" / "c").rglob("*"):
        if chunk.is_file():
            chunk.unlink()
    path = write(source="part.zarr", start=CYCLES[-1], retries=0)
    time.sleep(1.1)
    code, said = call("run-due", path, "--now", NOW)
    assert code == 3 and "waiting: " in said and "t2m has missing values at 2001-01-05T18" in said


def test_what_was_never_looked_at_goes_before_what_waits(write):
    scheduler = Scheduler(write(), clock())
    scheduler.enter()
    for cycle in CYCLES[:3]:
        claimed = scheduler.ledger.claim("tiny", cycle)
        scheduler.ledger.end(
            claimed, "waiting", "not there", not_before=time.time() - (2 if cycle == CYCLES[1] else 1)
        )
    assert [row.cycle for row in scheduler._free(None)] == [
        CYCLES[3],
        CYCLES[4],
        CYCLES[1],
        CYCLES[0],
        CYCLES[2],
    ]


def test_a_job_that_hangs_or_fails_is_ended_and_said(write, tmp_path):
    note = ["sh", "-c", 'echo "$FOURCASTER_STATE: $FOURCASTER_ERROR" > failed']
    path = write(prepare=["sleep", "600.5"], start=CYCLES[-1], deadline="1s", retries=0, on_failure=note)
    (row,) = Scheduler(path, clock()).run()
    assert row.state == "failed" and row.error == "took longer than the deadline of 1 s" and row.attempts == 1
    assert (tmp_path / "failed").read_text().startswith("failed: took longer")
    assert subprocess.run(["pgrep", "-fx", "sleep 600.5"], capture_output=True, check=False).returncode == 1
    path = write(prepare=["false"], start=CYCLES[-1], retries=1)
    assert call("retry", path, "tiny") == (0, f"tiny {CYCLES[-1]} pending\n")
    (row,) = Scheduler(path, clock()).run(until_ended=True)
    assert (row.state, row.attempts, row.error) == ("failed", 2, "the prepare command false ended with 1")
    assert "failing" in (tmp_path / "status" / "index.html").read_text()


def test_an_error_nobody_thought_of_ends_one_attempt_only(write, monkeypatch):
    path = write(start=CYCLES[-2], retries=0)
    plain = Folder.publish

    def broken(place, name, *more):
        if name.startswith("20010105T18"):
            raise RuntimeError("nobody thought of this")
        plain(place, name, *more)

    monkeypatch.setattr(Folder, "publish", broken)
    rows = Scheduler(path, clock()).run()
    assert [(row.state, row.error) for row in rows] == [
        ("failed", "RuntimeError: nobody thought of this"),
        ("done", None),
    ]


def test_old_cycles_go_and_the_last_stays(write, tmp_path):
    path = write(keep=2, truth=None)
    Scheduler(path, clock()).run()
    assert sorted(p.name for p in (tmp_path / "out" / "tiny").glob("*.zarr")) == [
        "20010105T18.zarr",
        "20010106T00.zarr",
    ]
    counts = Counter(row.state for row in Ledger(tmp_path / "ledger.sqlite").rows())
    assert counts == {"removed": 3, "done": 2}
    assert Scheduler(path, clock()).run() == []


def test_one_cycle_a_period_and_what_is_cancelled(write, tmp_path):
    path = write(start=CYCLES[-1])
    assert call("run", path, "tiny", "--cycle", "2001-01-03T06")[0] == 0
    code, said = call("run", path, "tiny", "--cycle", "2001-01-03T07")
    assert code == 2 and "has no cycle 2001-01-03T07" in said
    code, said = call("backfill", path, "tiny", "--from", "2001-01-03", "--to", "2001-01-03T12")
    assert code == 0 and said.count(" done") == 3
    assert (
        "latest -> 20010103T12.zarr"
        in subprocess.run(
            ["ls", "-l", tmp_path / "out" / "tiny"], capture_output=True, text=True, check=True
        ).stdout
    )
    scheduler = Scheduler(path, clock())
    scheduler.enter()
    assert call("cancel", path, "tiny", "--cycle", CYCLES[-1])[1].endswith("cancelled\n")
    assert scheduler.run() == []
    assert call("retry", path, "tiny", "--cycle", CYCLES[-1])[0] == 0
    assert [row.state for row in scheduler.run()] == ["done"]
    assert call("cancel", path, "tiny", "--cycle", CYCLES[-1])[0] == 2
    assert call("retry", path, "tiny", "--cycle", CYCLES[-1])[0] == 2
    assert call("logs", path, "other")[0] == 2


def test_what_failed_is_made_when_it_is_asked_for(write):
    path = write(prepare=["false"], start=CYCLES[-1], retries=0)
    assert call("run-due", path, "--now", NOW)[0] == 1
    path = write(start=CYCLES[-1], retries=0)
    assert call("run-due", path, "--now", NOW) == (0, "nothing to do\n")
    assert call("run", path, "tiny", "--cycle", CYCLES[-1])[0] == 0


def test_files_are_read_as_ingest_does(write, tmp_path, source):
    late = source.assign(t2m=(source["t2m"] - 273.15).assign_attrs(units="nonsense"))
    for i in range(2):
        late.isel(time=slice(80 * i, 80 * (i + 1))).to_netcdf(tmp_path / f"in{i}.nc")
    path = write(
        source={"files": "in*.nc", "units": {"t2m": "degC"}},
        start=CYCLES[-1],
        output="out/{cycle:%Y%m%dT%H}.nc",
        area="55/205/35/250",
    )
    (row,) = Scheduler(path, clock()).run()
    assert row.state == "done", row.error
    assert float(open_forecast(tmp_path / "out" / "latest")["t2m"].mean()) > 200
    assert row.finished - row.started < timedelta(minutes=2).total_seconds()


def test_a_command_that_cannot_be_run_holds_nothing_up(write, monkeypatch):
    path = write(start=CYCLES[-1], on_success=["true"])

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fourcaster.forecast.jobs.commands.tempfile.TemporaryFile", full)
    (row,) = Scheduler(path, clock()).run()
    assert row.state == "done" and row.token is None
    assert lines(path, "true could not be run: [Errno 28] No space left on device") == {CYCLES[-1]: 1}
