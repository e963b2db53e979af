"""Sweeps: expansion of lists, runs in their own folders, resume, failures, and a Dask cluster."""

import json

import pytest
import yaml
from helpers import tiny_config
from typer.testing import CliRunner

from fourcaster.forecast import sweep as module
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.config.source import to_yaml
from fourcaster.forecast.sweep import RunState, expand, folder_name, split_values, sweep, sweep_table

MANY = ",".join(map(str, range(1, 151)))


@pytest.fixture
def recipe(tiny_store, tmp_path):
    values, _ = to_yaml(tiny_config(tiny_store, tmp_path / "runs", "train.epochs=1", "train.batch_size=64"))
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_lists_are_split_outside_of_brackets_and_quotes():
    assert split_values("1,2,3") == ["1", "2", "3"]
    assert split_values("[8,8],[16,16]") == ["[8,8]", "[16,16]"]
    assert split_values("'a,b',c") == ["'a,b'", "c"]
    assert split_values("{a: 1, b: 2}") == ["{a: 1, b: 2}"]


def test_product_of_all_lists():
    common, runs = expand(["train.seed=1,2", "train.epochs=3", "model.hidden_channels=4,8"])
    assert common == ["train.epochs=3"]
    assert [(r["train.seed"], r["model.hidden_channels"]) for r in runs] == [
        ("1", "4"),
        ("1", "8"),
        ("2", "4"),
        ("2", "8"),
    ]
    assert expand(["a=1"]) == (["a=1"], [{}])
    assert folder_name({"data.train_period": "2001/2002"}) == "data.train_period=2001_2002"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.seed=1,,2"], "has an empty value"),
        (["train.seed=1,2", "train.seed=3,4"], "is given twice"),
        ([f"train.seed={MANY}", f"train.epochs={MANY}"], "22500 runs"),
        (["output=a,b"], "output cannot have several values"),
        (["train.seeds=1,2"], "unknown key train.seeds"),
    ],
)
def test_invalid_sweeps_are_refused_before_any_run(recipe, tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        sweep(recipe, overrides)
    assert not (tmp_path / "runs").exists()


def test_runs_have_their_own_folders_and_finished_ones_are_skipped(recipe, tmp_path):
    first = sweep(recipe, ["train.seed=1,2"], device="cpu")
    assert [run.state for run in first] == [RunState.TRAINED] * 2
    assert (tmp_path / "runs" / "train.seed=2" / "checkpoint" / "meta.json").exists()
    again = sweep(recipe, ["train.seed=1,2,3"], device="cpu")
    assert [run.state for run in again] == [RunState.FINISHED_BEFORE] * 2 + [RunState.TRAINED]
    assert [run.score for run in again[:2]] == [run.score for run in first]
    assert len({run.score for run in again}) == 3
    table = sweep_table(again)
    assert table.splitlines()[0].split() == ["train.seed", "score", "time", "state"]
    assert table.count(" *") == 1


def test_a_run_that_fails_does_not_end_the_others(recipe):
    failed, trained = sweep(recipe, ["model.window=500,2"], device="cpu")
    assert (failed.state, trained.state) == (RunState.FAILED, RunState.TRAINED)
    assert "501 consecutive times" in failed.error and failed.score is None


def test_command_prints_a_table_or_json_and_fails_with_a_run(recipe, monkeypatch):
    runner = CliRunner()
    result = runner.invoke(app, ["train", str(recipe), "-m", "train.seed=1,2", "--json", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert [row["values"] for row in json.loads(result.stdout)] == [{"train.seed": "1"}, {"train.seed": "2"}]
    wrong = runner.invoke(app, ["train", str(recipe), "-m", "model.window=500,2", "--device", "cpu"])
    assert wrong.exit_code == 2
    assert "failed: " in wrong.stdout
    limited = runner.invoke(app, ["train", str(recipe), "-m", "train.seed=1,2", "--time-limit", "1h"])
    assert limited.exit_code == 2 and "--time-limit" in limited.stderr
    needless = runner.invoke(app, ["train", str(recipe), "--scheduler", "local:1"])
    assert needless.exit_code == 2 and "-m" in needless.stderr


def test_runs_on_a_cluster_are_those_of_this_process(recipe):
    assert module.connected.__module__ == "fourcaster.datasets.cluster"
    results = sweep(recipe, ["train.seed=1,2"], scheduler="local:1", device="cpu")
    assert [run.state for run in results] == [RunState.TRAINED] * 2
    assert [run.state for run in sweep(recipe, ["train.seed=1,2"], device="cpu")] == [
        RunState.FINISHED_BEFORE
    ] * 2
