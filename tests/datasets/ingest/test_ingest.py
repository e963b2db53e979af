"""Ingestion and appending: identical after interruptions and on a cluster, in bounded memory."""

import contextlib
import filecmp
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask.array as da
import numpy as np
import psutil
import pytest
import xarray as xr
from helpers import make_source

from fourcaster.datasets.adapters.untrusted import parse_bytes
from fourcaster.datasets.ingest.plan import make_plan
from fourcaster.datasets.ingest.select import Selection
from fourcaster.datasets.store.open import open_store, read_group
from fourcaster.fno.grids import LatLon
from fourcaster.forecast.ingestion import ingest


def same(a: Path, b: Path) -> bool:
    """Return whether two folders contain the same files, byte for byte."""
    comparison = filecmp.dircmp(a, b)
    if comparison.left_only or comparison.right_only or comparison.funny_files:
        return False
    _, mismatch, errors = filecmp.cmpfiles(a, b, comparison.common_files, shallow=False)
    return not mismatch and not errors and all(same(a / d, b / d) for d in comparison.common_dirs)


@pytest.fixture
def files(tmp_path):
    """Write one year of a source to four files."""
    source = make_source(times=1460, shape=(13, 24))
    for i in range(4):
        source.isel(time=slice(365 * i, 365 * (i + 1))).to_netcdf(tmp_path / f"part{i}.nc")
    return tmp_path


def test_appending_in_parts_equals_ingesting_at_once(files):
    """Two appends, compared with a single ingest."""
    parts, period = [files / f"part{i}.nc" for i in range(4)], "2001-01-01:2001-03-01"
    ingest(parts, files / "whole.zarr", train_period=period)
    ingest(parts[:2], files / "grown.zarr", train_period=period)
    before = open_store(files / "grown.zarr").dataset.load()
    for part in parts[2:]:
        ingest([part], files / "grown.zarr", append=True)
    whole, appended = open_store(files / "whole.zarr"), open_store(files / "grown.zarr")
    xr.testing.assert_identical(appended.dataset.drop_attrs().load(), whole.dataset.drop_attrs().load())
    assert appended.train_period == whole.train_period and before.sizes["time"] == 730
    for group in ("statistics", "climatology"):
        xr.testing.assert_identical(read_group(appended, group).load(), read_group(whole, group).load())
    with pytest.raises(ValueError, match="already contains 365 of these times, the first 2001-04-02T06:00"):
        ingest([parts[1]], files / "grown.zarr", append=True)


def test_a_rejected_append_leaves_the_store_unchanged(files):
    ingest([files / "part0.nc"], files / "s.zarr")
    shutil.copytree(files / "s.zarr", files / "kept.zarr")
    later = xr.open_dataset(files / "part1.nc").load()
    changes = {
        "times are missing": later.isel(time=slice(3, None)),
        "no variable 't2m'": later.drop_vars("t2m"),
        "differ in latitude": later.isel(lat=slice(1, None)),
        "is in 'degF'": later.assign(u10=later["u10"]),
        "only later times": later.isel(time=slice(0, 2)).assign_coords(
            time=later["time"][:2] - np.timedelta64(900, "D")
        ),
    }
    changes["is in 'degF'"] = later.assign(u10=later["u10"].assign_attrs(units="km/h"))
    for message, dataset in changes.items():
        dataset.to_netcdf(files / "wrong.nc")
        with pytest.raises(ValueError, match=message.replace("degF", "km/h")):
            ingest([files / "wrong.nc"], files / "s.zarr", append=True)
        assert same(files / "s.zarr", files / "kept.zarr"), message
    with pytest.raises(FileNotFoundError, match="does not exist"):
        ingest([files / "part1.nc"], files / "nowhere.zarr", append=True)
    with pytest.raises(ValueError, match="choose one"):
        ingest([files / "part1.nc"], files / "s.zarr", append=True, overwrite=True)
    changes["times are missing"].to_netcdf(files / "gap.nc")
    ingest([files / "gap.nc"], files / "s.zarr", append=True, allow_gaps=True)
    assert open_store(files / "s.zarr").gaps == [365]


