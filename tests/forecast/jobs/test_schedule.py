"""Due cycles run once, late data are awaited, failures are retried and reported; subcommands."""

import json
import os
import shutil
import subprocess
import time
from collections import Counter
from datetime import datetime, timedelta

import xarray as xr
from jobs_helpers import CYCLES, NOW, call, clock, count_lines, verify_checksum

from fourcaster.forecast.inference.forecaster import Forecaster
from fourcaster.forecast.inference.open import open_forecast
from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.output_store import LocalStore
from fourcaster.forecast.jobs.scheduler import Scheduler
from fourcaster.forecast.jobs.states import CycleState
from fourcaster.forecast.jobs.times import clock_from


def test_due_cycles_run_once(write_jobs, tmp_path, tiny_checkpoint, tiny_store):
    path = write_jobs(plots=None, variables=["t2m"], truth=str(tiny_store))
    code, output = call("run-due", path, "--now", NOW)
    assert code == 0
    lines = [line.split()[1:] for line in output.splitlines() if line.startswith("tiny ")]
    assert lines == [[cycle, "done"] for cycle in CYCLES]
    code, output = call("run-due", path, "--now", NOW)
    assert code == 0
    assert "nothing to do" in output
    folder = tmp_path / "out" / "tiny"
    assert os.readlink(folder / "latest") == "20010106T00.zarr"
    expected = Forecaster.load(tiny_checkpoint).run(
        tiny_store, times=CYCLES[-1], lead="12h", variables=["t2m"]
    )
    xr.testing.assert_equal(open_forecast(folder / "latest").load(), expected)
    for output in folder.glob("*.zarr"):
        assert verify_checksum(output)
        assert (folder / f"{output.stem}.t2m_12h.png").stat().st_size > 1000
        assert (folder / f"{output.stem}.scores.nc").exists()
    assert not list((folder / ".making").iterdir())
    status = json.loads(call("status", path, "--now", NOW, "--json")[1])["jobs"][0]
    assert status["next"] == "2001-01-06T06:00"
    assert status["counts"]["done"] == 5
    assert all(cycle["verified"] for cycle in status["cycles"])
    page = (tmp_path / "status" / "index.html").read_text()
    assert "src='maps/tiny-2001-01-06T0000.png'" in page
    assert page.count("class='state done'") == 5
    metrics = (tmp_path / "status" / "metrics.prom").read_text()
    assert 'fourcaster_cycles{job="tiny",state="done"} 5' in metrics
    assert all(json.loads(line)["job"] == "tiny" for line in call("logs", path, "tiny")[1].splitlines())


def test_late_data_are_awaited_until_the_deadline(write_jobs, tmp_path, tiny_store):
    path = write_jobs(source="late.zarr", prepare=["true"], start=CYCLES[-1], deadline="2h", max_catchup=1)
    code, output = call("run-due", path, "--now", "2001-01-06T00:30")
    assert code == 3
    assert "waiting: late.zarr does not exist" in output.replace(str(tmp_path) + "/", "")
    assert call("run-due", path, "--now", "2001-01-06T01:59")[0] in (0, 3)
    (tmp_path / "late.zarr").symlink_to(tiny_store)
    time.sleep(1.1)  # until the next poll
    assert call("run-due", path, "--now", "2001-01-06T02:10")[0] == 0
    code, output = call("run-due", path, "--now", "2001-02-20T00:10")  # after the end of the source
    assert code == 3
    assert "lacks 2001-02-" in output
    time.sleep(1.1)
    code, output = call("run-due", path, "--now", "2001-02-20T03:10")
    assert code == 1
    assert "failed: the data did not come within 2 h" in output


def test_waiting_with_a_given_current_time_ends_at_the_deadline(write_jobs):
    path = write_jobs(source="late.zarr", prepare=["true"], start=CYCLES[-1], deadline="3s", retries=0)
    started = time.monotonic()
    code, output = call("run-due", path, "--now", CYCLES[-1], "--wait")
    late = "failed: the data did not come within 3 s"
    slow = "failed: took longer than the deadline of 3 s"
    assert code == 1
    assert late in output or slow in output
    assert 3 <= time.monotonic() - started < 60
    present = clock_from(datetime(2001, 1, 1))
    first = present()
    time.sleep(0.2)
    assert timedelta(seconds=0.2) <= present() - first < timedelta(seconds=20)
    assert first - datetime(2001, 1, 1) < timedelta(seconds=20)


