"""Outputs in object stores; attempts on Dask workers and on batch queues."""

import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import xarray as xr
from jobs_helpers import CYCLES, NOW, call, clock, count_lines, verify_checksum
from servers import credentials, s3_server, serve, stop

from fourcaster.forecast.inference.forecaster import Forecaster
from fourcaster.forecast.inference.open import open_forecast
from fourcaster.forecast.jobs.load import load_jobs
from fourcaster.forecast.jobs.object_store import ObjectStore
from fourcaster.forecast.jobs.scheduler import Scheduler
from fourcaster.forecast.jobs.states import CycleState


def test_unreliable_object_store_contains_only_complete_forecasts(
    write_jobs, tmp_path, monkeypatch, tiny_store, tiny_checkpoint
):
    pytest.importorskip("moto")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FOURCASTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FOURCASTER_TIMEOUT", "1")
    with s3_server() as (port, client):
        client.create_bucket(Bucket="weather")
        for path in tiny_store.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "weather", f"truth.zarr/{path.relative_to(tiny_store)}")
        proxy = serve(upstream=port, fails=0.05, seed=2)
        credentials(monkeypatch, proxy.server_port)
        path = write_jobs(
            source="s3://weather/truth.zarr",
            output="s3://weather/out/{name}/{cycle:%Y}/{cycle:%m%dT%H}.zarr",
            start=CYCLES[2],
            keep=2,
            plots=[{"variable": "t2m", "lead": "12h"}],
            truth=str(tiny_store),
            retries=5,
        )
        records = Scheduler(path, clock()).run(until_ended=True)
        expected = [CycleState.REMOVED, CycleState.DONE, CycleState.DONE]
        assert [r.state for r in records] == expected, [r.error for r in records]
        proxy.state["fails"] = 0.0
        keys = {
            entry["Key"]: entry["LastModified"]
            for entry in client.list_objects_v2(Bucket="weather", Prefix="out/")["Contents"]
        }
        assert (
            client.get_object(Bucket="weather", Key="out/tiny/latest")["Body"].read() == b"2001/0106T00.zarr"
        )
        assert not [key for key in keys if "0105T12" in key]
        assert "out/tiny/2001/0106T00.scores.nc" in keys
        objects = [keys[key] for key in keys if key.startswith("out/tiny/2001/0106T00.zarr/")]
        # The manifest is written after the objects, then `latest`.
        assert max(objects) <= keys["out/tiny/2001/0106T00.zarr.json"] <= keys["out/tiny/latest"]
        forecast = open_forecast("s3://weather/out/tiny/2001/0106T00.zarr").load()
        expected = Forecaster.load(tiny_checkpoint).run(tiny_store, times=CYCLES[-1], lead="12h")
        xr.testing.assert_equal(forecast, expected)
        assert (tmp_path / "status" / "maps" / "tiny-2001-01-06T0000.png").stat().st_size > 1000
        store = ObjectStore("s3://weather/out/tiny", tmp_path)
        assert store.verify_checksum("2001/0106T00.zarr", records[-1].checksum)
        assert not store.verify_checksum("2001/0106T00.zarr", "another")
        client.delete_object(Bucket="weather", Key="out/tiny/2001/0106T00.zarr/zarr.json")
        assert not store.verify_checksum("2001/0106T00.zarr")
        for tail in ("", "-wal", "-shm"):
            (tmp_path / f"ledger.sqlite{tail}").write_bytes(b"damaged" * 999)
        records = Scheduler(path, clock()).run(until_ended=True)
        assert [record.cycle for record in records] == [CYCLES[2], CYCLES[4]]
        assert store.verify_checksum("2001/0106T00.zarr")
        assert "hidden-word" not in "".join(p.read_text() for p in (tmp_path / "logs").rglob("*.jsonl"))
        stop(proxy)


