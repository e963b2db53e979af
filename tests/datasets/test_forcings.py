"""Forcings: insolation compared with an almanac and an ephemeris, and static fields of the store."""

import json

import ephem
import numpy as np
import pytest

from fourcaster.datasets.adapters.cf import canonical
from fourcaster.datasets.forcings import (
    forcings,
    insolation,
    normalised,
    static_fields,
    sun,
    toa_radiation,
)
from fourcaster.datasets.ingest.write import write_store
from fourcaster.datasets.store.open import open_store
from fourcaster.fno.grids import LatLon
from fourcaster.forecast.checkpoint.weather import load_checkpoint
from fourcaster.forecast.inference.initial_states import initial_states
from fourcaster.forecast.inference.rollout import rollout
from fourcaster.forecast.tasks.dispatch import train

from ..helpers import make_source, tiny_config


def at(text):
    return np.array([text], "datetime64[ns]")


@pytest.mark.parametrize(
    ("time", "declination"),
    [
        ("1992-10-13T00", -7.78507),  # Meeus, Astronomical Algorithms, example 25.a
        ("2024-03-20T03:06", 0.0),
        ("2024-06-20T20:51", 23.436),
        ("2024-09-22T12:44", 0.0),
        ("2024-12-21T09:20", -23.436),  # equinoxes, solstices
    ],
)
def test_declination_agrees_with_the_almanac(time, declination):
    assert np.rad2deg(sun(at(time))[0][0]) == pytest.approx(declination, abs=0.012)


@pytest.mark.parametrize(
    ("time", "minutes"),
    [("1992-10-13T00", 13 + 42.6 / 60), ("2024-02-11T12", -14.23), ("2024-11-03T12", 16.45)],
)
def test_the_equation_of_time_agrees_with_the_almanac(time, minutes):
    assert np.rad2deg(sun(at(time))[1][0]) * 4 == pytest.approx(minutes, abs=0.1)


@pytest.mark.parametrize(
    ("time", "distance"),
    [("1992-10-13T00", 0.99766), ("2024-01-03T00:38", 0.983307), ("2024-07-05T05:06", 1.016725)],
)
def test_the_distance_to_the_sun_agrees_with_the_almanac(time, distance):
    assert sun(at(time))[2][0] ** -0.5 == pytest.approx(distance, abs=1e-4)


def test_insolation_agrees_with_an_ephemeris_at_random_points():
    rng = np.random.default_rng(4)
    grid = LatLon(np.sort(rng.uniform(-90, 90, 5)), np.sort(rng.uniform(0, 359, 7)))
    times = np.datetime64("1951-01-01", "ns") + rng.integers(0, 98 * 365 * 86400, 40) * np.timedelta64(1, "s")
    radiation = toa_radiation(times, grid)
    body, observer = ephem.Sun(), ephem.Observer()
    observer.pressure, observer.elevation = 0, 0
    for t, time in enumerate(times):
        for i, latitude in enumerate(grid.latitude):
            for j, longitude in enumerate(grid.longitude):
                observer.lat, observer.lon, observer.date = (
                    np.deg2rad(latitude),
                    np.deg2rad(longitude),
                    str(time)[:19].replace("T", " "),
                )
                body.compute(observer)
                assert radiation[t, i, j] == pytest.approx(
                    max(np.sin(body.alt), 0) / body.earth_distance**2, abs=5e-4
                )


def test_the_annual_mean_insolation_is_a_quarter_of_the_solar_constant():
    grid = LatLon(np.arange(-89.0, 90, 2), np.arange(0, 360, 10.0))
    times = np.datetime64("2021-01-01", "ns") + np.arange(0, 365 * 24, 7) * np.timedelta64(1, "h")
    mean = (toa_radiation(times, grid) * grid.area_weights[:, None]).mean(dtype=np.float64)
    assert mean == pytest.approx(0.25 / np.sqrt(1 - 0.0167**2), rel=1e-3)


def test_models_trained_on_the_solar_angle_alone_still_receive_it():
    times, grid = at("2014-05-01T15"), LatLon(np.array([10.0, 50.0]), np.arange(0, 360, 30.0))
    fields = forcings(times, grid, np.timedelta64(6, "h"), names=["insolation", "cos_year"])
    assert fields.shape == (1, 2, 2, 12) and np.array_equal(fields[:, 0], insolation(times, grid))
    assert np.abs(fields[:, 0] - toa_radiation(times, grid)).max() > 5e-3