def test_job_output_equals_a_run_with_the_same_ensemble_and_bounds(
    write_jobs, tmp_path, tiny_checkpoint, tiny_store
):
    options = {"members": 3, "seed": 5, "amplitude": 0.2}
    path = write_jobs(
        start=CYCLES[-1], lead="6h", grid="5x9", clip={"t2m": [270, None]}, bounds=False, **options
    )
    assert call("run-due", path, "--now", NOW)[0] == 0
    expected = Forecaster.load(tiny_checkpoint).run(
        tiny_store, times=CYCLES[-1], lead="6h", grid="5x9", clip={"t2m": (270, None)}, **options
    )
    with open_forecast(tmp_path / "out" / "tiny" / "20010106T00.zarr") as forecast:
        xr.testing.assert_equal(forecast.load(), expected)
        assert forecast["t2m"].attrs["clipped"] == expected["t2m"].attrs["clipped"]
        assert forecast["number"].attrs == expected["number"].attrs


def test_incomplete_data_are_awaited(write_jobs, tmp_path, tiny_store):
    path = write_jobs(prepare=["sh", "-c", "exit 75"], start=CYCLES[-1], retries=0)
    code, output = call("run-due", path, "--now", NOW)
    assert code == 3
    assert "waiting: the data are not there yet, according to the prepare command sh" in output
    shutil.copytree(tiny_store, tmp_path / "part.zarr")
    for chunk in (tmp_path / "part.zarr" / "t2m" / "c").rglob("*"):
        if chunk.is_file():
            chunk.unlink()
    path = write_jobs(source="part.zarr", start=CYCLES[-1], retries=0)
    time.sleep(1.1)
    code, output = call("run-due", path, "--now", NOW)
    assert code == 3
    assert "waiting: " in output
    assert "t2m has missing values at 2001-01-05T18" in output


def test_untried_cycles_precede_waiting_cycles(write_jobs):
    scheduler = Scheduler(write_jobs(), clock())
    scheduler.enter_due()
    for cycle in CYCLES[:3]:
        claimed = scheduler.ledger.claim("tiny", cycle)
        not_before = time.time() - (2 if cycle == CYCLES[1] else 1)
        scheduler.ledger.end(claimed, CycleState.WAITING, "not there", not_before=not_before)
    expected = [CYCLES[i] for i in (3, 4, 1, 0, 2)]
    assert [record.cycle for record in scheduler._claimable(None)] == expected


def test_hanging_or_failing_job_is_terminated_and_reported(write_jobs, tmp_path):
    hook = ["sh", "-c", 'echo "$FOURCASTER_STATE: $FOURCASTER_ERROR" > failed']
    path = write_jobs(prepare=["sleep", "600.5"], start=CYCLES[-1], deadline="1s", retries=0, on_failure=hook)
    (record,) = Scheduler(path, clock()).run()
    assert record.state is CycleState.FAILED
    assert record.error == "took longer than the deadline of 1 s"
    assert record.attempts == 1
    assert (tmp_path / "failed").read_text().startswith("failed: took longer")
    assert subprocess.run(["pgrep", "-fx", "sleep 600.5"], capture_output=True, check=False).returncode == 1
    path = write_jobs(prepare=["false"], start=CYCLES[-1], retries=1)
    assert call("retry", path, "tiny") == (0, f"tiny {CYCLES[-1]} pending\n")
    (record,) = Scheduler(path, clock()).run(until_ended=True)
    assert (record.state, record.attempts) == (CycleState.FAILED, 2)
    assert record.error == "the prepare command false ended with 1"
    assert "failing" in (tmp_path / "status" / "index.html").read_text()


