"""Scheduled rollouts: what is due, published whole and once, whatever is killed on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import xarray as xr
import yaml
from browser import browser
from servers import credentials, s3_server, serve, stop
from typer.testing import CliRunner

from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest import write_store
from fourcaster.forecast.api import load, open_forecast
from fourcaster.forecast.cli import app
from fourcaster.forecast.jobs.commands import resolve
from fourcaster.forecast.jobs.hold import Hold
from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.log import mask
from fourcaster.forecast.jobs.places import Bucket, Folder, Lost
from fourcaster.forecast.jobs.reading import load_jobs
from fourcaster.forecast.jobs.scheduler import Scheduler
from fourcaster.forecast.jobs.spec import Job
from fourcaster.forecast.verification import summary, verify

NOW = "2001-01-06T00:30"
CYCLES = ["2001-01-05T00:00", "2001-01-05T06:00", "2001-01-05T12:00", "2001-01-05T18:00", "2001-01-06T00:00"]


@pytest.fixture
def write(tiny_checkpoint, tiny_store, tmp_path):
    """Return what writes a jobs file of one job."""

    def make(*more, top=None, **changes):
        job = {
            "name": "tiny",
            "checkpoint": str(tiny_checkpoint),
            "source": str(tiny_store),
            "cycle": "0 */6 * * *",
            "start": "2001-01-05T00:00",
            "lead": "12h",
            "output": "out/{name}/{cycle:%Y%m%dT%H}.zarr",
            "backoff": "1s",
            "plots": [],
        } | changes
        path = tmp_path / "jobs.yaml"
        path.write_text(yaml.safe_dump({"jobs": [{k: v for k, v in job.items() if v is not None}, *more], "poll": "1s"} | (top or {})))
        return path

    return make


def call(*words):
    result = CliRunner().invoke(app, ["jobs", *map(str, words)])
    return result.exit_code, result.output


def _until(source, last, path):
    source.sel(time=slice(None, last)).to_netcdf(path)
    return path


def whole(output: Path, expected: str | None = None):
    return Folder(output.parent).whole(output.name, expected)


def clock(text=NOW):
    return lambda: datetime.fromisoformat(text)


def lines(path: Path, message: str) -> Counter:
    """How often each cycle's log says something."""
    found = Counter()
    for file in (path.parent / "logs").rglob("*.jsonl"):
        for line in file.read_text().splitlines():
            said = json.loads(line)
            found[said["cycle"]] += said["message"].startswith(message)
    return found


