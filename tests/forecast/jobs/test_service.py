"""The scheduler as a service: stopping, reloading its file, releasing unfinished cycles."""

import json
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

from jobs_helpers import CYCLES, call, clock

from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.scheduler import Scheduler
from fourcaster.forecast.jobs.states import CycleState


def test_running_cycle_can_be_cancelled_and_the_service_stopped(write_jobs):
    path = write_jobs(prepare=["sleep", "30"], start=CYCLES[-1], top={"lease": "3s"})
    scheduler = Scheduler(path, clock())
    thread = threading.Thread(target=scheduler.run, kwargs={"stay": True})
    thread.start()
    while not scheduler.ledger.records(states=[CycleState.RUNNING]):
        time.sleep(0.1)
    assert "is being stopped" in call("cancel", path, "tiny", "--cycle", CYCLES[-1])[1]
    while scheduler.ledger.records(states=[CycleState.RUNNING]):
        time.sleep(0.1)
    assert scheduler.ledger.records()[0].state is CycleState.CANCELLED
    scheduler.stop()
    thread.join(30)
    assert not thread.is_alive()


def test_changes_that_require_a_restart_are_reported(write_jobs):
    scheduler = Scheduler(write_jobs(), clock())
    write_jobs(name="other", top={"workers": 3})
    scheduler.reload()
    messages = []
    scheduler.log.write = lambda **values: messages.append(values["message"])
    scheduler._reload_if_requested()
    assert scheduler.jobs.workers == 1
    assert scheduler.jobs.jobs[0].name == "other"
    assert messages[0].endswith("read again; changes of workers take effect at the next start")


def test_service_reloads_its_file_and_shuts_down_cleanly(write_jobs, tmp_path):
    now = datetime.now(UTC).replace(tzinfo=None)
    path = write_jobs(source="late.zarr", prepare=["true"], cycle="0 0 1 1 *", start=f"{now.year}-01-01")
    args = [
        sys.executable,
        "-c",
        "from fourcaster.forecast.cli.main import main; main()",
        "jobs",
        "serve",
        str(path),
    ]
    with subprocess.Popen(args, stderr=subprocess.PIPE, text=True) as process:
        messages = (json.loads(line)["message"] for line in process.stderr)
        assert any(message.startswith("waits for data") for message in messages)
        valid = path.read_text()
        path.write_text("jobs: [}")
        process.send_signal(signal.SIGHUP)
        assert any("was not taken" in message for message in messages)
        path.write_text(valid.replace("cycle: 0 0 1 1 *", "cycle: 0 0 2 1 *"))
        process.send_signal(signal.SIGHUP)
        assert any("read again" in message for message in messages)
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(60) == 0
    ledger = Ledger(tmp_path / "ledger.sqlite")
    states = {record.state for record in ledger.records()}
    assert states <= {CycleState.WAITING, CycleState.PENDING}


def test_unfinished_attempt_is_released_on_shutdown(write_jobs, monkeypatch, tmp_path):
    monkeypatch.setattr("fourcaster.forecast.jobs.scheduler._GRACE", 0.5)
    path = write_jobs(prepare=["sleep", "601.5"], start=CYCLES[-1])
    scheduler = Scheduler(path, clock())
    thread = threading.Thread(target=scheduler.run, kwargs={"stay": True})
    thread.start()
    while subprocess.run(["pgrep", "-fx", "sleep 601.5"], capture_output=True, check=False).returncode:
        time.sleep(0.1)
    scheduler.stop()
    thread.join(30)
    (record,) = scheduler.ledger.records()
    assert not thread.is_alive()
    assert (record.state, record.attempts, record.interruptions) == (CycleState.PENDING, 0, 0)
    assert record.token is None
    assert subprocess.run(["pgrep", "-fx", "sleep 601.5"], capture_output=True, check=False).returncode == 1
    hook = ["sh", "-c", "echo notified >> notified; [ -e quick ] || sleep 602.5"]
    path = write_jobs(start=CYCLES[-1], on_success=hook)
    scheduler = Scheduler(path, clock())
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    while not (tmp_path / "notified").exists():
        time.sleep(0.1)
    scheduler.stop()
    thread.join(30)
    (record,) = scheduler.ledger.records()
    assert not thread.is_alive()
    assert record.state is CycleState.DONE
    assert record.token is not None  # its follow-up is still pending
    (tmp_path / "quick").touch()
    Scheduler(path, clock()).run()
    assert (tmp_path / "notified").read_text().split() == ["notified", "notified"]
    assert Ledger(tmp_path / "ledger.sqlite").records()[0].token is None
