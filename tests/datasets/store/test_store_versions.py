"""A store of format version 1, written by an earlier release, opens and is appended to.

``tests/data/store_v1`` contains the first 40 times of ``make_source(times=48, shape=(2, 4))[["t2m"]]``.
"""

import shutil

import numpy as np
import pytest
import xarray as xr
from helpers import DATA, make_source

from fourcaster.datasets.adapters.cf import canonical
from fourcaster.datasets.ingest.append import append_store
from fourcaster.datasets.ingest.write import write_store
from fourcaster.datasets.store.open import open_store, read_group

STORE = DATA / "store_v1"


@pytest.fixture
def source():
    return canonical(make_source(times=48, shape=(2, 4))[["t2m"]], "memory")


def test_an_earlier_store_opens_with_its_values(source):
    store = open_store(STORE)
    xr.testing.assert_equal(store.dataset.load(), source.isel(time=slice(40)).load())
    assert store.step == np.timedelta64(6, "h") and store.gaps == []
    assert store.train_period == ("2001-01-01T00:00:00.000000000", "2001-01-08T18:00:00.000000000")


@pytest.mark.parametrize("group", ["statistics", "climatology"])
def test_the_same_source_gives_the_statistics_of_an_earlier_store(source, tmp_path, group):
    new = write_store(source.isel(time=slice(40)), tmp_path / "new.zarr")
    xr.testing.assert_allclose(read_group(open_store(STORE), group).load(), read_group(new, group).load())


def test_later_times_are_appended_to_an_earlier_store(source, tmp_path):
    shutil.copytree(STORE, tmp_path / "store.zarr")
    before = read_group(open_store(tmp_path / "store.zarr"), "statistics").load()
    store = append_store(source.isel(time=slice(40, None)), tmp_path / "store.zarr")
    xr.testing.assert_equal(store.dataset.load(), source.load())
    xr.testing.assert_identical(read_group(store, "statistics").load(), before)
