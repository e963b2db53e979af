"""Pictures of training runs: spectra, curves, when they are drawn, and that they change no bit."""

import json

import numpy as np
import pytest
import torch
from helpers import tiny_config

from fourcaster.datasets.schema import Channel
from fourcaster.fno.grids import Box, LatLon
from fourcaster.fno.quadrature import colatitudes
from fourcaster.forecast.checkpoint.weather import load_checkpoint
from fourcaster.forecast.monitoring import pictures
from fourcaster.forecast.monitoring.curves import draw_curves
from fourcaster.forecast.monitoring.pictures import RunPictures, Sample
from fourcaster.forecast.monitoring.spectra import draw_spectra, power_spectrum
from fourcaster.forecast.tasks.dispatch import train

PNG = b"\x89PNG\r\n"


def sphere(rows=16, columns=32):
    latitude = 90 - np.rad2deg(colatitudes(rows, "legendre-gauss"))
    return LatLon(latitude, np.arange(columns) * 360 / columns)


def region():
    return LatLon(np.linspace(60, 30, 9), np.linspace(0, 40, 11))


# Spectra


def test_the_power_of_spherical_harmonics_is_at_their_degree():
    grid = sphere()
    x = np.sin(np.deg2rad(grid.latitude))[:, None]
    phase = np.deg2rad(grid.longitude)[None]
    fields = np.stack([3 + 0 * x * phase, x + 0 * phase, (1 - x**2) * np.cos(2 * phase)])
    spectrum = power_spectrum(fields, grid)
    assert spectrum.label == "degree"
    assert spectrum.power.argmax(axis=1).tolist() == [0, 1, 2]
    # Mean squares on the sphere: 9, 1/3 and 4/15.
    np.testing.assert_allclose(spectrum.power.sum(axis=1), [9, 1 / 3, 4 / 15], rtol=1e-6)


@pytest.mark.parametrize(
    ("grid", "label"),
    [
        (region(), "isotropic"),
        (Box(("y", "x"), (8, 12), (7.0, 12.0), (False, True)), "zonal"),
        (Box(("y", "x"), (8, 11), (7.0, 11.0), (False, True)), "zonal"),
        (Box(("y", "x"), (8, 8), (8.0, 8.0), (True, True)), "isotropic"),
    ],
)
def test_the_powers_of_all_scales_add_up_to_the_mean_square(grid, label):
    fields = np.random.default_rng(0).standard_normal((2, *grid.shape))
    spectrum = power_spectrum(fields, grid)
    assert spectrum.label.startswith(label)
    weights = np.asarray(grid.area_weights)[:, None]
    expected = (fields**2 * weights).mean(axis=(1, 2)) / weights.mean()
    np.testing.assert_allclose(spectrum.power.sum(axis=1), expected, rtol=1e-10)


def test_a_wave_along_the_rows_has_its_zonal_wavenumber():
    grid = Box(("y", "x"), (6, 16), (5.0, 16.0), (False, True))
    wave = np.cos(2 * np.pi * 3 * np.arange(16) / 16) * np.ones((6, 1))
    power = power_spectrum(wave[None], grid).power[0]
    np.testing.assert_allclose(power, 0.5 * (np.arange(9) == 3), atol=1e-12)


def test_missing_values_count_as_the_mean_of_the_others():
    grid = region()
    field = np.full((1, *grid.shape), 7.0)
    field[0, 2:4, 3] = np.nan
    empty = np.full_like(field, np.nan)
    power = power_spectrum(np.concatenate([field, empty]), grid).power
    np.testing.assert_allclose(power.sum(axis=1), [49, 0], atol=1e-9)


def test_spectra_are_drawn_with_a_panel_for_each_field():
    fields = np.random.default_rng(0).standard_normal((4, 9, 11))
    figure = draw_spectra(fields, 2 * fields, list("abcd"), grid=region())
    assert [axes.get_title() for axes in figure.axes] == list("abcd")
    forecast, truth = (line.get_ydata() for line in reversed(figure.axes[0].lines))
    np.testing.assert_allclose(truth, 4 * forecast)


# Curves


def record(epoch, errors, **values):
    mean = None if not errors or None in errors else sum(errors) / len(errors)
    score = {} if mean is None else {"validation_score": mean}
    return {
        "step": 10 * (epoch + 1),
        "epoch": epoch,
        "loss": 1 / (epoch + 1),
        "validation_rmse": errors,
        "learning_rate": 1e-3,
        **score,
        **values,
    }


def test_curves_show_loss_rate_and_scores_by_epoch_and_lead():
    records = [record(e, [0.5 - 0.1 * e, 1 - 0.1 * e]) for e in range(3)]
    records.insert(2, {"step": 20, "epoch": 2, "failed_step": 25, "rate_scale": 0.5, "reason": "nan"})
    figure = draw_curves(records, lead_hours=6)
    loss, rate, scores, leads = figure.axes
    assert loss.lines[0].get_xydata().tolist() == [[1, 1], [2, 0.5], [3, pytest.approx(1 / 3)]]
    assert rate.lines[0].get_ydata().tolist() == [1e-3] * 3
    labels = [text.get_text() for text in scores.get_legend().get_texts()]
    assert labels == ["6 h", "12 h", "mean: score", "best: epoch 3"]
    assert leads.lines[0].get_xdata().tolist() == [6, 12]
    assert loss.lines[-1].get_xdata() == [3, 3]  # the return to an earlier state


