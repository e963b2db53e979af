"""Solution operators: commands and Python interface."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers import ROOT
from typer.testing import CliRunner

from fourcaster import forecast
from fourcaster.datasets.pde.simulate import make_system
from fourcaster.fno.errors import ResolutionWarning
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.config.operator import SolutionConfig
from fourcaster.forecast.tasks.dispatch import load_config

CONFIGS = ROOT / "configs"
RECIPES = [
    f"{folder}/{p.stem}" for folder in ("operator", "pino") for p in sorted((CONFIGS / folder).glob("*.yaml"))
]
MODEL = ["model.hidden_channels=8", "model.n_layers=2", "model.n_modes=[12]"]
SMALL = [
    *MODEL,
    "model.windows=2",
    "model.nodes=3",
    "train.epochs=4",
    "train.batch_size=8",
    "train.learning_rate=5e-3",
    "train.warmup_steps=2",
]
PARAMETERS = {
    "viscosity": 0.03,
    "alpha": 3.0,
    "sigma": 125.0,
    "duration": 0.5,
    "frames": 10,
    "resolution": 32,
}
SIMULATION = [f"{k}={v}" for k, v in PARAMETERS.items()]
EQUATION = [f"equation.{k}={v}" for k, v in PARAMETERS.items()]


def call(*args, fails: str | None = None):
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    text = " ".join(result.output.split())
    if fails is None:
        assert result.exit_code == 0, result.output
    else:
        assert result.exit_code == 2 and fails in text and len(result.output.strip().splitlines()) <= 3, (
            result.output
        )
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of simulations and of operators trained on the equation alone and with data."""
    root = tmp_path_factory.mktemp("operators")
    call("simulate", "burgers", "-o", root / "train.zarr", "samples=24", *SIMULATION)
    call("simulate", "burgers", "-o", root / "test.zarr", "samples=3", "seed=7", *SIMULATION)
    call(
        "simulate",
        "burgers",
        "-o",
        root / "fine.zarr",
        "samples=3",
        "seed=7",
        *SIMULATION[:-1],
        "resolution=48",
    )
    call("train", "pino/burgers", *EQUATION, "data.samples=32", f"output={root}/free", *SMALL)
    both = ["loss.data=1", "loss.equation=0.5", "loss.refine=2", f"data.store={root}/train.zarr"]
    call("train", "pino/burgers", *EQUATION, *both, f"output={root}/both", *SMALL)
    return root


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_loads(name):
    config = load_config(name)
    assert isinstance(config, SolutionConfig) and load_config(CONFIGS / f"{name}.yaml") == config


