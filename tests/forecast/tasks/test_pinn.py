"""Physics-informed networks: commands and Python interface."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr
from helpers import ROOT
from typer.testing import CliRunner

from fourcaster import forecast
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.config.pinn import PinnConfig
from fourcaster.forecast.tasks.dispatch import load_config

RECIPES = sorted(ROOT.joinpath("configs", "pinn").glob("*.yaml"))
SMALL = [
    "train.windows=4",
    "train.points=200",
    "train.iterations=8",
    "train.initial_points=32",
    "model.width=10",
    "model.depth=2",
]


def call(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pinn") / "run"
    result = call("train", "pinn/convection", "equation.beta=5", f"output={folder}", *SMALL)
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_loads_by_path_and_name(path):
    config = load_config(path)
    assert (
        isinstance(config, PinnConfig)
        and load_config(f"pinn/{path.stem}") == config
        and config.equation.name == path.stem
    )


def test_trained_network_is_evaluated_and_inspected(trained, tmp_path):
    result = call("run", trained / "checkpoint", "--grid", "11x32", "-o", tmp_path / "u.nc")
    assert result.exit_code == 0, result.output
    with xr.open_dataset(tmp_path / "u.nc") as solution:
        assert (
            solution["u"].dims == ("t", "x")
            and solution["u"].shape == (11, 32)
            and solution["u"].dtype == np.float64
        )
        assert np.allclose(solution["t"], np.linspace(0, 1, 11)) and np.allclose(
            solution["x"], 2 * np.pi * np.arange(32) / 32
        )
        exact = np.sin(solution["x"].values - 5 * solution["t"].values[:, None])
        assert np.linalg.norm(solution["u"] - exact) < 0.05 * np.linalg.norm(exact)
        assert json.loads(solution.attrs["parameters"]) == {"beta": 5}
        direct = forecast.evaluate(trained / "checkpoint", "11x32")
        assert np.array_equal(direct["u"], solution["u"])
    repeated = call("run", trained / "checkpoint", "--grid", "11x32", "-o", tmp_path / "u.nc")
    assert repeated.exit_code == 2 and "exists" in repeated.output
    assert call("run", trained / "checkpoint", "-o", tmp_path / "u.zarr").exit_code == 0
    assert xr.open_zarr(tmp_path / "u.zarr").sizes == {"t": 101, "x": 256}
    solution = forecast.inspect(tmp_path / "u.nc")
    assert solution.kind == "output of a physics-informed network"
    assert solution.attributes["equation"] == "convection" and solution.sizes == {"t": 11, "x": 32}
    assert "variables: u [1]" in call("inspect", tmp_path / "u.zarr").output
    description = call("inspect", trained / "checkpoint")
    assert "physics-informed network" in description.output and "held_out_residual" in description.output


def test_finished_run_is_reused_and_different_settings_rejected(trained):
    repeated = call("train", "pinn/convection", "equation.beta=5", f"output={trained}", *SMALL)
    assert repeated.exit_code == 0 and "had already finished" in repeated.output
    logged = call(
        "train", "pinn/convection", "equation.beta=5", f"output={trained}", *SMALL, "train.log_every=3"
    )
    assert logged.exit_code == 0 and "had already finished" in logged.output
    other = call("train", "pinn/convection", "equation.beta=6", f"output={trained}", *SMALL)
    assert other.exit_code == 2 and "contains a finished run with other settings" in other.output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["equation.bta=3"], "unknown key equation.bta; did you mean beta"),
        (["equation.name=convect"], "no equation 'convect'; did you mean convection"),
        (["equation.beta=fast"], "equation.beta must be a number, got 'fast'"),
        (["train.window=3"], "unknown key train.window; did you mean train.windows"),
        (["train.windows=0"], "train.windows must be at least 1"),
        (["model.width=0"], "model.width"),
        (["train.sampling=sobol"], "train.sampling"),
    ],
)
def test_invalid_keys_are_reported(args, message, tmp_path):
    result = call("train", "pinn/convection", f"output={tmp_path / 'run'}", *args)
    assert result.exit_code == 2 and message in result.output and not (tmp_path / "run").exists()


def test_invalid_uses_are_reported(trained, tmp_path):
    for args, message in (
        (["run", trained / "checkpoint", "--grid", "11", "-o", tmp_path / "u.nc"], "write times by places"),
        (["run", trained / "checkpoint", "--grid", "1x8", "-o", tmp_path / "u.nc"], "write times by places"),
        (
            ["train", "pinn/convection", "--device", "cuda", f"output={tmp_path / 'gpu'}"],
            "on the CPU, not on cuda",
        ),
    ):
        result = call(*args)
        assert result.exit_code == 2 and message in result.output
    with pytest.raises(ValueError, match="a checkpoint of the task pinn, not of weather"):
        forecast.Forecaster.load(trained / "checkpoint")
    damaged = tmp_path / "damaged"
    shutil.copytree(trained / "checkpoint", damaged)
    with open(damaged / "weights.safetensors", "r+b") as file:
        file.seek(200)
        file.write(b"xx")
    with pytest.raises(ValueError, match="damaged"):
        forecast.evaluate(damaged)


def test_a_gpu_is_not_taken_by_default(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    config = load_config("pinn/convection", [f"output={tmp_path / 'run'}", *SMALL])
    assert forecast.train(config).checkpoint.is_dir()


def test_forecast_model_requires_initial_data_and_a_grid_spacing(tiny_checkpoint, tmp_path):
    result = call("run", tiny_checkpoint, "-o", tmp_path / "f.zarr")
    assert result.exit_code == 2 and "init is missing" in result.output
    result = call(
        "run", tiny_checkpoint, "--init", "nowhere.zarr", "--grid", "fine", "-o", tmp_path / "f.zarr"
    )
    assert result.exit_code == 2 and "write the degrees between points" in result.output
    with pytest.raises(ValueError, match="of the task weather, not of pinn"):
        forecast.evaluate(tiny_checkpoint)


def test_solution_is_scored_against_the_exact_solution(trained, tmp_path):
    call("run", trained / "checkpoint", "--grid", "11x32", "-o", tmp_path / "u.nc")
    solution = xr.load_dataset(tmp_path / "u.nc")
    exact = np.sin(solution["x"] - 5 * solution["t"]).transpose("t", "x")
    exact.to_dataset(name="u").to_netcdf(tmp_path / "exact.nc")
    args = ["verify", tmp_path / "u.nc", "--truth", tmp_path / "exact.nc", "-o", tmp_path / "s.nc", "--json"]
    result = call(*args)
    assert call(*args).exit_code == 2 and call(*args, "--overwrite").exit_code == 0
    expected = np.linalg.norm(solution["u"] - exact) / np.linalg.norm(exact)
    assert json.loads(result.output)["u_relative_l2"] == pytest.approx(float(expected))
    assert float(xr.load_dataset(tmp_path / "s.nc")["u_relative_l2"]) == pytest.approx(float(expected))
    other = exact.isel(x=slice(0, 16)).to_dataset(name="u")
    other.to_netcdf(tmp_path / "other.nc")
    rejected = call("verify", tmp_path / "u.nc", "--truth", tmp_path / "other.nc")
    assert rejected.exit_code == 2 and "differ in x" in rejected.output
    rejected = call("verify", tmp_path / "u.nc", "--truth", tmp_path / "exact.nc", "--regrid")
    assert rejected.exit_code == 2 and "--regrid does not apply to" in rejected.output
