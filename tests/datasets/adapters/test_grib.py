"""GRIB files with analyses, accumulations and forecasts are arranged by valid time."""

import numpy as np
import pytest

from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.select import Selection

eccodes = pytest.importorskip("eccodes")
pytest.importorskip("cfgrib")

LAYOUT = {
    "Ni": 8,
    "Nj": 5,
    "latitudeOfFirstGridPointInDegrees": 60,
    "longitudeOfFirstGridPointInDegrees": 0,
    "latitudeOfLastGridPointInDegrees": 20,
    "longitudeOfLastGridPointInDegrees": 70,
    "iDirectionIncrementInDegrees": 10,
    "jDirectionIncrementInDegrees": 10,
}


def write(path, *messages):
    """Write fields of one value: (short name, run, step in hours, value, first hour of the accumulation or
    None).
    """
    with open(path, "wb") as file:
        for name, run, step, value, start in messages:
            handle = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib1")
            start_of_run = str(np.datetime64(run, "h"))
            date = start_of_run[:10].replace("-", "")
            hour = int(start_of_run[11:13])
            for key, setting in (
                *LAYOUT.items(),
                ("centre", "ecmf"),
                ("dataDate", int(date)),
                ("dataTime", hour * 100),
                ("shortName", name),
            ):
                eccodes.codes_set(handle, key, setting)
            if start is not None:
                eccodes.codes_set(handle, "timeRangeIndicator", 4)
                eccodes.codes_set(handle, "startStep", start)
            eccodes.codes_set(handle, "endStep", step)
            eccodes.codes_set(handle, "bitsPerValue", 24)
            eccodes.codes_set_values(handle, value + np.linspace(0, 1e-3, 40))
            eccodes.codes_write(handle, file)
            eccodes.codes_release(handle)
    return path


def hours(first, count, step=1):
    return (np.datetime64(first, "h") + step * np.arange(count)).astype("M8[ns]")


TEMPERATURE = [("2t", time, 0, 250.0 + i, None) for i, time in enumerate(hours("2001-01-01T00", 120))]
RUNS = hours("2001-01-01T06", 10, 12)
RAIN = [("tp", run, step, 12.0 * i + step, step - 1) for i, run in enumerate(RUNS) for step in range(1, 13)]


def test_temperature_and_precipitation_are_arranged_by_valid_time(tmp_path, caplog):
    path = write(tmp_path / "both.grib", *TEMPERATURE, *RAIN)
    both = open_sources([path])
    assert (
        np.array_equal(both["time"], hours("2001-01-01T07", 113))
        and "variables have different times" in caplog.text
    )
    assert np.allclose(both["total_precipitation"][:, 0, 0], 1 + np.arange(113), atol=1e-4)
    assert np.allclose(both["2m_temperature"][:, 0, 0], 257 + np.arange(113), atol=1e-4)
    assert (
        both["total_precipitation"].dims == ("time", "latitude", "longitude")
        and both["total_precipitation"].attrs["units"] == "m"
    )
    caplog.clear()
    starts = {"2m_temperature": "00", "total_precipitation": "07", "t2m": "00", "tp": "07"}
    for name, first in starts.items():
        one = open_sources([path], Selection(variables=(name,)))
        assert np.array_equal(one["time"], hours(f"2001-01-01T{first}", 120)) and not caplog.text
    alone = open_sources([write(tmp_path / "tp.grib", *RAIN)])["total_precipitation"]
    assert np.allclose(alone[:, 0, 0], 1 + np.arange(120), atol=1e-4)


def test_missing_steps_of_runs_do_not_become_missing_values(tmp_path):
    incomplete = [message for at, message in enumerate(RAIN) if at not in (5, 40)]
    result = open_sources([write(tmp_path / "a.grib", *incomplete)])["total_precipitation"]
    assert (
        np.array_equal(result["time"], np.delete(hours("2001-01-01T07", 120), [5, 40]))
        and not np.isnan(result).any()
    )


@pytest.mark.parametrize("first", [0, 1])
def test_accumulations_since_the_start_of_a_run_are_differenced_to_steps(tmp_path, first):
    """ERA5-Land has one run per day with totals since 00 UTC for each hour; step 0, if present, is empty."""
    hourly = np.random.default_rng(0).gamma(2, 1, (3, 24))
    totals = np.concatenate([np.zeros((3, 1)), hourly.cumsum(axis=1)], axis=1)
    land = [
        ("tp", run, step, totals[i, step], 0)
        for i, run in enumerate(hours("2001-01-01T00", 3, 24))
        for step in range(first, 25)
    ]
    result = open_sources([write(tmp_path / "land.grib", *land)])["total_precipitation"]
    assert np.array_equal(result["time"], hours("2001-01-01T01", 72))
    values = result[:, 0, 0].values.reshape(3, 24)
    assert np.allclose(values, hourly, atol=1e-4)
    uneven = [message for message in land if message[2] in (3, 6, 24)]
    with pytest.raises(
        ValueError,
        match=r"tp accumulate from the start of each run, and the steps of 3, 6, 24 h are not evenly spaced",
    ):
        open_sources([write(tmp_path / "uneven.grib", *uneven)])


def test_overlapping_runs_must_agree(tmp_path):
    consistent = [
        ("2t", run, step, 250.0 + 6 * i + step, None)
        for i, run in enumerate(hours("2001-01-01T00", 4, 6))
        for step in (0, 6, 12)
    ]
    result = open_sources([write(tmp_path / "a.grib", *consistent)])["2m_temperature"]
    assert np.array_equal(result["time"], hours("2001-01-01T00", 6, 6)) and np.allclose(
        result[:, 0, 0], 250 + 6 * np.arange(6), atol=1e-4
    )
    inconsistent = [
        (n, r, s, v + (s == 12 and r == np.datetime64("2001-01-01T06")), a) for n, r, s, v, a in consistent
    ]
    with pytest.raises(
        ValueError,
        match=r"different t2m for 2001-01-01T18:00, by the runs of .*at step 12 h.*grib_copy -w step=0",
    ):
        open_sources([write(tmp_path / "b.grib", *inconsistent)])


def test_variables_without_a_common_time_are_rejected(tmp_path):
    later = [("tp", "2002-01-01T00", step, 1.0, step - 1) for step in (1, 2, 3)]
    path = write(tmp_path / "a.grib", *TEMPERATURE, *later)
    with pytest.raises(
        ValueError, match=r"without a common time \(t2m 2001-01-01T00:00 \.\.\. 2001-01-05T23:00, tp 2002"
    ):
        open_sources([path])
    assert open_sources([path], Selection(variables=("tp",))).sizes["time"] == 3


def test_constant_fields_are_kept_next_to_time_dependent_ones(tmp_path):
    path = write(tmp_path / "a.grib", ("lsm", "2001-01-01T00", 0, 0.5, None), *TEMPERATURE)
    result = open_sources([path])
    assert result.sizes["time"] == 120 and np.allclose(result.coords["land_sea_mask"][0, 0], 0.5, atol=1e-4)


def test_a_single_run_is_a_time_series(tmp_path):
    run = [("2t", "2001-01-01T12", step, 250.0 + step, None) for step in range(0, 24, 6)]
    result = open_sources([write(tmp_path / "a.grib", *run)])
    assert np.array_equal(result["time"], hours("2001-01-01T12", 4, 6))
    assert np.allclose(result["2m_temperature"][:, 0, 0], 250 + 6 * np.arange(4), atol=1e-4)
