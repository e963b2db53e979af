"""Physical constraints in the loss of forecast models, on a real global forecast."""

import json

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from fourcaster.forecast.cli.main import app

SMALL = [
    "train.epochs=2",
    "train.batch_size=4",
    "train.warmup_steps=1",
    "train.validation_steps=1",
    "train.validation_samples=2",
]


def call(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def globe(real_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("globe")
    with xr.open_dataset(real_data / "icon_global_2022-04-01_1deg_12h.nc") as data:
        data.isel(latitude=slice(None, None, 10), longitude=slice(None, None, 10)).drop_vars(
            ["u10", "v10"]
        ).to_netcdf(folder / "icon.nc")
    assert call("ingest", folder / "icon.nc", "-o", folder / "icon.zarr").exit_code == 0
    text = f"data: {{store: {folder}/icon.zarr, train_period: '2022-04-01:2022-04-07', "
    text += "validation_fraction: 0.3}\n"
    text += "model: {kind: sfno, window: 1, lmax: 6, hidden_channels: 6, n_layers: 1}\noutput: unset\n"
    (folder / "config.yaml").write_text(text)
    return folder


def test_physics_training_is_compared_with_a_data_only_control(globe, tmp_path):
    args = [
        "train",
        globe / "config.yaml",
        "loss.physics={hydrostatic: 0.3, dry_mass: 0.1}",
        "loss.warmup=0",
        f"output={tmp_path}/run",
        *SMALL,
    ]
    result = call(*args)
    assert (
        result.exit_code == 0
        and "data_only: validation_score" in result.output
        and "data_and_physics: validation_score" in result.output
    )
    meta = json.loads((tmp_path / "run" / "checkpoint" / "meta.json").read_text())["provenance"]["comparison"]
    assert (
        set(meta["data_only"])
        == set(meta["data_and_physics"])
        == {"validation_score", "hydrostatic [m]", "dry_mass [Pa]"}
    )
    line = json.loads((tmp_path / "run" / "state" / "log.jsonl").read_text().splitlines()[-1])
    assert 1 < line["hydrostatic"] < 200 and line["loss"] > line["data"]
    control = json.loads(
        (tmp_path / "run" / "data_only" / "state" / "log.jsonl").read_text().splitlines()[-1]
    )
    assert "hydrostatic" not in control
    repeated = call(*args)
    assert (
        repeated.exit_code == 0
        and "had already finished" in repeated.output
        and "data_only" in repeated.output
    )
    data_only = call("train", globe / "config.yaml", f"output={tmp_path}/alone", *SMALL)
    assert data_only.exit_code == 0 and "data_only" not in data_only.output
    weights = [
        (tmp_path / n / "checkpoint" / "weights.safetensors").read_bytes()
        for n in ("run/data_only", "alone", "run")
    ]
    assert weights[0] == weights[1] != weights[2]
    without = call(*args[:-6], f"output={tmp_path}/single", "loss.compare=false", *SMALL)
    assert without.exit_code == 0 and not (tmp_path / "single" / "data_only").exists()
    compared = call(*args[:-6], f"output={tmp_path}/single", "loss.compare=true", *SMALL)
    assert compared.exit_code == 2 and "finished run without a comparison" in compared.output
    assert not (tmp_path / "single" / "data_only").exists()


def test_constraint_without_its_variables_is_rejected_before_training(globe, tiny_store, tmp_path):
    for store, kind, constraint, message in (
        (tiny_store, "fno", "hydrostatic", "needs geopotential"),
        (globe / "icon.zarr", "sfno", "continuity", "needs vertical_velocity"),
    ):
        (tmp_path / "c.yaml").write_text(
            f"data: {{store: {store}}}\nmodel: {{kind: {kind}}}\noutput: {tmp_path}/no\n"
        )
        result = call("train", tmp_path / "c.yaml", f"loss.physics={{{constraint}: 1}}")
        assert result.exit_code == 2 and message in result.output and not (tmp_path / "no").exists()
    result = call("train", tmp_path / "c.yaml", "loss.physics={hydrostatics: 1}")
    assert result.exit_code == 2 and "loss.physics" in result.output
    result = call("train", tmp_path / "c.yaml", "loss.physics={hydrostatic: -1}")
    assert result.exit_code == 2 and "greater than 0" in result.output


def test_global_store_contains_the_variables_of_the_constraints(globe):
    with xr.open_zarr(globe / "icon.zarr") as store:
        assert {"temperature", "specific_humidity", "gh", "msl"} <= set(store.data_vars) and np.isfinite(
            store["msl"]
        ).all()