def test_what_is_due_is_made_once(write, tmp_path, tiny_checkpoint, tiny_store):
    path = write(plots=None, variables=["t2m"], truth=str(tiny_store))
    code, said = call("run-due", path, "--now", NOW)
    assert code == 0 and [line.split()[1:] for line in said.splitlines() if line.startswith("tiny ")] == [[c, "done"] for c in CYCLES]
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
    assert found["next"] == "2001-01-06T06:00" and found["counts"]["done"] == 5 and all(c["verified"] for c in found["cycles"])
    page = (tmp_path / "status" / "index.html").read_text()
    assert "src='maps/tiny-2001-01-06T0000.png'" in page and page.count("class='state done'") == 5
    assert 'fourcaster_cycles{job="tiny",state="done"} 5' in (tmp_path / "status" / "metrics.prom").read_text()
    assert all(json.loads(line)["job"] == "tiny" for line in call("logs", path, "tiny")[1].splitlines())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cycel": "0 0 * * *"}, "job tiny: .*unknown key; did you mean cycle"),
        ({"cycle": "0 25 * * *"}, "no cron expression"),
        ({"checkpoint": "nowhere"}, "there is no checkpoint nowhere"),
        ({"source": "nowhere.zarr"}, "there is no source nowhere.zarr"),
        ({"name": "../up"}, "name: String should match"),
        ({"output": "../{cycle:%Y%m%dT%H}.zarr"}, "holds '..'"),
        ({"output": "/tmp/{cycle:%Y}.zarr"}, "leads out of the folder"),
        ({"output": "out.zarr"}, "lacks {cycle}"),
        ({"output": "{cycle.__class__}/{cycle:%Y}.zarr"}, "names {cycle.__class__}"),
        ({"output": "{cycle:%Y/../%m}.zarr"}, "without slashes"),
        ({"output": "{cycle:%Y%m%d}.zarr"}, "2000-01-01T00:00 and 2000-01-01T06:00 would be one output"),
        ({"output": "{cycle:%m%dT%H}.zarr"}, "2000-01-01T00:00 and 2001-01-01T00:00 would be one output"),
        ({"output": "{cycle:%Y}.grib"}, "must end in .zarr or .nc"),
        ({"lead": "soon"}, "is not a duration"),
        ({"start": "yesterday"}, "yesterday is not a time"),
        ({"prepare": ["get", "${NO_SUCH_VARIABLE}"]}, "NO_SUCH_VARIABLE.*neither a name nor in the environment"),
        ({"lead": None}, "lead: Field required"),
        ({"truth": "store.zarr", "area": "55/205/35/250"}, "leave out grid and area"),
        ({"truth": "s3://bucket/store.zarr"}, "truth s3://bucket/store.zarr is a URL"),
        ({"report": True}, "a report needs truth"),
        ({"lead": "7h"}, "job tiny: lead 7h is not a positive multiple of the model's step of 6 h"),
        ({"variables": ["t2n"]}, "the model has no 't2n'; did you mean t2m"),
        ({"area": "5/0/-5/1"}, "area 5/0/-5/1"),
        ({"grid": 100}, "grid spacing must lie between"),
        ({"plots": [{"variable": "t2m", "lead": "18h"}]}, "lead 18h is none of the forecast's, which go to 12h in steps of 6 h"),
        ({"plots": [{"variable": "t2m", "lead": "12h", "level": 500}]}, "t2m has no levels, got level 500"),
        ({"plots": [{"variable": "t2m", "lead": "12h"}], "variables": ["u10"]}, "the forecast has no 't2m'"),
        ({"cycle": "0 0 0 * * *"}, "Wrong number of fields"),
        ({"cycle": "0 * * * *", "output": "{cycle:%Y%d%H}.zarr"}, "would be one output"),
        ({"deadline": "0s"}, "deadline: should be 1 s at least"),
    ],
)
def test_a_jobs_file_that_is_wrong_is_refused(write, changes, said, tmp_path):
    path = write(**changes)
    with pytest.raises(ValueError, match=said):
        load_jobs(path)
    code, text = call("run-due", path, "--now", NOW)
    assert code == 2 and len(text.splitlines()) == 1 and not (tmp_path / "ledger.sqlite").exists()


def test_two_jobs_of_one_name_or_folder_are_refused(write):
    first = yaml.safe_load(write().read_text())["jobs"][0]
    with pytest.raises(ValueError, match="two jobs are called 'tiny'"):
        load_jobs(write(first))
    with pytest.raises(ValueError, match="two jobs write to out"):
        load_jobs(write(first | {"name": "b", "output": "out/{cycle:%Y%m%dT%H}.zarr"}, output="out/{cycle:%Y%m%dT%H}.zarr"))
    with pytest.raises(ValueError, match="holds no list of jobs"):
        load_jobs(write(top={"jobs": {}}))
    with pytest.raises(ValueError, match="defaults: should hold keys of a job"):
        load_jobs(write(top={"defaults": ["lead"]}))
    path = write()
    path.write_text(path.read_text() + "poll: 5s\n")
    with pytest.raises(ValueError, match="'poll' is given twice, line 1 and below"):
        load_jobs(path)


def job(**changes):
    return Job(**{"name": "a", "checkpoint": "c", "source": "s", "cycle": "0 */6 * * *", "lead": "1d", "output": "{cycle:%Y}.nc"} | changes)


def test_what_is_due():
    now, seen = datetime(2001, 1, 6, 0, 30), datetime(2001, 1, 5, 7)
    assert [c.hour for c in job().due(now, seen)] == [12, 18, 0]
    assert [c.hour for c in job(delay="1h").due(now, seen)] == [12, 18]
    assert [c.hour for c in job(catch_up="newest", max_catchup=2).due(now, seen)] == [0, 18]
    assert [c.day for c in job(start="2001-01-01", max_catchup=10**6).due(now, seen)] == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4 + [6]
    assert job().due(datetime(2001, 1, 6), seen)[-1] == datetime(2001, 1, 6)  # on the minute
    assert job(delay="2h").next(now) == datetime(2001, 1, 6, 2) and job(start="2002-01-01").next(now) == datetime(2002, 1, 1)


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


