"""Seasonal cycle and windowed climatology against closed forms and brute force."""

import numpy as np
import pytest

from fourcaster.datasets.loaders.split import default_split, period
from fourcaster.datasets.statistics.climatology import (
    DaySums,
    SeasonalCycle,
    day_of_year,
    day_sums,
    windowed_mean,
    year_phase,
)


def times(start, count, hours):
    return np.datetime64(start, "ns") + np.arange(count) * np.timedelta64(hours, "h")


def test_a_harmonic_seasonal_cycle_is_recovered_exactly():
    t = times("2001-01-01", 4 * 800, 6)
    clock = (np.arange(len(t)) % 4)[:, None, None, None]
    p = year_phase(t)[:, None, None, None]
    truth = (10 + clock * np.cos(p) - 2 * np.sin(2 * p) + np.zeros((1, 2, 3, 1))).astype("f4")
    cycle = SeasonalCycle.fit(t, ((slice(i, i + 500), truth[i : i + 500]) for i in range(0, len(t), 500)))
    assert np.abs(cycle.at(t) - truth).max() < 1e-4
    later = times("2007-05-03T06", 5, 6)
    p = year_phase(later)[:, None, None, None]
    clock = np.array([1, 2, 3, 0, 1])[:, None, None, None]
    assert np.abs(cycle.at(later) - (10 + clock * np.cos(p) - 2 * np.sin(2 * p))).max() < 1e-4


def test_the_cycle_does_not_depend_on_blocks():
    t = times("2001-01-01", 900, 12)
    x = np.random.default_rng(0).standard_normal((900, 1, 2, 3)).astype("f4")
    whole = SeasonalCycle.fit(t, iter([(slice(0, 900), x)]))
    parts = SeasonalCycle.fit(t, ((slice(i, min(i + 77, 900)), x[i : i + 77]) for i in range(0, 900, 77)))
    assert np.allclose(whole.coefficients, parts.coefficients, atol=1e-5)


def test_short_series_have_an_hourly_mean():
    t = times("2001-01-01", 40, 6)
    x = (np.arange(40) % 4).astype("f4")[:, None, None, None]
    assert np.array_equal(SeasonalCycle.fit(t, iter([(slice(0, 40), x)])).at(t[:4]).ravel(), [0, 1, 2, 3])


def test_the_windowed_mean_averages_the_surrounding_days():
    t = times("2003-01-01", 4 * 800, 6)  # with a leap year
    x = np.random.default_rng(1).standard_normal((len(t), 1, 1, 2)).astype("f4")
    x[40, 0, 0, 1] = np.nan
    sums = DaySums(t, x.shape[1:])
    for first in range(0, len(t), 37):
        sums.add(range(first, min(first + 37, len(t))), x[first : first + 37])
    from_sums, from_fields = (
        dict(windowed_mean(sums.get)),
        dict(windowed_mean(day_sums(t, x.shape[1:], lambda at: x[at], max_fields=3))),
    )
    assert all(np.array_equal(from_sums[day], from_fields[day]) for day in range(1, 367))
    doy, hour = day_of_year(t), (np.arange(len(t)) % 4)
    for day in (1, 15, 60, 200, 366):
        distance = np.minimum((doy - day) % 366, (day - doy) % 366)
        for h in range(4):
            expected = np.nanmean(x[(distance <= 15) & (hour == h)], axis=0)
            assert np.allclose(from_sums[day][h], expected, atol=1e-5)


def test_days_of_the_year_do_not_shift_in_leap_years():
    days = np.array(
        ["2003-02-28", "2003-03-01", "2004-02-29", "2004-03-01", "2004-12-31", "2003-12-31"], "datetime64[ns]"
    )
    assert day_of_year(days).tolist() == [59, 61, 60, 61, 366, 366]


def test_default_split_tests_the_last_whole_year():
    t = times("2013-01-01", 2920, 6)
    split = default_split(t)
    assert (split.train, split.validation, split.test) == (
        slice(0, 1314),
        slice(1314, 1460),
        slice(1460, 2920),
    )
    t = times("2001-03-01", 365 * 11, 24)
    split = default_split(t)
    assert str(t[split.test][0])[:10] == "2011-01-01" and str(t[split.test][-1])[:10] == "2011-12-31"
    assert split.fit == slice(0, split.test.start)


def test_short_series_are_split_by_fractions():
    split = default_split(times("2001-01-01", 100, 12))
    assert (split.train, split.validation, split.test) == (slice(0, 72), slice(72, 80), slice(80, 100))
    with pytest.raises(ValueError, match="too short"):
        default_split(times("2001-01-01", 5, 12))


def test_periods_include_both_ends():
    t = times("2013-01-01", 2920, 6)
    assert period(t, "2013") == slice(0, 1460)
    assert period(t, "2013-02:2013-03-01") == slice(124, 240)
    assert period(t, "2014-01-01T06/2014-01-01T12") == slice(1461, 1463)
    for wrong, message in (("2020", "contains no time"), ("spring", "is not a period")):
        with pytest.raises(ValueError, match=message):
            period(t, wrong)
