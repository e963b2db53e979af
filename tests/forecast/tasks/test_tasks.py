"""Tasks: an explicit key selects the task, and other packages can register new ones."""

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from helpers import DATA, ROOT
from torch import nn
from typer.testing import CliRunner

from fourcaster import forecast
from fourcaster.forecast.checkpoint import meta as metadata
from fourcaster.forecast.checkpoint.description import Description, validated_as
from fourcaster.forecast.checkpoint.folder import fingerprint, finished_run, write_checkpoint
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.config.sections import Strict
from fourcaster.forecast.tasks import registry
from fourcaster.forecast.tasks.base import Task, TrainResult
from fourcaster.forecast.tasks.dispatch import make_config

CONFIGS = ROOT / "configs"
RECIPES = sorted(CONFIGS.rglob("*.yaml"))
LEGACY_CHECKPOINTS = {
    "checkpoint_v1": "weather",
    "checkpoint_v2": "weather",
    "checkpoint_v2_pinn": "pinn",
    "checkpoint_v2_operator": "operator",
    "checkpoint_v2_inverse": "inverse",
}


def call(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_names_its_task_and_loads_equally_without_it(path):
    values = yaml.safe_load(path.read_text())
    assert values["task"] in registry.task_names()
    without = {key: value for key, value in values.items() if key != "task"}
    assert make_config(values) == make_config(without)
    assert make_config(values).task == values["task"]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("wether", "no task 'wether'; did you mean weather"),
        ("operator", "unknown key"),
        (["weather"], "task should be one of weather, pinn"),
    ],
)
def test_unknown_or_unsuitable_task_is_rejected(task, message):
    values = {"task": task, "data": {"store": "x.zarr", "route": "dask"}, "output": "x"}
    with pytest.raises(ValueError, match=message):
        make_config(values)


def test_task_can_be_overridden(tmp_path):
    values = yaml.safe_load((CONFIGS / "pinn" / "burgers.yaml").read_text())
    with pytest.raises(ValueError, match="unknown key"):
        make_config(values, ["task=operator"])


@pytest.mark.parametrize(("name", "task"), LEGACY_CHECKPOINTS.items())
def test_checkpoints_of_older_versions_can_be_loaded_run_and_inspected(name, task, tmp_path):
    stored = json.loads((DATA / name / "meta.json").read_text())
    assert "task" not in stored and stored["format_version"] < metadata.FORMAT_VERSION
    model = forecast.load(DATA / name)
    report = forecast.inspect(DATA / name)
    assert model.run is not None and report.kind
    if task == "pinn":
        assert np.isfinite(model.run("5x8")["u"]).all()
    if task in ("operator", "inverse"):
        system = "burgers" if task == "operator" else "shock_pipe"
        forecast.simulate(
            system, tmp_path / "s.zarr", {"resolution": 16, "frames": 4, "duration": 0.5}, samples=2
        )
        solution = model.run(tmp_path / "s.zarr")
        assert solution.sizes["sample"] == 2 and np.isfinite(solution["u"]).all()
    assert registry.get_task(task).title


@pytest.mark.parametrize("task", ["pinn", "operator"])
def test_finished_run_of_an_older_version_is_recognised(task, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "checkpoint").symlink_to(DATA / f"checkpoint_v2_{task}")
    values = json.loads((DATA / f"checkpoint_v2_{task}" / "meta.json").read_text())["config"]
    result = forecast.train(make_config(values | {"output": str(folder)}))
    assert result.already_done and result.best_score is not None


@pytest.mark.parametrize("name", ["checkpoint_v2", "checkpoint_v2_pinn", "checkpoint_v2_operator"])
def test_metadata_are_read_once_per_command(name, tiny_store, tmp_path, monkeypatch):
    reads = []
    parse = metadata.parse_json
    monkeypatch.setattr(metadata, "parse_json", lambda *a, **k: reads.append(a) or parse(*a, **k))
    args = ["--grid", "5x8"] if name.endswith("pinn") else ["--init", tiny_store]
    call("run", DATA / name, *args, "-o", tmp_path / "x.zarr")
    assert len(reads) == 1
    call("inspect", DATA / name)
    assert len(reads) == 2


