"""Training states of an earlier version: interrupted at step 12 of 14, and in the second of two windows."""

import json
import shutil

import pytest
from helpers import DATA
from typer.testing import CliRunner

from fourcaster.forecast.cli.main import app

STATES = DATA / "state_v1"


@pytest.mark.parametrize(("name", "key", "total"), [("weather", "steps", 14), ("pinn", "iterations", 12)])
def test_training_state_of_earlier_version_resumes_to_completion(name, key, total, tiny_store, tmp_path):
    shutil.copytree(STATES / name, tmp_path / name)
    before = (tmp_path / name / "state" / "log.jsonl").read_text()
    store = [f"data.store={tiny_store}"] if name == "weather" else []
    arguments = ["train", str(STATES / f"{name}.yaml"), *store, f"output={tmp_path / name}"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    meta = json.loads((tmp_path / name / "checkpoint" / "meta.json").read_text())
    assert meta["provenance"][key] == total
    log = (tmp_path / name / "state" / "log.jsonl").read_text()
    assert log.startswith(before)
    assert len(log) > len(before)
