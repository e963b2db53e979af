"""Physical bounds and training range: values are clipped and counted alike in memory, files and rollout."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from helpers import make_source, tiny_config
from typer.testing import CliRunner

from fourcaster import forecast
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.write import write_store
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.inference.limits import Limits, parse_clip, training_range
from fourcaster.forecast.inference.records import read_records
from fourcaster.forecast.tasks.dispatch import train

TIMES = ["2001-02-01T00", "2001-02-03T06", "2001-02-05T12"]


def humid_source(times=160):
    """Return a temperature wave, with humidity and precipitation that vanish where it is cold."""
    source = make_source(times)
    wave = (source["t2m"] - 280) / 5
    source["q"] = (0.004 * wave.clip(0)).assign_attrs(units="kg kg**-1", standard_name="specific_humidity")
    source["tp"] = (
        (0.001 * wave.clip(0.2) - 0.0002).clip(0).assign_attrs(units="m", long_name="Total precipitation")
    )
    return source.drop_vars("u10")


@pytest.fixture(scope="module")
def humid(tmp_path_factory):
    """Return the folder of a store of humid air and of a model trained on it."""
    folder = tmp_path_factory.mktemp("humid")
    humid_source().to_netcdf(folder / "source.nc")
    write_store(open_sources([folder / "source.nc"]), folder / "store.zarr")
    train(tiny_config(folder / "store.zarr", folder / "run", "train.epochs=1"))
    return folder


@pytest.fixture(scope="module")
def model(humid):
    return forecast.load(humid / "run" / "checkpoint", device="cpu")


@pytest.fixture(scope="module")
def raw(model):
    return model.run(humid_source(), TIMES, "5d", bounds=False)


@pytest.fixture(scope="module")
def bounded(model):
    return model.run(humid_source(), TIMES, "5d")


def test_only_bounded_variables_are_clipped(raw, bounded):
    for name in ("q", "tp"):
        assert float(raw[name].min()) < 0 and float(bounded[name].min()) == 0
        assert np.array_equal(bounded[name], raw[name].clip(min=0))
    assert np.array_equal(bounded["t2m"], raw["t2m"])
    assert np.array_equal(
        bounded["q"].isel(prediction_timedelta=0),
        humid_source()["q"].sel(time=np.array(TIMES, "datetime64[ns]")),
    )


def test_records_count_clipped_values(raw, bounded):
    for name in ("q", "tp"):
        (entry,) = json.loads(bounded[name].attrs["clipped"])
        count = int((raw[name] < 0).sum())
        assert entry == {
            "level": None,
            "lower": 0.0,
            "upper": None,
            "values": count,
            "share": round(count / raw[name].size, 9),
        }
    assert "clipped" not in bounded["t2m"].attrs and "clipped" not in raw["q"].attrs


def test_values_outside_the_training_range_are_reported(model, raw, humid, caplog):
    store = xr.open_zarr(humid / "store.zarr", group="statistics")
    records = {record.variable: record for record in read_records(raw).outside_training_range}
    assert set(records) >= {"q", "tp"}
    for name, record in records.items():
        low, high = float(store[f"{name}_minimum"]), float(store[f"{name}_maximum"])
        outside = (raw[name] < np.float32(low)) | (raw[name] > np.float32(high))
        assert record.values == int(outside.sum())
        assert record.share == round(record.values / raw[name].size, 9)
        assert (record.training_minimum, record.training_maximum) == (low, high)
        assert (record.minimum, record.maximum) == (float(raw[name].min()), float(raw[name].max()))
        first = outside.any(("time", "latitude", "longitude")).values.argmax()
        assert record.first_lead_hours == 6 * first
    caplog.set_level(logging.WARNING, "fourcaster.forecast.inference.limits")
    model.run(humid_source(), TIMES, "5d")
    (line,) = (message for message in caplog.messages if message.startswith("q "))
    assert f"q reaches {records['q'].minimum:.6g}" in line
    assert f"first at {records['q'].first_lead_hours:g} h" in line
    assert "outside the training range 0 ..." in line


def test_records_agree_between_files_memory_and_rollout(model, bounded, tmp_path):
    for name in ("a.zarr", "a.nc"):
        with model.run(humid_source(), TIMES, "5d", output=tmp_path / name) as written:
            order = written[list(bounded.data_vars)]  # a store sorts them
            assert read_records(order) == read_records(bounded) and len(read_records(order).clipped) == 2
            for variable in ("t2m", "q", "tp"):
                assert np.array_equal(written[variable], bounded[variable])
    for step in model.rollout(humid_source(), TIMES, "5d"):
        assert float(step["q"].min()) >= 0
    assert read_records(step) == read_records(bounded)


def test_interrupted_run_resumes_with_the_same_values_and_records(model, tmp_path):
    with model.run(humid_source(), TIMES, "2d", output=tmp_path / "a.zarr", batch_size=1) as uninterrupted:

        def stop(done, total, text):
            if done == 13:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            model.run(humid_source(), TIMES, "2d", output=tmp_path / "b.zarr", batch_size=1, progress=stop)
        with model.run(humid_source(), TIMES, "2d", output=tmp_path / "b.zarr", batch_size=1) as resumed:
            for name in uninterrupted.data_vars:
                assert (
                    np.array_equal(uninterrupted[name], resumed[name])
                    and uninterrupted[name].attrs == resumed[name].attrs
                )


def test_partial_forecast_with_different_bounds_is_not_resumed(model, tmp_path):
    def stop(done, total, text):
        if done == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.run(humid_source(), TIMES, "2d", output=tmp_path / "b.zarr", batch_size=1, progress=stop)
    with model.run(
        humid_source(), TIMES, "2d", output=tmp_path / "b.zarr", batch_size=1, bounds=False
    ) as other:
        assert float(other["q"].isel(time=0).min()) < 0


def test_ensembles_respect_bounds_at_all_lead_times(model):
    result = model.run(humid_source(), TIMES, "1d", members=4)
    assert float(result["q"].min()) == 0 and float(result["tp"].min()) == 0
    start = result.isel(prediction_timedelta=0)
    assert np.allclose(start["q"].mean("number"), start["q"].isel(number=0), atol=1e-9)
    assert float(start["q"].std("number").max()) > 1e-5


def test_user_bounds_override_physical_bounds(model, raw):
    result = model.run(humid_source(), TIMES, "5d", clip={"t2m": (278.0, 282.0), "q": (None, 0.003)})
    assert np.array_equal(result["t2m"], raw["t2m"].clip(278, 282)) and np.array_equal(
        result["q"], raw["q"].clip(max=np.float32(0.003))
    )
    assert json.loads(result["q"].attrs["clipped"])[0]["upper"] == 0.003 and float(result["tp"].min()) == 0
    free = model.run(humid_source(), TIMES, "5d", clip={"q": (None, None)})
    assert np.array_equal(free["q"], raw["q"]) and "clipped" not in free["q"].attrs
    with pytest.raises(ValueError, match="clip: the model has no variable 'qq'"):
        model.run(humid_source(), lead="6h", clip={"qq": (0, None)})
    with pytest.raises(ValueError, match="clip: the bounds of q must be in order, got 1 and 0"):
        model.run(humid_source(), lead="6h", clip={"q": (1, 0)})


def test_physical_bounds_exceeded_by_the_training_data_do_not_apply(model):
    ranges = training_range(model.checkpoint).copy()
    names = [channel.variable for channel in model.checkpoint.channels]
    ranges[0, names.index("q")] = -1e-5  # slightly negative, as in spectral models
    ranges[0, names.index("tp")] = -3.0  # a standardised variable
    bounds = Limits(replace(model.checkpoint, ranges=ranges)).bounds
    assert bounds[0, names.index("q")] == 0 and bounds[0, names.index("tp")] == -np.inf


def test_older_checkpoints_read_the_training_range_from_their_store_if_it_exists(model, humid, tmp_path):
    old = replace(model.checkpoint, ranges=None)
    assert np.array_equal(training_range(old), model.checkpoint.ranges)
    moved = old.config.model_copy(
        update={"data": old.config.data.model_copy(update={"store": tmp_path / "gone.zarr"})}
    )
    gone = replace(old, config=moved)
    assert training_range(gone) is None
    result = forecast.Forecaster(gone).run(humid_source(), TIMES, "1d")
    assert "outside_training_range" not in result["q"].attrs and float(result["q"].min()) == 0


@pytest.mark.parametrize("text", ["q", "q=", "q=1", "=0,1", "q=low,", "q=0;1"])
def test_malformed_bounds_are_rejected(text):
    with pytest.raises(ValueError, match="is not understood; write NAME=LOW,HIGH"):
        parse_clip([text])


def test_bounds_are_parsed_from_text():
    with pytest.raises(ValueError, match="bounds of q are given twice"):
        parse_clip(["q=0,", "q=,1"])
    assert parse_clip(["q=0,", "t=,300.5", "r=0,100", "u=,"]) == {
        "q": (0, None),
        "t": (None, 300.5),
        "r": (0, 100),
        "u": (None, None),
    }


def test_command_reports_clipping_and_training_range(humid, tmp_path):
    run = [
        "run",
        str(humid / "run" / "checkpoint"),
        "--init",
        str(humid / "store.zarr"),
        "--lead",
        "5d",
        "--json",
    ]
    result = CliRunner().invoke(app, [*run, "-o", str(tmp_path / "a.nc")])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert {entry["variable"] for entry in printed["clipped"]} == {"q", "tp"} and printed[
        "outside_training_range"
    ]
    free = CliRunner().invoke(app, [*run, "-o", str(tmp_path / "b.nc"), "--no-bounds", "--clip", "tp=0,"])
    assert [entry["variable"] for entry in json.loads(free.stdout)["clipped"]] == ["tp"]
    refused = CliRunner().invoke(app, [*run, "-o", str(tmp_path / "c.nc"), "--clip", "rain=0,"])
    assert (
        refused.exit_code == 2
        and "the model has no variable 'rain'" in refused.stderr
        and not (tmp_path / "c.nc").exists()
    )