class MeanConfig(Strict):
    """Configuration of the example task."""

    task: Literal["mean"] = "mean"
    values: list[float]
    output: Path


class MeanDescription(Description):
    """Metadata of the example task."""

    task: Literal["mean"]
    config: MeanConfig
    provenance: dict


class MeanModel:
    """A model whose output equals its only weight everywhere."""

    def __init__(self, mean):
        self.mean = mean

    def run(self, grid=None, output=None, *, overwrite=False, progress=None):
        return xr.Dataset({"mean": ("x", np.full(int(grid or 3), self.mean))}, attrs={"task": "mean"})


class MeanTask(Task):
    """Example task of an external package: learn the mean of some numbers."""

    name = "mean"
    title = "mean"
    config = MeanConfig
    description = MeanDescription
    run_options = frozenset({"grid"})
    grid = "number of points"

    def train(self, config, *, device, progress):
        digest = fingerprint(config.model_dump(mode="json", exclude={"output"}))
        checkpoint = config.output / "checkpoint"
        if finished_run(config.output, MeanDescription, task=self.name, digest=digest):
            return TrainResult(checkpoint, True, 0.0)
        weights = {"mean": torch.tensor([sum(config.values) / len(config.values)])}
        meta = {"config": config.model_dump(mode="json"), "provenance": {"fingerprint": digest}}
        write_checkpoint(checkpoint, self.name, weights, meta=meta)
        return TrainResult(checkpoint, False, 0.0)

    def load(self, stored, device):
        network = nn.Module()
        network.register_buffer("mean", torch.zeros(1))
        stored.describe(MeanDescription)
        stored.restore(network, stored.entries())
        return MeanModel(float(network.mean))


@pytest.fixture
def with_mean_task(monkeypatch):
    """Register the example task as an entry point of an installed package."""
    point = EntryPoint("mean", f"{__name__}:MeanTask", registry.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: MeanTask)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    registry._load.cache_clear()
    yield
    registry._load.cache_clear()


def test_task_without_training_is_refused_in_a_configuration(tmp_path):
    path = tmp_path / "network.yaml"
    path.write_text(f"task: network\noutput: {tmp_path / 'run'}\n")
    result = call("train", path)
    assert result.exit_code == 2 and "the task network has no training" in result.output


@pytest.mark.usefixtures("with_mean_task")
def test_external_package_adds_a_task_with_one_class_and_one_entry_point(tmp_path):
    path = tmp_path / "mean.yaml"
    path.write_text(f"task: mean\nvalues: [1, 2, 6]\noutput: {tmp_path / 'run'}\n")
    assert call("train", path).exit_code == 0
    assert "had already finished" in call("train", path).output
    assert "unknown key vlues" in call("train", path, "vlues=[1]").output
    report = json.loads(call("inspect", tmp_path / "run", "--json").output)
    assert report["kind"] == "mean" and report["config"]["values"] == [1, 2, 6]
    result = call("run", tmp_path / "run" / "checkpoint", "--grid", "4", "-o", tmp_path / "m.nc", "--json")
    assert result.exit_code == 0 and json.loads(result.output)["x"] == 4
    rejected = call("run", tmp_path / "run" / "checkpoint", "--lead", "6h", "-o", tmp_path / "m.nc")
    assert rejected.exit_code == 2 and "--lead does not apply to" in rejected.output
    assert forecast.load(tmp_path / "run" / "checkpoint").run()["mean"].values.tolist() == [3, 3, 3]


@pytest.mark.usefixtures("with_mean_task")
def test_duplicate_task_names_are_rejected(monkeypatch):
    point = EntryPoint("pinn", "another:Task", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    with pytest.raises(ValueError, match="two packages provide the task pinn"):
        registry.task_names()


def test_configuration_within_metadata_is_validated_by_its_own_rules():
    assert validated_as(MeanConfig).func({"values": [1], "output": "x"}).values == [1]