INGEST_SCRIPT = """
from dataclasses import replace
import sys
from fourcaster.datasets.ingest import plan
from fourcaster.fno.grids import LatLon
from fourcaster.forecast.ingestion import ingest
plan.SHARD_BYTES = 13 * 24 * 4 * 50
make_plan = plan.make_plan
def small(*arguments, **more):
    result = make_plan(*arguments, **more)
    return replace(result, block=result.shard)
import fourcaster.datasets.ingest.append as append
import fourcaster.datasets.ingest.write as write
write.make_plan = append.make_plan = small
print("ready", flush=True)
ingest(sys.argv[3:], sys.argv[2], train_period="2001-01-01:2001-03-01", append=sys.argv[1] == "append")
"""


def kill_and_rerun(files: Path, rng: np.random.Generator, tries: int) -> int:
    """Kill ingests and appends at random times, rerun them, compare; return how many kills took effect."""

    def start(verb, out, *sources):
        return subprocess.Popen(
            [sys.executable, "-c", INGEST_SCRIPT, verb, out, *sources],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run_to_end(*arguments):
        process = start(*arguments)
        process.stdout.readline()
        started = time.monotonic()
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        return time.monotonic() - started

    parts = [str(files / f"part{i}.nc") for i in range(4)]
    durations = {"ingest": run_to_end("ingest", files / "a.zarr", *parts[:2])}
    shutil.copytree(files / "a.zarr", files / "b.zarr")
    durations["append"] = run_to_end("append", files / "b.zarr", *parts[2:])
    killed = 0
    for i in range(tries):
        verb, out, expected = (
            ("ingest", files / "x.zarr", "a.zarr") if i % 2 == 0 else ("append", files / "y.zarr", "b.zarr")
        )
        sources = parts[:2] if verb == "ingest" else parts[2:]
        shutil.rmtree(out, ignore_errors=True)
        if verb == "append":
            shutil.copytree(files / "a.zarr", out)
        process = start(verb, out, *sources)
        process.stdout.readline()
        time.sleep(rng.uniform(0, durations[verb]))
        os.kill(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.communicate()
        if verb == "append":
            assert same(out, files / "a.zarr") or same(out, files / "b.zarr") or not out.exists()
        if not out.exists() or not same(out, files / expected):
            run_to_end(verb, out, *sources)
        assert same(out, files / expected)
        (files / f".{out.name}.lock").unlink(missing_ok=True)  # of the killed process
        # A kill right after the new store is renamed leaves the complete old store.
        leftovers = list(files.glob(".*"))
        assert leftovers in ([], [files / f".{out.name}.partial"])
        for path in leftovers:
            assert not (path / "old").exists() or same(path / "old", files / "a.zarr")
            shutil.rmtree(path)
    return killed


def test_a_killed_ingest_or_append_resumes_to_identical_bytes(files):
    assert kill_and_rerun(files, np.random.default_rng(0), 4) >= 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fifty_random_kills_lose_no_data(files):
    print(f"{kill_and_rerun(files, np.random.default_rng(1), 50)} of 50 killed before their end")


def test_a_cluster_writes_identical_bytes(files):
    source = str(files / "part*.nc")
    ingest([source], files / "a.zarr")
    ingest([source], files / "b.zarr", scheduler="local:2")
    assert same(files / "a.zarr", files / "b.zarr")


def test_a_dry_run_returns_the_plan_and_writes_nothing(files):
    plan = ingest([files / "part0.nc"], files / "s.zarr", Selection(("t2m",), step=12), dry_run=True)
    assert plan.variables == ["t2m [K]"]
    assert plan.step_hours == 12
    assert plan.bytes_before_compression == 183 * 13 * 24 * 4
    assert not list(files.glob("*s.zarr*"))
    dataset = open_store(ingest_regridded(files)).dataset
    with pytest.raises(ValueError, match="is too little"):
        make_plan(dataset, memory=2**20)
    assert make_plan(dataset, memory=2**33).block >= make_plan(dataset, memory=2**31).shard


def ingest_regridded(files: Path) -> Path:
    ingest([files / "part0.nc"], files / "s.zarr", grid="5", method="bilinear")
    return files / "s.zarr"


def test_fields_are_regridded_during_ingestion(files):
    dataset = open_store(ingest_regridded(files)).dataset
    source = xr.open_dataset(files / "part0.nc")
    expected = (
        source["t2m"].astype("f8").interp(lat=dataset["latitude"].values, lon=dataset["longitude"].values)
    )
    assert np.allclose(dataset["t2m"], expected, rtol=1e-6) and "bilinear" in dataset.attrs["regridding"]


def test_celsius_values_labelled_kelvin_give_a_warning(files, caplog):
    source = xr.open_dataset(files / "part0.nc").load()
    source["t2m"] = (source["t2m"] - 273.15).assign_attrs(units="K")
    source.to_netcdf(files / "cold.nc")
    ingest([files / "cold.nc"], files / "s.zarr")
    assert "they look like degrees Celsius" in caplog.text
    ingest([files / "cold.nc"], files / "s.zarr", units={"t2m": "degC"}, overwrite=True)
    assert read_group(open_store(files / "s.zarr"), "statistics")["t2m_mean"] > 250


@pytest.mark.parametrize(
    ("text", "value"), [("2GiB", 2**31), ("500M", 500 * 2**20), ("1e9", 10**9), ("0.5 g", 2**29)]
)
def test_byte_sizes_are_parsed(text, value):
    assert parse_bytes(text) == value


def test_invalid_byte_sizes_are_refused():
    for wrong in ("much", "2 GB/s", ""):
        with pytest.raises(ValueError, match=r"memory .* is not understood"):
            parse_bytes(wrong)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_gibibytes_are_ingested_within_two(tmp_path):
    shape, length = (361, 720), 8
    count = 20 * 2**30 // (4 * shape[0] * shape[1]) // length * length
    latitude, longitude = np.linspace(90, -90, shape[0]), np.arange(shape[1]) / 2
    times = np.datetime64("2001-01-01", "ns") + np.arange(count) * np.timedelta64(6, "h")

    def field(t):
        """Return travelling waves, in steps of a quarter kelvin."""
        angle = np.deg2rad(longitude) + 0.1 * np.asarray(t)[:, None, None]
        return (
            np.round(4 * (280 + 20 * np.cos(np.deg2rad(latitude))[:, None] * (1 + 0.3 * np.cos(angle)))) / 4
        ).astype("f4")

    lazy = da.map_blocks(
        lambda b: field(b[:, 0, 0]),
        da.arange(count, chunks=length)[:, None, None],
        chunks=(length, *shape),
        dtype="f4",
    )
    source = xr.Dataset(
        {"t": (("time", "latitude", "longitude"), lazy, {"units": "K"})},
        {"time": times, "latitude": latitude, "longitude": longitude},
    )
    assert source["t"].nbytes > 20 * 2**30 - 2**25
    source.to_zarr(tmp_path / "source.zarr", zarr_format=2, consolidated=True)
    words = ["ingest", tmp_path / "source.zarr", "-o", tmp_path / "s.zarr", "--memory", "2GiB"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from fourcaster.forecast.cli.main import main; main()", *map(str, words)]
    )
    peak = 0
    started = time.monotonic()
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            peak = max(peak, psutil.Process(process.pid).memory_info().rss)
        time.sleep(0.05)
    assert process.returncode == 0
    print(f"peak {peak / 2**30:.2f} GiB, {time.monotonic() - started:.0f} s")
    assert peak < 2 * 2**30
    store = open_store(tmp_path / "s.zarr", whole_shards=False)
    for t in np.random.default_rng(0).integers(0, count, 20):
        assert np.array_equal(store.dataset["t"][t], field([t])[0])
    # The waves average to zero along a circle of latitude and over many periods.
    area = LatLon(latitude, longitude).area_weights
    assert (
        abs(
            float(read_group(store, "statistics")["t_mean"])
            - np.average(280 + 20 * np.cos(np.deg2rad(latitude)), weights=area)
        )
        < 0.01
    )
    for name in ("source.zarr", "s.zarr"):
        shutil.rmtree(tmp_path / name)