def test_attempt_on_a_lost_dask_worker_is_repeated_on_another(write_jobs, tmp_path, tiny_store):
    script = tmp_path / "prepare.py"
    script.write_text("""
import os, pathlib, psutil
lost = pathlib.Path("lost")
if not lost.exists():
    lost.touch()
    psutil.Process(os.getppid()).parent().parent().kill()  # attempt, fork server, worker
""")
    kill = [sys.executable, str(script)]
    path = write_jobs(
        prepare=kill,
        start=CYCLES[-1],
        retries=0,
        truth=str(tiny_store),
        top={"engine": "dask", "scheduler": "local:2"},
    )
    (record,) = Scheduler(path, clock()).run()
    assert record.state is CycleState.DONE, record.error
    assert (tmp_path / "lost").exists()
    assert record.scores
    assert not list(tmp_path.glob(".verifying-*"))
    assert verify_checksum(Path(record.output), record.checksum)
    assert count_lines(path, "published as") == {CYCLES[-1]: 1}
    path = write_jobs(
        prepare=["sleep", "600.5"],
        start="2001-01-06T06:00",
        deadline="1s",
        retries=0,
        top={"engine": "dask", "scheduler": "local:1"},
    )
    (record,) = Scheduler(path, clock("2001-01-06T06:10")).run()
    assert record.error == "took longer than the deadline of 1 s"


# dask-jobqueue leaves its local processes unclosed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_attempts_run_on_batch_queue_workers(write_jobs, tmp_path):
    pytest.importorskip("dask_jobqueue")
    options = {
        "cores": 1,
        "memory": "4GB",
        "local_directory": str(tmp_path),
        "log_directory": str(tmp_path),
        "interface": "lo",
    }
    path = write_jobs(
        start=CYCLES[-1], top={"engine": "dask", "cluster": {"queue": "local", "options": options}}
    )
    assert [record.state for record in Scheduler(path, clock()).run()] == [CycleState.DONE]
    for top in (
        {"engine": "dask"},
        {"scheduler": "tcp://x:1"},
        {"engine": "dask", "scheduler": "local:1", "cluster": {"queue": "local"}},
    ):
        with pytest.raises(ValueError, match="needs either a scheduler"):
            load_jobs(write_jobs(top=top))


@contextmanager
def dask_processes(port):
    args = [sys.executable, "-m", "dask"]
    scheduler = subprocess.Popen(
        [*args, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
        stderr=subprocess.DEVNULL,
    )
    worker = subprocess.Popen(
        [*args, "worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1", "--no-dashboard"],
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()


@pytest.mark.slow
def test_restarted_dask_scheduler_is_reconnected(write_jobs, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    wait = [sys.executable, "-c", "import pathlib, time; pathlib.Path('begun').touch(); time.sleep(3)"]
    path = write_jobs(
        prepare=wait,
        start=CYCLES[-1],
        backoff="3s",
        top={"engine": "dask", "scheduler": f"tcp://127.0.0.1:{port}"},
    )
    code, output = call("run-due", path, "--now", NOW)
    assert code == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1" in output
    with ThreadPoolExecutor() as pool:
        with dask_processes(port):
            time.sleep(5)
            future = pool.submit(lambda: Scheduler(path, clock()).run(until_ended=True))
            while not (tmp_path / "begun").exists():
                time.sleep(0.1)
        time.sleep(15)
        with dask_processes(port):
            assert [record.state for record in future.result(120)] == [CycleState.DONE]
    assert count_lines(path, "published as") == {CYCLES[-1]: 1}


def test_unreachable_object_store_is_retried(write_jobs, monkeypatch):
    pytest.importorskip("boto3")
    credentials(monkeypatch, 9)  # no server listens on this port
    monkeypatch.setenv("FOURCASTER_TIMEOUT", "1")
    path = write_jobs(output="s3://weather/{name}/{cycle:%Y%m%dT%H}.zarr", start=CYCLES[-1])
    code, output = call("run-due", path, "--now", NOW)
    assert code == 3
    assert "retrying: cannot tell whether it is published: s3://weather/tiny: " in output
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    code, output = call("run-due", path, "--now", NOW)
    assert code == 2
    assert "s3://weather/tiny cannot be opened with the credentials of the environment" in output
