"""Files that no job wrote are left unchanged: status pages, inputs, outputs, ``latest`` and logs."""

import json
import os
import shutil

import pytest
from jobs_helpers import CYCLES, NOW, call, clock, verify_checksum

from fourcaster.forecast.jobs.ledger import Ledger
from fourcaster.forecast.jobs.load import load_jobs
from fourcaster.forecast.jobs.log import Log
from fourcaster.forecast.jobs.manifests import Manifest, checksum
from fourcaster.forecast.jobs.output_store import ForeignFileError, LocalStore
from fourcaster.forecast.jobs.publishing import apply_retention, set_latest
from fourcaster.forecast.jobs.scheduler import Scheduler
from fourcaster.forecast.jobs.states import CycleState


@pytest.mark.parametrize("name", ["index.html", "status.json", "metrics.prom"])
def test_foreign_status_page_is_not_overwritten(write_jobs, tmp_path, name):
    path = write_jobs(start=CYCLES[-1])
    for text in ("<!doctype html><title>My home</title>", ""):
        (tmp_path / "status").mkdir(exist_ok=True)
        (tmp_path / "status" / name).write_text(text)
        code, output = call("status", path)
        assert code == 2
        assert len(output.splitlines()) == 1
        assert "is not of the status page, so it is not replaced" in output
        assert (tmp_path / "status" / name).read_text() == text
        assert len(list((tmp_path / "status").iterdir())) == 1
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "status" / name).unlink()
    (tmp_path / "status" / name).symlink_to(tmp_path / "victim")
    assert call("status", path)[0] == 2
    assert (tmp_path / "victim").read_text() == "precious"
    (tmp_path / "status" / name).unlink()
    assert call("status", path)[0] == 0
    assert call("status", path)[0] == 0


def test_unwritable_status_page_is_reported_once(write_jobs, tmp_path):
    path = write_jobs(start=CYCLES[-1])
    scheduler = Scheduler(path, clock())
    messages = []
    scheduler.log.write = lambda **values: messages.append(values["message"])
    (tmp_path / "status").write_text("a file")
    assert all("the status page in" in scheduler.report() for _ in range(3))
    assert len(messages) == 1
    code, output = call("status", path)
    assert code == 2
    assert "status" in output
    (tmp_path / "status").unlink()
    assert scheduler.report() is None
    (tmp_path / "status" / "index.html").unlink()
    (tmp_path / "status" / "index.html").mkdir()
    assert "is a folder that is not of the status page" in scheduler.report()
    assert len(messages) == 2


def test_full_disk_for_the_status_page_fails_the_command(write_jobs, tmp_path, monkeypatch):
    path = write_jobs()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fourcaster.forecast.jobs.status_page.atomic.write_file", full)
    code, output = call("status", path, "--now", NOW)
    assert code == 2
    assert output.count("could not be written: No space left on device") == 1
    assert "next due" in output


COLLISIONS = [
    ({"top": {"ledger": "jobs.yaml"}}, "ledger jobs.yaml is the jobs file"),
    ({"top": {"ledger": "x", "status": "x"}}, "is the folder of the status page"),
    ({"top": {"status": "jobs.yaml"}}, "status jobs.yaml is the jobs file"),
    ({"top": {"ledger": "in.zarr/ledger"}}, "ledger in.zarr/ledger lies in the source of job tiny"),
    ({"top": {"ledger": "in.zarr"}}, "ledger in.zarr is the source"),
    ({"top": {"status": "in.zarr"}}, "status in.zarr is the source"),
    ({"top": {"status": "model"}, "checkpoint": "model"}, "status model is the checkpoint"),
    ({"truth": "t.zarr", "top": {"ledger": "t.zarr/x"}}, "lies in the truth"),
    ({"output": "in.zarr/{cycle:%Y%m%dT%H}.zarr"}, "lie in or replace the source"),
    ({"output": "model/{cycle:%Y%m%dT%H}.zarr", "checkpoint": "model"}, "lie in or replace the checkpoint"),
    (
        {"output": "out/{cycle:%Y%m%dT%H}.zarr", "truth": "out/20010105T06.zarr"},
        "lie in or replace the truth",
    ),
    (
        {"output": "out/{cycle:%Y%m%dT%H}.zarr", "truth": "out/20010105T06.zarr/inside.zarr"},
        "lie in or replace the truth",
    ),
    ({"output": "{cycle:%Y%m%dT%H}.nc", "top": {"ledger": "20010105T06.nc"}}, "lie in or replace the ledger"),
    (
        {"output": "{cycle:%Y%m%dT%H}.zarr", "top": {"status": "20010105T06.zarr/page"}},
        "lie in or replace the status page",
    ),
    ({"output": "{cycle:%Y%m%dT%H}.nc", "source": {"files": "{cycle:%Y}*.nc"}}, "are among its files"),
]


