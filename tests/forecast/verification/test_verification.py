"""Scores agree with an independent package, closed forms and known errors of the reanalysis."""

import re

import numpy as np
import pytest
import scores as oracle
import xarray as xr
from helpers import make_source
from typer.testing import CliRunner

from fourcaster import forecast
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.write import write_store
from fourcaster.datasets.store.open import open_store
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.verification.summary import summarize
from fourcaster.forecast.verification.verify import _attributes

HOURS = np.timedelta64(1, "h")


@pytest.fixture(scope="module")
def prediction(tiny_checkpoint):
    return forecast.load(tiny_checkpoint).run(make_source(), "2001-02-02/2001-02-06/18h", "24h")


@pytest.fixture(scope="module")
def scores(prediction, tiny_store):
    return forecast.verify(prediction, tiny_store)


def aligned(prediction):
    truth = make_source().rename(lat="latitude", lon="longitude")["t2m"].sel(time=prediction["valid_time"])
    weights = np.cos(np.deg2rad(prediction["latitude"].astype("f8")))
    return truth.astype("f8"), prediction["t2m"].astype("f8"), weights


def test_rmse_mae_and_bias_match_an_independent_package(prediction, scores):
    truth, predicted, weights = aligned(prediction)
    keep = {"preserve_dims": ["prediction_timedelta"], "weights": weights}
    for name, reference in (
        ("rmse", np.sqrt(oracle.continuous.mse(predicted, truth, **keep))),
        ("mae", oracle.continuous.mae(predicted, truth, **keep)),
        ("bias", oracle.continuous.additive_bias(predicted, truth, **keep)),
    ):
        ours = scores["t2m"].sel(metric=name, source="forecast")
        assert np.allclose(ours, reference, rtol=1e-6), name


def test_acc_is_the_anomaly_correlation(prediction, scores, tiny_store):
    truth, predicted, weights = aligned(prediction)
    climatology = xr.open_zarr(tiny_store, group="climatology", consolidated=False)["t2m"]
    normal = climatology.sel(
        hour=prediction["valid_time"].dt.hour, dayofyear=prediction["valid_time"].dt.dayofyear
    ).astype("f8")
    f, o = predicted - normal, truth - normal
    dims = ("time", "latitude", "longitude")
    expected = (f * o * weights).sum(dims) / np.sqrt((f**2 * weights).sum(dims) * (o**2 * weights).sum(dims))
    assert np.allclose(scores["t2m"].sel(metric="acc", source="forecast"), expected, rtol=1e-5)


def test_scores_do_not_depend_on_the_batch_size(prediction, scores, tiny_store):
    single_batch = forecast.verify(prediction, tiny_store, batch_size=100)
    many_batches = forecast.verify(prediction, tiny_store, batch_size=1)
    for other in (single_batch, many_batches):
        xr.testing.assert_allclose(other, scores, rtol=1e-10)


def test_perfect_forecast_has_no_error_and_a_constant_offset_is_the_bias(tiny_store, prediction):
    truth, _, _ = aligned(prediction)
    perfect = prediction.assign(
        t2m=truth.transpose(*prediction["t2m"].dims).astype("f4").assign_attrs(units="K")
    )[["t2m"]]
    assert (
        float(abs(forecast.verify(perfect, tiny_store)["t2m"].sel(metric="rmse", source="forecast")).max())
        < 1e-6
    )
    biased = forecast.verify(
        (perfect + 2).assign(t2m=(perfect["t2m"] + 2).assign_attrs(units="K")), tiny_store
    )["t2m"].sel(source="forecast")
    for name in ("rmse", "mae", "bias"):
        assert np.allclose(biased.sel(metric=name), 2, atol=1e-4)


def test_baselines_match_their_definitions(scores, prediction):
    truth, _, weights = aligned(prediction)
    start = truth.isel(prediction_timedelta=0)
    error = np.sqrt(
        (((start - truth) ** 2) * weights).mean(("time", "latitude", "longitude")) / weights.mean()
    )
    assert np.allclose(scores["t2m"].sel(metric="rmse", source="persistence"), error, rtol=1e-6)
    zero = scores["t2m"].sel(metric="rmse", prediction_timedelta=0 * HOURS)
    assert float(zero.sel(source="damped_persistence")) == pytest.approx(0, abs=1e-5)
    assert (scores["t2m"].sel(metric="acc", source="climatology").isnull()).all()