def test_operator_of_cosines_and_stencils_is_trained_and_run(tmp_path):
    call("simulate", "darcy", "-o", tmp_path / "train.zarr", "samples=8", "resolution=17")
    model = {"kind": "fno", "n_modes": [4, 4], "hidden_channels": 4, "n_layers": 2, "domain_padding": 0}
    model |= {"series": "cosine", "local": "stencil", "input_injection": True, "outer_activation": False}
    values = {
        "task": "operator",
        "equation": {"name": "darcy", "resolution": 17},
        "data": {"store": str(tmp_path / "train.zarr"), "validation_fraction": 0.25},
        "model": model,
        "loss": {"data": 1},
        "train": {"epochs": 1, "batch_size": 4},
        "output": str(tmp_path / "run"),
    }
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(values))
    call("train", config)
    text = call(
        "run", tmp_path / "run/checkpoint", "--init", tmp_path / "train.zarr", "-o", tmp_path / "u.zarr"
    )
    assert "8 solutions" in text
    call(
        "train",
        config,
        f"output={tmp_path}/other",
        "model.domain_padding=0.2",
        fails="set domain_padding to 0",
    )
    call(
        "train",
        "pino/burgers",
        *EQUATION,
        f"output={tmp_path}/other",
        "model.series=cosine",
        fails="periodic dimensions, periodic=(True,); use series='fourier'",
    )
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("kind", ["free", "both"])
def test_trained_operator_can_be_run_verified_and_inspected(folder, kind, tmp_path):
    first, *_, last = [
        json.loads(line) for line in (folder / kind / "state" / "log.jsonl").read_text().splitlines()
    ]
    assert last["validation_score"] < first["validation_score"]
    assert {"equation", "loss"} | ({"data"} if kind == "both" else set()) <= set(last)
    text = call(
        "run", folder / kind / "checkpoint", "--init", folder / "test.zarr", "-o", tmp_path / "u.zarr"
    )
    assert "3 solutions of u" in text
    scores = call(
        "verify", tmp_path / "u.zarr", "--truth", folder / "test.zarr", "-o", tmp_path / "scores.nc"
    )
    assert "u_relative_l2, mean of 3 samples" in scores
    solution, truth = xr.open_zarr(tmp_path / "u.zarr"), xr.open_zarr(folder / "test.zarr")
    assert solution["u"].dims == ("sample", "time", "x") and solution["u"].shape == truth["u"].shape
    assert np.array_equal(solution["time"], truth["time"]) and np.array_equal(solution["x"], truth["x"])
    assert np.allclose(solution["u"][:, 0], truth["u"][:, 0], atol=1e-6)  # the initial state is exact
    error = np.sqrt(
        ((solution["u"] - truth["u"]) ** 2).sum(("time", "x")) / (truth["u"] ** 2).sum(("time", "x"))
    )
    with xr.open_dataset(tmp_path / "scores.nc") as stored:
        assert np.allclose(stored["u_relative_l2"], error) and stored["u_relative_l2_at"].sizes == {
            "time": 11
        }
        assert error.max() < 0.6
    assert "solution operator" in call("inspect", folder / kind) and "solution of an operator" in call(
        "inspect", tmp_path / "u.zarr"
    )
    direct = forecast.solve(folder / kind / "checkpoint", truth)
    assert np.array_equal(direct["u"], solution["u"])


@pytest.mark.filterwarnings("ignore::fourcaster.fno.errors.ResolutionWarning")
def test_operator_generalises_to_other_grids_and_times(folder):
    coarse = forecast.solve(folder / "free" / "checkpoint", folder / "test.zarr")
    with pytest.warns(ResolutionWarning, match="outside what the model was trained on"):
        fine = forecast.solve(folder / "free" / "checkpoint", folder / "fine.zarr")
    truth = xr.open_zarr(folder / "fine.zarr")
    assert fine["u"].shape == (3, 11, 48)
    both = [np.abs(np.fft.rfft(d["u"], axis=-1, norm="forward")[..., :5]) for d in (coarse, fine)]
    assert np.allclose(*both, atol=0.05)
    some = truth.isel(time=[0, 3, 7])
    assert np.allclose(
        forecast.solve(folder / "free" / "checkpoint", some)["u"], fine["u"][:, [0, 3, 7]], atol=1e-6
    )
    from_initial_state = forecast.solve(folder / "free" / "checkpoint", truth.isel(time=[0]))
    assert np.allclose(from_initial_state["u"], fine["u"], atol=1e-6) and np.allclose(
        from_initial_state["time"], truth["time"]
    )
    later = truth.isel(time=[0, 10]).assign_coords(time=[0.0, 1.5])
    assert np.isfinite(forecast.solve(folder / "free" / "checkpoint", later)["u"]).all()


def test_refinement_reduces_the_error(folder, tmp_path):
    truth = xr.open_zarr(folder / "test.zarr")
    plain = forecast.score(forecast.solve(folder / "free" / "checkpoint", truth), truth)["u_relative_l2"]
    call(
        "run",
        folder / "free" / "checkpoint",
        "--init",
        folder / "test.zarr",
        "--refine",
        40,
        "-o",
        tmp_path / "r.nc",
    )
    refined = forecast.score(tmp_path / "r.nc", truth)["u_relative_l2"]
    assert (refined < plain).all() and float(refined.mean()) < 0.6 * float(plain.mean())