STEPS = {
    "claimed": "Ledger.claim",
    "made": "LocalEngine.run",
    "about to publish": "Ledger.publishing",
    "named": "Folder.publish",
    "done": "Ledger.end",
    "pointed": "publishing.point_latest",
}
KILLER = """
import os, signal, sys
from fourcaster.forecast.jobs import publishing, scheduler
from fourcaster.forecast.jobs.engines import LocalEngine
from fourcaster.forecast.jobs.commands import resolve
from fourcaster.forecast.jobs.hold import Hold
from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.places import Bucket, Folder
owner, name = {target!r}.split(".")
owner, left = globals()[owner], [{count}]
plain = getattr(owner, name)
def deadly(*args, **more):
    found = plain(*args, **more)
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return found
setattr(owner, name, deadly)
from fourcaster.forecast.cli import app
app(["jobs", "run-due", {path!r}, "--now", {now!r}])
"""


@pytest.mark.parametrize("step", STEPS)
def test_a_scheduler_killed_at_any_step_loses_nothing(write, tmp_path, step):
    path = write(start=CYCLES[2], on_success=["sh", "-c", "echo {cycle:%Y-%m-%dT%H:%M} >> told"])
    code = KILLER.format(target=STEPS[step], count=1, path=str(path), now=NOW)
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == -signal.SIGKILL
    before = {output: whole(output) for output in (tmp_path / "out" / "tiny").glob("2*.zarr")}
    assert all(before.values())  # whatever stands under a final name is whole
    rows = Scheduler(path, clock()).run()
    assert {row.state for row in rows} <= {"done"}
    rows = Ledger(tmp_path / "ledger.sqlite").rows()
    assert [row.cycle for row in rows] == CYCLES[2:] and all(row.state == "done" and row.attempts == 0 for row in rows)
    assert all(whole(Path(row.output), row.checksum) for row in rows)
    assert {output: whole(output) for output in before} == before
    assert os.readlink(tmp_path / "out" / "tiny" / "latest") == "20010106T00.zarr"
    assert not list((tmp_path / "out" / "tiny" / ".making").iterdir())
    assert set((tmp_path / "told").read_text().split()) == set(CYCLES[2:])  # what was about to be told when it was killed too


WORKER = """
import os, signal
from pathlib import Path
import fourcaster.forecast.jobs.making as making
from fourcaster.forecast.api import Forecaster

def deadly(owner, name):
    plain = getattr(owner, name)
    def work(*args, **more):
        found = plain(*args, **more)
        try:
            (Path({folder!r}) / f"killed-{{name}}").touch(exist_ok=False)
        except FileExistsError:
            return found
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, work)

for owner, name in ((making, "resolve"), (making, "load"), (making, "initial_states"), (Forecaster, "run"), (making.publishing, "check"),
                    (making, "plot"), (making, "checksum"), (making, "attempt")):
    deadly(owner, name)
"""


def test_a_worker_killed_at_every_step_is_no_failure(write, tmp_path, monkeypatch):
    (tmp_path / "deadly.py").write_text(WORKER.format(folder=str(tmp_path)))
    path = write(start=CYCLES[-1], prepare=["true"], retries=0, plots=None)
    code = (
        "from fourcaster.forecast.jobs import engines; engines._PRELOADED.append('deadly'); from fourcaster.forecast.cli import app; "
        f"app(['jobs', 'run-due', {str(path)!r}, '--now', {NOW!r}])"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    (row,) = Ledger(tmp_path / "ledger.sqlite").rows()
    assert done.returncode == 0 and (row.state, row.attempts, row.interruptions) == ("done", 0, 8), done.stderr
    assert len(list(tmp_path.glob("killed-*"))) == 8 and whole(Path(row.output), row.checksum)
    assert lines(path, "published as") == {CYCLES[-1]: 1}


def test_schedulers_that_race_share_the_work(write, tmp_path):
    path = write()
    words = [sys.executable, "-c", "from fourcaster.forecast.cli import main; main()", "jobs", "run-due", str(path), "--now", NOW]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0, 0], said
    assert lines(path, "published as") == Counter(CYCLES) and lines(path, "begins") == Counter(CYCLES)


