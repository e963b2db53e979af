"""Remote stores: unreliable servers yield correct values or a clear error; caching and credentials."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from servers import credentials, s3_server, serve, stop
from typer.testing import CliRunner

from fourcaster.datasets.adapters.opening import open_lazily
from fourcaster.datasets.adapters.remote import DiskCache
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.forecast.cli.main import app

RNG = np.random.default_rng(11)


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    for name in [n for n in os.environ if n.startswith(("AWS_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FOURCASTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FOURCASTER_TIMEOUT", "1")


@pytest.fixture
def source(tmp_path):
    """Write a store in the layout of WeatherBench2, zarr 2, with chunks of ten days."""
    times = np.datetime64("2019-01-01", "ns") + np.arange(400) * np.timedelta64(6, "h")
    coords = {
        "time": times,
        "level": [500, 850],
        "latitude": np.linspace(90, -90, 9),
        "longitude": np.arange(0, 360, 22.5),
    }
    space = ("latitude", "longitude")
    wave = 280 + 10 * np.sin(np.arange(400) / 5)[:, None, None] * np.cos(np.deg2rad(coords["longitude"]))
    fields = {
        "2m_temperature": (("time", *space), (wave + RNG.normal(size=(400, 9, 16))).astype("f4")),
        "temperature": (
            ("time", "level", *space),
            (wave[:, None] + RNG.normal(size=(400, 2, 9, 16))).astype("f4"),
        ),
    }
    dataset = xr.Dataset(fields, coords)
    chunks = {"2m_temperature": {"chunks": (40, 9, 16)}, "temperature": {"chunks": (40, 2, 9, 16)}}
    dataset.to_zarr(tmp_path / "bucket" / "wb.zarr", zarr_format=2, consolidated=True, encoding=chunks)
    return tmp_path / "bucket" / "wb.zarr"


@pytest.fixture
def bucket(source, monkeypatch):
    """Run an S3 server with the source in another process, and return its port."""
    with s3_server() as (port, client):
        client.create_bucket(Bucket="weather")
        for path in source.rglob("*"):
            if path.is_file():
                client.upload_file(
                    str(path),
                    "weather",
                    str(path.relative_to(source.parent)),
                    ExtraArgs={"ACL": "public-read"},
                )
        yield port


def call(*words):
    result = CliRunner().invoke(app, [str(w) for w in words])
    return result.exit_code, " ".join(result.output.split())


def test_an_unreliable_server_yields_the_same_values(source):
    server = serve(source.parent, fails=0.3, seed=3)
    remote = open_sources([f"http://127.0.0.1:{server.server_port}/wb.zarr"])
    local = open_sources([source])
    xr.testing.assert_identical(remote.compute(), local.compute())
    stop(server)


def test_chunks_are_cached(source):
    server = serve(source.parent)
    url = f"http://127.0.0.1:{server.server_port}/wb.zarr"
    first = open_sources([url]).compute()
    server.state["asked"].clear()
    assert first.identical(open_sources([url]).compute())
    assert not [p for p in server.state["asked"] if p.endswith((".0.0", ".0"))]
    stop(server)


def test_an_unreachable_server_is_a_clear_error(source, tmp_path):
    server = serve(source.parent)
    url = f"http://127.0.0.1:{server.server_port}/wb.zarr"
    dataset = open_sources([url])
    server.state["fails"] = 0.3
    server.state["random"].random = lambda: 0.01
    with pytest.raises(OSError, match=r"could not be read in 6 tries.*run it again"):
        dataset["2m_temperature"][:2].compute()
    stop(server)
    code, text = call("ingest", url, "-o", tmp_path / "s.zarr")
    assert code == 2 and url in text and not list(tmp_path.glob("*s.zarr*"))


def test_the_cache_is_bounded_and_detects_damage(tmp_path):
    cache = DiskCache(tmp_path / "c", 10_000)
    for i in range(50):
        cache.put(str(i), bytes([i]) * 1000)
        assert sum(p.stat().st_size for p in (tmp_path / "c").iterdir()) <= 10_000
    assert cache.get("49") == bytes([49]) * 1000 and cache.get("0") is None
    for path in (tmp_path / "c").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert cache.get("49") is None


def test_a_store_on_s3_is_ingested_trained_on_run_and_verified(bucket, monkeypatch, tmp_path):
    proxy = serve(upstream=bucket, fails=0.1, seed=1)
    credentials(monkeypatch, proxy.server_port)
    steps = [
        ("ingest", "s3://weather/wb.zarr", "-o", tmp_path / "s.zarr", "--variables", "2m_temperature"),
        (
            "train",
            "quickstart",
            f"data.store={tmp_path / 's.zarr'}",
            f"output={tmp_path / 'run'}",
            "train.epochs=1",
            "model.hidden_channels=4",
            "model.n_modes=[2,2]",
            "model.n_layers=1",
        ),
        (
            "run",
            tmp_path / "run" / "checkpoint",
            "--init",
            tmp_path / "s.zarr",
            "--time",
            "2019-03-25",
            "--lead",
            "12h",
            "-o",
            tmp_path / "f.zarr",
        ),
        ("verify", tmp_path / "f.zarr", "--truth", tmp_path / "s.zarr"),
    ]
    for step in steps:
        code, text = call(*step)
        assert code == 0, text
        assert "hidden-word" not in text
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"hidden-word" not in path.read_bytes(), path
    stop(proxy)


def test_credentials_are_read_from_a_profile(bucket, monkeypatch, tmp_path):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = known\naws_secret_access_key = hidden-word\n"
    )
    proxy = serve(upstream=bucket)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert open_sources(["s3://weather/wb.zarr"]).sizes["time"] == 400
    assert all("Credential=known/" in signature for signature in proxy.state["signatures"])
    stop(proxy)


def test_public_buckets_are_read_anonymously(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{bucket}")
    assert open_sources(["s3://weather/wb.zarr"]).sizes["time"] == 400


@pytest.mark.parametrize(
    "url", ["https://me:hidden-word@host/a.zarr", "https://host/a.zarr?key=hidden-word", "ftp://host/a.zarr"]
)
def test_rejected_urls_do_not_expose_secrets(tmp_path, url):
    code, text = call("ingest", url, "-o", tmp_path / "s.zarr")
    assert code == 2 and "hidden-word" not in text


def test_shards_are_read_by_range_requests(source, tmp_path):
    local = xr.open_zarr(source).drop_encoding().chunk(time=80)
    encoding = {
        name: {"shards": (80, *da.shape[1:]), "chunks": (8, *da.shape[1:])}
        for name, da in local.data_vars.items()
    }
    local.to_zarr(tmp_path / "sharded.zarr", zarr_format=3, consolidated=False, encoding=encoding)
    server = serve(tmp_path, seed=5)
    code, text = call(
        "ingest", f"http://127.0.0.1:{server.server_port}/sharded.zarr", "-o", tmp_path / "s.zarr"
    )
    assert code == 2 and "consolidate_metadata" in text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that consolidated metadata are not in the zarr 3 specification yet
        zarr.consolidate_metadata(tmp_path / "sharded.zarr")
    server.state["fails"] = 0.3
    url = f"http://127.0.0.1:{server.server_port}/sharded.zarr"
    remote = open_sources([url])
    expected = open_sources([tmp_path / "sharded.zarr"])
    server.state["sent"].clear()
    xr.testing.assert_equal(
        open_lazily(url)["2m_temperature"][3:5].compute(), local["2m_temperature"][3:5].compute()
    )
    shard = next(p for p in (tmp_path / "sharded.zarr" / "2m_temperature" / "c").rglob("*") if p.is_file())
    assert max(server.state["sent"][-3:]) < shard.stat().st_size / 2
    xr.testing.assert_identical(remote.compute(), expected.compute())
    stop(server)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_missing_chunk_is_an_error(source, tmp_path, zarr_format):
    path = tmp_path / "m.zarr"
    dataset = xr.open_zarr(source).drop_encoding()
    dataset.chunk(time=40).to_zarr(path, zarr_format=zarr_format, consolidated=zarr_format == 2)
    chunks = (
        p
        for p in sorted((path / "2m_temperature").rglob("*"))
        if p.is_file() and not p.name.startswith((".z", "zarr"))
    )
    next(chunks).unlink()
    code, text = call("ingest", path, "-o", tmp_path / "s.zarr")
    assert (
        code == 2
        and "lacks the chunk 2m_temperature/" in text
        and "--allow-missing" in text
        and not Path(tmp_path / "s.zarr").exists()
    )
    code, text = call("ingest", path, "-o", tmp_path / "s.zarr", "--allow-missing")
    assert code == 0, text
