"""Forecasts: layout, agreement of files, memory and batches, resumption, rejection of invalid input."""

import gc
import hashlib
import json
import tracemalloc

import numpy as np
import pytest
import torch
import xarray as xr
from helpers import DATA, make_source
from safetensors.torch import load_file, save_file

from fourcaster import forecast
from fourcaster.datasets.store import atomic
from fourcaster.fno import WeightsError
from fourcaster.forecast.checkpoint.weather import load_checkpoint, save_checkpoint
from fourcaster.forecast.inference.forecaster import _fingerprint
from fourcaster.forecast.inference.initial_states import initial_states
from fourcaster.forecast.inference.initial_times import parse_lead
from fourcaster.forecast.inference.perturbations import Ensemble, perturbations
from fourcaster.forecast.verification.plots import plot
from fourcaster.forecast.verification.verify import verify

TIMES = ["2001-02-01T00", "2001-02-03T06", "2001-02-05T12"]


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return forecast.load(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="module")
def prediction(model):
    return model.run(make_source(), TIMES, lead="24h")


def test_forecast_has_the_weatherbench_layout(prediction, tiny_store):
    assert dict(prediction.sizes) == {"time": 3, "prediction_timedelta": 5, "latitude": 7, "longitude": 12}
    truth = xr.open_zarr(tiny_store, consolidated=False)
    assert prediction["latitude"].values.tobytes() == truth["latitude"].values.tobytes()
    assert prediction["longitude"].values.tobytes() == truth["longitude"].values.tobytes()
    assert prediction["prediction_timedelta"].values[1] == np.timedelta64(6, "h")
    assert np.array_equal(
        prediction["valid_time"],
        prediction["time"].values[:, None] + prediction["prediction_timedelta"].values,
    )
    assert prediction["t2m"].attrs["units"] == "K" and np.isfinite(prediction["t2m"]).all()


def test_lead_time_zero_is_the_initial_state(prediction):
    start = make_source().sel(time=np.array(TIMES, "datetime64[ns]"))
    assert np.array_equal(prediction["t2m"].isel(prediction_timedelta=0), start["t2m"])


def test_forecasts_from_file_and_memory_and_in_batches_agree(model, prediction, tmp_path):
    make_source().to_netcdf(tmp_path / "init.nc")
    written = model.run(tmp_path / "init.nc", TIMES, "24h", output=tmp_path / "fc.zarr", batch_size=2)
    for name in ("t2m", "u10"):
        assert np.allclose(written[name], prediction[name], atol=1e-4)
    assert written["t2m"].encoding["chunks"] == (1, 1, 7, 12)
    raw = json.loads((tmp_path / "fc.zarr" / "prediction_timedelta" / "zarr.json").read_text())["attributes"]
    assert raw["dtype"].startswith("timedelta64") and "units" in raw
    reopened = xr.open_zarr(tmp_path / "fc.zarr")
    assert (
        reopened["prediction_timedelta"].dtype == "timedelta64[ns]"
        and reopened["valid_time"].dtype == "datetime64[ns]"
    )


def test_netcdf_file_is_written_for_its_suffix(model, prediction, tmp_path):
    model.run(make_source(), TIMES, "24h", output=tmp_path / "fc.nc")
    with xr.open_dataset(tmp_path / "fc.nc", decode_timedelta=True) as written:
        assert np.allclose(written["u10"], prediction["u10"], atol=1e-4)
    assert [p.name for p in tmp_path.iterdir()] == ["fc.nc"]


def test_netcdf_files_of_one_ensemble_list_their_variables_in_one_order(model, tmp_path):
    orders = set()
    for i in range(3):
        model.run(make_source(), TIMES, "12h", members=2, output=tmp_path / f"{i}.nc")
        with xr.open_dataset(tmp_path / f"{i}.nc", decode_times=False) as written:
            orders.add(tuple(written.variables))
    assert len(orders) == 1 and list(next(iter(orders)))[:2] == ["u10", "t2m"]


def test_forecast_initialises_the_next_one(model, prediction):
    """Steps continued from the middle of a forecast equal those of the whole forecast."""
    states = prediction.isel(time=[0])
    continued = model.run(states, [str(prediction["valid_time"].values[0, 2])], "12h")
    assert np.allclose(continued["t2m"].values[0], prediction["t2m"].values[0, 2:], atol=1e-3)
    with pytest.raises(ValueError, match="has 3 forecasts"):
        model.run(prediction, lead="6h")