def test_interrupted_run_resumes_bit_identically(folder, tmp_path, monkeypatch):
    import fourcaster.fno.training.trainer_state as trainer

    settings = [
        *EQUATION,
        f"data.store={folder}/train.zarr",
        "loss.data=1",
        *SMALL,
        "train.checkpoint_minutes=0",
    ]
    call("train", "pino/burgers", *settings, f"output={tmp_path}/uninterrupted")
    save, count = trainer.save_state, iter(range(100))

    def stop(*arguments):
        save(*arguments)
        if next(count) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "save_state", stop)
    assert (
        CliRunner()
        .invoke(app, ["train", "pino/burgers", *settings, f"output={tmp_path}/interrupted"])
        .exit_code
        == 130
    )
    monkeypatch.undo()
    assert not (tmp_path / "interrupted" / "checkpoint").exists()
    call("train", "pino/burgers", *settings, f"output={tmp_path}/interrupted")
    a, b = (
        (tmp_path / n / "checkpoint" / "weights.safetensors").read_bytes()
        for n in ("uninterrupted", "interrupted")
    )
    assert a == b
    assert "had already finished" in call(
        "train", "pino/burgers", *settings, f"output={tmp_path}/interrupted"
    )
    call(
        "train",
        "pino/burgers",
        *settings,
        "train.seed=3",
        f"output={tmp_path}/interrupted",
        fails="other settings or data",
    )


def test_steady_operator_trains_on_data_or_on_the_equation(tmp_path):
    call("simulate", "darcy", "-o", tmp_path / "d.zarr", "samples=24", "resolution=17", "refine=1")
    model = [
        "model.hidden_channels=8",
        "model.n_layers=2",
        "model.n_modes=[8,8]",
        "train.epochs=6",
        "train.batch_size=8",
        "train.warmup_steps=2",
    ]
    for name, loss in (("data", ["loss.data=1"]), ("equation", ["loss.data=0", "loss.equation=1"])):
        config = tmp_path / f"{name}.yaml"
        config.write_text(
            f"equation: {{name: darcy}}\nmodel: {{kind: tfno, rank: 0.5}}\ndata: "
            f"{{store: {tmp_path}/d.zarr}}\noutput: {tmp_path}/{name}\n"
        )
        call("train", config, *loss, *model, "train.learning_rate=1e-2")
        solved = forecast.solve(tmp_path / name / "checkpoint", tmp_path / "d.zarr")
        assert (
            solved["pressure"].dims == ("sample", "y", "x")
            and float(np.abs(solved["pressure"][:, 0]).max()) < 1e-8
        )
        assert float(forecast.score(solved, tmp_path / "d.zarr")["pressure_relative_l2"].mean()) < 0.35
    first = xr.open_zarr(tmp_path / "d.zarr").isel(sample=[0])
    refined = forecast.solve(tmp_path / "equation" / "checkpoint", first, refine=60)
    assert float(forecast.score(refined, first)["pressure_relative_l2"][0]) < 0.1


def test_one_operator_covers_all_heat_sinks(tmp_path):
    call("simulate", "heat_sink", "-o", tmp_path / "h.zarr", "samples=24", "refine=1")
    settings = [
        "model.hidden_channels=8",
        "model.n_layers=2",
        "model.n_modes=[8,8]",
        "train.epochs=6",
        "train.batch_size=8",
        "train.warmup_steps=2",
    ]
    call("train", "operator/heat_sink", f"data.store={tmp_path}/h.zarr", f"output={tmp_path}/run", *settings)
    call("run", tmp_path / "run" / "checkpoint", "--init", tmp_path / "h.zarr", "-o", tmp_path / "t.zarr")
    assert "temperature_relative_l2" in call("verify", tmp_path / "t.zarr", "--truth", tmp_path / "h.zarr")
    error = forecast.score(tmp_path / "t.zarr", tmp_path / "h.zarr")["temperature_relative_l2"]
    truth = xr.open_zarr(tmp_path / "h.zarr")["temperature"]
    mean = truth.mean()  # of all
    plain = np.sqrt(((truth - mean) ** 2).sum(("y", "x")) / (truth**2).sum(("y", "x")))
    assert float(error.mean()) < 0.5 * float(plain.mean())
    call(
        "run",
        tmp_path / "run" / "checkpoint",
        "--init",
        tmp_path / "h.zarr",
        "--refine",
        5,
        "-o",
        tmp_path / "r.zarr",
        fails="no residual of 'heat_sink'",
    )
    call(
        "train",
        "operator/heat_sink",
        f"data.store={tmp_path}/h.zarr",
        "loss.equation=1",
        f"output={tmp_path}/no",
        fails="no residual of 'heat_sink'",
    )


