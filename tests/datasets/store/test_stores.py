"""Stores: contents, statistics, gaps, masks, and interrupted writes."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr
from helpers import make_source

from fourcaster.datasets.adapters.cf import canonical
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.plan import make_plan
from fourcaster.datasets.ingest.write import write_store
from fourcaster.datasets.schema import grid_of, time_step
from fourcaster.datasets.statistics.climatology import CycleDesign
from fourcaster.datasets.statistics.moments import compute_statistics
from fourcaster.datasets.statistics.summaries import write_summaries
from fourcaster.datasets.store import atomic
from fourcaster.datasets.store.direct import DirectFields
from fourcaster.datasets.store.fields import Fields
from fourcaster.datasets.store.open import consolidate, open_store, read_group


def test_a_store_opens_in_plain_xarray_with_the_values_of_the_source(tiny_store):
    plain = xr.open_zarr(tiny_store)  # without a warning, which would be an error here
    source = make_source()
    assert np.array_equal(plain["t2m"], source["t2m"]) and np.array_equal(plain["time"], source["time"])
    assert plain["latitude"].values.tobytes() == source["lat"].values.tobytes()
    assert plain["t2m"].encoding["chunks"] == (1, 7, 12) and plain["t2m"].encoding["shards"] == (160, 7, 12)
    assert plain["t2m"].attrs["units"] == "K"


def test_statistics_are_computed_over_the_training_period(tiny_store):
    store = open_store(tiny_store)
    fit = store.split().fit
    statistics, x = read_group(store, "statistics"), store.dataset["t2m"].values[fit].astype("f8")
    w = np.broadcast_to(store.grid.area_weights[:, None], x.shape[1:])

    def std(values):
        mean = np.average(values, weights=np.broadcast_to(w, values.shape))
        return np.sqrt(np.average((values - mean) ** 2, weights=np.broadcast_to(w, values.shape)))

    assert statistics["t2m_mean"] == pytest.approx(
        np.average(x, weights=np.broadcast_to(w, x.shape)), rel=1e-6
    )
    assert statistics["t2m_std"] == pytest.approx(std(x), rel=1e-6)
    assert statistics["t2m_tendency_std"] == pytest.approx(std(np.diff(x, axis=0)), rel=1e-5)
    assert statistics.attrs["period"][1].startswith(str(store.dataset["time"].values[fit][-1])[:19])


def test_each_variable_keeps_its_own_statistics_and_climatology(tiny_store):
    store = open_store(tiny_store)
    assert [c.variable for c in store.channels] == ["u10", "t2m"]
    statistics, climatology = read_group(store, "statistics"), read_group(store, "climatology")
    fit = store.split().fit
    assert abs(float(statistics["u10_mean"])) < 10 and 270 < float(statistics["t2m_mean"]) < 290
    for name in ("u10", "t2m"):
        x = store.dataset[name].isel(time=fit)
        for hour in (0, 6, 12, 18):
            expected = x.sel(time=(x["time"].dt.hour == hour) & (x["time"].dt.dayofyear <= 20)).mean("time")
            assert np.allclose(climatology[name].sel(hour=hour, dayofyear=5), expected, atol=1e-4)


def test_statistics_do_not_depend_on_blocks(tiny_store):
    store = open_store(tiny_store)
    fields, fit = Fields(store.dataset), slice(3, 120)
    whole = compute_statistics(fields, fit, store.grid, gaps=[])
    parts = compute_statistics(fields, fit, store.grid, gaps=[], block_bytes=13 * 2 * 84 * 4)
    assert np.allclose(whole.values, parts.values, rtol=1e-6)
    assert np.allclose(whole.cycle.coefficients, parts.cycle.coefficients, rtol=1e-5)


@pytest.mark.parametrize(("step", "days"), [(6, 400), (24, 200)])
def test_one_pass_statistics_agree_with_a_float64_reference(step, days):
    """With a gap, a mask, intermittently missing values, and a mean much larger than the variability."""
    source = canonical(make_source(times=days * 24 // step, step_hours=step), "memory")
    source["u10"] += 1e5
    source["t2m"][:, 0, 0] = np.nan
    source["t2m"][5, 1, 1] = np.nan
    fields, grid, gaps = Fields(source), grid_of(source), [100, 150]
    statistics = compute_statistics(fields, slice(7, 180), grid, gaps=gaps, block_bytes=10**4)
    x = np.stack([source[n].values[7:180] for n in source.data_vars], axis=1).astype("f8")
    w = np.broadcast_to(grid.area_weights[:, None], x.shape[2:])

    def std(values):
        weights = np.where(np.isfinite(values), w, 0)
        mean = np.nansum(values * weights) / weights.sum()
        return np.sqrt(np.nansum((values - mean) ** 2 * weights) / weights.sum())

    cycle = statistics.cycle
    f = CycleDesign(fields.times[7:180]).functions
    anomaly = np.where(
        statistics.mask,
        x - np.tensordot(f, cycle.coefficients.reshape(f.shape[1], *x.shape[1:]).astype("f8"), axes=1),
        np.nan,
    )
    contiguous = np.delete(np.arange(172), np.array(gaps) - 8)
    for i in range(2):
        assert statistics.std[i] == pytest.approx(std(x[:, i]), rel=1e-6)
        assert statistics.tendency_std[i] == pytest.approx(
            std(np.diff(x[:, i], axis=0)[contiguous]), rel=1e-6
        )
        assert statistics.anomaly_std[i] == pytest.approx(std(anomaly[:, i]), rel=1e-6)
        assert statistics.anomaly_tendency_std[i] == pytest.approx(
            std(np.diff(anomaly[:, i], axis=0)[contiguous]), rel=1e-6
        )
        assert [statistics.minimum[i], statistics.maximum[i]] == [np.nanmin(x[:, i]), np.nanmax(x[:, i])]


def test_summaries_take_one_pass_with_enough_memory_and_do_not_depend_on_it(tmp_path, monkeypatch):
    dataset = canonical(make_source(times=900), "memory")
    dataset["u10"][17, 3, 3] = np.nan
    store, plan = write_store(dataset, tmp_path / "s.zarr"), make_plan(dataset)
    read, compute = [], DirectFields._compute

    def counted(fields, positions):
        read.append(len(np.arange(900)[positions]) * fields.shape[1])
        return compute(fields, positions)

    monkeypatch.setattr(DirectFields, "_compute", counted)
    results = []
    for room in (2**30, 10**5):
        read.clear()
        write_summaries(dataclasses.replace(plan, room=room), store.path)
        consolidate(store.path)
        results.append((sum(read), read_group(store, "climatology").load()))
    fields = 2 * len(range(*plan.fit.indices(900)))
    assert results[0][0] == fields and 2.9 * fields < results[1][0] < 3.2 * fields
    assert results[0][1].identical(results[1][1]) and np.isfinite(results[0][1]["t2m"]).all()


def test_tendencies_do_not_cross_gaps(tmp_path):
    source = make_source()
    source["t2m"][80:] += 100
    source = source.assign_coords(
        time=np.concatenate([source["time"][:80], source["time"][80:] + np.timedelta64(5, "D")])
    )
    source.to_netcdf(tmp_path / "gap.nc")
    dataset = open_sources([tmp_path / "gap.nc"])
    months = np.arange("2001-01", "2003-01", dtype="M8[M]").astype("M8[ns]")
    with pytest.raises(ValueError, match="months are not a constant time step; use a daily"):
        time_step(months, "months.nc")
    with pytest.raises(ValueError, match=r"1 interval other than the usual 6 h.*allow gaps"):
        write_store(dataset, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists() and not atomic.temporary_path(tmp_path / "s.zarr").exists()
    store = write_store(dataset, tmp_path / "s.zarr", allow_gaps=True)
    assert store.gaps == [80] and open_store(tmp_path / "s.zarr").gaps == [80]
    assert (
        read_group(store, "statistics")["t2m_tendency_std"] < 3
    )  # a jump of 100 K in 127 steps would make it 9


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 1, 1, 2], "contains the time 2001-01-01T06:00 twice"),
        ([0, 2, 1, 3], "unsorted times"),
        ([0], "at least two"),
    ],
)
def test_times_must_be_sorted_and_unique(order, message, tmp_path):
    dataset = canonical(make_source().isel(time=order), "memory")
    with pytest.raises(ValueError, match=message):
        write_store(dataset, tmp_path / "s.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_constant_mask_is_distinguished_from_intermittently_missing_values(tmp_path):
    source = make_source()
    source["t2m"][:, 0, 0] = np.nan
    source["u10"][17, 3, 3] = np.nan
    store = write_store(canonical(source, "memory"), tmp_path / "s.zarr")
    fields = Fields(store.dataset)
    statistics = compute_statistics(fields, store.split().fit, store.grid, gaps=[])
    assert not statistics.mask[1, 0, 0] and statistics.mask[1].sum() == 83
    assert statistics.partly_missing.tolist() == [1, 0]
    assert np.isfinite(statistics.values).all()


def test_overwriting_is_explicit_and_a_failure_keeps_the_old_store(tmp_path, monkeypatch):
    dataset = canonical(make_source(), "memory")
    write_store(dataset, tmp_path / "s.zarr")
    with pytest.raises(FileExistsError, match="overwrite it"):
        write_store(dataset, tmp_path / "s.zarr")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fourcaster.datasets.statistics.summaries._write_climatology", full)
    with pytest.raises(OSError, match="no room to write"):
        write_store(dataset + 1, tmp_path / "s.zarr", overwrite=True)
    assert not (tmp_path / ".s.zarr.partial").exists()
    assert np.array_equal(open_store(tmp_path / "s.zarr").dataset["t2m"], dataset["t2m"])


def test_a_replacement_killed_between_renames_is_rolled_back(tmp_path, tiny_store):
    shutil.copytree(tiny_store, tmp_path / ".s.zarr.partial" / "old")
    assert open_store(tmp_path / "s.zarr").step == np.timedelta64(6, "h")
    assert [p.name for p in tmp_path.iterdir()] == ["s.zarr"]


def test_a_killed_writer_leaves_no_store_and_can_be_rerun(tmp_path):
    make_source(times=4000, shape=(40, 60)).to_netcdf(tmp_path / "a.nc")
    code = (
        "import sys; from pathlib import Path; from fourcaster.datasets.adapters.sources import "
        "open_sources; "
        "from fourcaster.datasets.ingest.write import write_store; write_store(open_sources([sys.argv[1]]), "
        "Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "a.nc", tmp_path / "s.zarr"])
    partial = atomic.temporary_path(tmp_path / "s.zarr")
    deadline = time.monotonic() + 60
    while not partial.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert partial.exists() and not (tmp_path / "s.zarr").exists()
    write_store(open_sources([tmp_path / "a.nc"]), tmp_path / "s.zarr")
    assert not partial.exists() and open_store(tmp_path / "s.zarr").dataset.sizes["time"] == 4000


def test_a_zarr_store_that_was_not_ingested_is_refused(tmp_path):
    make_source().to_zarr(tmp_path / "raw.zarr", consolidated=False)
    with pytest.raises(ValueError, match="ingest it first"):
        open_store(tmp_path / "raw.zarr")


def test_a_raw_zarr_store_is_ingested(tmp_path):
    make_source().to_zarr(tmp_path / "raw.zarr", consolidated=False)
    store = write_store(
        open_sources([tmp_path / "raw.zarr"]), tmp_path / "s.zarr", train_period="2001-01-01:2001-01-20"
    )
    assert store.split().fit == slice(0, 80) and store.split().test.start == 80
    assert np.array_equal(store.dataset["u10"], make_source()["u10"])


@pytest.mark.slow
def test_ingesting_a_source_larger_than_memory_takes_bounded_memory(tmp_path):
    """Ingesting six gibibytes takes less than one and a half."""
    code = """