def test_variables_are_selected_and_the_latest_time_is_the_default(model):
    selected = model.run(make_source(), lead="6h", variables=["u10"])
    assert (
        list(selected.data_vars) == ["u10"] and selected["time"].values[0] == make_source()["time"].values[-1]
    )
    with pytest.raises(ValueError, match=r"no variable 'u11'; did you mean u10"):
        model.run(make_source(), lead="6h", variables=["u11"])


def test_time_range_is_inclusive(model):
    assert model.run(make_source(), "2001-01-05/2001-01-07/12h", "6h").sizes["time"] == 5


def test_reordered_data_are_accepted_and_shifted_grids_rejected(model, prediction):
    reordered = make_source().isel(lat=slice(None, None, -1)).transpose("lon", "lat", "time")
    reordered = reordered.assign_coords(lon=reordered["lon"] - 360)
    reordered["lon"].attrs["units"] = "degrees_east"
    assert np.allclose(model.run(reordered, TIMES, "24h")["t2m"], prediction["t2m"], atol=1e-4)
    shifted = make_source().assign_coords(
        lat=("lat", make_source()["lat"].values + 0.01, {"units": "degrees_north"})
    )
    with pytest.raises(ValueError, match=r"not on the model's grid: its latitude.*off by up to 0\.01"):
        model.run(shifted, TIMES, "24h")


def test_units_are_converted_or_rejected(model, prediction):
    source = make_source()
    source["u10"] = (source["u10"] * 3.6).assign_attrs(units="km/h")
    assert np.allclose(model.run(source, TIMES, "24h")["u10"], prediction["u10"], atol=1e-4)
    source["u10"].attrs["units"] = "K"
    with pytest.raises(ValueError, match=r"'u10' has units 'K', which cannot become"):
        model.run(source, TIMES, "24h")


@pytest.mark.parametrize(
    ("change", "times", "lead", "message"),
    [
        (lambda d: d.drop_vars("u10"), TIMES, "6h", "no variable 'u10'"),
        (lambda d: d, ["2009-01-01"], "6h", "lacks 2008-12-31T18:00.*it has 2001-01-01T00:00"),
        (lambda d: d.isel(time=[0]), None, "6h", r"has 1 time, but the model's input is 2"),
        (lambda d: d, ["soon"], "6h", "'soon' is not a time"),
        (lambda d: d, TIMES, "7h", "not a positive multiple"),
        (lambda d: d, TIMES, "fast", "not a duration"),
        (lambda d: d.where(d["lat"] > 40), TIMES, "6h", "missing values at"),
        (lambda d: d.isel(time=[3, 1, 2]), None, "6h", "unsorted"),
    ],
)
def test_invalid_input_is_rejected(model, change, times, lead, message):
    with pytest.raises(ValueError, match=message):
        model.run(change(make_source()), times, lead)


def test_existing_output_is_kept_unless_overwritten(model, tmp_path):
    model.run(make_source(), TIMES, "6h", output=tmp_path / "fc.zarr")
    with pytest.raises(FileExistsError, match="overwrite it"):
        model.run(make_source(), TIMES, "12h", output=tmp_path / "fc.zarr")
    assert (
        model.run(make_source(), TIMES, "12h", output=tmp_path / "fc.zarr", overwrite=True).sizes[
            "prediction_timedelta"
        ]
        == 3
    )