def write_sensors(path: Path, **changes) -> Path:
    values = np.random.default_rng(0).normal(size=(3, 6))
    dataset = xr.Dataset(
        {"u": (("station", "time"), values, {"noise": 0.1})},
        {"x": ("station", [0.1, 0.5, 0.8]), "time": np.linspace(0, 0.4, 6)},
    )
    for name, value in changes.items():
        if name == "noise":
            dataset["u"].attrs["noise"] = value
        elif value is None:
            dataset = dataset.drop_vars(name)
        else:
            dataset[name] = (dataset[name].dims, value, dataset[name].attrs)
    dataset.to_netcdf(path)
    return path


def test_training_assimilates_an_experiment(tmp_path):
    call(
        "simulate",
        "shock_pipe",
        "-o",
        tmp_path / "p.zarr",
        "samples=16",
        "resolution=32",
        "duration=0.5",
        "frames=8",
        "viscosity=0.01",
    )
    settings = [f"data.store={tmp_path}/p.zarr", *SMALL]
    valid = write_sensors(tmp_path / "s.nc")
    call("train", "operator/shock_pipe", *settings, f"data.experiment={valid}", f"output={tmp_path}/run")
    viscosity = json.loads((tmp_path / "run" / "checkpoint" / "meta.json").read_text())["provenance"][
        "recovered"
    ]["viscosity"]
    assert 0.001 < viscosity["value"] < 0.5 and viscosity["standard_deviation"] > 0
    assert "recovered" in call("inspect", tmp_path / "run")
    assert forecast.solve(tmp_path / "run" / "checkpoint", tmp_path / "p.zarr")["u"].shape == (16, 9, 32)
    truth = xr.open_zarr(tmp_path / "p.zarr").isel(sample=slice(2))
    plain, refined = (
        forecast.score(forecast.solve(tmp_path / "run" / "checkpoint", truth, refine=n), truth)[
            "u_relative_l2"
        ]
        for n in (0, 25)
    )
    assert float(refined.mean()) < float(plain.mean())  # each with its own viscosity
    invalid = {
        "noise": ({"noise": -1.0}, "needs the attribute noise"),
        "time": ({"time": np.linspace(0, 0.6, 6)}, "read at increasing times in [0, 0.5]"),
        "position": ({"x": [0.1, 0.5, 1.2]}, "sensors must lie in"),
        "x": ({"x": None}, "has no x"),
        "empty": ({"u": np.full((3, 6), np.nan)}, "has no readings"),
    }
    for name, (change, message) in invalid.items():
        path = write_sensors(tmp_path / f"{name}.nc", **change)
        call(
            "train",
            "operator/shock_pipe",
            *settings,
            f"data.experiment={path}",
            f"output={tmp_path}/no",
            fails=message,
        )
    call(
        "train",
        "operator/shock_pipe",
        *settings,
        f"data.experiment={valid}",
        "loss.experiment=0",
        f"output={tmp_path}/no",
        fails="loss.experiment",
    )
    call(
        "train",
        "pino/burgers",
        *SMALL,
        "task=inverse",
        "loss.experiment=1",
        f"data.experiment={valid}",
        f"output={tmp_path}/no",
        fails="burgers has no unknown coefficient",
    )
    assert not (tmp_path / "no" / "checkpoint").exists()


