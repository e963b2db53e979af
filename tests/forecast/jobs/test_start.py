"""A run with nothing to do imports no heavy library and still checks jobs before it makes a forecast."""

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
    words = [sys.executable, "-c", CODE, "jobs", "run-due", str(path), "--now", now]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_a_run_with_nothing_to_do_imports_no_heavy_library(write, tiny_store):
    path = write(start=CYCLES[-1], truth=str(tiny_store), plots=None)
    assert call("run-due", path, "--now", NOW)[0] == 0
    done = run_due(path, NOW)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["nothing to do", "[]"]


def test_a_run_with_nothing_to_do_writes_the_status_page(write, tmp_path):
    path = write(start="2001-02-01")
    assert call("run-due", path, "--now", NOW) == (0, "nothing to do\n")
    (tmp_path / "status" / "index.html").unlink()
    assert call("run-due", path, "--now", NOW) == (0, "nothing to do\n")
    assert (tmp_path / "status" / "index.html").exists()


@pytest.mark.parametrize("changes", [{"lead": "7h"}, {"variables": ["t2n"]}, {"grid": 100}])
def test_a_job_that_no_longer_fits_its_model_is_refused_once_a_cycle_is_due(write, tmp_path, changes):
    assert call("run-due", write(start=CYCLES[-1]), "--now", CYCLES[-2])[0] == 0
    path = write(start=CYCLES[-1], **changes)
    code, output = call("run-due", path, "--now", NOW)
    assert code == 2
    assert "job tiny: " in output
    assert not Ledger(tmp_path / "ledger.sqlite").records()


def test_a_waiting_cycle_is_worked_on_where_model_checks_are_deferred(write):
    path = write(start=CYCLES[-1], prepare=["sh", "-c", "exit 75"])
    assert call("run-due", path, "--now", NOW)[0] == 3
    scheduler = Scheduler(write(start=CYCLES[-1]), clock(), defer_model_checks=True)
    assert [record.state for record in scheduler.run(until_ended=True)] == [CycleState.DONE]