def test_interrupted_run_resumes_bit_identically(model, tmp_path, monkeypatch):
    uninterrupted = model.run(make_source(), TIMES, "24h", output=tmp_path / "a.zarr", batch_size=1)
    calls = []

    def fail_in_third_forecast(done, total, text):
        calls.append(done)
        if done == 12:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="kept for the next try"):
        model.run(
            make_source(),
            TIMES,
            "24h",
            output=tmp_path / "b.zarr",
            batch_size=1,
            progress=fail_in_third_forecast,
        )
    assert not (tmp_path / "b.zarr").exists() and atomic.temporary_path(tmp_path / "b.zarr").exists()
    calls.clear()
    resumed = model.run(
        make_source(),
        TIMES,
        "24h",
        output=tmp_path / "b.zarr",
        batch_size=1,
        progress=lambda d, t, x: calls.append(d),
    )
    assert calls == [11, 12, 13, 14, 15]  # the third forecast only
    assert np.array_equal(resumed["t2m"], uninterrupted["t2m"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def test_partial_forecast_of_different_data_is_not_resumed(model, tmp_path):
    def stop(done, total, text):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.run(make_source(), TIMES, "24h", output=tmp_path / "b.zarr", batch_size=1, progress=stop)
    other = model.run(make_source(seed=5), TIMES, "24h", output=tmp_path / "b.zarr", batch_size=1)
    assert np.allclose(other["t2m"], model.run(make_source(seed=5), TIMES, "24h")["t2m"], atol=1e-4)


def test_fingerprint_of_data_depends_on_all_values_and_on_nothing_else(tmp_path):
    data = make_source()
    changed = data.copy(deep=True)
    changed["t2m"][80, 3, 6] += 1
    assert _fingerprint(data) == _fingerprint(data.copy(deep=True)) != _fingerprint(changed)
    for name, dataset in (("a", data), ("b", changed)):
        dataset.to_zarr(tmp_path / f"{name}.zarr", consolidated=False)
    lazy = [xr.open_zarr(tmp_path / f"{name}.zarr", consolidated=False) for name in ("a", "a", "b")]
    assert _fingerprint(lazy[0]) == _fingerprint(lazy[1]) != _fingerprint(lazy[2])


def test_forecast_that_diverges_is_named_by_its_own_initial_time(model, monkeypatch):
    stepper = model.checkpoint.stepper
    state = stepper.state

    def diverging(*args):
        result = state(*args).clone()
        result[1] = torch.inf
        return result

    monkeypatch.setattr(stepper, "state", diverging)
    with pytest.raises(ValueError, match=f"the forecast from {TIMES[1]}.* became infinite"):
        model.run(make_source(), TIMES, "24h")


@pytest.mark.parametrize(
    ("times", "match"),
    [
        (np.array([], "datetime64[ns]"), "no initial times"),
        (np.array(["2001-01-20", "2001-01-20"], "datetime64[ns]"), "is given twice"),
        (np.array(["2001-01-20", "NaT"], "datetime64[ns]"), "must lie between"),
        (np.array([["2001-01-20"]], "datetime64[ns]"), "one axis of datetime64"),
        (np.array([1, 2]), "one axis of datetime64"),
    ],
)
def test_arrays_of_initial_times_are_checked_like_texts(model, times, match):
    with pytest.raises(ValueError, match=match):
        model.run(make_source(), times, "24h")


def test_memory_does_not_grow_with_lead_time(model):
    def memory():
        gc.collect()  # reference cycles are freed by the collector, at times that depend on earlier tests
        arrays = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
        of_numpy = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([arrays]).traces)
        return of_numpy + sum(t.nbytes for t in gc.get_objects() if type(t) is torch.Tensor)

    after = {}
    tracemalloc.start()
    for i, step in enumerate(model.rollout(make_source(), TIMES, "30d")):
        assert step.sizes["prediction_timedelta"] == 1
        if i in (4, 120):
            after[i] = memory()
    tracemalloc.stop()
    assert (
        after[120] < after[4] + 10_000
    )  # all fields of a step take 2 kB, so 116 retained steps would exceed this


def test_rollout_yields_the_steps_of_run(model, prediction):
    for i, step in enumerate(model.rollout(make_source(), TIMES, "24h")):
        assert np.array_equal(
            step["u10"].isel(prediction_timedelta=0), prediction["u10"].isel(prediction_timedelta=i)
        )


def test_lead_times_are_converted_to_steps():
    assert (
        parse_lead("72h", np.timedelta64(6, "h")) == 12
        and parse_lead("10d", np.timedelta64(86400, "s")) == 10
    )


def test_saved_checkpoint_loads_unchanged(tiny_checkpoint, tmp_path, prediction):
    save_checkpoint(load_checkpoint(tiny_checkpoint), tmp_path / "copy")
    reloaded = forecast.load(tmp_path / "copy").run(make_source(), TIMES, "24h")
    assert np.array_equal(reloaded["t2m"], prediction["t2m"])
    with pytest.raises(FileExistsError):
        save_checkpoint(load_checkpoint(tiny_checkpoint), tmp_path / "copy")


def test_damaged_checkpoints_are_rejected(tiny_checkpoint, tmp_path):
    copy = tmp_path / "copy"
    save_checkpoint(load_checkpoint(tiny_checkpoint), copy)
    weights, meta = copy / "weights.safetensors", copy / "meta.json"
    original = weights.read_bytes()
    weights.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    with pytest.raises(ValueError, match="checksum"):
        forecast.load(copy)
    weights.unlink()
    with pytest.raises(ValueError, match="checksum"):
        forecast.load(copy)
    text = meta.read_text()
    meta.write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match=r"meta\.json is damaged"):
        forecast.load(copy)
    meta.write_text(json.dumps(json.loads(text) | {"format_version": 99}))
    with pytest.raises(ValueError, match="format version 99"):
        forecast.load(copy)
    with pytest.raises(FileNotFoundError, match="is not a checkpoint"):
        forecast.load(tmp_path)