def test_a_worker_killed_from_outside_is_no_failure(write, tmp_path):
    kill = f"import os, signal; p='{tmp_path}/killed'; n=os.path.exists(p) or (open(p, 'w'), os.kill(os.getppid(), signal.SIGKILL))"
    path = write(prepare=[sys.executable, "-c", kill], start=CYCLES[-1], retries=0)
    rows = Scheduler(path, clock()).run()
    assert [(row.state, row.attempts, row.interruptions) for row in rows] == [("done", 0, 1)]


def test_a_job_that_hangs_or_fails_is_ended_and_said(write, tmp_path):
    path = write(prepare=["sleep", "600.5"], start=CYCLES[-1], deadline="1s", retries=0, on_failure=["sh", "-c", "echo '{state}: {error}' > failed"])
    (row,) = Scheduler(path, clock()).run()
    assert row.state == "failed" and row.error == "took longer than the deadline of 1 s" and row.attempts == 1
    assert (tmp_path / "failed").read_text().startswith("failed: took longer")
    assert subprocess.run(["pgrep", "-fx", "sleep 600.5"], capture_output=True, check=False).returncode == 1
    path = write(prepare=["false"], start=CYCLES[-1], retries=1)
    assert call("retry", path, "tiny") == (0, f"tiny {CYCLES[-1]} pending\n")
    (row,) = Scheduler(path, clock()).run(until_ended=True)
    assert (row.state, row.attempts, row.error) == ("failed", 2, "the prepare command false ended with 1")
    assert "failing" in (tmp_path / "status" / "index.html").read_text()


def test_a_ledger_that_is_damaged_is_rebuilt_from_the_outputs(write, tmp_path):
    path = write()
    before = {row.cycle: row.checksum for row in Scheduler(path, clock()).run()}
    (tmp_path / "out" / "tiny" / "20010105T06.zarr" / "zarr.json").write_text("{}")  # no longer what was published
    for tail in ("-wal", "-shm"):
        (tmp_path / f"ledger.sqlite{tail}").unlink(missing_ok=True)
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 1000)
    again = Scheduler(path, clock())
    assert len(list(tmp_path.glob("ledger.sqlite.corrupt-*"))) == 1
    assert [row.cycle for row in again.run()] == [CYCLES[1]]
    assert {row.cycle: row.checksum for row in again.ledger.rows()} == before


def test_old_cycles_go_and_the_last_stays(write, tmp_path):
    path = write(keep=2, truth=None)
    Scheduler(path, clock()).run()
    assert sorted(p.name for p in (tmp_path / "out" / "tiny").glob("*.zarr")) == ["20010105T18.zarr", "20010106T00.zarr"]
    counts = Counter(row.state for row in Ledger(tmp_path / "ledger.sqlite").rows())
    assert counts == {"removed": 3, "done": 2}
    assert Scheduler(path, clock()).run() == []


def test_a_ledger_that_is_emptied_or_gone_is_made_up_for(write, tmp_path):
    path = write(keep=2, on_success=["sh", "-c", "echo {name} >> told"])
    Scheduler(path, clock()).run()
    before = {row.cycle: (row.state, row.checksum) for row in Ledger(tmp_path / "ledger.sqlite").rows() if row.state == "done"}
    for damage in (lambda file: file.write_bytes(b""), Path.unlink):
        for tail in ("-wal", "-shm"):
            (tmp_path / f"ledger.sqlite{tail}").unlink(missing_ok=True)
        damage(tmp_path / "ledger.sqlite")
        again = Scheduler(path, clock())
        assert again.run() == [] and not list(tmp_path.glob("*.corrupt-*"))
        assert {row.cycle: (row.state, row.checksum) for row in again.ledger.rows() if row.state == "done"} == before
    assert len((tmp_path / "told").read_text().split()) == 5
    with again.ledger._file.change() as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(ValueError, match="of version 99, this version of fourcaster knows 1; use a newer one"):
        Scheduler(path, clock())


