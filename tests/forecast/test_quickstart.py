"""Quickstart: every kind of sample data, interrupted stages and repeated calls."""

import functools
import http.server
import json
import threading

import numpy as np
import pytest
import xarray as xr
from helpers import make_source
from typer.testing import CliRunner

from fourcaster.datasets import sample
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.write import write_store
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.planning import initial_times, plan
from fourcaster.forecast.quickstart import quickstart

SMALL = [
    "train.epochs=1",
    "model.hidden_channels=6",
    "model.members=1",
    "model.window=2",
    "train.validation_samples=4",
]
OUTPUTS = ("store.zarr", "checkpoint", "forecast.zarr", "scores.nc", "scores.json", "scores.png", "map.png")


@pytest.fixture
def data(tmp_path):
    make_source(times=800, step_hours=12).to_netcdf(tmp_path / "data.nc")
    return tmp_path / "data.nc"


@pytest.fixture
def server(tmp_path):
    """Serve a folder on the loopback interface; yield the folder and the URL of a file in it."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{httpd.server_address[1]}/air_temperature.nc"
        httpd.shutdown()
        thread.join()


def test_completed_stages_are_skipped_and_different_settings_rejected(data, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["quickstart", "--data", str(data), "--out", str(out), "--json", *SMALL])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert all((out / name).exists() for name in OUTPUTS) and not report["simulated"]
    rows = report["scores"]
    assert [r["lead_hours"] for r in rows if r["variable"] == "t2m"] == [0, 12, 24, 36, 48, 60, 72]
    stamps = {name: (out / name).stat().st_mtime_ns for name in OUTPUTS if name != "scores.json"}
    repeated = CliRunner().invoke(app, ["quickstart", "--data", str(data), "--out", str(out), *SMALL])
    assert repeated.exit_code == 0 and "skill" in repeated.stdout and "forecast plot" in repeated.stdout
    assert stamps == {name: (out / name).stat().st_mtime_ns for name in stamps}
    other = CliRunner().invoke(
        app, ["quickstart", "--data", str(data), "--out", str(out), *SMALL, "train.seed=5"]
    )
    assert other.exit_code == 2 and "other settings" in other.stderr
    make_source(times=760, step_hours=12).to_netcdf(tmp_path / "other.nc")
    other = CliRunner().invoke(
        app, ["quickstart", "--data", str(tmp_path / "other.nc"), "--out", str(out), *SMALL]
    )
    assert other.exit_code == 2 and "--fresh" in other.stderr
    fresh = CliRunner().invoke(
        app, ["quickstart", "--data", str(data), "--out", str(out), "--fresh", *SMALL, "train.seed=5"]
    )
    assert fresh.exit_code == 0 and (out / "map.png").stat().st_mtime_ns > stamps["map.png"]


def test_interrupted_stage_is_repeated(data, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fourcaster.forecast.quickstart.verify", stop)
        with pytest.raises(KeyboardInterrupt):
            quickstart(data, tmp_path / "out", SMALL)
    stamp = (tmp_path / "out" / "checkpoint" / "meta.json").stat().st_mtime_ns
    quickstart(data, tmp_path / "out", SMALL)
    assert (tmp_path / "out" / "checkpoint" / "meta.json").stat().st_mtime_ns == stamp
    assert all((tmp_path / "out" / name).exists() for name in OUTPUTS)


def test_environment_variable_names_the_sample(data, tmp_path, monkeypatch):
    monkeypatch.setenv("FOURCASTER_SAMPLE", str(data))
    assert sample.find_sample(None, tmp_path) == sample.Sample(data, "FOURCASTER_SAMPLE")
    monkeypatch.setenv("FOURCASTER_SAMPLE", str(tmp_path / "gone.nc"))
    with pytest.raises(FileNotFoundError, match=r"gone\.nc \(from FOURCASTER_SAMPLE\) does not exist"):
        sample.find_sample(None, tmp_path)


def test_download_is_verified_and_cached(ncep, tmp_path, server):
    folder, url = server
    cache = tmp_path / "cache"
    (folder / "air_temperature.nc").write_bytes(ncep.read_bytes())
    path = sample.download(url, cache)
    assert path.read_bytes() == ncep.read_bytes()
    (folder / "air_temperature.nc").unlink()
    assert sample.download(url, cache) == path  # from the cache
    path.unlink()
    make_source().rename(t2m="air").to_netcdf(folder / "air_temperature.nc")
    with pytest.raises(ValueError, match="not the expected field"):
        sample.download(url, cache)
    (folder / "air_temperature.nc").write_text("nonsense")
    with pytest.raises(ValueError, match="cannot be read"):
        sample.download(url, cache)
    assert not path.exists()
    (folder / "air_temperature.nc").unlink()
    with pytest.raises(OSError, match="404"):
        sample.download(url, cache)


def test_find_sample_downloads(ncep, tmp_path, server, monkeypatch):
    from xarray import tutorial

    folder, url = server
    (folder / "raw" / tutorial.version).mkdir(parents=True)
    (folder / "raw" / tutorial.version / sample.NAME).write_bytes(ncep.read_bytes())
    monkeypatch.setattr(tutorial, "base_url", url.rsplit("/", 1)[0])
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.delenv("FOURCASTER_SAMPLE", raising=False)
    result = sample.find_sample(None, tmp_path)
    assert (
        result.origin == "download" and not result.simulated and sample.checksum(result.path) == sample.SHA256
    )


def test_sample_is_simulated_and_labelled_without_a_network(tmp_path, monkeypatch, caplog):
    from xarray import tutorial

    monkeypatch.setattr(tutorial, "base_url", "http://127.0.0.1:9")
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(sample, "SIMULATED_DAYS", 40)
    monkeypatch.delenv("FOURCASTER_SAMPLE", raising=False)
    result = CliRunner().invoke(app, ["quickstart", "--out", str(tmp_path / "out"), *SMALL])
    assert result.exit_code == 0, result.output
    assert "SIMULATED" in result.stdout and "SIMULATED" in caplog.text
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["simulated"]
    with xr.open_dataset(tmp_path / "out" / "simulated.nc") as dataset:
        assert "simulated" in dataset.attrs["title"] and dataset["time"].dtype == "datetime64[ns]"


def test_invalid_overrides_are_rejected_before_any_work(tmp_path):
    result = CliRunner().invoke(
        app, ["quickstart", "--data", str(tmp_path), "--out", str(tmp_path / "out"), "train.epoch=1"]
    )
    assert (
        result.exit_code == 2
        and "did you mean train.epochs" in result.stderr
        and not (tmp_path / "out").exists()
    )


@pytest.mark.parametrize(
    ("times", "hours", "shape"), [(16, 12, (9, 16)), (400, 24, (5, 6)), (300, 1, (4, 4)), (120, 120, (6, 7))]
)
def test_small_and_unusual_series_complete(tmp_path, times, hours, shape):
    """Few times, daily and hourly steps, steps of five days, grids with fewer points than modes."""
    make_source(times, hours, shape)[["t2m"]].to_netcdf(tmp_path / "a.nc")
    report = quickstart(tmp_path / "a.nc", tmp_path / "out", ["train.epochs=1", "model.members=1"])
    leads = [row.lead_hours for row in report.scores]
    assert leads[0] == 0 and leads[-1] <= max(72, hours)
    assert np.isfinite(report.scores[-1].rmse["forecast"])


def test_initial_times_sample_hours_and_months_evenly(tmp_path):
    make_source(times=4 * 800, shape=(3, 4)).to_netcdf(tmp_path / "a.nc")
    store = write_store(open_sources([tmp_path / "a.nc"]), tmp_path / "s.zarr")
    times, steps = initial_times(store, store.split().test, window=9)
    assert steps == 12 and len(times) >= 200 and {str(t)[:4] for t in times} == {"2002"}
    hours, counts = np.unique(
        (times - times.astype("datetime64[D]")) / np.timedelta64(1, "h"), return_counts=True
    )
    assert hours.tolist() == [0, 6, 12, 18] and np.ptp(counts) <= 1
    months = np.unique(times.astype("datetime64[M]"), return_counts=True)[1]
    assert len(months) == 12 and np.ptp(months) <= 4
    config = plan(store, tmp_path)
    assert config.train.epochs >= 1 and config.data.samples_per_epoch <= 1500
    assert plan(store, tmp_path, ["train.epochs=3"]).train.epochs == 3


def test_global_data_use_the_sphere_unless_the_settings_are_of_another_model(tmp_path):
    for name, latitude in (("globe", np.linspace(-84, 84, 15)), ("region", np.linspace(0, 60, 15))):
        source = make_source(times=200, shape=(15, 30))
        source = source.assign_coords(lat=latitude, lon=np.arange(0, 360, 12.0))
        source.to_netcdf(tmp_path / f"{name}.nc")
        store = write_store(open_sources([tmp_path / f"{name}.nc"]), tmp_path / f"{name}.zarr")
        model = plan(store, tmp_path).model
        assert model.kind == ("sfno" if name == "globe" else "fno")
        assert plan(store, tmp_path, ["model.n_modes=[3,3]"]).model.kind == "fno"
        if name == "globe":
            assert model.lmax == 14 and model.analysis == "least_squares"
            assert plan(store, tmp_path, ["model.lmax=9"]).model.lmax == 9
        else:
            with pytest.raises(ValueError, match="lmax"):
                plan(store, tmp_path, ["model.lmax=9"])
    report = quickstart(tmp_path / "globe.nc", tmp_path / "out", ["train.epochs=1"])
    assert np.isfinite(report.scores[-1].rmse["forecast"])
    network = json.loads((tmp_path / "out" / "checkpoint" / "meta.json").read_text())["config"]["model"]
    assert network["kind"] == "sfno"
