"""Ledger and outputs of version 0.1.0 (``tests/data/ledger_v1``) are read and continued.

Job ``tiny`` has one removed, two published and one failed cycle; a cycle of ``late`` waits for data.
"""

import json
import shutil

import pytest
from helpers import DATA
from jobs_helpers import call, verify_checksum

from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.states import CycleState

LEDGER = DATA / "ledger_v1"
NOW = "2001-01-06T00:30"
CYCLES = ["2001-01-05T06:00", "2001-01-05T12:00", "2001-01-05T18:00", "2001-01-06T00:00"]


@pytest.fixture
def folder(tmp_path):
    """Return a copy of the folder that the earlier version wrote."""
    return shutil.copytree(LEDGER, tmp_path / "jobs", symlinks=True)


def states(folder, job="tiny"):
    return {record.cycle: record.state for record in Ledger(folder / "ledger.sqlite").records(job)}


def test_status_of_earlier_version_is_unchanged(folder):
    code, output = call("status", folder / "jobs.yaml", "--now", NOW, "--json")
    status = json.loads(output)
    expected = json.loads((folder / "expected_status.json").read_text())
    assert code == 0
    for part in (status, expected):  # these depend on the current time
        for job in part["jobs"]:
            for cycle in job["cycles"]:
                cycle.pop("age_hours")
            job.pop("latest_age_hours")
    assert status == expected


def test_published_cycles_are_not_repeated(folder):
    assert states(folder) == dict(
        zip(CYCLES, (CycleState.REMOVED, CycleState.DONE, CycleState.DONE, CycleState.FAILED), strict=True)
    )
    outputs = {path: verify_checksum(path) for path in (folder / "out" / "tiny").glob("*.zarr")}
    assert len(outputs) == 2
    assert all(outputs.values())
    notified = (folder / "published").read_text()
    (folder / "late.nc").symlink_to("source.nc")
    assert call("run-due", folder / "jobs.yaml", "--now", NOW)[0] == 0
    assert states(folder, "late") == {CYCLES[-1]: CycleState.DONE}
    assert states(folder)[CYCLES[-1]] is CycleState.FAILED
    assert {path: verify_checksum(path) for path in outputs} == outputs
    late = "20010106T00\n"
    assert (folder / "published").read_text() == notified + late


def test_failed_cycle_is_retried(folder):
    (folder / "repaired").touch()
    (folder / "late.nc").symlink_to("source.nc")
    code, output = call("retry", folder / "jobs.yaml", "tiny")
    assert code == 0
    assert output == f"tiny {CYCLES[-1]} pending\n"
    assert call("run-due", folder / "jobs.yaml", "--now", NOW)[0] == 0
    removed, done = CycleState.REMOVED, CycleState.DONE
    assert states(folder) == dict(zip(CYCLES, (removed, removed, done, done), strict=True))


def test_missing_ledger_is_rebuilt_from_outputs_of_earlier_version(folder):
    (folder / "ledger.sqlite").unlink()
    assert call("status", folder / "jobs.yaml", "--now", NOW)[0] == 0
    assert states(folder) == {
        CYCLES[0]: CycleState.REMOVED,
        CYCLES[1]: CycleState.DONE,
        CYCLES[2]: CycleState.DONE,
    }
