"""Times perturbed by rounding are snapped to their step; all others are unchanged."""

import numpy as np
import pytest
import xarray as xr
from helpers import make_source

from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.adapters.times import snap
from fourcaster.datasets.schema import time_step

HOUR = np.timedelta64(1, "h")


def write_times(path, values, units, dtype="f8", calendar=None):
    source = make_source(times=len(values))
    attrs = {"units": units} | ({"calendar": calendar} if calendar else {})
    source.assign_coords(time=("time", np.asarray(values, dtype), attrs)).to_netcdf(path)
    return path


@pytest.mark.parametrize(
    ("values", "units", "dtype", "first", "step"),
    [
        (738841.25 + np.arange(120) / 24, "days since 1-1-1 00:00:0.0", "f8", None, HOUR),
        (13149 + np.arange(240) / 24, "days since 1979-01-01", "f4", "2015-01-01T00:00", HOUR),
        (43523 + np.arange(120) / 24, "days since 1900-01-01", "f8", "2019-03-01T00:00", HOUR),
        (
            1043136 + np.arange(100) / 6,
            "hours since 1900-01-01",
            "f8",
            "2019-01-01T00:00",
            np.timedelta64(10, "m"),
        ),
        (7000 + np.arange(50) / 8, "days since 2000-01-01", "f4", "2019-03-02T00:00", 3 * HOUR),
        (0.1 * np.arange(60), "minutes since 2000-01-01", "f4", "2000-01-01T00:00", np.timedelta64(6, "s")),
    ],
)
def test_times_stored_as_fractions_are_snapped_to_their_step(tmp_path, values, units, dtype, first, step):
    times = open_sources([write_times(tmp_path / "a.nc", values, units, dtype)])["time"].values
    assert (np.diff(times) == step).all() and time_step(times, "a")[1] == []
    assert times[0] == times[0].astype("M8[h]") and (first is None or times[0] == np.datetime64(first))


def test_snapping_preserves_gaps_and_separate_files(tmp_path):
    days = 738841.25 + np.arange(120) / 24
    write_times(tmp_path / "a.nc", np.delete(days, slice(40, 45))[:70], "days since 1-1-1 00:00:0.0")
    write_times(tmp_path / "b.nc", days[75:], "days since 1-1-1 00:00:0.0")
    times = open_sources([str(tmp_path / "*.nc")])["time"].values
    step, gaps = time_step(times, "both", allow_gaps=True)
    assert step == HOUR and gaps == [40] and times[40] - times[39] == 6 * HOUR and len(times) == 115


def test_times_of_a_noleap_calendar_are_snapped(tmp_path):
    path = write_times(
        tmp_path / "a.nc", 37650 + np.arange(96) / 24, "days since 1900-01-01", calendar="noleap"
    )
    times = open_sources([path])["time"].values
    assert str(times[0])[:13] == "2003-02-25T00" and (np.diff(times) == HOUR).all()


@pytest.mark.parametrize("seconds", [40, 120, 1800])
def test_irregular_times_are_refused(tmp_path, seconds):
    hours = 1043136 + np.arange(50.0)
    hours[17] += seconds / 3600
    times = open_sources([write_times(tmp_path / "a.nc", hours, "hours since 1900-01-01")])["time"].values
    assert times[17] - times[16] == HOUR + np.timedelta64(seconds, "s")
    with pytest.raises(ValueError, match=r"irregular times: 2 intervals other"):
        time_step(times, "a")


@pytest.mark.parametrize(
    "step", [HOUR, np.timedelta64(24, "h"), np.timedelta64(100, "ms"), np.timedelta64(7, "s")]
)
@pytest.mark.parametrize("offset", [0, 30_000_000_000, 1_000_000_000])
def test_regular_times_are_unchanged(step, offset):
    times = np.datetime64("2001-01-01", "ns") + np.timedelta64(offset, "ns") + np.arange(30) * step
    assert np.array_equal(snap(times), times)
    jitter = np.random.default_rng(0).integers(-3000, 3000, 30).astype("m8[ns]")
    assert np.array_equal(snap(times + jitter), times) and np.array_equal(
        snap(times[:1] + jitter[0]), times[:1]
    )


def test_times_in_memory_are_snapped_like_those_of_files(source):
    from fourcaster.datasets.adapters.cf import canonical

    perturbed = source.assign_coords(time=source["time"] + np.arange(160) % 3 * np.timedelta64(1000, "ns"))
    xr.testing.assert_equal(canonical(perturbed, "memory")["time"], canonical(source, "memory")["time"])
