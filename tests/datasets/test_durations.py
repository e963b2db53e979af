"""Durations and times as text."""

import subprocess
import sys
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcaster.datasets.durations import (
    format_duration,
    format_time,
    parse_duration,
    parse_timedelta64,
    to_seconds,
    to_timedelta64,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30min", 1800), ("6h", 21600), (" 1.5 H ", 5400), ("10d", 864000), ("2w", 1209600)],
)
def test_each_unit_is_parsed(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)
    assert parse_timedelta64(text) == np.timedelta64(seconds, "s")


def test_fractional_seconds_are_parsed_exactly():
    assert parse_timedelta64("0.000000125s") == np.timedelta64(125, "ns")
    assert parse_duration("0.25s") == timedelta(milliseconds=250)


@pytest.mark.parametrize("text", ["often", "", "6", "h", "6 hours", "-6h", "1e3h", "6h 30min"])
def test_invalid_durations_are_refused(text):
    with pytest.raises(ValueError, match=r"is not a duration; write e.g."):
        parse_duration(text)


def test_durations_beyond_the_range_of_timestamps_are_refused():
    with pytest.raises(ValueError, match="longer than 200 years"):
        parse_duration("80000d")


@given(st.integers(-(10**12), 10**12), st.sampled_from([1, 10**9]))
def test_seconds_survive_a_round_trip(count, divisor):
    assert to_seconds(to_timedelta64(count / divisor)) == count / divisor


@given(st.integers(0, 10**9))
def test_whole_seconds_below_an_hour_are_formatted_exactly(count):
    text = format_duration(count % 3600)
    assert parse_duration(text.replace(" ", "")) == timedelta(seconds=count % 3600)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(hours=6), "6 h"),
        (np.timedelta64(10, "D"), "240 h"),
        (np.timedelta64(30, "m"), "30 min"),
        (90, "90 s"),
        (0.2, "0.2 s"),
        (timedelta(0), "0 s"),
    ],
)
def test_durations_are_formatted_in_a_suitable_unit(duration, text):
    assert format_duration(duration) == text


def test_times_are_formatted_to_the_minute_or_their_own_precision():
    assert format_time(np.datetime64("2014-03-01T06", "ns")) == "2014-03-01T06:00"
    assert format_time(np.datetime64("2014-03-01")) == "2014-03-01T00:00"
    assert format_time(np.datetime64("2014-03-01T06:00:07", "ns")) == "2014-03-01T06:00:07"
    assert format_time(datetime(2014, 3, 1, 6)) == "2014-03-01T06:00"
    assert format_time(datetime(2014, 3, 1, 6, 0, 7)) == "2014-03-01T06:00:07"


def test_parsing_a_duration_loads_no_array_library():
    code = (
        "import sys; from fourcaster.datasets.durations import parse_duration; parse_duration('6h');"
        "assert not {'numpy', 'torch', 'xarray', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