def test_damping_is_the_regression_of_anomalies(tiny_store, scores):
    """No other factor has a smaller error on the training period."""
    from fourcaster.datasets.store.fields import Fields
    from fourcaster.datasets.store.open import read_group
    from fourcaster.forecast.verification.baselines import Climatology, damping

    store = open_store(tiny_store)
    fields, fit = Fields(store.dataset), store.split().fit
    climatology = Climatology(read_group(store, "climatology"), ["u10", "t2m"])
    factor = damping(fields, climatology, fit, gaps=[], leads=[0, 4])
    assert np.allclose(factor[0], 1)
    a = fields.read(fit) - climatology.at(fields.times[fit])
    errors = {d: ((a[4:, 1] - (factor[1, 1] + d) * a[:-4, 1]) ** 2).sum() for d in (-0.01, 0.0, 0.01)}
    best = (a[4:, 1] * a[:-4, 1]).sum() / (a[:-4, 1] ** 2).sum()
    assert factor[1, 1] == pytest.approx(best, rel=1e-5) and min(errors, key=errors.get) == 0.0
    fields.blocks = lambda period: [slice(i, min(i + 7, period.stop)) for i in range(0, period.stop, 7)]
    assert np.allclose(damping(fields, climatology, fit, gaps=[], leads=[0, 4]), factor, rtol=1e-6)
    assert np.allclose(
        damping(fields, climatology, fit, gaps=[64], leads=[4])[0, 1],
        ((a[4:64, 1] * a[:60, 1]).sum() + (a[68:, 1] * a[64:-4, 1]).sum())
        / ((a[:60, 1] ** 2).sum() + (a[64:-4, 1] ** 2).sum()),
        rtol=1e-5,
    )


def test_forecasts_that_do_not_match_the_truth_are_rejected(prediction, tiny_store, tmp_path):
    cases = [
        (
            prediction.assign_coords(latitude=prediction["latitude"] + 0.1),
            "on different points.* 0 common along latitude.*or regrid",
        ),
        (
            prediction["t2m"].drop_attrs().assign_attrs(units="K").to_dataset(name="t3m"),
            "no variable 't3m' of the forecast; did you mean t2m",
        ),
        (
            prediction.assign_coords(time=prediction["time"] + np.timedelta64(7, "D")),
            "of 30 times that the truth",
        ),
        (
            prediction.assign(t2m=prediction["t2m"].assign_attrs(units="Pa")),
            "units 'Pa', which cannot become 'K'",
        ),
        (
            prediction.assign_coords(prediction_timedelta=prediction["prediction_timedelta"] - 6 * HOURS),
            "before its initial time",
        ),
        (prediction.where(prediction["longitude"] > 210), "missing values"),
    ]
    for wrong, message in cases:
        with pytest.raises(ValueError, match=message):
            forecast.verify(wrong, tiny_store)
    (tmp_path / "there.nc").write_text("")
    with pytest.raises(FileExistsError, match="overwrite it"):
        forecast.verify(prediction, tiny_store, tmp_path / "there.nc")


def test_scores_are_written_and_summarized(prediction, tiny_store, tmp_path, scores):
    forecast.verify(prediction, tiny_store, tmp_path / "scores.nc")
    with xr.open_dataset(tmp_path / "scores.nc", decode_timedelta=True) as written:
        assert np.allclose(written["t2m"], scores["t2m"], equal_nan=True)
        assert written.attrs["overlaps_training_period"] == 0
    rows = summarize(scores)
    assert [row.lead_hours for row in rows[:5]] == [0, 6, 12, 18, 24]
    assert rows[1].skill == pytest.approx(1 - rows[1].rmse["forecast"] / rows[1].rmse["damped_persistence"])


def test_only_initial_times_within_the_training_period_overlap_it(prediction, tiny_store):
    store = open_store(tiny_store)
    first, last = (np.datetime64(text) for text in store.train_period)
    hour = np.timedelta64(1, "h")
    for time, overlaps in ((first - hour, 0), (first, 1), (last, 1), (last + hour, 0)):
        assert _attributes(store, np.array([time]))["overlaps_training_period"] == overlaps


