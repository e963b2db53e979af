"""Initial data: a model starts from its own levels, under any known variable name."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr
from helpers import make_source, tiny_config

from fourcaster import forecast
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.write import write_store
from fourcaster.forecast.tasks.dispatch import train
from fourcaster.forecast.verification.verify import verify

TIMES = ["2001-02-01T00", "2001-02-03T06", "2001-02-05T12"]


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return forecast.load(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="module")
def reference(model):
    return model.run(make_source(), TIMES, lead="24h")


def on_one_level(hpa):
    """Return the temperature of the small source as a variable on one pressure level."""
    field = make_source()[["t2m"]].rename(t2m="t").expand_dims(level=[hpa], axis=1)
    return field.assign_coords(level=("level", np.array([hpa], "i4"), {"units": "millibars"}))


@pytest.fixture(scope="module")
def model_at_500_hpa(tmp_path_factory):
    """Return the checkpoint of a model of temperature at 500 hPa."""
    folder = tmp_path_factory.mktemp("level")
    on_one_level(500).to_netcdf(folder / "t500.nc")
    write_store(open_sources([folder / "t500.nc"]), folder / "t500.zarr")
    train(tiny_config(folder / "t500.zarr", folder / "run", "train.epochs=1", "train.rollout_steps=1"))
    return folder / "run" / "checkpoint"


def test_model_starts_only_from_its_own_level(model_at_500_hpa, tmp_path):
    model = forecast.load(model_at_500_hpa)
    assert str(model.checkpoint.channels[0]) == "t at level 500 hPa"
    first = model.run(on_one_level(500), lead="6h")
    assert first["t"].dims == ("time", "prediction_timedelta", "latitude", "longitude")
    with pytest.raises(ValueError, match="'t' is at level 850 hPa, that of the model at level 500 hPa"):
        model.run(on_one_level(850), lead="6h")
    both = xr.concat([on_one_level(850) + 50, on_one_level(500)], "level")
    both["t"].attrs["units"] = "K"
    xr.testing.assert_allclose(model.run(both, lead="6h"), first)
    with pytest.raises(ValueError, match="lacks level 500 hPa, which the model needs; it has 850, 700 hPa"):
        model.run(both.assign_coords(level=("level", [850, 700], {"units": "hPa"})), lead="6h")
    written = model.run(on_one_level(500), lead="12h", output=tmp_path / "fc.nc")
    assert written["t"].attrs["scalar_coordinates"] == "level=500 hPa"
    assert np.isfinite(model.run(written, lead="6h")["t"]).all()
    written["t"].attrs["scalar_coordinates"] = "level=850 hPa"
    with pytest.raises(ValueError, match="level 850 hPa, that of the model at level 500 hPa"):
        model.run(written, lead="6h")
    on_one_level(850).to_netcdf(tmp_path / "t850.nc")
    write_store(open_sources([tmp_path / "t850.nc"]), tmp_path / "t850.zarr")
    with pytest.raises(ValueError, match=r"'t' is at level 500 hPa, that of the truth .* at level 850 hPa"):
        verify(model.run(on_one_level(500), "2001-02-05", lead="6h"), tmp_path / "t850.zarr")
    unknown = on_one_level(850).squeeze("level", drop=True)
    assert np.isfinite(model.run(unknown, lead="6h")["t"]).all()  # its level is unknown


def test_old_checkpoint_without_a_level_starts_from_any_level(model_at_500_hpa, tmp_path):
    meta = json.loads((model_at_500_hpa / "meta.json").read_text())
    del meta["channels"][0]["place"], meta["checksum"]
    shutil.copytree(model_at_500_hpa, tmp_path / "old")
    (tmp_path / "old" / "meta.json").write_text(json.dumps(meta | {"format_version": 1}))
    first = forecast.load(tmp_path / "old").run(on_one_level(850), lead="6h")
    xr.testing.assert_allclose(
        first, forecast.load(model_at_500_hpa).run(on_one_level(850).squeeze("level", drop=True), lead="6h")
    )


def test_single_ensemble_member_is_a_valid_initial_state(model_at_500_hpa):
    model = forecast.load(model_at_500_hpa)
    states = on_one_level(500)
    xr.testing.assert_equal(
        model.run(states.expand_dims(number=[3], axis=1), lead="6h"), model.run(states, lead="6h")
    )


def test_model_starts_from_files_with_alternative_names(model, reference):
    source = make_source()
    cds = source.rename(t2m="2t", u10="10u", time="valid_time").assign_coords(number=0)
    cds["2t"].attrs |= {"GRIB_shortName": "2t", "standard_name": "unknown"}
    for renamed in (cds, source.rename(t2m="2m_temperature", u10="10m_u_component_of_wind")):
        assert np.array_equal(model.run(renamed, TIMES, "24h")["t2m"], reference["t2m"])
    with pytest.raises(ValueError, match="no variable 't2m', which the model needs; there are: "):
        model.run(source.rename(t2m="something"), TIMES, "6h")


def test_training_on_another_level_is_not_resumed(model_at_500_hpa, tmp_path):
    on_one_level(850).to_netcdf(tmp_path / "t850.nc")
    write_store(open_sources([tmp_path / "t850.nc"]), tmp_path / "t850.zarr")
    shutil.copytree(model_at_500_hpa.parent, tmp_path / "run")
    with pytest.raises(ValueError, match="finished run with other settings or data"):
        train(
            tiny_config(tmp_path / "t850.zarr", tmp_path / "run", "train.epochs=1", "train.rollout_steps=1")
        )
