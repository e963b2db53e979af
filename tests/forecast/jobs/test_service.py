"""A scheduler that stays: it stops, reads its file again, and hands back what it cannot finish."""

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


def test_what_changes_only_at_a_start_is_said(write):
    scheduler = Scheduler(write(), clock())
    write(name="other", top={"workers": 3})
    scheduler.reload()
    said = []
    scheduler.log.write = lambda **values: said.append(values["message"])
    scheduler._reread()
    assert scheduler.jobs.workers == 1 and scheduler.jobs.jobs[0].name == "other"
    assert said[0].endswith("read again; workers will be taken when it is started anew")


def test_a_service_reads_its_file_again_and_ends_in_good_order(write, tmp_path):
    now = datetime.now(UTC).replace(tzinfo=None)
    path = write(source="late.zarr", prepare=["true"], cycle="0 0 1 1 *", start=f"{now.year}-01-01")
    words = [
        sys.executable,
        "-c",
        "from fourcaster.forecast.cli.main import main; main()",
        "jobs",
        "serve",
        str(path),
    ]
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


def test_what_cannot_end_in_time_is_handed_back(write, monkeypatch, tmp_path):
    monkeypatch.setattr("fourcaster.forecast.jobs.scheduler._GRACE", 0.5)
    path = write(prepare=["sleep", "601.5"], start=CYCLES[-1])
    scheduler = Scheduler(path, clock())
    thread = threading.Thread(target=scheduler.run, kwargs={"stay": True})
    thread.start()
    while subprocess.run(["pgrep", "-fx", "sleep 601.5"], capture_output=True, check=False).returncode:
        time.sleep(0.1)
    scheduler.stop()
    thread.join(30)
    (row,) = scheduler.ledger.rows()
    assert not thread.is_alive() and (row.state, row.attempts, row.interruptions, row.token) == (
        "pending",
        0,
        0,
        None,
    )
    assert subprocess.run(["pgrep", "-fx", "sleep 601.5"], capture_output=True, check=False).returncode == 1
    path = write(start=CYCLES[-1], on_success=["sh", "-c", "echo told >> told; [ -e quick ] || sleep 602.5"])
    scheduler = Scheduler(path, clock())
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    while not (tmp_path / "told").exists():
        time.sleep(0.1)
    scheduler.stop()
    thread.join(30)
    (row,) = scheduler.ledger.rows()
    assert (
        not thread.is_alive() and row.state == "done" and row.token is not None
    )  # what follows is still to be done
    (tmp_path / "quick").touch()
    Scheduler(path, clock()).run()
    assert (tmp_path / "told").read_text().split() == ["told", "told"] and Ledger(
        tmp_path / "ledger.sqlite"
    ).rows()[0].token is None
