"""The benchmark of solution operators: partial runs and baselines."""

import importlib.util
import json
import sys

import numpy as np
import pytest
from helpers import ROOT

from fourcaster.datasets.pde.simulate import simulate


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(ROOT / "benchmarks"))  # where a script finds the modules next to it
    spec = importlib.util.spec_from_file_location("benchmark_solving", ROOT / "benchmarks" / "solving.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module here
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]
    sys.path.remove(str(ROOT / "benchmarks"))


def test_partial_run_keeps_the_rows_of_other_parts(benchmark, tmp_path, capsys):
    path = tmp_path / "solving.json"
    others = [{"kind": kind, "label": "kept", "all": [1.0]} for kind in ("burgers", "heat_sink")]
    path.write_text(json.dumps({"rows": [{"kind": "heat_sink_baselines", "label": "old"}, *others]}))
    benchmark.main(["--only", "heat_sink_baselines", "--tiny", "--output", str(path)])
    rows = json.loads(path.read_text())["rows"]
    assert [row["label"] for row in rows] == [
        "kept",
        "heat sinks, the built-in budget alone",
        "heat sinks, linear regression on the same samples",
        "kept",
    ]
    assert [row["kind"] for row in rows] == [
        "heat_sink",
        "heat_sink_baselines",
        "heat_sink_baselines",
        "burgers",
    ]
    assert rows[0] == others[1] and rows[3] == others[0]
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == rows[1:3] and all(0.01 < row["error"] < 0.3 for row in printed)


@pytest.mark.slow
def test_every_part_runs_at_tiny_size(benchmark, tmp_path):
    benchmark.main(["--tiny", "--output", str(tmp_path / "solving.json")])
    rows = json.loads((tmp_path / "solving.json").read_text())["rows"]
    assert list(dict.fromkeys(row["kind"] for row in rows)) == list(benchmark.PARTS)


@pytest.mark.parametrize("arguments", [["--tiny"], ["--only", "sinks"]])
def test_tiny_run_does_not_overwrite_published_results(benchmark, arguments):
    with pytest.raises(SystemExit, match="2"):
        benchmark.main(arguments)


def test_energy_budget_gives_the_temperature_where_cooling_balances_heating(benchmark, tmp_path):
    path = simulate("heat_sink", tmp_path / "h.zarr", {"flux": 1e4}, samples=3)
    features, temperature, budget = benchmark.features_and_temperature(path)
    metal = features[:, :1024].reshape(3, 32, 32)
    transfer = np.exp(features[:, -2])
    for i in range(3):
        faces = (
            np.abs(np.diff(np.pad(metal[i], ((0, 1), (0, 0))), axis=0)).sum()
            + np.abs(np.diff(metal[i], axis=1)).sum()
        )
        assert budget[i] == pytest.approx(1e4 * 32 / (transfer[i] * faces))
        assert np.nanmean(temperature[i]) == pytest.approx(budget[i], rel=0.3)
    assert np.array_equal(np.isfinite(temperature).reshape(3, 32, 32), metal == 1)


def test_ridge_regression_is_exact_for_linear_data_and_ignores_missing_values(benchmark, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((90, 4))
    weights = rng.standard_normal((4, 6))
    y = 2.0 + x @ weights
    y[rng.random(y.shape) < 0.3] = np.nan
    y[:70, 5] = np.nan  # a cell without values in the training samples
    monkeypatch.setattr("solving_baselines.PENALTIES", (1e-6, 1e6))
    predicted = benchmark.ridge(x[:80], y[:80], x[80:], count=70, scale=np.ones((10, 1)))
    assert (
        np.allclose(predicted[:, :5], 2.0 + (x @ weights)[80:, :5], atol=1e-5)
        and (predicted[:, 5] == 1).all()
    )
