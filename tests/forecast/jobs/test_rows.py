"""One bad row of the ledger is reported and left out; the other cycles go on."""

import json

import pytest
from jobs_helpers import CYCLES, NOW, call, clock

from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.scheduler import Scheduler

BAD = {
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
    with ledger._file.change() as db:
        db.execute("UPDATE cycles SET state=? WHERE cycle=?", (state, cycle))
        db.execute(f"UPDATE cycles SET {name}=? WHERE cycle=?", (value, cycle))


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_a_bad_row_is_reported_once_and_left_out(write, tmp_path, name, value):
    said = []
    damage(tmp_path / "ledger.sqlite", name, value)
    path = write(start=CYCLES[-1])
    scheduler = Scheduler(path, clock())
    scheduler.log.write = lambda **values: said.append(values["message"])
    scheduler.enter()
    assert [row.cycle for row in scheduler._free(None)] == [CYCLES[-1]]
    assert [row.cycle for row in scheduler.ledger.rows()] == [CYCLES[-1]]
    assert scheduler.report() is None
    (line,) = said
    assert (
        line.startswith("the row of job 'tiny', cycle ")
        and "is left out: " in line
        and "\n" not in line
        and len(line) < 400
    )


def test_a_bad_row_is_in_the_status_and_ends_no_verb(write, tmp_path):
    damage(tmp_path / "ledger.sqlite", "state", "<script>")
    path = write(start="2001-02-01")
    for words in (("status", path), ("run-due", path, "--now", NOW), ("retry", path, "tiny")):
        code, said = call(*words)
        assert code == 0 and "its state '<script>' is not one of pending, waiting" in said
    problems = json.loads((tmp_path / "status" / "status.json").read_text())["problems"]
    assert len(problems) == 1 and "<script>" in problems[0]
    page = (tmp_path / "status" / "index.html").read_text()
    assert "&lt;script&gt;" in page and "<script>" not in page


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
def test_scores_that_are_none_are_left_out_of_the_page(write, tmp_path, scores):
    damage(tmp_path / "ledger.sqlite", "scores", scores, CYCLES[0], state="done")
    code, said = call("status", write(start="2001-02-01"), "--json")
    assert code == 0 and "the scores of job 'tiny', cycle '2001-01-05T00:00' are left out" in said
    page = (tmp_path / "status" / "index.html").read_text()
    assert "<td>2001-01-05T00:00</td>" in page and "RMSE" not in page


def test_a_text_that_is_no_utf_8_and_a_bad_first_time_do_no_harm(tmp_path):
    damage(tmp_path / "l", "error", "x", CYCLES[0])
    said = []
    ledger = Ledger(tmp_path / "l", warn=said.append)
    with ledger._file.change() as db:
        db.execute("UPDATE cycles SET error = CAST(x'ff41' AS TEXT)")
        db.execute("INSERT INTO jobs VALUES ('tiny', 'never')")
    assert ledger.rows()[0].error == "\ufffdA"
    assert (
        ledger.first_seen("tiny", clock()()) == clock()() == ledger.first_seen("tiny", clock()())
        and len(said) == 1
    )


def test_a_cycle_that_nobody_has_is_taken(tmp_path):
    damage(tmp_path / "l", "token", None, CYCLES[0], state="running")
    ledger = Ledger(tmp_path / "l")
    assert ledger.free(ledger.rows()[0]) and ledger.claim("tiny", CYCLES[0]) is not None


def test_very_many_failures_back_off_as_long_as_many(write, tmp_path, monkeypatch):
    monkeypatch.setattr("fourcaster.forecast.jobs.engines.LocalEngine.run", lambda *_: {"error": "x"})
    damage(tmp_path / "ledger.sqlite", "attempts", 9000, CYCLES[-1])
    path = write(start=CYCLES[-1], retries=10_000)
    (row,) = Scheduler(path, clock()).run()
    assert (row.state, row.attempts) == ("retrying", 9001)
