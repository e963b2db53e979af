"""Simulated stores are bitwise reproducible however they are written, and never partial."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from fourcaster.datasets import cluster
from fourcaster.datasets.pde import simulate as module
from fourcaster.datasets.pde.simulate import make_system, simulate

SMALL = {"resolution": 16, "duration": 1.0, "frames": 3}


def load(path):
    return xr.open_zarr(path).load()


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "SHARD_BYTES", 4 * 16 * 16 * 8 * 2)  # two samples


def test_a_store_opens_with_xarray_and_records_its_parameters(tmp_path):
    seen = []
    simulate(
        "navier_stokes",
        tmp_path / "a.zarr",
        SMALL,
        samples=3,
        seed=5,
        progress=lambda *text: seen.append(text),
    )
    store = load(tmp_path / "a.zarr")
    assert store["vorticity"].dims == ("sample", "time", "y", "x")
    assert store["vorticity"].shape == (3, 4, 16, 16)
    assert store["vorticity"].dtype == np.float64 and not store.isnull().any()["vorticity"]
    assert json.loads(store.attrs["parameters"])["viscosity"] == 1e-3
    assert json.loads(store.attrs["seed"]) == 5
    assert seen[0][:2] == (0, 3) and seen[-1][:2] == (3, 3)
    direct = make_system("navier_stokes", SMALL).solve(np.random.default_rng([5, 2]))
    assert np.array_equal(store["vorticity"][2], direct["vorticity"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr"]


def test_samples_depend_neither_on_shards_nor_on_the_number_of_samples(tmp_path, small_shards):
    few = load(simulate("navier_stokes", tmp_path / "few.zarr", SMALL, samples=3))
    more = load(simulate("navier_stokes", tmp_path / "more.zarr", SMALL, samples=5))
    assert more.isel(sample=slice(3)).drop_attrs().identical(few.drop_attrs())
    other = load(simulate("navier_stokes", tmp_path / "other.zarr", SMALL, samples=3, seed=1))
    assert not other["vorticity"].equals(few["vorticity"])


def test_a_cluster_writes_bitwise_identical_stores(tmp_path, small_shards):
    alone = load(simulate("navier_stokes", tmp_path / "alone.zarr", SMALL, samples=5))
    assert load(
        simulate("navier_stokes", tmp_path / "cluster.zarr", SMALL, samples=5, scheduler="local:2")
    ).identical(alone)
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        store = simulate(
            "navier_stokes", tmp_path / "address.zarr", SMALL, samples=5, scheduler=cluster.scheduler_address
        )
    assert load(store).identical(alone)


SCRIPT = """
import sys, time
from fourcaster.datasets import cluster
from fourcaster.datasets.pde import simulate as module
module.SHARD_BYTES = 4 * 16 * 16 * 8 * 2
solve = module.SYSTEMS["navier_stokes"].solve
module.SYSTEMS["navier_stokes"].solve = lambda *args: (time.sleep(0.1), solve(*args))[1]
module.simulate("navier_stokes", sys.argv[1], {"resolution": 16, "duration": 1.0, "frames": 3}, samples=9)
"""


def test_a_killed_run_resumes_to_a_bitwise_identical_store(tmp_path, small_shards):
    path = tmp_path / "a.zarr"
    uninterrupted = tmp_path / "uninterrupted.zarr"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(path)])
    marks = tmp_path / ".a.zarr.partial" / "a.zarr.done"
    while not (marks.exists() and len(list(marks.iterdir())) > 2):  # two shards and the identity
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not path.exists()
    first = {p.name: p.stat().st_mtime_ns for p in marks.iterdir()}
    seen = []
    simulate("navier_stokes", path, SMALL, samples=9, progress=lambda *text: seen.append(text[0]))
    assert seen[0] == 2 * (len(first) - 1)
    assert load(path).identical(load(simulate("navier_stokes", uninterrupted, SMALL, samples=9)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "uninterrupted.zarr"]


def test_an_error_names_the_sample_and_keeps_finished_shards(tmp_path, small_shards, monkeypatch):
    solve = module.SYSTEMS["navier_stokes"].solve

    def failing(self, rng):
        if np.array_equal(rng.bit_generator.seed_seq.entropy, [0, 3]):
            raise ValueError("the flow became infinite or NaN")
        return solve(self, rng)

    monkeypatch.setattr(module.SYSTEMS["navier_stokes"], "solve", failing)
    with pytest.raises(ValueError, match="sample 3: the flow became"):
        simulate("navier_stokes", tmp_path / "a.zarr", SMALL, samples=5)
    assert (tmp_path / ".a.zarr.partial" / "a.zarr.done" / "0").exists()
    assert not (tmp_path / "a.zarr").exists()
    monkeypatch.undo()
    monkeypatch.setattr(module, "SHARD_BYTES", 4 * 16 * 16 * 8 * 2)
    assert simulate("navier_stokes", tmp_path / "a.zarr", SMALL, samples=5).exists()


def test_a_run_with_other_parameters_starts_over(tmp_path, small_shards, monkeypatch):
    monkeypatch.setattr(module, "consolidate", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        simulate("navier_stokes", tmp_path / "a.zarr", SMALL, samples=3)
    monkeypatch.undo()
    seen = []
    simulate(
        "navier_stokes",
        tmp_path / "a.zarr",
        SMALL | {"viscosity": 0.01},
        samples=3,
        progress=lambda *text: seen.append(text[0]),
    )
    assert seen[0] == 0


@pytest.mark.parametrize(
    ("name", "parameters", "more", "message"),
    [
        ("navier_stoke", {}, {}, "no system 'navier_stoke'; did you mean navier_stokes"),
        ("burgers", {"viscosty": 1}, {}, "burgers has no parameter 'viscosty'; did you mean viscosity"),
        ("burgers", {"viscosity": -1}, {}, "burgers: viscosity: Input should be greater than 0, got -1"),
        ("burgers", {"viscosity": float("nan")}, {}, "burgers: viscosity: Input should be"),
        ("burgers", {"resolution": "many"}, {}, "burgers: resolution: .*, got 'many'"),
        ("burgers", {"initial": "sine"}, {}, "burgers: initial: .*'random' or 'standard', got 'sine'"),
        ("burgers", {"step": 10}, {}, "sample 0: step=10 is unstable here; use step="),
        ("burgers", {"initial": "standard"}, {"samples": 2}, "all samples of burgers would be the same"),
        ("burgers", {}, {"samples": 0}, "samples must be at least 1"),
        ("burgers", {}, {"seed": -1}, "seed not negative"),
        ("burgers", {}, {"scheduler": "local:x"}, "local:N with N processes"),
        ("burgers", {}, {"scheduler": "tcp://127.0.0.1:9"}, "no Dask scheduler answers at tcp://127.0.0.1:9"),
    ],
)
def test_a_failed_run_leaves_no_files(tmp_path, name, parameters, more, message, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with pytest.raises((ValueError, OSError), match=message):
        simulate(name, tmp_path / "a.zarr", parameters, **more)
    assert os.listdir(tmp_path) == []


def test_an_existing_store_is_replaced_only_on_request(tmp_path):
    path = simulate("reaction", tmp_path / "a.zarr", {"frames": 2})
    with pytest.raises(FileExistsError, match="overwrite"):
        simulate("reaction", path)
    assert load(simulate("reaction", path, {"frames": 3}, overwrite=True)).sizes["time"] == 4
    shutil.rmtree(path)


def test_too_many_time_steps_raise_an_error(tmp_path):
    for name, parameters in (
        ("burgers", {"sigma": 1e12}),
        ("navier_stokes", {"sigma": 1e15, "resolution": 16}),
    ):
        with pytest.raises(
            ValueError, match=r"steps would be needed between two states|is unstable|became infinite"
        ):
            simulate(name, tmp_path / "s.zarr", parameters)
        assert list(tmp_path.iterdir()) == []
