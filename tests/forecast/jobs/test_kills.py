"""No cycle is lost or published twice when schedulers or workers are killed, or schedulers race."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from jobs_helpers import CYCLES, NOW, clock, count_lines, verify_checksum

from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.scheduler import Scheduler
from fourcaster.forecast.jobs.states import CycleState

STEPS = {
    "claimed": "Ledger.claim",
    "forecast finished": "LocalExecutor.run",
    "before publishing": "Ledger.begin_publishing",
    "renamed": "LocalStore.publish",
    "done": "Ledger.end",
    "latest set": "publishing.set_latest",
}


KILLER = """
import os, signal, sys
from fourcaster.forecast.jobs import publishing, scheduler
from fourcaster.forecast.jobs.executors import LocalExecutor
from fourcaster.forecast.jobs.commands import resolve
from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.output_store import LocalStore
owner, name = {target!r}.split(".")
owner, remaining = globals()[owner], [{count}]
original = getattr(owner, name)
def kill_after(*args, **more):
    result = original(*args, **more)
    remaining[0] -= 1
    if remaining[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(owner, name, kill_after)
from fourcaster.forecast.cli.main import app
app(["jobs", "run-due", {path!r}, "--now", {now!r}])
"""


@pytest.mark.parametrize("step", STEPS)
def test_scheduler_killed_at_any_step_loses_no_cycle(write_jobs, tmp_path, step):
    path = write_jobs(start=CYCLES[2], on_success=["sh", "-c", "echo {cycle:%Y-%m-%dT%H:%M} >> notified"])
    code = KILLER.format(target=STEPS[step], count=1, path=str(path), now=NOW)
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode
        == -signal.SIGKILL
    )
    before = {output: verify_checksum(output) for output in (tmp_path / "out" / "tiny").glob("2*.zarr")}
    assert all(before.values())  # every output under a final name is complete
    assert {record.state for record in Scheduler(path, clock()).run()} <= {CycleState.DONE}
    records = Ledger(tmp_path / "ledger.sqlite").records()
    assert [record.cycle for record in records] == CYCLES[2:]
    assert all(record.state is CycleState.DONE and record.attempts == 0 for record in records)
    assert all(verify_checksum(Path(record.output), record.checksum) for record in records)
    assert {output: verify_checksum(output) for output in before} == before
    assert os.readlink(tmp_path / "out" / "tiny" / "latest") == "20010106T00.zarr"
    assert not list((tmp_path / "out" / "tiny" / ".making").iterdir())
    # The hook also runs for a cycle whose scheduler was killed just before it.
    assert set((tmp_path / "notified").read_text().split()) == set(CYCLES[2:])


WORKER = """
import os, signal
from pathlib import Path
from fourcaster.forecast.inference.forecaster import Forecaster
from fourcaster.forecast.jobs import worker

def kill_once_after(owner, name):
    original = getattr(owner, name)
    def call(*args, **more):
        result = original(*args, **more)
        try:
            (Path({folder!r}) / f"killed-{{name}}").touch(exist_ok=False)
        except FileExistsError:
            return result
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, call)

kill_once_after(Forecaster, "load")
kill_once_after(Forecaster, "run")
for name in ("resolve", "initial_states", "check_forecast", "plot", "checksum", "run_attempt"):
    kill_once_after(worker, name)
"""


def test_worker_killed_at_any_step_does_not_count_as_failed(write_jobs, tmp_path, monkeypatch):
    (tmp_path / "killing.py").write_text(WORKER.format(folder=str(tmp_path)))
    path = write_jobs(start=CYCLES[-1], prepare=["true"], retries=0, plots=None)
    code = (
        "from fourcaster.forecast.jobs import executors; executors._PRELOADED.append('killing'); "
        "from fourcaster.forecast.cli.main import app; "
        f"app(['jobs', 'run-due', {str(path)!r}, '--now', {NOW!r}])"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    (record,) = Ledger(tmp_path / "ledger.sqlite").records()
    assert result.returncode == 0, result.stderr
    assert (record.state, record.attempts, record.interruptions) == (CycleState.DONE, 0, 8), result.stderr
    assert len(list(tmp_path.glob("killed-*"))) == 8
    assert verify_checksum(Path(record.output), record.checksum)
    assert count_lines(path, "published as") == {CYCLES[-1]: 1}


def test_worker_killed_externally_does_not_count_as_failed(write_jobs, tmp_path):
    kill = (
        f"import os, signal; p='{tmp_path}/killed'; "
        "n=os.path.exists(p) or (open(p, 'w'), os.kill(os.getppid(), signal.SIGKILL))"
    )
    path = write_jobs(prepare=[sys.executable, "-c", kill], start=CYCLES[-1], retries=0)
    records = Scheduler(path, clock()).run()
    assert [(r.state, r.attempts, r.interruptions) for r in records] == [(CycleState.DONE, 0, 1)]


def test_concurrent_schedulers_share_the_cycles(write_jobs, tmp_path):
    path = write_jobs()
    args = [
        sys.executable,
        "-c",
        "from fourcaster.forecast.cli.main import main; main()",
        "jobs",
        "run-due",
        str(path),
        "--now",
        NOW,
    ]
    schedulers = [subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    outputs = [process.communicate() for process in schedulers]
    assert [process.returncode for process in schedulers] == [0, 0, 0], outputs
    assert count_lines(path, "published as") == Counter(CYCLES)
    assert count_lines(path, "begins") == Counter(CYCLES)
