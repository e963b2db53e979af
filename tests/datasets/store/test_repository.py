"""Icechunk stores have the same values as zarr stores, and change atomically."""

from dataclasses import replace

import icechunk
import numpy as np
import pytest
import xarray as xr
from helpers import make_source
from typer.testing import CliRunner

from fourcaster.datasets.ingest import write as writing
from fourcaster.datasets.store.direct import DirectFields
from fourcaster.datasets.store.fields import Fields
from fourcaster.datasets.store.icechunk import BRANCH
from fourcaster.datasets.store.open import open_store, read_group
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.ingestion import ingest

MEMORY = 2**34


@pytest.fixture
def parts(tmp_path):
    source = make_source(times=600, shape=(7, 12))
    for i in range(3):
        source.isel(time=slice(200 * i, 200 * (i + 1))).to_netcdf(tmp_path / f"part{i}.nc")
    return [tmp_path / f"part{i}.nc" for i in range(3)]


def assert_identical(a, b):
    xr.testing.assert_identical(a.dataset.drop_attrs().load(), b.dataset.drop_attrs().load())
    for group in ("statistics", "climatology"):
        xr.testing.assert_identical(read_group(a, group).load(), read_group(b, group).load())


def versions(path):
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
    return repository, [commit.message for commit in repository.ancestry(branch="main")]


def test_an_icechunk_store_equals_a_zarr_store_and_can_be_appended_to(parts, tmp_path):
    period = "2001-01-01:2001-02-01"
    ingest(parts[:2], tmp_path / "r", train_period=period, kind="icechunk", memory=MEMORY)
    first = open_store(tmp_path / "r").dataset.load()
    old, _ = versions(tmp_path / "r")
    snapshot = old.lookup_branch("main")
    ingest(parts[2:], tmp_path / "r", append=True, memory=MEMORY)
    ingest(parts, tmp_path / "s.zarr", train_period=period, memory=MEMORY)
    appended, whole = open_store(tmp_path / "r"), open_store(tmp_path / "s.zarr")
    assert_identical(appended, whole)
    at = np.array([1, 5, 6, 500])
    assert np.array_equal(
        DirectFields(appended.dataset, appended.path).read(at), Fields(whole.dataset).read(at)
    )
    # The earlier snapshot is still readable.
    before = xr.open_zarr(
        versions(tmp_path / "r")[0].readonly_session(snapshot_id=snapshot).store, consolidated=False
    )
    assert before.sizes["time"] == 400 and np.array_equal(before["t2m"], first["t2m"])


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interrupted_ingest_resumes(parts, tmp_path, monkeypatch, after):
    ingest(parts, tmp_path / "whole", kind="icechunk", memory=MEMORY)
    count = [0]

    def stop(work):
        def wrapped(*arguments, **options):
            count[0] += 1
            if count[0] > after:
                raise KeyboardInterrupt
            return work(*arguments, **options)

        return wrapped

    make_plan = writing.make_plan
    with monkeypatch.context() as patched:
        small = lambda *a, **k: replace(make_plan(*a, **k), shard=100, block=100)  # noqa: E731
        patched.setattr(writing, "make_plan", small)
        patched.setattr(writing, "_write_block", stop(writing._write_block))
        with pytest.raises(KeyboardInterrupt):
            ingest(parts, tmp_path / "r", kind="icechunk", memory=MEMORY)
        with pytest.raises(ValueError, match="without a complete store"):
            open_store(tmp_path / "r")
        patched.undo()
        patched.setattr(writing, "make_plan", small)
        ingest(parts, tmp_path / "r", kind="icechunk", memory=MEMORY)
    assert_identical(open_store(tmp_path / "r"), open_store(tmp_path / "whole"))
    repository, messages = versions(tmp_path / "r")
    assert BRANCH not in repository.list_branches()
    assert (
        messages.count("begin") == 1 and sum(m.startswith("part ") for m in messages) == 7
    )  # six blocks, and statistics


def test_an_existing_store_is_replaced_only_on_request(parts, tmp_path):
    ingest(parts[:1], tmp_path / "r", kind="icechunk", memory=MEMORY)
    _, before = versions(tmp_path / "r")

    def call(*words):
        result = CliRunner().invoke(
            app, ["ingest", *map(str, words), "-o", str(tmp_path / "r"), "--memory", "16GiB"]
        )
        return result.exit_code, " ".join(result.output.split())

    code, text = call(parts[1], "--store", "icechunk")
    assert code == 2 and "(--overwrite)" in text and versions(tmp_path / "r")[1] == before
    code, text = call(parts[1], "--store", "nets")
    assert code == 2 and "use zarr or icechunk" in text
    code, text = call(parts[1], "--append", "--scheduler", "local:1")
    assert code == 2 and "one process" in text
    code, text = call(parts[1], "--store", "icechunk", "--overwrite")
    assert code == 0, text
    assert open_store(tmp_path / "r").dataset["time"].values[0] == xr.open_dataset(parts[1])["time"].values[0]
    (tmp_path / "file").mkdir()
    with pytest.raises(FileExistsError, match="not an Icechunk repository"):
        ingest(parts[:1], tmp_path / "file", kind="icechunk", overwrite=True, memory=MEMORY)


def test_a_failed_ingest_leaves_no_repository(parts, tmp_path):
    source = xr.open_dataset(parts[0]).load()
    source["t2m"][:] = np.nan
    source.to_netcdf(tmp_path / "empty.nc")
    with pytest.raises(ValueError, match="has no value"):
        ingest([tmp_path / "empty.nc"], tmp_path / "r", kind="icechunk", memory=MEMORY)
    assert not (tmp_path / "r").exists()


def test_a_repository_of_other_data_is_not_replaced(parts, tmp_path):
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "r")))
    session = repository.writable_session("main")
    xr.Dataset({"x": ("t", np.arange(3.0))}).to_zarr(session.store, consolidated=False)
    commit = session.commit("measurements")
    with pytest.raises(FileExistsError, match="of other data, which overwriting does not replace"):
        ingest(parts[:1], tmp_path / "r", kind="icechunk", overwrite=True, memory=MEMORY)
    assert versions(tmp_path / "r")[0].lookup_branch("main") == commit
