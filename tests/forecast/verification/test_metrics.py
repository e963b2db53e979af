"""Metrics: closed forms, additivity, selection by name and registration of new metrics."""

import json
import re
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from helpers import ROOT, make_source
from typer.testing import CliRunner

from fourcaster import forecast
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.verification.metrics import base, selection
from fourcaster.forecast.verification.metrics.base import Aggregation, Metric, Sample, aggregate, register
from fourcaster.forecast.verification.metrics.deterministic import error, squared_error
from fourcaster.forecast.verification.metrics.ensemble import fair_crps
from fourcaster.forecast.verification.metrics.selection import (
    DEFAULT,
    find_metric,
    metric_names,
    select_metrics,
)
from fourcaster.forecast.verification.summary import ScoreRow, summarize

TIMES = ["2001-02-02", "2001-02-03T12"]


def deficit(sample: Sample) -> base.Array:
    return sample.truth - sample.forecast


class Underestimate(Metric):
    """Mean of truth minus forecast: all that a new metric requires."""

    label = "under"
    statistics = (deficit,)

    def compute(self, aggregation: Aggregation) -> base.Array:
        return aggregation.mean(deficit)


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(base, "REGISTRY", dict(base.REGISTRY))
    monkeypatch.setattr(selection, "REGISTRY", base.REGISTRY)


@pytest.fixture(scope="module")
def single(tiny_checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("single") / "forecast.zarr"
    forecast.load(tiny_checkpoint).run(make_source(), TIMES, "12h", output=path).close()
    return path


@pytest.fixture(scope="module")
def ensemble(tiny_checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("ensemble") / "forecast.zarr"
    forecast.load(tiny_checkpoint).run(make_source(), TIMES, "12h", output=path, members=3).close()
    return path


def test_aggregations_of_parts_add_up_to_the_total():
    rng = np.random.default_rng(0)
    f, o, c = rng.standard_normal((3, 8, 2, 4, 5))
    x = f + rng.standard_normal((6, *f.shape))
    o[3, 1, 2, 2] = np.nan
    weights = rng.random(4)
    metrics = [find_metric(name) for name in metric_names()]
    statistics = [statistic for metric in metrics for statistic in metric.statistics]

    def aggregate_part(part: slice) -> Aggregation:
        return aggregate(Sample.of(f[part], o[part], c[part], members=x[:, part]), weights, statistics)

    total = aggregate_part(slice(None))
    parts = (
        Aggregation.zero(statistics, (2,), members=6)
        + aggregate_part(slice(3))
        + aggregate_part(slice(3, None))
    )
    assert total.members == parts.members == 6
    for metric in metrics:
        assert metric.compute(total).shape == (2,)
        assert np.allclose(metric.compute(total), metric.compute(parts), rtol=1e-12), metric.name


def test_aggregations_of_lead_times_are_stacked():
    f, o = np.random.rand(2, 2, 6, 3, 4, 5)
    parts = [aggregate(Sample.of(f[i], o[i], 0 * o[i]), np.ones(4), [error]) for i in (0, 1)]
    total = Aggregation.stack(parts)
    assert total.weight.shape == (2, 3)
    assert np.array_equal(total.sums[error][1], parts[1].sums[error])


def test_missing_forecasts_are_rejected_and_missing_truth_is_ignored():
    f, o = np.random.rand(2, 2, 1, 4, 5)
    o[0, 0, 0, 0] = np.nan
    total = aggregate(Sample.of(f, o, 0 * f), np.ones(4), [squared_error])
    assert total.weight[0] == 39 and np.isfinite(total.mean(squared_error)).all()
    f[1, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="missing values at points where the truth has none"):
        aggregate(Sample.of(f, o, 0 * f), np.ones(4), [squared_error])


def test_fair_crps_of_a_normal_ensemble_equals_its_closed_form():
    rng = np.random.default_rng(0)
    members, truth = rng.normal(size=(10, 200_000)), rng.normal(size=200_000)
    # of N(0, 1), for a truth of N(0, 1)
    assert fair_crps(members, truth).mean() == pytest.approx(1 / np.sqrt(np.pi), rel=0.01)
    pairs = np.abs(members[:, None] - members[None]).sum(axis=(0, 1)) / (2 * 10 * 9)
    assert np.allclose(fair_crps(members, truth), np.abs(members - truth).mean(axis=0) - pairs)


def test_default_metrics_depend_on_the_number_of_members():
    assert [metric.name for metric in select_metrics(None, 1)] == ["rmse", "mae", "bias", "acc"]
    assert tuple(metric.name for metric in select_metrics(None, 5)) == DEFAULT


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["rsme"], "there is no metric 'rsme'; did you mean rmse"),
        ([], "no metrics are chosen; there are: rmse, mae"),
        (["rmse", "crps"], "'crps' needs an ensemble"),
    ],
)
def test_unknown_and_undefined_metrics_are_rejected(names, message):
    with pytest.raises(ValueError, match=message):
        select_metrics(names, 1)


