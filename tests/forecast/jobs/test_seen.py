"""What is seen: scores and reports of cycles whose truth has come, the status page in a browser."""

import json

import pytest
import yaml
from browser import browser
from jobs_helpers import CYCLES, NOW, call, clock, lines

from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.write import write_store
from fourcaster.forecast.jobs.engines import LocalEngine
from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.scheduler import Scheduler
from fourcaster.forecast.verification.verify import summary, verify


def _until(source, last, path):
    source.sel(time=slice(None, last)).to_netcdf(path)
    return path


def test_truth_that_comes_later_is_verified_with_a_report(write, tmp_path, tiny_store, source):
    write_store(
        open_sources([_until(source, "2001-01-05T20", tmp_path / "early.nc")]), tmp_path / "early.zarr"
    )
    path = write(truth="truth.zarr", report=True)
    assert call("run-due", path, "--now", NOW)[0] == 0
    rows = Ledger(tmp_path / "ledger.sqlite").rows()
    assert all(row.verified is None for row in rows)
    (tmp_path / "truth.zarr").symlink_to(tmp_path / "early.zarr")
    assert call("run-due", path, "--now", NOW)[0] == 0
    found = {row.cycle: row.scores for row in Ledger(tmp_path / "ledger.sqlite").rows()}
    assert [cycle for cycle, scores in found.items() if scores] == CYCLES[:2]
    assert not lines(path, "could not be verified").total()  # the others were not begun
    (tmp_path / "truth.zarr").unlink()
    (tmp_path / "truth.zarr").symlink_to(tiny_store)
    assert call("run-due", path, "--now", NOW)[0] == 0
    rows = Ledger(tmp_path / "ledger.sqlite").rows()
    assert all(row.scores for row in rows) and rows[0].scores == found[CYCLES[0]]
    expected = summary(verify(tmp_path / "out" / "tiny" / "20010106T00.zarr", tiny_store))
    assert json.loads(rows[-1].scores) == [row for row in expected if row["lead_hours"] == 12]
    page = (tmp_path / "out" / "tiny" / "20010106T00.report.html").read_text()
    assert (
        page.count("data:image/png;base64") == 3
        and "t2m [K]" in page
        and "<td class='number'>12 h</td>" in page
    )
    assert "t2m " in (tmp_path / "status" / "index.html").read_text().split("RMSE at the last lead")[1]


@pytest.mark.browser
def test_the_status_page_in_a_browser(write, tmp_path, tiny_store):
    first = yaml.safe_load(write().read_text())["jobs"][0]
    broken = first | {"name": "broken", "prepare": ["false"], "retries": 0, "start": CYCLES[-1]}
    path = write(broken, truth=str(tiny_store), start=CYCLES[-2], plots=None)
    assert call("run-due", path, "--now", NOW)[0] == 1
    with browser() as page:
        page.open(tmp_path / "status" / "index.html")
        assert page.tell("document.title") == "Forecasts"
        assert page.tell("[...document.querySelectorAll('h2')].map(e => e.textContent)") == [
            "tiny",
            "broken failing",
        ]
        states = "[...document.querySelectorAll('#{} td .state')].map(e => e.textContent)"
        assert page.tell(states.format("tiny")) == ["done", "done"] and page.tell(
            states.format("broken")
        ) == ["failed"]
        assert (
            page.tell("getComputedStyle(document.querySelector('.done')).backgroundColor")
            == "rgb(27, 127, 75)"
        )
        assert page.tell("document.querySelector('#broken').textContent").endswith(
            "the prepare command false ended with 1"
        )
        assert page.tell("[...document.images].map(e => e.complete && e.naturalWidth > 400)") == [True]
        assert page.tell("document.documentElement.scrollWidth <= window.innerWidth")
        page.open(tmp_path / "status" / "index.html", width=420)
        assert page.tell("document.documentElement.scrollWidth <= window.innerWidth")  # a telephone's
        assert not page.complaints()
        page.photograph(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10000


def test_verification_that_breaks_ends_nothing_and_leaves_nothing(write, tmp_path, tiny_store, monkeypatch):
    path = write(start=CYCLES[-1], truth=str(tiny_store))
    plain, way = LocalEngine.run, ["breaks"]

    def run(engine, task, *more):
        if task.work == "verify" and way[0] == "breaks":
            raise RuntimeError("nobody thought of this")
        result = plain(engine, task, *more)
        if task.work == "verify":  # retention comes between
            scheduler.ledger.removing("tiny", CYCLES[-1])
            scheduler.ledger.removed("tiny", CYCLES[-1])
        return result

    monkeypatch.setattr(LocalEngine, "run", run)
    scheduler = Scheduler(path, clock())
    assert [row.state for row in scheduler.run()] == ["done"]
    assert lines(path, "could not be verified: RuntimeError: nobody thought of this") == {CYCLES[-1]: 1}
    way[0] = "is late"
    scheduler = Scheduler(path, clock())
    scheduler.run()
    assert not list((tmp_path / "out" / "tiny").glob("20010106T00*")) and not list(
        tmp_path.glob(".verifying-*")
    )