def test_inconsistent_inputs_are_reported(folder, tmp_path):
    train = ["train", "pino/burgers", f"output={tmp_path}/no", *SMALL]
    store = f"data.store={folder}/train.zarr"
    call(*train, "equation.name=nothing", fails="no system 'nothing'")
    call(*train, "equation.viscosty=1", fails="no parameter 'viscosty'")
    call(*train, store, "equation.viscosity=0.05", fails="was simulated with 0.03")
    call(*train, "equation.name=allen_cahn", store, fails="contains simulations of burgers")
    call(*train, "loss.data=1", "loss.equation=0", fails="data.store is missing")
    call(*train, "model.n_modes=[4,4]", fails="model.n_modes has 2 entries")
    call(*train, "loss.equaton=1", fails="did you mean loss.equation")
    call(*train, "loss.refine=0", fails="loss.refine")
    call(*train, f"data.store={tmp_path}/absent.zarr", fails="absent.zarr")
    call(*train, "equation.name=shallow_water", "equation.viscosity=0.01", fails="no parameter 'viscosity'")
    assert not (tmp_path / "no" / "checkpoint").exists()
    run = ["run", folder / "free" / "checkpoint", "-o", tmp_path / "u.zarr"]
    call(*run, fails="init is missing")
    call(*run, "--init", folder / "test.zarr", "--grid", "11x32", fails="--grid does not apply to")
    call("simulate", "burgers", "-o", tmp_path / "thick.zarr", *SIMULATION[1:], "viscosity=0.1")
    call(*run, "--init", tmp_path / "thick.zarr", fails="was trained with viscosity=0.03")
    call("simulate", "advection", "-o", tmp_path / "a.zarr", "resolution=32")
    call(*run, "--init", tmp_path / "a.zarr", fails="solves burgers, the initial states are of advection")
    call("verify", folder / "test.zarr", "--truth", folder / "fine.zarr", fails="differ in x")
    call(
        "run",
        folder / "free" / "checkpoint",
        "--init",
        folder / "free",
        "-o",
        tmp_path / "u.zarr",
        fails="free",
    )
    shutil.copytree(folder / "free" / "checkpoint", tmp_path / "damaged")
    weights = tmp_path / "damaged" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    call(
        "run",
        tmp_path / "damaged",
        "--init",
        folder / "test.zarr",
        "-o",
        tmp_path / "u.zarr",
        fails="checksum",
    )
    with pytest.raises(ValueError, match="of the task operator, not of weather"):
        forecast.Forecaster.load(folder / "free" / "checkpoint")
    assert not (tmp_path / "u.zarr").exists()


# Inputs outside the training distribution


def reported_differences(caplog, checkpoint, init):
    """Return what a run reports of unusual inputs; check that the log and the data set agree."""
    caplog.clear()
    solved = forecast.solve(checkpoint, init)
    reported = [
        r.getMessage()
        for r in caplog.records
        if "these inputs differ from those of training" in r.getMessage()
    ]
    text = solved.attrs.get("outside_training", "")
    assert [text] * bool(text) == [line.split("validation: ")[1] for line in reported]
    return text


@pytest.mark.parametrize("kind", ["free", "both"])
def test_samples_of_the_training_distribution_are_not_reported(folder, kind, caplog, tmp_path):
    assert reported_differences(caplog, folder / kind / "checkpoint", folder / "test.zarr") == ""
    for seed in range(20, 24):
        call("simulate", "burgers", "-o", tmp_path / f"{seed}.zarr", "samples=2", f"seed={seed}", *SIMULATION)
        assert reported_differences(caplog, folder / kind / "checkpoint", tmp_path / f"{seed}.zarr") == ""
    call(
        "run", folder / kind / "checkpoint", "--init", folder / "test.zarr", "-o", tmp_path / "u.nc", "--json"
    )
    with xr.open_dataset(tmp_path / "u.nc") as solution:
        assert "outside_training" not in solution.attrs


def test_flow_outside_the_training_range_is_reported(folder, caplog, tmp_path):
    truth = xr.open_zarr(folder / "test.zarr").load()
    moved = truth.assign(u=truth["u"] + 0.8)
    text = reported_differences(caplog, folder / "free" / "checkpoint", moved)
    assert text.startswith("mean of u 0.8 in sample") and "in training 0 to 0" in text
    moved.to_zarr(tmp_path / "moved.zarr", consolidated=False)
    result = CliRunner().invoke(
        app,
        [
            "run",
            str(folder / "free" / "checkpoint"),
            "--init",
            str(tmp_path / "moved.zarr"),
            "-o",
            str(tmp_path / "u.nc"),
            "--json",
        ],
    )
    assert result.exit_code == 0 and json.loads(result.stdout)["outside_training"] == text
    with xr.open_dataset(tmp_path / "u.nc") as solution:
        assert solution.attrs["outside_training"] == text


