"""Scores and reports of cycles whose truth is complete; the status page in a browser."""

import json

import pytest
import yaml
from browser import browser
from jobs_helpers import CYCLES, NOW, call, clock, count_lines

from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.write import write_store
from fourcaster.forecast.jobs.attempts import Work
from fourcaster.forecast.jobs.executors import LocalExecutor
from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.scheduler import Scheduler
from fourcaster.forecast.jobs.states import CycleState
from fourcaster.forecast.verification.summary import summarize
from fourcaster.forecast.verification.verify import verify


def _write_until(source, last, path):
    source.sel(time=slice(None, last)).to_netcdf(path)
    return path


def test_forecasts_are_verified_and_reported_once_their_truth_arrives(
    write_jobs, tmp_path, tiny_store, source
):
    write_store(
        open_sources([_write_until(source, "2001-01-05T20", tmp_path / "early.nc")]), tmp_path / "early.zarr"
    )
    path = write_jobs(truth="truth.zarr", report=True)
    assert call("run-due", path, "--now", NOW)[0] == 0
    records = Ledger(tmp_path / "ledger.sqlite").records()
    assert all(record.verified is None for record in records)
    (tmp_path / "truth.zarr").symlink_to(tmp_path / "early.zarr")
    assert call("run-due", path, "--now", NOW)[0] == 0
    scores = {record.cycle: record.scores for record in Ledger(tmp_path / "ledger.sqlite").records()}
    assert [cycle for cycle, text in scores.items() if text] == CYCLES[:2]
    assert not count_lines(path, "could not be verified").total()  # the others were not attempted
    (tmp_path / "truth.zarr").unlink()
    (tmp_path / "truth.zarr").symlink_to(tiny_store)
    assert call("run-due", path, "--now", NOW)[0] == 0
    records = Ledger(tmp_path / "ledger.sqlite").records()
    assert all(record.scores for record in records)
    assert records[0].scores == scores[CYCLES[0]]
    scores = verify(tmp_path / "out" / "tiny" / "20010106T00.zarr", tiny_store)
    expected = [row.to_dict() for row in summarize(scores)]
    assert json.loads(records[-1].scores) == [row for row in expected if row["lead_hours"] == 12]
    page = (tmp_path / "out" / "tiny" / "20010106T00.report.html").read_text()
    assert page.count("data:image/png;base64") == 3
    assert "t2m [K]" in page
    assert "<td class='number'>12 h</td>" in page
    assert "t2m " in (tmp_path / "status" / "index.html").read_text().split("RMSE at the last lead")[1]


@pytest.mark.browser
def test_status_page_renders_in_a_browser(write_jobs, tmp_path, tiny_store):
    first = yaml.safe_load(write_jobs().read_text())["jobs"][0]
    broken = first | {"name": "broken", "prepare": ["false"], "retries": 0, "start": CYCLES[-1]}
    path = write_jobs(broken, truth=str(tiny_store), start=CYCLES[-2], plots=None)
    assert call("run-due", path, "--now", NOW)[0] == 1
    with browser() as page:
        page.open(tmp_path / "status" / "index.html")
        assert page.evaluate("document.title") == "Forecasts"
        assert page.evaluate("[...document.querySelectorAll('h2')].map(e => e.textContent)") == [
            "tiny",
            "broken failing",
        ]
        states = "[...document.querySelectorAll('#{} td .state')].map(e => e.textContent)"
        assert page.evaluate(states.format("tiny")) == ["done", "done"]
        assert page.evaluate(states.format("broken")) == ["failed"]
        assert (
            page.evaluate("getComputedStyle(document.querySelector('.done')).backgroundColor")
            == "rgb(27, 127, 75)"
        )
        assert page.evaluate("document.querySelector('#broken').textContent").endswith(
            "the prepare command false ended with 1"
        )
        assert page.evaluate("[...document.images].map(e => e.complete && e.naturalWidth > 400)") == [True]
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.open(tmp_path / "status" / "index.html", width=420)
        assert page.evaluate(
            "document.documentElement.scrollWidth <= window.innerWidth"
        )  # the width of a phone
        assert not page.console_messages()
        page.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10000


def test_failed_verification_stops_no_cycle_and_leaves_no_files(
    write_jobs, tmp_path, tiny_store, monkeypatch
):
    path = write_jobs(start=CYCLES[-1], truth=str(tiny_store))
    original = LocalExecutor.run
    failing = [True]

    def run(executor, attempt, *more):
        if attempt.work is Work.VERIFICATION and failing[0]:
            raise RuntimeError("unexpected")
        result = original(executor, attempt, *more)
        if attempt.work is Work.VERIFICATION:  # retention removes the output in the meantime
            scheduler.ledger.begin_removal("tiny", CYCLES[-1])
            scheduler.ledger.record_removed("tiny", CYCLES[-1])
        return result

    monkeypatch.setattr(LocalExecutor, "run", run)
    scheduler = Scheduler(path, clock())
    assert [record.state for record in scheduler.run()] == [CycleState.DONE]
    assert count_lines(path, "could not be verified: RuntimeError: unexpected") == {CYCLES[-1]: 1}
    failing[0] = False
    scheduler = Scheduler(path, clock())
    scheduler.run()
    assert not list((tmp_path / "out" / "tiny").glob("20010106T00*"))
    assert not list(tmp_path.glob(".verifying-*"))