def test_one_cycle_a_period_and_what_is_cancelled(write, tmp_path):
    path = write(start=CYCLES[-1])
    assert call("run", path, "tiny", "--cycle", "2001-01-03T06")[0] == 0
    code, said = call("run", path, "tiny", "--cycle", "2001-01-03T07")
    assert code == 2 and "has no cycle 2001-01-03T07" in said
    code, said = call("backfill", path, "tiny", "--from", "2001-01-03", "--to", "2001-01-03T12")
    assert code == 0 and said.count(" done") == 3
    assert "latest -> 20010103T12.zarr" in subprocess.run(["ls", "-l", tmp_path / "out" / "tiny"], capture_output=True, text=True, check=True).stdout
    scheduler = Scheduler(path, clock())
    scheduler.enter()
    assert call("cancel", path, "tiny", "--cycle", CYCLES[-1])[1].endswith("cancelled\n")
    assert scheduler.run() == []
    assert call("retry", path, "tiny", "--cycle", CYCLES[-1])[0] == 0
    assert [row.state for row in scheduler.run()] == ["done"]
    assert call("cancel", path, "tiny", "--cycle", CYCLES[-1])[0] == 2
    assert call("retry", path, "tiny", "--cycle", CYCLES[-1])[0] == 2
    assert call("logs", path, "other")[0] == 2


def test_what_runs_can_be_cancelled_and_a_service_stops(write):
    path = write(prepare=["sleep", "30"], start=CYCLES[-1], top={"lease": "3s"})
    scheduler = Scheduler(path, clock())
    thread = threading.Thread(target=scheduler.run, kwargs={"stay": True})
    thread.start()
    while not scheduler.ledger.rows(states=("running",)):
        time.sleep(0.1)
    assert "is told to stop" in call("cancel", path, "tiny", "--cycle", CYCLES[-1])[1]
    while scheduler.ledger.rows(states=("running",)):
        time.sleep(0.1)
    assert scheduler.ledger.rows()[0].state == "cancelled"
    scheduler.stop()
    thread.join(30)
    assert not thread.is_alive()


def test_whoever_lost_a_cycle_cannot_publish_it(tmp_path):
    ledger, now = Ledger(tmp_path / "l.sqlite", lease=60), datetime(2001, 1, 1)
    assert ledger.open() is None
    ledger.insert("a", ["c"], now)
    first = ledger.claim("a", "c")
    assert first is not None and ledger.claim("a", "c") is None and ledger.renew(first) == "ours"

    def change(**values):
        with ledger._file.change() as db:
            db.execute(f"UPDATE cycles SET {', '.join(f'{name}=?' for name in values)}", list(values.values()))
        return ledger.row("a", "c")

    row = ledger.row("a", "c")
    assert not ledger.free(row) and not ledger.free(change(lease_until=0.0))  # the process lives, whatever the clock says
    assert not ledger.free(change(heard=row.heard - 300)) and ledger.free(change(heard=row.heard - 3600))  # but has been silent for very long
    assert not ledger.free(change(host="elsewhere", lease_until=time.time() + 1))
    change(lease_until=time.time() - 1)  # another host's, whose lease is over
    second = ledger.claim("a", "c")
    assert second is not None and second.interruptions == 1
    assert ledger.renew(first) == "lost" and not ledger.publishing(first, "x", "y") and not ledger.end(first, "done")
    assert ledger.publishing(second, "x", "y") and ledger.end(second, "done") and ledger.row("a", "c").state == "done"