def test_levels_are_scored_separately(tmp_path):
    source = make_source()
    field = source["t2m"].expand_dims(level=3, axis=1) + np.array([0, 1, 2], "f4")[None, :, None, None]
    level = ("level", np.array([850, 500, 250]), {"units": "hPa"})
    source = source.assign(ta=field.assign_attrs(units="K", standard_name="air_temperature")).assign_coords(
        level=level
    )
    source.to_netcdf(tmp_path / "a.nc")
    store = write_store(open_sources([tmp_path / "a.nc"]), tmp_path / "s.zarr")
    from helpers import tiny_config

    forecast.train(tiny_config(tmp_path / "s.zarr", tmp_path / "run", "train.epochs=1"))
    prediction = forecast.load(tmp_path / "run" / "checkpoint").run(
        tmp_path / "s.zarr", "2001-02-02/2001-02-06/18h", "12h", output=tmp_path / "fc.zarr"
    )
    assert prediction["temperature"].dims == (
        "time",
        "prediction_timedelta",
        "level",
        "latitude",
        "longitude",
    )
    assert prediction["level"].dtype == np.int32 and prediction["temperature"].encoding["chunks"] == (
        1,
        1,
        1,
        7,
        12,
    )
    scores = forecast.verify(tmp_path / "fc.zarr", store.path)
    persistence = scores["temperature"].sel(metric="rmse", source="persistence")
    assert np.allclose(persistence.sel(level=850), persistence.sel(level=250), rtol=1e-4)
    some = forecast.verify(prediction.sel(level=[250]), store.path)
    assert np.allclose(
        some["temperature"].sel(metric="rmse"), scores["temperature"].sel(metric="rmse", level=[250])
    )


def test_baselines_of_the_reanalysis_have_known_errors(ncep, tmp_path):
    """The expected errors over 2014 were computed independently with plain xarray."""
    store = write_store(open_sources([ncep]), tmp_path / "s.zarr")
    truth = store.dataset["air"].load()
    times = truth["time"].values[1460 : 2920 - 12]
    leads = np.array([6, 12, 24, 72]) * HOURS
    perfect = np.stack([truth.sel(time=times + lead).values for lead in leads], axis=1)
    dims = ("time", "prediction_timedelta", "latitude", "longitude")
    coords = {
        "time": times,
        "prediction_timedelta": leads,
        "latitude": truth["latitude"],
        "longitude": truth["longitude"],
    }
    scores = forecast.verify(xr.Dataset({"air": (dims, perfect, {"units": "K"})}, coords), store.path)[
        "air"
    ].sel(metric="rmse")
    assert np.allclose(scores.sel(source="forecast"), 0, atol=1e-6)
    for source, expected in {
        "persistence": [2.43, 3.42, 3.01, 4.14],
        "damped_persistence": [1.47, 2.12, 2.82, 3.72],
        "climatology": [3.83, 3.83, 3.83, 3.83],
    }.items():
        assert np.allclose(scores.sel(source=source), expected, atol=0.02), (
            source
        )  # the expected values include three more days of initial times


def test_report_is_self_contained(tiny_checkpoint, tiny_store, tmp_path):
    model = forecast.load(tiny_checkpoint)
    model.run(tiny_store, ["2001-01-20", "2001-01-21"], "12h", members=3, output=tmp_path / "m.zarr")
    args = [
        "verify",
        str(tmp_path / "m.zarr"),
        "--truth",
        str(tiny_store),
        "--report",
        str(tmp_path / "r.html"),
    ]
    assert CliRunner().invoke(app, args).exit_code == 0
    page = (tmp_path / "r.html").read_text()
    expected = (
        forecast.verify(tmp_path / "m.zarr", tiny_store)["t2m"]
        .sel(source="forecast")
        .isel(prediction_timedelta=-1)
    )
    for metric in ("rmse", "crps", "spread"):
        assert f"<td class='number'>{float(expected.sel(metric=metric)):.4g}</td>" in page
    assert page.count("<img src='data:image/png;base64,") == 3 and "http" not in re.sub(
        "base64,[^']*", "", page
    )
    repeated = CliRunner().invoke(app, args)
    assert (
        repeated.exit_code == 2
        and "r.html exists; overwrite it" in repeated.output
        and (tmp_path / "r.html").read_text() == page
    )
