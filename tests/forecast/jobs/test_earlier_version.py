"""A ledger and outputs that version 0.1.0 wrote, in ``tests/data/ledger_v1``, are read and continued.

Job ``tiny`` has a removed, two published and a failed cycle, job ``late`` a cycle that waits for its data.
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
    """Return a copy of the folder of the earlier version."""
    return shutil.copytree(LEDGER, tmp_path / "jobs", symlinks=True)


def states(folder, job="tiny"):
    return {record.cycle: record.state for record in Ledger(folder / "ledger.sqlite").records(job)}


def test_the_status_of_an_earlier_version_is_the_same_key_by_key(folder):
    code, output = call("status", folder / "jobs.yaml", "--now", NOW, "--json")
    status = json.loads(output)
    expected = json.loads((folder / "expected_status.json").read_text())
    assert code == 0
    for part in (status, expected):  # depends on the clock within the minute
        for job in part["jobs"]:
            for cycle in job["cycles"]:
                cycle.pop("age_hours")
            job.pop("latest_age_hours")
    assert status == expected


def test_published_cycles_are_not_made_again(folder):
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


def test_a_failed_cycle_is_retried(folder):
    (folder / "repaired").touch()
    (folder / "late.nc").symlink_to("source.nc")
    code, output = call("retry", folder / "jobs.yaml", "tiny")
    assert code == 0
    assert output == f"tiny {CYCLES[-1]} pending\n"
    assert call("run-due", folder / "jobs.yaml", "--now", NOW)[0] == 0
    removed, done = CycleState.REMOVED, CycleState.DONE
    assert states(folder) == dict(zip(CYCLES, (removed, removed, done, done), strict=True))


def test_a_lost_ledger_is_rebuilt_from_the_outputs_of_an_earlier_version(folder):
    (folder / "ledger.sqlite").unlink()
    assert call("status", folder / "jobs.yaml", "--now", NOW)[0] == 0
    assert states(folder) == {
        CYCLES[0]: CycleState.REMOVED,
        CYCLES[1]: CycleState.DONE,
        CYCLES[2]: CycleState.DONE,
    }