def test_mismatched_weights_are_listed(tiny_checkpoint, tmp_path):
    copy = tmp_path / "copy"
    save_checkpoint(load_checkpoint(tiny_checkpoint), copy)
    tensors = load_file(copy / "weights.safetensors")
    tensors["network.networks.0.surplus"] = torch.zeros(1)
    del tensors["network.networks.0.blocks.0.gate"]
    tensors["network.networks.0.blocks.1.gate"] = torch.zeros(3)
    save_file(tensors, copy / "weights.safetensors")
    meta = json.loads((copy / "meta.json").read_text())
    meta["sha256"] = hashlib.sha256((copy / "weights.safetensors").read_bytes()).hexdigest()
    (copy / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(WeightsError) as error:
        forecast.load(copy)
    for part in (
        "missing networks.0.blocks.0.gate",
        "unknown networks.0.surplus",
        "networks.0.blocks.1.gate has shape (3,), expected (8,)",
    ):
        assert part in str(error.value)


def test_unavailable_devices_are_rejected():
    import torch

    from fourcaster.forecast.device import pick_device

    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch finds no GPU"):
            pick_device("cuda")
    for wrong in ("meta", "abacus"):
        with pytest.raises(ValueError, match="device"):
            pick_device(wrong)
    assert pick_device("cpu") == "cpu"


def test_checkpoint_of_format_1_loads():
    prediction = forecast.load(DATA / "checkpoint_v1").run(
        make_source(times=60, shape=(5, 6)), "2001-01-10", "12h"
    )
    with np.load(DATA / "checkpoint_v1_forecast.npz") as expected:
        for name in ("t2m", "u10"):
            assert np.allclose(prediction[name][0], expected[name], atol=1e-3)


def test_network_that_returns_its_forcings_accumulates_them(tiny_checkpoint):
    """Closed form: x(k) = b(t + k) + x(0) - b(t) + s sum_{t+1..t+k} (insolation + normalised background)."""
    import torch

    from fourcaster.datasets.forcings import toa_radiation

    class Insolation(torch.nn.Module):
        def forward(self, x):
            # input: two states of two channels, then background and forcings at both times
            return x[:, 6:8] + x[:, [2 * 2 + 2 * 2 + 3]]

    model = forecast.load(tiny_checkpoint)
    point = model.checkpoint
    point.stepper.network = Insolation()
    prediction = model.run(make_source(), TIMES, "24h")
    valid = prediction["valid_time"].values
    insolation = np.stack([np.cumsum(toa_radiation(times[1:], point.grid), axis=0) for times in valid])
    background = np.stack([point.cycle.at(times) for times in valid])
    for c, channel in enumerate(point.channels):
        start = make_source()[channel.variable].sel(time=valid[:, 0]).values
        scale = float(point.stepper.tendency_std[c])
        cycle = np.cumsum(
            (background[:, 1:, c] - float(point.stepper.mean[c])) / float(point.stepper.std[c]), axis=1
        )
        expected = (
            background[:, 1:, c] + (start - background[:, 0, c])[:, None] + scale * (insolation + cycle)
        )
        assert np.allclose(prediction[channel.variable].values[:, 1:], expected, atol=1e-3)


def test_members_are_perturbed_in_pairs_and_independently_of_other_forecasts(model, tmp_path, tiny_store):
    times = ["2001-01-20", "2001-02-03T12"]
    prediction = model.run(tiny_store, times, "12h", members=5)
    assert prediction["t2m"].dims == ("time", "prediction_timedelta", "number", "latitude", "longitude")
    single = model.run(tiny_store, times, "12h")
    xr.testing.assert_allclose(prediction.isel(number=0, drop=True), single, rtol=1e-6)
    start = prediction["t2m"].isel(prediction_timedelta=0)
    shift = start - start.isel(number=0)
    assert (
        np.allclose(shift.isel(number=1), -shift.isel(number=2), atol=1e-4)
        and float(abs(shift.isel(number=3)).max()) > 0.01
    )
    subset = model.run(
        tiny_store, times[1], "12h", members=3
    )  # a member does not depend on what else is predicted
    xr.testing.assert_allclose(subset, prediction.isel(time=[1], number=slice(3)), rtol=1e-5)
    written = model.run(
        tiny_store, times, "12h", members=5, output=tmp_path / "m.zarr", batch_size=3
    )  # smaller than the ensemble
    xr.testing.assert_allclose(written.load(), prediction, rtol=1e-6)
    netcdf = model.run(tiny_store, times, "12h", members=4, output=tmp_path / "m.nc", area="55/205/35/250")
    assert netcdf["u10"].sizes["number"] == 4
    with pytest.raises(ValueError, match="select the one to start from"):
        model.run(prediction.isel(time=[0]), lead="12h")
    scores = verify(tmp_path / "m.zarr", tiny_store)
    mean = verify(prediction.mean("number", keep_attrs=True), tiny_store)
    xr.testing.assert_allclose(
        scores.sel(metric=mean["metric"]), mean, atol=1e-4
    )  # the means are rounded to float32
    t2m = scores["t2m"].sel(source="forecast")
    assert (t2m.sel(metric="crps") <= t2m.sel(metric="mae") + 0.05).all() and (
        t2m.sel(metric="spread") > 0
    ).all()
    assert plot(tmp_path / "m.zarr", "t2m", "12h", output=tmp_path / "m.png").exists()


def test_forecast_of_a_selected_time_initialises_another_but_scores_do_not(model, tiny_store):
    prediction = model.run(tiny_store, ["2001-01-20", "2001-02-03T12"], "12h")
    xr.testing.assert_equal(
        model.run(prediction.isel(time=0), lead="6h"), model.run(prediction.isel(time=[0]), lead="6h")
    )
    for other in (
        prediction.isel(time=0, drop=True).drop_vars("valid_time"),
        prediction.isel(time=[0]).assign_coords(prediction_timedelta=[0, 6, 12]),
    ):
        with pytest.raises(
            ValueError, match="so it is not a forecast; give a forecast or a series of states"
        ):
            model.run(other, lead="6h")
    for axis in ("time", "prediction_timedelta"):
        with pytest.raises(ValueError, match=f"has no values along '{axis}'"):
            model.run(prediction.isel({axis: slice(0)}), lead="6h")


def test_perturbations_have_the_amplitude_of_the_ensemble(model, tiny_store):
    states = initial_states(model.checkpoint, tiny_store)
    times = states.fields.times[60:160:2]
    deviations = perturbations(model.checkpoint, states, times, ensemble=Ensemble(3, 0.1))
    anomaly = states.fields.read(np.arange(160)) - model.checkpoint.cycle.at(states.fields.times)
    ratio = deviations[:, 1].std(axis=(0, 2, 3)) / anomaly.std(axis=(0, 2, 3))
    assert ((ratio > 0.07) & (ratio < 0.13)).all()
    early = perturbations(model.checkpoint, states, times[:1], ensemble=Ensemble(3))
    later = initial_states(
        model.checkpoint, xr.open_zarr(tiny_store, consolidated=False).isel(time=slice(61))
    )
    assert np.array_equal(
        early, perturbations(model.checkpoint, later, times[:1], ensemble=Ensemble(3))
    )  # the future is not used
