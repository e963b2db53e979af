"""Examples of docs/extending.md: a metric, a model and a task, each added by one entry point."""

import importlib
import importlib.metadata
import re
import sys
import types
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pytest
import xarray as xr
from helpers import ROOT
from typer.testing import CliRunner

from fourcaster import forecast
from fourcaster.fno.models import REGISTRY as MODELS
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.verification.metrics.base import REGISTRY as METRICS
from fourcaster.forecast.verification.metrics.base import Aggregation, Sample
from fourcaster.forecast.verification.metrics.selection import find_metric

REGISTRIES = ("forecast.tasks.registry", "forecast.verification.metrics.selection", "fno.registry")


@pytest.fixture
def extensions(monkeypatch):
    """Run the code of docs/extending.md and register its entry points."""
    text = (ROOT / "docs" / "extending.md").read_text()
    module = types.ModuleType("documented_extensions")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(block, module.__dict__)
    METRICS.pop("exceedance")  # keep only the entry point, as in a process that has not imported the file
    installed = importlib.metadata.entry_points
    entries = re.findall(r'entry-points\."([\w.]+)"\]\n(\w+) = "[\w.]+:(\w+)"', text)
    points = [
        EntryPoint(name, f"{module.__name__}:{attribute}", group)
        for group, name, attribute in entries
        if hasattr(module, attribute)
    ]
    assert {point.group for point in points} == {
        "fourcaster.metrics",
        "fourcaster.models",
        "fourcaster.tasks",
    }

    def entry_points_with_examples(**selection):
        return EntryPoints([*installed(**selection), *EntryPoints(points).select(**selection)])

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points_with_examples)
    for name in REGISTRIES:
        registry = importlib.import_module(f"fourcaster.{name}")
        monkeypatch.setattr(registry, "entry_points", entry_points_with_examples)
    monkeypatch.setattr(MODELS, "_entries", None)
    monkeypatch.setattr(MODELS, "_models", dict(MODELS._models))
    return module


def test_example_metric_computes_scores(extensions):
    metric = find_metric("exceedance")
    sample = Sample.of(np.array([[[0.0, 9.0]]]), np.zeros((1, 1, 2)), np.zeros((1, 1, 2)))
    (statistic,) = metric.statistics
    sums = Aggregation({statistic: statistic(sample).sum()}, np.float64(2))
    assert metric.compute(sums) == 0.5


def test_example_model_trains(extensions, tiny_store, tmp_path):
    text = f"data: {{store: {tiny_store}}}\nmodel: {{kind: convolutions, width: 4, window: 1}}\n"
    text += f"train: {{epochs: 1, batch_size: 16, validation_steps: 1}}\noutput: {tmp_path / 'run'}\n"
    (tmp_path / "run.yaml").write_text(text)
    assert CliRunner().invoke(app, ["train", str(tmp_path / "run.yaml")]).exit_code == 0
    model = forecast.load(tmp_path / "run" / "checkpoint")
    assert model.run(tiny_store, lead="12h").sizes["prediction_timedelta"] > 1


def test_example_task_trains_and_runs(extensions, tiny_store, tmp_path):
    variable = next(iter(xr.open_zarr(tiny_store).data_vars))
    text = f"task: damped\nstore: {tiny_store}\nvariable: {variable}\noutput: {tmp_path / 'run'}\n"
    (tmp_path / "run.yaml").write_text(text)
    runner, checkpoint = CliRunner(), str(tmp_path / "run" / "checkpoint")
    output = str(tmp_path / "forecast.zarr")
    for command in (
        ["train", str(tmp_path / "run.yaml")],
        ["inspect", checkpoint],
        ["run", checkpoint, "--init", str(tiny_store), "--lead", "3", "-o", output],
        ["verify", output, "--truth", str(tiny_store)],
    ):
        result = runner.invoke(app, command)
        assert result.exit_code == 0, (command, result.output, result.exception)
    assert f"{variable}_rmse: " in result.output
    assert xr.open_zarr(output, consolidated=False).attrs["task"] == "damped"
