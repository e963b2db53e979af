"""Benchmarks: partial runs and baselines of solution operators, ridge regression of global fields."""

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


@pytest.fixture
def ridge(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("ridge")


def rotating_patterns(rng, noise):
    """Return three years of two patterns that rotate once in ten steps, on a seasonal cycle."""
    times = np.arange("2001-01-01", "2004-01-01", dtype="datetime64[D]").astype("datetime64[ns]")
    phase = 2 * np.pi * np.arange(len(times)) / 10
    patterns = rng.standard_normal((2, 1, 4, 6))
    weather = np.tensordot(np.stack([np.cos(phase), np.sin(phase)], axis=1), patterns, axes=1)
    season = 3 * np.cos(2 * np.pi * np.arange(len(times)) / 365.25)[:, None, None, None]
    values = weather + season + noise * rng.standard_normal(weather.shape)
    return times, values.astype(np.float32), weather


def test_ridge_regression_forecasts_a_linear_system_and_nothing_of_noise(ridge, monkeypatch):
    monkeypatch.setattr(ridge, "COMPONENTS", (2,))
    times, values, weather = rotating_patterns(np.random.default_rng(0), noise=0.1)
    series = ridge.Series(values, times, np.ones(4))
    errors = ridge.scores(series, [2001, 2002], 2003, [1, 7])
    for by_lead in errors.values():
        for error in by_lead.values():
            assert error == pytest.approx(0.1, rel=0.1)  # the noise of the truth
    assert weather.std() > 0.8


def test_the_climatology_of_ridge_regression_is_that_of_the_training_years(ridge):
    times, values, _ = rotating_patterns(np.random.default_rng(0), noise=0.0)
    series = ridge.Series(values, times, np.ones(4))
    other = np.where(series.years([2003])[:, None, None, None], 99, values)
    changed = ridge.Series(other, times, np.ones(4))
    train = series.years([2001, 2002])
    mean = ridge.climatology(series, train)
    assert np.allclose(mean, ridge.climatology(changed, train))
    season = 3 * np.cos(2 * np.pi * np.arange(len(times)) / 365.25)
    assert np.abs(mean - season[:, None, None, None]).max() < 0.1