import sys, threading, time
from pathlib import Path
import psutil
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.write import write_store
peak = 0
def watch():
    global peak
    while True:
        peak = max(peak, psutil.Process().memory_info().rss)
        time.sleep(0.05)
threading.Thread(target=watch, daemon=True).start()
write_store(open_sources([sys.argv[1]]), Path(sys.argv[2]))
print(peak)
"""
    import netCDF4

    with netCDF4.Dataset(tmp_path / "big.nc", "w") as file:
        for name, size, units in (
            ("time", None, "hours since 2001-01-01"),
            ("lat", 361, "degrees_north"),
            ("lon", 720, "degrees_east"),
        ):
            file.createDimension(name, size)
            file.createVariable(name, "f8", (name,)).units = units
        file["lat"][:], file["lon"][:] = np.linspace(90, -90, 361), np.arange(720) / 2
        variable = file.createVariable("t", "f4", ("time", "lat", "lon"), chunksizes=(1, 361, 720))
        variable.units = "K"
        count = 6 * 2**30 // (361 * 720 * 4)
        file["time"][:] = 6 * np.arange(count)
        field = np.random.default_rng(0).standard_normal((361, 720)).astype("f4")
        for i in range(count):
            variable[i] = 280 + field + i % 4
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "big.nc", tmp_path / "s.zarr"],
        capture_output=True,
        text=True,
        check=True,
    )
    print(f"peak resident memory {int(result.stdout) / 2**30:.2f} GiB")
    assert int(result.stdout) < 1.5 * 2**30
