"""Ensembles: centred on the analysis, reproducible by seed and perturbed by past anomalies."""

import numpy as np
import pytest
import xarray as xr
from helpers import make_source

from fourcaster import forecast
from fourcaster.forecast.inference.initial_states import initial_states
from fourcaster.forecast.inference.perturbations import Ensemble, mixing_matrix, perturbations, within_bounds
from fourcaster.forecast.verification.verify import verify


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return forecast.load(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="module")
def states(model):
    return initial_states(model.checkpoint, make_source())


def rms_amplitude(checkpoint, field):
    """Return the root mean square over area and channels, in standard deviations of the anomalies."""
    spread, area = checkpoint.stepper.anomaly_std.numpy(), checkpoint.grid.area_weights[:, None]
    return np.sqrt(((field / spread) ** 2 * area).mean() / area.mean())


@pytest.mark.parametrize("members", range(2, 10))
def test_perturbations_sum_to_zero_and_have_the_requested_amplitude(model, states, members):
    rows = mixing_matrix(members)
    assert np.allclose(rows.sum(axis=0), 0, atol=1e-15)
    norms = np.linalg.norm(rows, axis=1)
    assert np.allclose(norms[1:], 1) and norms[0] == (members == 2)
    deviations = perturbations(
        model.checkpoint, states, states.fields.times[[80]], ensemble=Ensemble(members, 0.2)
    )[0]
    spread = model.checkpoint.stepper.anomaly_std.numpy()
    assert np.abs(deviations.sum(axis=0) / spread).max() < 1e-6
    for pair in range(members // 2 if members % 2 else max(0, members // 2 - 2)):
        assert np.array_equal(deviations[1 + 2 * pair], -deviations[2 + 2 * pair])
        assert np.isclose(rms_amplitude(model.checkpoint, deviations[1 + 2 * pair]), 0.2, rtol=1e-5)
    distinct = {member.tobytes() for member in deviations}
    assert len(distinct) == members


@pytest.mark.parametrize("members", [2, 3, 4, 6])
def test_ensemble_mean_starts_from_the_analysis(model, tiny_store, members, tmp_path):
    model.run(
        tiny_store, ["2001-01-20", "2001-02-03"], "6h", members=members, output=tmp_path / "m.zarr", seed=3
    )
    t2m = verify(tmp_path / "m.zarr", tiny_store)["t2m"].sel(source="forecast").isel(prediction_timedelta=0)
    assert float(t2m.sel(metric="rmse")) < 1e-4 < 0.05 < float(t2m.sel(metric="spread"))


def test_seed_determines_the_ensemble(model):
    first, repeated, other = (
        model.run(make_source(), "2001-01-20", "12h", members=3, seed=seed) for seed in (7, 7, 8)
    )
    xr.testing.assert_identical(first["t2m"], repeated["t2m"])
    assert float(abs(first["t2m"] - other["t2m"]).isel(number=1).max()) > 1e-3
    assert np.array_equal(first["t2m"].isel(number=0), other["t2m"].isel(number=0))
    assert "seed 7" in first["number"].attrs["comment"]


def test_amplitude_scales_the_perturbations(model):
    small, large = (
        model.run(make_source(), "2001-01-20", "6h", members=3, amplitude=a).isel(prediction_timedelta=0)
        for a in (0.1, 0.3)
    )
    ratio = (large["u10"] - large["u10"].isel(number=0)) / (small["u10"] - small["u10"].isel(number=0))
    assert np.allclose(ratio.isel(number=1).median(), 3, rtol=1e-3)


@pytest.mark.parametrize("count", [2, 3, 5, 19])
def test_short_archive_yields_distinct_members(model, count):
    archive = make_source().isel(time=slice(count))
    states = initial_states(model.checkpoint, archive)
    deviations = perturbations(model.checkpoint, states, states.fields.times[[-1]], ensemble=Ensemble(9))[0]
    assert len({member.tobytes() for member in deviations}) == 9 and np.isfinite(deviations).all()
    assert np.isclose(rms_amplitude(model.checkpoint, deviations[1]), 0.1, rtol=1e-5) and np.isclose(
        rms_amplitude(model.checkpoint, deviations[3]), 0.1, rtol=1e-5
    )
    if count == 2:  # the first draw is the difference of the two states
        a, b = states.fields.read(np.arange(2)) - model.checkpoint.cycle.at(states.fields.times)
        assert np.isclose(abs(np.corrcoef(deviations[1].ravel(), (a - b).ravel())[0, 1]), 1, atol=1e-5)
    later = initial_states(model.checkpoint, make_source())
    assert np.array_equal(
        deviations, perturbations(model.checkpoint, later, states.fields.times[[-1]], ensemble=Ensemble(9))[0]
    )  # the future is not used
    assert np.isfinite(model.run(archive, lead="12h", members=4)["t2m"]).all()


def test_archive_without_anomalies_is_perturbed_by_random_fields(model):
    source = make_source().isel(time=slice(30))
    cycle = model.checkpoint.cycle.at(source["time"].values.astype("datetime64[ns]"))
    for i, channel in enumerate(model.checkpoint.channels):
        source[channel.variable][...] = cycle[:, i]
    states = initial_states(model.checkpoint, source)
    deviations = perturbations(model.checkpoint, states, states.fields.times[[-1]], ensemble=Ensemble(3))[0]
    assert np.isclose(rms_amplitude(model.checkpoint, deviations[1]), 0.1, rtol=1e-5)
    rough = np.abs(np.diff(deviations[1], axis=-1)).mean() / np.abs(deviations[1]).mean()
    assert rough < 1  # smooth: white noise has 1.41


def test_ensembles_can_start_before_1970(model):
    early = make_source(start="1959-03-01")
    assert np.isfinite(model.run(early, "1959-03-20", "6h", members=3)["t2m"]).all()


def test_missing_values_of_the_archive_do_not_reach_the_members(model):
    source = make_source().isel(time=slice(30))
    source["t2m"][5:20, 2, 3] = np.nan
    assert np.isfinite(model.run(source, lead="6h", members=9)["t2m"]).all()


def test_perturbations_respect_bounds_and_stay_centred():
    random = np.random.default_rng(0)
    deviations = np.einsum("md,dchw->mchw", mixing_matrix(4), random.standard_normal((2, 2, 5, 6))).astype(
        "f4"
    )[None]
    analysis = np.abs(random.standard_normal((1, 2, 5, 6))).astype("f4") * 0.3
    limited = within_bounds(deviations, analysis, np.array([[0, -np.inf], [1.0, np.inf]]))
    first = (analysis[:, None] + limited)[:, :, 0]
    assert first.min() > -1e-6 and first.max() < max(1, analysis.max()) + 1e-6
    assert np.allclose(limited.sum(axis=1), 0, atol=1e-6) and np.array_equal(
        limited[:, :, 1], deviations[:, :, 1]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"members": 0}, "needs at least one member"),
        ({"members": 3, "amplitude": 0.0}, "must be a positive number"),
        ({"members": 3, "amplitude": float("nan")}, "must be a positive number"),
        ({"members": 3, "seed": -1}, "must be between 0 and"),
        ({"seed": 1}, "seed has no effect on a single forecast"),
        ({"amplitude": 0.2}, "amplitude has no effect on a single forecast"),
    ],
)
def test_invalid_ensembles_are_rejected(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        Ensemble.of(**arguments)
    with pytest.raises(ValueError, match=message):
        model.run(make_source(), lead="6h", **arguments)