@pytest.mark.parametrize(("changes", "message"), COLLISIONS)
def test_conflicting_paths_are_rejected(write_jobs, tmp_path, tiny_store, tiny_checkpoint, changes, message):
    (tmp_path / "in.zarr").symlink_to(tiny_store)
    (tmp_path / "model").symlink_to(tiny_checkpoint)
    path = write_jobs(**{"source": "in.zarr"} | changes)
    before = path.read_bytes(), sorted(tiny_store.rglob("*")), sorted(tiny_checkpoint.rglob("*"))
    code, output = call("status", path)
    assert code == 2
    assert len(output.splitlines()) == 1
    assert message in output
    assert (path.read_bytes(), sorted(tiny_store.rglob("*")), sorted(tiny_checkpoint.rglob("*"))) == before


def test_paths_in_the_same_folder_are_accepted(write_jobs, tmp_path, tiny_store):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "store.zarr").symlink_to(tiny_store)
    load_jobs(
        write_jobs(
            source="out/store.zarr",
            output="out/{cycle:%Y%m%dT%H}.zarr",
            truth="out/store.zarr",
            top={"ledger": "out/l", "status": "out"},
        )
    )
    load_jobs(write_jobs(source="out/latest", prepare=["true"], output="out/{cycle:%Y%m%dT%H}.zarr"))


@pytest.fixture
def publish(tmp_path):
    """Return a function that publishes a small forecast of a cycle in a folder."""
    store = LocalStore(tmp_path / "out" / "tiny")

    def publish_forecast(cycle, name):
        store.work.mkdir(parents=True, exist_ok=True)
        output = store.work / "new.zarr"
        plot = store.work / "new.png"
        output.mkdir()
        (output / "zarr.json").write_text(f"forecast of {cycle}")
        plot.write_text("plot")
        manifest = Manifest({"job": "tiny", "cycle": cycle, "checksum": checksum(output)})
        attachments = {f"{name}.t2m_12h.png": plot}
        store.publish(f"{name}.zarr", output, manifest, attachments=attachments, lease_held=lambda: True)
        return manifest.checksum

    return publish_forecast


@pytest.mark.parametrize(
    "kind",
    [
        "folder",
        "file",
        "link",
        "manifest",
        "plot",
        "manifest of another cycle",
        "manifest that is a folder",
    ],
)
def test_foreign_file_at_an_output_path_is_neither_moved_nor_removed(tmp_path, publish, kind):
    folder = tmp_path / "out" / "tiny"
    output, manifest = folder / "x.zarr", folder / "x.zarr.json"
    (output / "mine").mkdir(parents=True)
    if kind != "folder":
        shutil.rmtree(output)
    if kind == "file":
        output.write_text("mine")
    elif kind == "link":
        output.symlink_to(tmp_path / "victim")
    elif kind == "manifest":
        manifest.write_text('{"mine": 1}')
    elif kind == "plot":
        (folder / "x.t2m_12h.png").write_text("mine")
    elif kind == "manifest of another cycle":
        manifest.write_text(json.dumps({"job": "tiny", "cycle": CYCLES[1], "checksum": "0" * 64}))
    elif kind == "manifest that is a folder":
        manifest.mkdir()
    before = sorted((p, p.is_file() and p.read_bytes()) for p in folder.rglob("*"))
    with pytest.raises(
        ForeignFileError, match=r"is in the way, .* that no job published for this cycle; move it away"
    ):
        publish(CYCLES[0], "x")
    after = sorted((p, p.is_file() and p.read_bytes()) for p in folder.rglob("*") if ".making" not in p.parts)
    assert after == before


