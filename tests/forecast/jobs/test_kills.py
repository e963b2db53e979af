"""Kills of schedulers and workers at every step, and schedulers that race: nothing is lost, nothing published
twice.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from jobs_helpers import CYCLES, NOW, clock, lines, whole

from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.scheduler import Scheduler

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
from fourcaster.forecast.jobs.buckets import Bucket
from fourcaster.forecast.jobs.places import Folder
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
from fourcaster.forecast.cli.main import app
app(["jobs", "run-due", {path!r}, "--now", {now!r}])
"""


@pytest.mark.parametrize("step", STEPS)
def test_a_scheduler_killed_at_any_step_loses_nothing(write, tmp_path, step):
    path = write(start=CYCLES[2], on_success=["sh", "-c", "echo {cycle:%Y-%m-%dT%H:%M} >> told"])
    code = KILLER.format(target=STEPS[step], count=1, path=str(path), now=NOW)
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode
        == -signal.SIGKILL
    )
    before = {output: whole(output) for output in (tmp_path / "out" / "tiny").glob("2*.zarr")}
    assert all(before.values())  # whatever stands under a final name is whole
    rows = Scheduler(path, clock()).run()
    assert {row.state for row in rows} <= {"done"}
    rows = Ledger(tmp_path / "ledger.sqlite").rows()
    assert [row.cycle for row in rows] == CYCLES[2:] and all(
        row.state == "done" and row.attempts == 0 for row in rows
    )
    assert all(whole(Path(row.output), row.checksum) for row in rows)
    assert {output: whole(output) for output in before} == before
    assert os.readlink(tmp_path / "out" / "tiny" / "latest") == "20010106T00.zarr"
    assert not list((tmp_path / "out" / "tiny" / ".making").iterdir())
    assert set((tmp_path / "told").read_text().split()) == set(
        CYCLES[2:]
    )  # what was about to be told when it was killed too


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
        "from fourcaster.forecast.jobs import engines; engines._PRELOADED.append('deadly'); from fourcaster.forecast.cli.main import app; "
        f"app(['jobs', 'run-due', {str(path)!r}, '--now', {NOW!r}])"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    (row,) = Ledger(tmp_path / "ledger.sqlite").rows()
    assert done.returncode == 0 and (row.state, row.attempts, row.interruptions) == ("done", 0, 8), (
        done.stderr
    )
    assert len(list(tmp_path.glob("killed-*"))) == 8 and whole(Path(row.output), row.checksum)
    assert lines(path, "published as") == {CYCLES[-1]: 1}


def test_a_worker_killed_from_outside_is_no_failure(write, tmp_path):
    kill = f"import os, signal; p='{tmp_path}/killed'; n=os.path.exists(p) or (open(p, 'w'), os.kill(os.getppid(), signal.SIGKILL))"
    path = write(prepare=[sys.executable, "-c", kill], start=CYCLES[-1], retries=0)
    rows = Scheduler(path, clock()).run()
    assert [(row.state, row.attempts, row.interruptions) for row in rows] == [("done", 0, 1)]


def test_schedulers_that_race_share_the_work(write, tmp_path):
    path = write()
    words = [
        sys.executable,
        "-c",
        "from fourcaster.forecast.cli.main import main; main()",
        "jobs",
        "run-due",
        str(path),
        "--now",
        NOW,
    ]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0, 0], said
    assert lines(path, "published as") == Counter(CYCLES) and lines(path, "begins") == Counter(CYCLES)
