"""Summaries of training runs: going on, interrupted and finished."""

import json
import shutil
from dataclasses import replace

import pytest
from helpers import DATA, tiny_config
from typer.testing import CliRunner

from fourcaster import forecast
from fourcaster.datasets.store.locks import exclusive, writer_of
from fourcaster.fno.training.log import read_lines
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.monitoring.run import RunStatus, RunSummary
from fourcaster.forecast.tasks.dispatch import load_config, train


def inspect(path):
    summary = forecast.inspect(path)
    assert isinstance(summary, RunSummary)
    return summary


def test_a_finished_run_is_summarised_with_its_checkpoint(tiny_run):
    summary = inspect(tiny_run)
    log = read_lines(tiny_run / "state" / "log.jsonl")
    assert summary.status is RunStatus.FINISHED and summary.process is None
    assert (summary.epochs_done, summary.epochs) == (2, 2)
    assert summary.step == summary.steps == log[-1]["step"]
    assert summary.losses == {"loss": log[-1]["loss"]}
    assert list(summary.validation_rmse) == ["6 h", "12 h", "18 h"]
    assert list(summary.validation_rmse.values()) == log[-1]["validation_rmse"]
    assert summary.best_score == min(line["validation_score"] for line in log)
    assert log[summary.best_epoch - 1]["validation_score"] == summary.best_score
    assert summary.learning_rate == log[-1]["learning_rate"]
    assert summary.samples_per_second == log[-1]["samples_per_second"]
    assert summary.model == forecast.inspect(tiny_run / "checkpoint").to_dict()
    assert summary.seconds_left is None


@pytest.fixture
def interrupted(tiny_run, tmp_path):
    """Return a run that was interrupted after its first epoch."""
    shutil.copytree(tiny_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoint")
    log = tmp_path / "run" / "state" / "log.jsonl"
    log.write_text(log.read_text().splitlines(keepends=True)[0])
    return tmp_path / "run"


def test_an_interrupted_run_has_no_checkpoint_and_an_estimate_of_the_remaining_time(interrupted):
    summary = inspect(interrupted)
    assert summary.status is RunStatus.INTERRUPTED
    assert (summary.epochs_done, summary.epochs) == (1, 2)
    assert summary.checkpoint is None and summary.model is None
    (line,) = read_lines(interrupted / "state" / "log.jsonl")
    assert summary.seconds_left == line["seconds"] + line["validation_seconds"]


def test_a_run_that_goes_on_shows_its_present_position(interrupted):
    status = {
        "step": 17,
        "total": 20,
        "epochs": 2,
        "losses": {"loss": 0.25},
        "learning_rate": 1e-4,
        "time": 9e9,
    }
    (interrupted / "state" / "progress.json").write_text(json.dumps(status | {"seconds_left": 3.0}))
    assert inspect(interrupted).losses != {"loss": 0.25}  # of an earlier start
    with exclusive(interrupted):
        summary = inspect(interrupted)
    assert summary.status is RunStatus.RUNNING and "process" in summary.process
    assert summary.losses == {"loss": 0.25} and summary.learning_rate == 1e-4
    assert summary.step >= 17 and summary.steps == 20
    assert summary.updated.startswith("2255")
    (line,) = read_lines(interrupted / "state" / "log.jsonl")
    assert summary.seconds_left == 3.0 + line["validation_seconds"]


def test_a_look_at_a_lock_does_not_hinder_a_writer(tmp_path):
    assert writer_of(tmp_path / "run") is None
    with exclusive(tmp_path / "run"):
        assert writer_of(tmp_path / "run") is not None
    assert writer_of(tmp_path / "run") is None
    (tmp_path / ".run.lock").write_text("left by a killed process")
    assert writer_of(tmp_path / "run") is None
    with exclusive(tmp_path / "run"):
        pass


def test_a_run_before_its_first_record_can_be_inspected(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "log.jsonl").write_text("")
    summary = inspect(tmp_path)
    assert (summary.epochs_done, summary.step, summary.losses) == (0, 0, {})


@pytest.mark.parametrize("name", ["weather", "pinn"])
def test_a_run_of_an_earlier_version_can_be_inspected(name, tmp_path):
    shutil.copytree(DATA / "state_v1" / name, tmp_path / name)
    summary = inspect(tmp_path / name)
    assert summary.step > 0 and summary.losses and summary.learning_rate is None
    assert summary.epochs_done >= 1


def test_missing_validation_data_are_noted(tiny_store, tmp_path):
    train(tiny_config(tiny_store, tmp_path, "data.validation_fraction=0", "train.epochs=1"))
    summary = inspect(tmp_path)
    assert summary.notes == ["there is no validation data, so epochs cannot be compared"]
    assert summary.best_epoch is None and summary.validation_rmse == {}


def test_a_damaged_log_is_refused(interrupted):
    (interrupted / "state" / "log.jsonl").write_text("[]\n{}\n")
    with pytest.raises(ValueError, match="is damaged in line 1"):
        inspect(interrupted)


def test_the_command_shows_lines_or_json(tiny_run):
    runner = CliRunner()
    result = runner.invoke(app, ["inspect", str(tiny_run)])
    assert result.exit_code == 0, result.output
    for line in ("kind: training run", "status: finished", "epochs_done: 2 of 2", "  18 h: "):
        assert line in result.output
    assert "None" not in result.output.split("model:")[0]
    result = runner.invoke(app, ["inspect", str(tiny_run), "--json"])
    assert json.loads(result.output)["status"] == "finished"


def test_lines_leave_out_what_is_unknown(tiny_run):
    summary = replace(inspect(tiny_run), epochs=None, steps=None, waiting=None, model=None)
    lines = summary.lines()
    assert lines["epochs_done"] == 2 and "model" not in lines and "waiting" not in lines


def test_a_missing_package_of_a_logger_is_one_line_before_training(tiny_store, tmp_path, monkeypatch):
    monkeypatch.setattr("fourcaster.fno.training.loggers.registry.find_spec", lambda package: None)
    arguments = [f"data.store={tiny_store}", f"output={tmp_path / 'run'}", "train.loggers=[wandb]"]
    result = CliRunner().invoke(app, ["train", "quickstart", *arguments])
    assert result.exit_code == 2
    assert "the logger wandb needs the package wandb" in result.stderr
    assert "pip install 'fourcaster[wandb]'" in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
    result = CliRunner().invoke(app, ["check", "quickstart", *arguments, "--probe", "0"])
    assert result.exit_code == 2 and "needs the package wandb" in result.output


def test_a_physics_informed_network_has_curves_and_a_summary(tmp_path, monkeypatch):
    monkeypatch.setattr("fourcaster.forecast.monitoring.pictures._FIRST", 0.0)
    overrides = ["train.windows=2", "train.iterations=3", "train.points=60", "model.width=6"]
    train(load_config("pinn/advection", [*overrides, f"output={tmp_path}"]))
    summary = inspect(tmp_path)
    assert summary.status is RunStatus.FINISHED
    assert summary.epochs_done == 2 and "residual" in summary.losses
    assert list(summary.pictures) == ["curves"]
