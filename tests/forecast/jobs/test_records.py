"""Invalid rows of the ledger are reported and skipped; other cycles are not affected."""

import json

import pytest
from jobs_helpers import CYCLES, NOW, call, clock

from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.results import ErrorResult
from fourcaster.forecast.jobs.scheduler import Scheduler
from fourcaster.forecast.jobs.states import CycleState

INVALID_VALUES = {
    "state": ["lost", "", b"done"],
    "cycle": ["yesterday", "2001-13-01T00:00", "0001-01-01T00:00", "9999-12-31T18:00", b"\xff", "../../x"],
    "seen": ["never", b"x", "2001-99-01"],
    "attempts": ["many", 10**12, -1, 1.5],
    "interruptions": [2**62],
    "not_before": ["soon", 1e300, "Infinity"],
    "pid": [2**40, "me"],
    "token": ["../../../home", "a/b", b"x"],
    "started": [-1e300, "x"],
    "finished": ["x"],
    "heard": [float("inf")],
    "lease_until": ["x"],
    "cancel": [7],
    "error": [b"\xff\xfe"],
    "scores": [b"[]"],
    "verified": ["x"],
}


def damage(path, name, value, cycle="2000-01-05T00:00", state="waiting"):
    ledger = Ledger(path)
    ledger.open()
    ledger.insert("tiny", [cycle], clock()())
    with ledger._database.transaction() as db:
        db.execute("UPDATE cycles SET state=? WHERE cycle=?", (state, cycle))
        db.execute(f"UPDATE cycles SET {name}=? WHERE cycle=?", (value, cycle))


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in INVALID_VALUES.items() for value in values]
)
def test_invalid_row_is_reported_once_and_skipped(write_jobs, tmp_path, name, value):
    messages = []
    damage(tmp_path / "ledger.sqlite", name, value)
    path = write_jobs(start=CYCLES[-1])
    scheduler = Scheduler(path, clock())
    scheduler.log.write = lambda **values: messages.append(values["message"])
    scheduler.enter_due()
    assert [record.cycle for record in scheduler._claimable(None)] == [CYCLES[-1]]
    assert [record.cycle for record in scheduler.ledger.records()] == [CYCLES[-1]]
    assert scheduler.report() is None
    (message,) = messages
    assert message.startswith("the row of job 'tiny', cycle ")
    assert "is left out: " in message
    assert "\n" not in message
    assert len(message) < 400


def test_invalid_row_is_shown_in_the_status_and_fails_no_command(write_jobs, tmp_path):
    damage(tmp_path / "ledger.sqlite", "state", "<script>")
    path = write_jobs(start="2001-02-01")
    for args in (("status", path), ("run-due", path, "--now", NOW), ("retry", path, "tiny")):
        code, output = call(*args)
        assert code == 0
        assert "its state '<script>' is not one of pending, waiting" in output
    problems = json.loads((tmp_path / "status" / "status.json").read_text())["problems"]
    assert len(problems) == 1
    assert "<script>" in problems[0]
    page = (tmp_path / "status" / "index.html").read_text()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


@pytest.mark.parametrize(
    "scores",
    [
        "{",
        "[1]",
        '[{"variable": "t2m"}]',
        "[" * 10**5,
        "{}",
        "3",
        '[{"variable": "a", "units": "K", "level": "x", "rmse": {}}]',
    ],
)
def test_invalid_scores_are_omitted_from_the_page(write_jobs, tmp_path, scores):
    damage(tmp_path / "ledger.sqlite", "scores", scores, CYCLES[0], state="done")
    code, output = call("status", write_jobs(start="2001-02-01"), "--json")
    assert code == 0
    assert "the scores of job 'tiny', cycle '2001-01-05T00:00' are left out" in output
    page = (tmp_path / "status" / "index.html").read_text()
    assert "<td>2001-01-05T00:00</td>" in page
    assert "RMSE" not in page


def test_invalid_utf_8_and_invalid_first_seen_times_are_tolerated(tmp_path):
    damage(tmp_path / "l", "error", "x", CYCLES[0])
    warnings = []
    ledger = Ledger(tmp_path / "l", warn=warnings.append)
    with ledger._database.transaction() as db:
        db.execute("UPDATE cycles SET error = CAST(x'ff41' AS TEXT)")
        db.execute("INSERT INTO jobs VALUES ('tiny', 'never')")
    assert ledger.records()[0].error == "\ufffdA"
    assert ledger.first_seen("tiny", clock()()) == clock()()
    assert ledger.first_seen("tiny", clock()()) == clock()()
    assert len(warnings) == 1


def test_running_cycle_without_a_claim_can_be_claimed(tmp_path):
    damage(tmp_path / "l", "token", None, CYCLES[0], state="running")
    ledger = Ledger(tmp_path / "l")
    assert ledger.is_claimable(ledger.records()[0])
    assert ledger.claim("tiny", CYCLES[0]) is not None


def test_backoff_is_bounded_after_many_failures(write_jobs, tmp_path, monkeypatch):
    monkeypatch.setattr("fourcaster.forecast.jobs.executors.LocalExecutor.run", lambda *_: ErrorResult("x"))
    damage(tmp_path / "ledger.sqlite", "attempts", 9000, CYCLES[-1])
    path = write_jobs(start=CYCLES[-1], retries=10_000)
    (record,) = Scheduler(path, clock()).run()
    assert (record.state, record.attempts) == (CycleState.RETRYING, 9001)
