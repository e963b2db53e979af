"""An idle run imports no heavy library; jobs are still validated before they forecast."""

import subprocess
import sys

import pytest
from jobs_helpers import CYCLES, NOW, call, clock

from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.scheduler import Scheduler
from fourcaster.forecast.jobs.states import CycleState

HEAVY = ("torch", "xarray", "matplotlib", "dask", "zarr", "pandas", "numpy")
CODE = f"""
import sys
from fourcaster.forecast.cli.main import main
try:
    main()
finally:
    print([name for name in {HEAVY!r} if name in sys.modules])
"""


def run_due(path, now):
    args = [sys.executable, "-c", CODE, "jobs", "run-due", str(path), "--now", now]
    return subprocess.run(args, capture_output=True, text=True, check=False)


def test_idle_run_imports_no_heavy_library(write_jobs, tiny_store):
    path = write_jobs(start=CYCLES[-1], truth=str(tiny_store), plots=None)
    assert call("run-due", path, "--now", NOW)[0] == 0
    result = run_due(path, NOW)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["nothing to do", "[]"]


def test_idle_run_writes_the_status_page(write_jobs, tmp_path):
    path = write_jobs(start="2001-02-01")
    assert call("run-due", path, "--now", NOW) == (0, "nothing to do\n")
    (tmp_path / "status" / "index.html").unlink()
    assert call("run-due", path, "--now", NOW) == (0, "nothing to do\n")
    assert (tmp_path / "status" / "index.html").exists()


@pytest.mark.parametrize("changes", [{"lead": "7h"}, {"variables": ["t2n"]}, {"grid": 100}])
def test_job_that_no_longer_matches_its_model_is_rejected_once_a_cycle_is_due(write_jobs, tmp_path, changes):
    assert call("run-due", write_jobs(start=CYCLES[-1]), "--now", CYCLES[-2])[0] == 0
    path = write_jobs(start=CYCLES[-1], **changes)
    code, output = call("run-due", path, "--now", NOW)
    assert code == 2
    assert "job tiny: " in output
    assert not Ledger(tmp_path / "ledger.sqlite").records()


def test_waiting_cycle_runs_with_deferred_model_checks(write_jobs):
    path = write_jobs(start=CYCLES[-1], prepare=["sh", "-c", "exit 75"])
    assert call("run-due", path, "--now", NOW)[0] == 3
    scheduler = Scheduler(write_jobs(start=CYCLES[-1]), clock(), defer_model_checks=True)
    assert [record.state for record in scheduler.run(until_ended=True)] == [CycleState.DONE]
