"""Shared fixtures: the directory of real data, a small store and a tiny trained model."""

import os
import signal
from pathlib import Path

import pytest
import xarray as xr
from helpers import make_source, tiny_config

from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.write import write_store
from fourcaster.forecast.tasks.dispatch import train


@pytest.fixture
def default_signal_handlers() -> None:
    """Restore the default signal handlers, also where pytest runs in the background or under nohup."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the directory of real data sets, or skip."""
    folder = os.environ.get("FOURCASTER_TEST_DATA")
    if not folder:
        pytest.skip("FOURCASTER_TEST_DATA is not set to the directory of real data")
    return Path(folder)


@pytest.fixture(scope="session")
def ncep(real_data: Path) -> Path:
    return real_data / "ncep_air_temperature_2013-2014.nc"


@pytest.fixture
def source() -> xr.Dataset:
    return make_source()


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    make_source().to_netcdf(folder / "source.nc")
    write_store(open_sources([folder / "source.nc"]), folder / "store.zarr")
    return folder / "store.zarr"


@pytest.fixture(scope="session")
def tiny_run(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of a completed training run."""
    output = tmp_path_factory.mktemp("run")
    train(tiny_config(tiny_store, output))
    return output


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_run: Path) -> Path:
    return tiny_run / "checkpoint"