def test_unexpected_error_ends_only_its_attempt(write_jobs, monkeypatch):
    path = write_jobs(start=CYCLES[-2], retries=0)
    publish = LocalStore.publish

    def fail_once(store, name, *more, **options):
        if name.startswith("20010105T18"):
            raise RuntimeError("unexpected")
        publish(store, name, *more, **options)

    monkeypatch.setattr(LocalStore, "publish", fail_once)
    records = Scheduler(path, clock()).run()
    assert [(record.state, record.error) for record in records] == [
        (CycleState.FAILED, "RuntimeError: unexpected"),
        (CycleState.DONE, None),
    ]


def test_only_the_latest_cycles_are_kept(write_jobs, tmp_path):
    path = write_jobs(keep=2, truth=None)
    Scheduler(path, clock()).run()
    assert sorted(p.name for p in (tmp_path / "out" / "tiny").glob("*.zarr")) == [
        "20010105T18.zarr",
        "20010106T00.zarr",
    ]
    counts = Counter(record.state for record in Ledger(tmp_path / "ledger.sqlite").records())
    assert counts == {CycleState.REMOVED: 3, CycleState.DONE: 2}
    assert Scheduler(path, clock()).run() == []


def test_run_backfill_cancel_and_retry_commands(write_jobs, tmp_path):
    path = write_jobs(start=CYCLES[-1])
    assert call("run", path, "tiny", "--cycle", "2001-01-03T06")[0] == 0
    code, output = call("run", path, "tiny", "--cycle", "2001-01-03T07")
    assert code == 2
    assert "has no cycle 2001-01-03T07" in output
    code, output = call("backfill", path, "tiny", "--from", "2001-01-03", "--to", "2001-01-03T12")
    assert code == 0
    assert output.count(" done") == 3
    assert os.readlink(tmp_path / "out" / "tiny" / "latest") == "20010103T12.zarr"
    scheduler = Scheduler(path, clock())
    scheduler.enter_due()
    assert call("cancel", path, "tiny", "--cycle", CYCLES[-1])[1].endswith("cancelled\n")
    assert scheduler.run() == []
    assert call("retry", path, "tiny", "--cycle", CYCLES[-1])[0] == 0
    assert [record.state for record in scheduler.run()] == [CycleState.DONE]
    assert call("cancel", path, "tiny", "--cycle", CYCLES[-1])[0] == 2
    assert call("retry", path, "tiny", "--cycle", CYCLES[-1])[0] == 2
    assert call("logs", path, "other")[0] == 2


def test_failed_cycle_runs_on_request(write_jobs):
    path = write_jobs(prepare=["false"], start=CYCLES[-1], retries=0)
    assert call("run-due", path, "--now", NOW)[0] == 1
    path = write_jobs(start=CYCLES[-1], retries=0)
    assert call("run-due", path, "--now", NOW) == (0, "nothing to do\n")
    assert call("run", path, "tiny", "--cycle", CYCLES[-1])[0] == 0


def test_source_files_are_read_as_by_ingest(write_jobs, tmp_path, source):
    late = source.assign(t2m=(source["t2m"] - 273.15).assign_attrs(units="nonsense"))
    for i in range(2):
        late.isel(time=slice(80 * i, 80 * (i + 1))).to_netcdf(tmp_path / f"in{i}.nc")
    path = write_jobs(
        source={"files": "in*.nc", "units": {"t2m": "degC"}},
        start=CYCLES[-1],
        output="out/{cycle:%Y%m%dT%H}.nc",
        area="55/205/35/250",
    )
    (record,) = Scheduler(path, clock()).run()
    assert record.state is CycleState.DONE, record.error
    assert float(open_forecast(tmp_path / "out" / "latest")["t2m"].mean()) > 200
    assert record.finished - record.started < timedelta(minutes=2).total_seconds()


def test_hook_that_cannot_run_blocks_nothing(write_jobs, monkeypatch):
    path = write_jobs(start=CYCLES[-1], on_success=["true"])

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fourcaster.forecast.jobs.commands.tempfile.TemporaryFile", full)
    (record,) = Scheduler(path, clock()).run()
    assert record.state is CycleState.DONE
    assert record.token is None
    assert count_lines(path, "true could not be run: [Errno 28] No space left on device") == {CYCLES[-1]: 1}