def test_a_clock_that_is_set_back_holds_nothing_up(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite", lease=60)
    ledger.open()
    ledger.insert("a", ["c"], datetime(2001, 1, 1))
    first = ledger.claim("a", "c")
    with ledger._file.change() as db:
        db.execute("UPDATE cycles SET host='elsewhere', lease_until=?", (time.time() + 86400 * 365,))
    second = ledger.claim("a", "c")
    assert second is not None and ledger.end(second, "retrying", "x", not_before=time.time() + 86400 * 365, failed=True)
    assert ledger.free(ledger.row("a", "c")) and ledger.row("a", "c").attempts == 1 and first.token != second.token


def test_a_ledger_that_is_held_is_said_so(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.open()
    monkeypatch.setattr("fourcaster.forecast.jobs.database._PATIENCE", 0.1)
    with ledger._file.change(), pytest.raises(OSError, match=r"l\.sqlite cannot be written \(database is locked\); nothing is lost"):
        ledger.insert("a", ["c"], datetime(2001, 1, 1))


def test_what_was_never_looked_at_goes_before_what_waits(write):
    scheduler = Scheduler(write(), clock())
    scheduler.enter()
    for cycle in CYCLES[:3]:
        claimed = scheduler.ledger.claim("tiny", cycle)
        scheduler.ledger.end(claimed, "waiting", "not there", not_before=time.time() - (2 if cycle == CYCLES[1] else 1))
    assert [row.cycle for row in scheduler._free(None)] == [CYCLES[3], CYCLES[4], CYCLES[1], CYCLES[0], CYCLES[2]]


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


def test_an_error_nobody_thought_of_ends_one_attempt_only(write, monkeypatch):
    path = write(start=CYCLES[-2], retries=0)
    plain = Folder.publish

    def broken(place, name, *more):
        if name.startswith("20010105T18"):
            raise RuntimeError("nobody thought of this")
        plain(place, name, *more)

    monkeypatch.setattr(Folder, "publish", broken)
    rows = Scheduler(path, clock()).run()
    assert [(row.state, row.error) for row in rows] == [("failed", "RuntimeError: nobody thought of this"), ("done", None)]


def test_truth_that_comes_later_is_verified_with_a_report(write, tmp_path, tiny_store, source):
    write_store(open_sources([_until(source, "2001-01-05T20", tmp_path / "early.nc")]), tmp_path / "early.zarr")
    path = write(truth="truth.zarr", report=True)
    assert call("run-due", path, "--now", NOW)[0] == 0
    rows = Ledger(tmp_path / "ledger.sqlite").rows()
    assert all(row.verified is None for row in rows)
    (tmp_path / "truth.zarr").symlink_to(tmp_path / "early.zarr")
    assert call("run-due", path, "--now", NOW)[0] == 0
    found = {row.cycle: row.scores for row in Ledger(tmp_path / "ledger.sqlite").rows()}
    assert [cycle for cycle, scores in found.items() if scores] == CYCLES[:2]
    (tmp_path / "truth.zarr").unlink()
    (tmp_path / "truth.zarr").symlink_to(tiny_store)
    assert call("run-due", path, "--now", NOW)[0] == 0
    rows = Ledger(tmp_path / "ledger.sqlite").rows()
    assert all(row.scores for row in rows) and rows[0].scores == found[CYCLES[0]]
    expected = summary(verify(tmp_path / "out" / "tiny" / "20010106T00.zarr", tiny_store))
    assert json.loads(rows[-1].scores) == [row for row in expected if row["lead_hours"] == 12]
    page = (tmp_path / "out" / "tiny" / "20010106T00.report.html").read_text()
    assert page.count("data:image/png;base64") == 3 and "t2m [K]" in page and "<td class='number'>12 h</td>" in page
    assert "t2m " in (tmp_path / "status" / "index.html").read_text().split("RMSE at the last lead")[1]


def test_data_that_are_being_written_are_waited_for(write, tmp_path, tiny_store):
    path = write(prepare=["sh", "-c", "exit 75"], start=CYCLES[-1], retries=0)
    code, said = call("run-due", path, "--now", NOW)
    assert code == 3 and "waiting: the prepare command sh says that they have not come" in said
    shutil.copytree(tiny_store, tmp_path / "part.zarr")
    for chunk in (tmp_path / "part.zarr" / "t2m" / "c").rglob("*"):
        if chunk.is_file():
            chunk.unlink()
    path = write(source="part.zarr", start=CYCLES[-1], retries=0)
    time.sleep(1.1)
    code, said = call("run-due", path, "--now", NOW)
    assert code == 3 and "waiting: " in said and "t2m has missing values at 2001-01-05T18" in said


def test_what_failed_is_made_when_it_is_asked_for(write):
    path = write(prepare=["false"], start=CYCLES[-1], retries=0)
    assert call("run-due", path, "--now", NOW)[0] == 1
    path = write(start=CYCLES[-1], retries=0)
    assert call("run-due", path, "--now", NOW) == (0, "nothing to do\n")
    assert call("run", path, "tiny", "--cycle", CYCLES[-1])[0] == 0


def test_what_changes_only_at_a_start_is_said(write):
    scheduler = Scheduler(write(), clock())
    write(name="other", top={"workers": 3})
    scheduler.reload()
    said = []
    scheduler.log.write = lambda **values: said.append(values["message"])
    scheduler._reread()
    assert scheduler.jobs.workers == 1 and scheduler.jobs.jobs[0].name == "other"
    assert said[0].endswith("read again; workers will be taken when it is started anew")


@pytest.mark.browser
def test_the_status_page_in_a_browser(write, tmp_path, tiny_store):
    first = yaml.safe_load(write().read_text())["jobs"][0]
    broken = first | {"name": "broken", "prepare": ["false"], "retries": 0, "start": CYCLES[-1]}
    path = write(broken, truth=str(tiny_store), start=CYCLES[-2], plots=None)
    assert call("run-due", path, "--now", NOW)[0] == 1
    with browser() as page:
        page.open(tmp_path / "status" / "index.html")
        assert page.tell("document.title") == "Forecasts"
        assert page.tell("[...document.querySelectorAll('h2')].map(e => e.textContent)") == ["tiny", "broken failing"]
        states = "[...document.querySelectorAll('#{} td .state')].map(e => e.textContent)"
        assert page.tell(states.format("tiny")) == ["done", "done"] and page.tell(states.format("broken")) == ["failed"]
        assert page.tell("getComputedStyle(document.querySelector('.done')).backgroundColor") == "rgb(27, 127, 75)"
        assert page.tell("document.querySelector('#broken').textContent").endswith("the prepare command false ended with 1")
        assert page.tell("[...document.images].map(e => e.complete && e.naturalWidth > 400)") == [True]
        assert page.tell("document.documentElement.scrollWidth <= window.innerWidth")
        page.open(tmp_path / "status" / "index.html", width=420)
        assert page.tell("document.documentElement.scrollWidth <= window.innerWidth")  # a telephone's
        assert not page.complaints()
        page.photograph(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10000


def test_commands_are_filled_and_secrets_are_masked(monkeypatch):
    monkeypatch.setenv("STORE_TOKEN", "s3cr3t-{x}")
    at = datetime(2001, 1, 2, 6)
    assert resolve(["get", "{name}/{cycle:%H}", "${STORE_TOKEN}"], job(), at) == ["get", "a/06", "s3cr3t-{x}"]
    assert mask("with s3cr3t-{x} and https://me:pw@host/x") == "with *** and https://***@host/x"
    assert resolve(["awk", "{{print $1}}"], job(), at)[1] == "{print $1}"
    with pytest.raises(ValueError, match="nobody is neither a name nor in the environment; braces that are meant are written twice"):
        resolve(["{nobody}"], job(), at)


def test_a_bucket_that_fails_holds_whole_forecasts_only(write, tmp_path, monkeypatch, tiny_store, tiny_checkpoint):
    pytest.importorskip("moto")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FOURCASTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FOURCASTER_TIMEOUT", "1")
    with s3_server() as (port, client):
        client.create_bucket(Bucket="weather")
        for path in tiny_store.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "weather", f"truth.zarr/{path.relative_to(tiny_store)}")
        proxy = serve(upstream=port, fails=0.05, seed=2)
        credentials(monkeypatch, proxy.server_port)
        path = write(
            source="s3://weather/truth.zarr", output="s3://weather/out/{name}/{cycle:%Y}/{cycle:%m%dT%H}.zarr", start=CYCLES[2], keep=2,
            plots=[{"variable": "t2m", "lead": "12h"}], truth=str(tiny_store), retries=5,
        )  # fmt: skip
        rows = Scheduler(path, clock()).run(until_ended=True)
        assert [row.state for row in rows] == ["removed", "done", "done"], [row.error for row in rows]
        proxy.state["fails"] = 0.0
        keys = {entry["Key"]: entry["LastModified"] for entry in client.list_objects_v2(Bucket="weather", Prefix="out/")["Contents"]}
        assert client.get_object(Bucket="weather", Key="out/tiny/latest")["Body"].read() == b"2001/0106T00.zarr"
        assert not [key for key in keys if "0105T12" in key] and "out/tiny/2001/0106T00.scores.nc" in keys
        inside = [keys[key] for key in keys if key.startswith("out/tiny/2001/0106T00.zarr/")]
        assert max(inside) <= keys["out/tiny/2001/0106T00.zarr.json"] <= keys["out/tiny/latest"]  # the marker, then the pointer
        made = open_forecast("s3://weather/out/tiny/2001/0106T00.zarr").load()
        xr.testing.assert_equal(made, load(tiny_checkpoint).run(tiny_store, CYCLES[-1], "12h"))
        assert (tmp_path / "status" / "maps" / "tiny-2001-01-06T0000.png").stat().st_size > 1000
        place = Bucket("s3://weather/out/tiny", tmp_path)
        assert place.whole("2001/0106T00.zarr", rows[-1].checksum) and not place.whole("2001/0106T00.zarr", "another")
        client.delete_object(Bucket="weather", Key="out/tiny/2001/0106T00.zarr/zarr.json")
        assert not place.whole("2001/0106T00.zarr")
        for tail in ("", "-wal", "-shm"):
            (tmp_path / f"ledger.sqlite{tail}").write_bytes(b"damaged" * 999)
        rows = Scheduler(path, clock()).run(until_ended=True)
        assert [row.cycle for row in rows] == [CYCLES[2], CYCLES[4]] and place.whole("2001/0106T00.zarr")
        assert "hidden-word" not in "".join(p.read_text() for p in (tmp_path / "logs").rglob("*.jsonl"))
        stop(proxy)


def test_a_lost_dask_worker_is_made_up_for_by_another(write, tmp_path):
    script = tmp_path / "prepare.py"
    script.write_text("""
import os, pathlib, psutil
done = pathlib.Path("lost")
if not done.exists():
    done.touch()
    psutil.Process(os.getppid()).parent().parent().kill()  # attempt, fork server, worker
""")
    kill = [sys.executable, str(script)]
    path = write(prepare=kill, start=CYCLES[-1], retries=0, top={"engine": "dask", "scheduler": "local:2"})
    (row,) = Scheduler(path, clock()).run()
    assert row.state == "done" and (tmp_path / "lost").exists(), row.error
    assert whole(Path(row.output), row.checksum) and lines(path, "published as") == {CYCLES[-1]: 1}
    path = write(prepare=["sleep", "600.5"], start="2001-01-06T06:00", deadline="1s", retries=0, top={"engine": "dask", "scheduler": "local:1"})
    (row,) = Scheduler(path, clock("2001-01-06T06:10")).run()
    assert row.error == "took longer than the deadline of 1 s"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # dask-jobqueue's, which leaves its local processes unclosed
def test_workers_of_a_queue(write, tmp_path):
    pytest.importorskip("dask_jobqueue")
    options = {"cores": 1, "memory": "4GB", "local_directory": str(tmp_path), "log_directory": str(tmp_path), "interface": "lo"}
    path = write(start=CYCLES[-1], top={"engine": "dask", "cluster": {"queue": "local", "options": options}})
    assert [row.state for row in Scheduler(path, clock()).run()] == ["done"]
    for top in ({"engine": "dask"}, {"scheduler": "tcp://x:1"}, {"engine": "dask", "scheduler": "local:1", "cluster": {"queue": "local"}}):
        with pytest.raises(ValueError, match="needs either a scheduler"):
            load_jobs(write(top=top))


def test_a_service_reads_its_file_again_and_ends_in_good_order(write, tmp_path):
    now = datetime.now(UTC).replace(tzinfo=None)
    path = write(source="late.zarr", prepare=["true"], cycle="0 0 1 1 *", start=f"{now.year}-01-01")
    words = [sys.executable, "-c", "from fourcaster.forecast.cli import main; main()", "jobs", "serve", str(path)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        said = (json.loads(line)["message"] for line in process.stderr)
        assert any(message.startswith("waits for data") for message in said)
        good = path.read_text()
        path.write_text("jobs: [}")
        process.send_signal(signal.SIGHUP)
        assert any("was not taken" in message for message in said)
        path.write_text(good.replace("cycle: 0 0 1 1 *", "cycle: 0 0 2 1 *"))
        process.send_signal(signal.SIGHUP)
        assert any("read again" in message for message in said)
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(60) == 0
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert {row.state for row in ledger.rows()} <= {"waiting", "pending"}


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


def test_files_are_read_as_ingest_does(write, tmp_path, source):
    late = source.assign(t2m=(source["t2m"] - 273.15).assign_attrs(units="nonsense"))
    for i in range(2):
        late.isel(time=slice(80 * i, 80 * (i + 1))).to_netcdf(tmp_path / f"in{i}.nc")
    path = write(source={"files": "in*.nc", "units": {"t2m": "degC"}}, start=CYCLES[-1], output="out/{cycle:%Y%m%dT%H}.nc", area="55/205/35/250")
    (row,) = Scheduler(path, clock()).run()
    assert row.state == "done", row.error
    assert float(open_forecast(tmp_path / "out" / "latest")["t2m"].mean()) > 200
    assert row.finished - row.started < timedelta(minutes=2).total_seconds()