@pytest.mark.parametrize(
    "records",
    [
        [],
        [record(0, None)],
        [record(0, [None, None]), record(1, [0.5, None])],
        [record(0, [0.5]), record(1, [0.5, 0.6])],
        [{"step": 8, "epoch": 0, "loss": -1.0, "validation_rmse": None}],
        [{"step": 5, "window": 0, "residual": 0.1}, {"step": 9, "window": 0, "held_out": 0.2}],
        [{"step": 5, "window": 0}],
    ],
)
def test_curves_of_incomplete_logs_are_drawn(records, tmp_path):
    draw_curves(records).savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)


# When pictures are drawn


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_automatic_pictures_take_at_most_a_fiftieth_of_the_time(tmp_path, monkeypatch):
    clock = Clock()
    drawing = RunPictures(tmp_path, clock=clock)
    (tmp_path / "log.jsonl").write_text("")

    def slow(*_, **__):
        clock.now += 8.0
        return draw_curves([])

    monkeypatch.setattr(pictures, "draw_curves", slow)
    clock.now = 249.0
    assert not drawing.due(last=False) and not drawing.due(last=True)
    clock.now = 250.0
    assert drawing.due(last=False)
    drawing.predict()
    assert drawing.draw() == {"curves": tmp_path / "curves.png"}
    assert drawing.due(last=True)
    clock.now = 799.0
    assert not drawing.due(last=False)
    clock.now = 800.0
    assert drawing.due(last=False)


@pytest.mark.parametrize(("when", "due"), [("always", True), ("never", False)])
def test_pictures_are_always_or_never_drawn_if_requested(tmp_path, when, due):
    assert RunPictures(tmp_path, when, clock=lambda: 1e9).due(last=False) is due


@pytest.mark.parametrize(
    ("channels", "shown"),
    [
        ([("a", None), ("b", None)], 0),
        ([("10m_wind", None), ("geopotential", 850), ("geopotential", 500)], 2),
        ([("a", None), ("2m_temperature", None), ("temperature", 850)], 1),
    ],
)
def test_the_map_shows_a_common_variable_or_the_first(channels, shown):
    assert pictures._shown([Channel(name, level, "K") for name, level in channels]) == shown


# Training


def test_a_run_draws_pictures_and_ends_with_the_same_bits(tiny_store, tmp_path):
    plain = tiny_config(tiny_store, tmp_path / "a", "train.pictures=never")
    drawn = tiny_config(tiny_store, tmp_path / "b", "train.pictures=always")
    for config in (plain, drawn):
        train(config)
    first, second = (load_checkpoint(tmp_path / n / "checkpoint").stepper.state_dict() for n in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)
    files = {path.name for path in (tmp_path / "b" / "state").glob("*.png")}
    assert files == {"curves.png", "forecast.png", "spectrum.png"}
    assert all((tmp_path / "b" / "state" / name).read_bytes().startswith(PNG) for name in files)
    assert not list((tmp_path / "a" / "state").glob("*.png"))
    metas = [json.loads((tmp_path / n / "checkpoint" / "meta.json").read_text()) for n in "ab"]
    assert metas[0]["provenance"]["fingerprint"] == metas[1]["provenance"]["fingerprint"]
    again = tiny_config(tiny_store, tmp_path / "b", "train.pictures=never", "train.log_every=3")
    assert train(again).already_done


def test_the_drawn_forecast_is_that_of_the_middle_of_the_validation_period(tiny_store, tmp_path, monkeypatch):
    samples = []
    monkeypatch.setattr(
        pictures, "_draw_maps", lambda sample, epoch: samples.append(sample) or draw_curves([])
    )
    train(tiny_config(tiny_store, tmp_path, "train.pictures=always", "train.epochs=1"))
    (sample,) = samples
    assert isinstance(sample, Sample)
    assert sample.forecast.shape == sample.truth.shape == (2, 7, 12)
    assert sample.lead == np.timedelta64(18, "h")
    import xarray as xr

    with xr.open_zarr(tiny_store) as store:
        truth = store.sel(time=sample.time + sample.lead)
        for field, channel in zip(sample.truth, sample.channels, strict=True):
            np.testing.assert_array_equal(field, truth[channel.variable])
    errors = np.sqrt(np.mean((sample.forecast - sample.truth) ** 2, axis=(1, 2)))
    assert (errors < 5).all()


def test_a_failure_to_draw_is_reported_once_and_training_goes_on(tiny_store, tmp_path, monkeypatch, caplog):
    def broken(*_, **__):
        raise MemoryError("no room for a picture")

    monkeypatch.setattr(pictures, "draw_curves", broken)
    train(tiny_config(tiny_store, tmp_path, "train.pictures=always"))
    assert caplog.text.count("drawing failed (MemoryError: no room for a picture)") == 1
    assert (tmp_path / "checkpoint" / "meta.json").exists()