def test_insolation_peaks_at_the_subsolar_point_and_vanishes_at_night():
    grid = LatLon(np.array([-80.0, 0.0, 80.0]), np.array([0.0, 90.0, 180.0]))
    noon = toa_radiation(np.array(["2014-06-21T12"], "datetime64[ns]"), grid)[0]
    assert noon[1, 0] == pytest.approx(np.cos(np.deg2rad(23.44)), rel=0.04)  # overhead at 23.44 N
    assert noon[1, 2] == 0 and (noon[0] == 0).all() and (noon[2] > 0).all()  # night, polar night, polar day
    equinox = toa_radiation(np.array(["2014-03-20T18"], "datetime64[ns]"), grid)[0]
    assert equinox[1, 0] == pytest.approx(0, abs=0.04) and equinox[1, 1] == 0


def test_daily_steps_receive_the_daily_mean():
    grid = LatLon(np.array([10.0, 50.0]), np.arange(0, 360, 30.0))
    day = forcings(np.array(["2014-05-01"], "datetime64[ns]"), grid, np.timedelta64(24, "h"))
    assert np.ptp(day[0, 0], axis=1).max() < 5e-3  # no diurnal cycle
    six = forcings(np.array(["2014-05-01"], "datetime64[ns]"), grid, np.timedelta64(6, "h"))
    assert np.ptp(six[0, 0], axis=1).max() > 0.5
    assert np.allclose(day[0, 1] ** 2 + day[0, 2] ** 2, 1, atol=1e-6)


def test_position_fields_are_periodic_on_global_grids_only():
    globe = static_fields(LatLon(np.linspace(-90, 90, 5), np.arange(0, 360, 10.0)))
    box = static_fields(LatLon(np.linspace(20, 60, 5), np.arange(0, 90, 10.0)))
    assert abs(globe[1, 0, 0] - globe[1, 0, -1]) < 0.05 and abs(globe[2, 0, 0] - globe[2, 0, -1]) < 0.2
    assert box[1, 0].min() == -1 and box[1, 0].max() == 1


def store_with_orography(tmp_path):
    source = canonical(make_source(), "memory")
    shape = source.sizes["latitude"], source.sizes["longitude"]
    height = np.random.default_rng(0).gamma(1.0, 500.0, shape).astype("f4")
    land = (height > 400).astype("f4")
    land[0, 0] = np.nan
    coords = {
        "orography": (("latitude", "longitude"), height, {"units": "m"}),
        "land_sea_mask": (("latitude", "longitude"), land, {"units": "1"}),
    }
    write_store(source.assign_coords(coords), tmp_path / "s.zarr")
    return tmp_path / "s.zarr", height, land


def test_a_model_receives_orography_and_mask_from_its_store(tmp_path):
    store, height, land = store_with_orography(tmp_path)
    result = train(tiny_config(store, tmp_path / "run"), device="cpu")
    checkpoint = load_checkpoint(result.checkpoint)
    static = checkpoint.stepper.static.numpy()
    grid = checkpoint.grid
    area = np.broadcast_to(grid.area_weights[:, None], grid.shape)
    mean = np.average(height, weights=area)
    expected = (height - mean) / np.sqrt(np.average((height - mean) ** 2, weights=area))
    assert np.abs(static - expected).max(axis=(1, 2)).min() < 1e-5
    mask = static[np.abs(static - normalised(land, grid)).max(axis=(1, 2)).argmin()]
    assert mask[0, 0] == 0 and len(np.unique(mask)) == 3
    assert json.loads((result.checkpoint / "meta.json").read_text())["provenance"]["static_fields"] == [
        "land_sea_mask",
        "orography",
    ]
    # The forecast depends on the static fields.
    states = initial_states(checkpoint, store)
    first = list(rollout(checkpoint, states, states.fields.times[5:6], steps=1, device="cpu"))[-1]
    checkpoint.stepper.static[:] = checkpoint.stepper.static.flip(-1)
    assert not np.allclose(
        first, list(rollout(checkpoint, states, states.fields.times[5:6], steps=1, device="cpu"))[-1]
    )


def test_static_fields_are_selected_by_name_and_unknown_names_are_refused(tmp_path):
    store, *_ = store_with_orography(tmp_path)
    assert list(open_store(store).static(["orography"])) == ["orography"] and not open_store(store).static([])
    with pytest.raises(ValueError, match=r"no static field 'orografy'.*orography"):
        train(tiny_config(store, tmp_path / "run", "data.static=[orografy]"), device="cpu")