def test_different_amplitude_spectrum_or_parameter_is_reported(folder, caplog, tmp_path):
    truth = xr.open_zarr(folder / "test.zarr").load()
    assert "of u" in reported_differences(
        caplog, folder / "free" / "checkpoint", truth.assign(u=4 * truth["u"])
    )
    rough = truth.assign(u=truth["u"] + 0.2 * np.sin(2 * np.pi * 10 * truth["x"]))
    assert "amplitude of waves 8 to 16 of u" in reported_differences(
        caplog, folder / "free" / "checkpoint", rough
    )
    call(
        "simulate",
        "burgers",
        "-o",
        tmp_path / "a.zarr",
        "samples=2",
        "seed=7",
        *[w for w in SIMULATION if "alpha" not in w],
        "alpha=2.5",
    )
    assert "alpha=2.5, in training 3.0" in reported_differences(
        caplog, folder / "free" / "checkpoint", tmp_path / "a.zarr"
    )


def test_checkpoint_of_an_older_version_reports_nothing(folder, caplog, tmp_path):
    shutil.copytree(folder / "free" / "checkpoint", tmp_path / "old")
    meta = json.loads((tmp_path / "old" / "meta.json").read_text())
    del meta["provenance"]["ranges"], meta["checksum"]
    meta["kind"] = meta.pop("task")
    del meta["config"]["task"]
    (tmp_path / "old" / "meta.json").write_text(json.dumps(meta | {"format_version": 1}))
    truth = xr.open_zarr(folder / "test.zarr").load()
    assert reported_differences(caplog, tmp_path / "old", truth.assign(u=truth["u"] + 0.8)) == ""


def test_parameter_bounds_are_compared_as_an_interval():
    pipe = make_system("shock_pipe", {})
    assert (
        pipe.differences(
            make_system(
                "shock_pipe", {"viscosity": 0.01, "viscosity_high": 0.02, "resolution": 32, "frames": 3}
            )
        )
        == []
    )
    assert pipe.differences(make_system("shock_pipe", {"viscosity_high": 0.2, "sigma": 100.0})) == [
        "sigma=100.0, in training 200.0",
        "viscosity_high=0.2, in training 0.04",
    ]


def test_a_batch_larger_than_the_samples_is_refused_by_train_and_check(folder, tmp_path):
    few = xr.open_zarr(folder / "train.zarr").isel(sample=slice(0, 4)).drop_encoding()
    few.to_zarr(tmp_path / "few.zarr", consolidated=False)
    settings = [
        *EQUATION,
        "loss.data=1",
        f"data.store={tmp_path}/few.zarr",
        f"output={tmp_path}/run",
        *SMALL,
        "data.validation_fraction=0.25",
    ]
    message = "train.batch_size 8 is larger than the 3 training samples"
    call("train", "pino/burgers", *settings, fails=message)
    assert not (tmp_path / "run" / "checkpoint").exists()
    report = CliRunner().invoke(app, ["check", "pino/burgers", *settings])
    assert report.exit_code == 2 and message in " ".join(report.output.split())


def test_training_without_validation_data_warns(folder, caplog, tmp_path):
    few = xr.open_zarr(folder / "train.zarr").isel(sample=slice(0, 4)).drop_encoding()
    few.to_zarr(tmp_path / "few.zarr", consolidated=False)
    call(
        "train",
        "pino/burgers",
        *EQUATION,
        "loss.data=1",
        "loss.equation=0",
        f"data.store={tmp_path}/few.zarr",
        f"output={tmp_path}/run",
        *SMALL,
        "train.batch_size=4",
    )
    assert "there is no validation data" in caplog.text
    assert (
        json.loads((tmp_path / "run" / "checkpoint" / "meta.json").read_text())["provenance"][
            "validation_score"
        ]
        is None
    )