def test_selected_metrics_are_bit_identical_to_the_default(single, ensemble, tiny_store):
    for path, names in ((single, ["acc", "rmse"]), (ensemble, ["spread_error_ratio", "mae"])):
        scores = forecast.verify(path, tiny_store)
        selected = forecast.verify(path, tiny_store, metrics=names)
        assert selected["metric"].values.tolist() == names
        for variable in scores.data_vars:
            expected = scores[variable].sel(metric=names)
            assert np.array_equal(selected[variable], expected, equal_nan=True)


def test_one_registered_class_adds_a_metric(registry, single, tiny_store):
    register("underestimate")(Underestimate)
    scores = forecast.verify(single, tiny_store, metrics=["underestimate", "bias"])
    under, bias = (scores["t2m"].sel(metric=name) for name in ("underestimate", "bias"))
    assert np.allclose(under, -bias)
    (first, *_) = summarize(scores, ["underestimate"])
    assert first.to_dict().keys() == {"variable", "level", "units", "lead_hours", "underestimate"}


def test_documented_example_is_a_metric(registry, single, tiny_store):
    guide = (ROOT / "docs" / "extending.md").read_text()
    (code,) = re.findall(r"## A metric\n.*?```python\n(.*?)```", guide, flags=re.DOTALL)
    exec(code, {"__name__": "documented"})
    scores = forecast.verify(single, tiny_store, metrics=["exceedance", "mae"])["t2m"]
    scores = scores.sel(source="climatology")
    frequency, error = scores.sel(metric="exceedance"), scores.sel(metric="mae")
    assert ((frequency >= 0) & (5 * frequency <= error)).all()


def test_all_metrics_are_documented():
    page = (ROOT / "docs" / "forecasts.md").read_text()
    assert [name for name in metric_names() if f"| `{name}` |" not in page] == []


def test_metric_names_are_unique(registry):
    register("underestimate")(Underestimate)
    register("underestimate")(Underestimate)
    with pytest.raises(ValueError, match="'rmse' is registered already"):
        register("rmse")(Underestimate)


def test_other_packages_add_metrics_by_entry_points(registry, monkeypatch, single, tiny_store):
    points = [
        EntryPoint("underestimate", f"{__name__}:Underestimate", selection.GROUP),
        EntryPoint("wrong", "math:pi", selection.GROUP),
    ]
    monkeypatch.setattr(EntryPoint, "load", lambda p: Underestimate if p.name == "underestimate" else 3.14)
    monkeypatch.setattr(selection, "entry_points", lambda group: points if group == selection.GROUP else [])
    assert metric_names()[-2:] == ["underestimate", "wrong"]
    scores = forecast.verify(single, tiny_store, metrics=["underestimate"])
    assert scores["metric"].values.tolist() == ["underestimate"]
    with pytest.raises(ValueError, match="'wrong' is not a Metric"):
        find_metric("wrong")


def test_command_selects_metrics(single, ensemble, tiny_store, tmp_path):
    def run(*args: object):
        return CliRunner().invoke(app, ["verify", *map(str, args), "--truth", str(tiny_store)])

    rows = json.loads(run(single, "--metrics", "rmse,mae", "--json").stdout)
    assert rows[0].keys() == {"variable", "level", "units", "lead_hours", "rmse", "skill", "mae"}
    page = tmp_path / "report.html"
    result = run(ensemble, "--metrics", "acc,crps", "--report", page)
    assert result.exit_code == 0 and "ACC" in result.stdout and "RMSE" not in result.stdout
    assert "<th class='number'>CRPS</th>" in page.read_text() and "RMSE" not in page.read_text()
    rejected = run(single, "--metrics", "rmse,bais")
    assert rejected.exit_code == 2 and "no metric 'bais'; did you mean bias" in rejected.stderr


def test_score_rows_round_trip_through_json():
    errors = {"forecast": 1.0, "damped_persistence": 2.0}
    row = ScoreRow("t", 850, "K", 6.0, rmse=errors, skill=0.5, metrics={"acc": 0.9, "crps": 0.4})
    names = ["variable", "level", "units", "lead_hours", "rmse", "acc", "skill", "crps"]
    assert list(row.to_dict()) == names and row.channel == "t 850 hPa"
    assert ScoreRow.from_dict(json.loads(json.dumps(row.to_dict()))) == row
