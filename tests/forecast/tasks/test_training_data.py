"""Training data that would train a useless model are refused with one line that says what, where and when."""

import numpy as np
import pytest
import xarray as xr
from helpers import make_source, tiny_config
from typer.testing import CliRunner

from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.write import write_store
from fourcaster.forecast.cli.main import app

TINY = [
    "model.n_modes=[4,4]",
    "model.hidden_channels=4",
    "model.n_layers=1",
    "model.members=1",
    "model.window=1",
]


def stored(source: xr.Dataset, folder):
    source.to_netcdf(folder / "source.nc")
    write_store(open_sources([folder / "source.nc"]), folder / "store.zarr")
    return folder / "store.zarr"


def refusal(store, output, *overrides):
    """Return the only line that the command prints before it exits with 2."""
    arguments = ["train", "quickstart", f"data.store={store}", f"output={output}", *TINY, *overrides]
    result = CliRunner().invoke(app, arguments)
    lines = [line for line in result.output.splitlines() if line.startswith("forecast: ")]
    assert result.exit_code == 2, result.output
    assert len(lines) == 1
    assert not (output / "checkpoint").exists()
    assert not (output / "state").exists()
    return lines[0]


def test_batch_larger_than_the_training_data_is_refused(tiny_store, tmp_path):
    line = refusal(tiny_store, tmp_path / "run", "train.batch_size=500")
    assert "train.batch_size is 500" in line
    assert "samples of 2 consecutive times" in line


@pytest.mark.parametrize("constant", ["everywhere", "in time"])
def test_channel_that_does_not_change_is_refused(tmp_path, constant):
    source = make_source()
    first = source["u10"].isel(time=0) if constant == "in time" else 0 * source["u10"].isel(time=0) + 3
    source["u10"] = (0 * source["u10"] + first).astype("f4").assign_attrs(source["u10"].attrs)
    line = refusal(stored(source, tmp_path), tmp_path / "run", "train.batch_size=16")
    assert "u10 does not change during the training period" in line
    assert "data.variables" in line


def test_channel_that_is_missing_in_part_of_the_training_period_is_refused_with_the_times(tmp_path):
    source = make_source()
    values = source["u10"].values
    values[10:30] = np.nan
    source["u10"] = source["u10"].copy(data=values)
    line = refusal(stored(source, tmp_path), tmp_path / "run", "train.batch_size=16")
    assert "u10 has no values at 20 of" in line
    assert "2001-01-03T12:00 to 2001-01-08T06:00" in line


def test_channel_without_values_at_a_few_points_is_refused(tmp_path):
    source = make_source()
    values = source["u10"].values
    values[10:30, 2, 3] = np.nan
    source["u10"] = source["u10"].copy(data=values)
    line = refusal(stored(source, tmp_path), tmp_path / "run", "train.batch_size=16")
    assert "u10 has intermittently missing values at 1 points" in line


def test_overlapping_training_and_validation_periods_are_refused(tiny_store, tmp_path):
    periods = ["data.train_period=2001-01-01:2001-01-25", "data.validation_period=2001-01-20:2001-02-05"]
    line = refusal(tiny_store, tmp_path / "run", *periods)
    assert "overlap from 2001-01-20T00:00 to 2001-01-25T18:00" in line


def test_chosen_validation_period_is_used_and_recorded(tiny_store, tmp_path):
    from fourcaster.forecast.checkpoint.meta import read_meta
    from fourcaster.forecast.tasks.dispatch import train

    periods = ["data.train_period=2001-01-10:2001-01-30", "data.validation_period=2001-01-01:2001-01-09"]
    train(tiny_config(tiny_store, tmp_path, *periods, "train.epochs=1", "train.rollout_steps=1"))
    provenance = read_meta(tmp_path / "checkpoint")["provenance"]
    assert provenance["train_period"][0].startswith("2001-01-10T00")
    assert provenance["validation_period"][0].startswith("2001-01-01T00")
    assert provenance["validation_period"][1].startswith("2001-01-09T18")