def test_damaged_output_is_replaced_and_backed_up(tmp_path, publish):
    publish(CYCLES[0], "x")
    (tmp_path / "out" / "tiny" / "x.zarr" / "zarr.json").write_text("damaged")
    publish(CYCLES[0], "x")
    assert verify_checksum(tmp_path / "out" / "tiny" / "x.zarr")
    assert (tmp_path / "out" / "tiny" / ".x.zarr.replaced" / "zarr.json").read_text() == "damaged"


def test_foreign_folder_fails_the_cycle(write_jobs, tmp_path):
    (tmp_path / "out" / "tiny" / "20010106T00.zarr" / "mine").mkdir(parents=True)
    path = write_jobs(start=CYCLES[-1], retries=0)
    code, output = call("run-due", path, "--now", NOW)
    assert code == 1
    assert "failed: could not be published: " in output
    assert "move it away" in output
    assert (tmp_path / "out" / "tiny" / "20010106T00.zarr" / "mine").is_dir()


def test_foreign_latest_is_not_overwritten(write_jobs, tmp_path):
    path = write_jobs(start=CYCLES[-1])
    folder = tmp_path / "out" / "tiny"
    folder.mkdir(parents=True)
    (folder / "latest").mkdir()
    code, output = call("run-due", path, "--now", NOW)
    assert code == 0
    assert "latest is a folder that no job published" in output
    assert (folder / "latest").is_dir()
    jobs = load_jobs(path)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    (folder / "latest").rmdir()
    for create in (
        lambda p: p.write_text("mine"),
        lambda p: p.symlink_to(tmp_path),
        lambda p: p.symlink_to("../mine.zarr"),
    ):
        create(folder / "latest")
        with pytest.raises(ForeignFileError, match="that no job published"):
            set_latest(jobs, jobs.jobs[0], ledger)
        (folder / "latest").unlink()
    (folder / "latest").symlink_to("20010105T00.zarr")
    set_latest(jobs, jobs.jobs[0], ledger)
    assert os.readlink(folder / "latest") == "20010106T00.zarr"


def test_retention_removes_only_published_outputs(write_jobs, tmp_path, publish):
    path = write_jobs(keep=1)
    jobs = load_jobs(path)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.open()
    folder = tmp_path / "out" / "tiny"
    names = [f"{cycle[:13].replace('-', '')}" for cycle in CYCLES]
    for cycle, name in zip(CYCLES, names, strict=True):
        path = str(folder / f"{name}.zarr")
        ledger.enter_done("tiny", cycle, clock()(), output=path, checksum=publish(cycle, name))
    shutil.rmtree(folder / "20010105T00.zarr")
    (folder / "20010105T00.zarr").mkdir()
    (folder / "20010105T00.zarr" / "mine").write_text("mine")
    (folder / "20010105T06.zarr" / "note").write_text("mine")
    (folder / "20010105T12.zarr.json").unlink()
    (folder / "20010105T18.mine.png").write_text("mine")
    messages = []
    apply_retention(jobs, jobs.jobs[0], ledger, log=lambda **line: messages.append(line["message"]))
    remaining = {p.name for p in folder.iterdir()}
    assert {
        "20010105T00.zarr",
        "20010105T06.zarr",
        "20010105T12.zarr",
        "20010105T18.mine.png",
        "20010106T00.zarr",
    } <= remaining
    assert not remaining & {"20010105T18.zarr", "20010105T18.t2m_12h.png", "20010105T18.zarr.json"}
    assert (folder / "20010105T00.zarr" / "mine").read_text() == "mine"
    assert (folder / "20010105T06.zarr" / "note").read_text() == "mine"
    records = ledger.records()
    assert [record.state for record in records] == [CycleState.REMOVED] * 4 + [CycleState.DONE]
    assert sum("is not removed; remove it by hand" in (record.error or "") for record in records) == 3
    assert [message.split()[0] for message in messages] == ["kept"] * 3 + ["removed"]
    apply_retention(jobs, jobs.jobs[0], ledger, log=None)  # nothing left to remove or log


def test_retention_waits_until_the_follow_up_is_complete(write_jobs, tmp_path, publish):
    path = write_jobs(keep=1)
    jobs = load_jobs(path)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.open()
    for cycle in CYCLES[:3]:
        name = cycle[:13].replace("-", "")
        ledger.enter_done(
            "tiny",
            cycle,
            clock()(),
            output=f"{name}.zarr",
            checksum=publish(cycle, name),
            followed_up=cycle == CYCLES[0],
        )
    removed, done = CycleState.REMOVED, CycleState.DONE
    apply_retention(jobs, jobs.jobs[0], ledger, log=lambda **line: None)
    assert [record.state for record in ledger.records()] == [removed, done, done]
    assert ledger.release(ledger.claim("tiny", CYCLES[1]))
    apply_retention(jobs, jobs.jobs[0], ledger, log=lambda **line: None)
    assert [record.state for record in ledger.records()] == [removed, removed, done]


def test_killed_removal_is_completed(tmp_path):
    store = LocalStore(tmp_path / "out")
    output = tmp_path / "new.nc"
    output.write_text("forecast")
    manifest = Manifest({"job": "a", "cycle": CYCLES[0], "checksum": checksum(output)})
    store.publish("x.nc", output, manifest, attachments={}, lease_held=lambda: True)
    with pytest.raises(ForeignFileError, match="not what was published"):
        store.remove("x.nc", "0" * 64)
    with pytest.raises(ForeignFileError, match="not what was published"):
        store.remove("x.nc", None)
    os.rename(tmp_path / "out" / "x.nc", tmp_path / "gone")  # as after a killed removal
    store.remove("x.nc", manifest.checksum)
    assert not list((tmp_path / "out").glob("x*"))


def test_planted_symlinks_for_logs_and_work_are_not_followed(write_jobs, tmp_path):
    path = write_jobs(start=CYCLES[-1], retries=0)
    victim = tmp_path / "victim"
    elsewhere = tmp_path / "elsewhere"
    victim.write_text("precious")
    elsewhere.mkdir()
    log = Log(tmp_path / "ledger.sqlite").path("tiny", CYCLES[-1])
    log.parent.mkdir(parents=True)
    log.symlink_to(victim)
    (tmp_path / "out" / "tiny").mkdir(parents=True)
    (tmp_path / "out" / "tiny" / ".making").symlink_to(elsewhere)
    code, output = call("run-due", path, "--now", NOW)
    assert code == 1
    assert ".making is a link, not a folder; remove it" in output
    assert "is a link, not a file" in output
    assert victim.read_text() == "precious"
    assert not list(elsewhere.iterdir())


def test_foreign_log_is_not_modified(tmp_path, capsys):
    log = Log(tmp_path / "ledger.sqlite")
    path = log.path("tiny", CYCLES[0])
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    log.write(job="tiny", cycle=CYCLES[0], message="x")
    assert "is a pipe, not a file" in capsys.readouterr().err
    path.unlink()
    path.write_text("mine")
    log.write(job="tiny", cycle=CYCLES[0], message="x")
    assert "is not a log of fourcaster" in capsys.readouterr().err
    assert path.read_text() == "mine"
    for job, cycle in (("../../x", CYCLES[0]), ("tiny", "../x"), ("tiny", "2001/../x")):
        log.write(job=job, cycle=cycle, message="x")
        assert "there is no log of" in capsys.readouterr().err
    assert {p.name for p in tmp_path.rglob("*")} == {"logs", "tiny", path.name}
