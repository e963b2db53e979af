"""ERA5 and ERA5T in one file become one series, in which the final version takes precedence."""

import numpy as np
import pytest
import xarray as xr

from fourcaster.datasets.adapters.cf import canonical
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.select import Selection


def two_versions(source, values, final=slice(0, 120), preliminary=slice(120, 160)):
    """Return the source along ``expver``, with missing values outside of the times of each version."""
    parts = []
    for period, change in ((final, 0), (preliminary, 7)):
        available = np.zeros(160, bool)
        available[period] = True
        parts.append((source + change).where(xr.DataArray(available, dims="time")))
    joined = xr.concat(parts, xr.DataArray(np.array(values), dims="expver", name="expver")).transpose(
        "time", "expver", ...
    )
    for name in joined.data_vars:
        joined[name].attrs = source[name].attrs
    return joined


@pytest.mark.parametrize("values", [np.array([1, 5], "i4"), ["0001", "0005"], [b"0001", b"0005"], [5, 1]])
def test_preliminary_values_fill_missing_final_ones(source, tmp_path, values, caplog):
    swapped = next(iter(values)) == 5
    joined = two_versions(source, [1, 5]).isel(expver=[1, 0]) if swapped else two_versions(source, values)
    packed = {"dtype": "i2", "scale_factor": 1e-3, "add_offset": 280.0, "_FillValue": -32767}
    joined.to_netcdf(tmp_path / "era5.nc", encoding={"t2m": packed})
    result = open_sources([tmp_path / "era5.nc"])
    assert result["t2m"].dims == ("time", "latitude", "longitude") and result["t2m"].chunks is not None
    assert np.allclose(result["t2m"][:120], source["t2m"][:120], atol=1e-3) and np.allclose(
        result["t2m"][120:], source["t2m"][120:] + 7, atol=1e-3
    )
    assert np.array_equal(result["u10"][:120], source["u10"][:120]) and not np.isnan(result["u10"]).any()
    assert [r.message for r in caplog.records] == [
        f"{tmp_path / 'era5.nc'}: values of ERA5, filled from ERA5T, preliminary where they are missing"
    ]
    one = open_sources(
        [tmp_path / "era5.nc"],
        Selection(at=(("expver", "1" if not isinstance(values, list) or swapped else str(values[0])),)),
    )
    assert np.isnan(one["t2m"]).all(("latitude", "longitude")).sum() == 40


def test_final_values_take_precedence(source):
    result = canonical(two_versions(source, [1, 5], preliminary=slice(60, 160)), "memory")
    assert np.array_equal(result["t2m"][:120], source["t2m"][:120]) and np.allclose(
        result["t2m"][120:], source["t2m"][120:] + 7
    )


def test_other_experiments_are_not_merged(source):
    with pytest.raises(ValueError, match="dimension 'expver' of size 2"):
        canonical(two_versions(source, [1, 77]), "memory")


@pytest.mark.parametrize("final", ["0001", 1])
def test_preliminary_times_are_replaced_by_final_ones(source, final):
    """New files have ``expver`` as strings along time; a time in both versions has the final values."""
    preliminary = 5 if final == 1 else "0005"
    both = xr.concat([source.isel(time=slice(0, 120)), (source + 7).isel(time=slice(100, 160))], "time")
    for name in both.data_vars:
        both[name].attrs = source[name].attrs
    marked = both.assign_coords(expver=("time", [final] * 120 + [preliminary] * 60)).sortby("time")
    result = canonical(marked, "memory")
    assert np.array_equal(result["time"], source["time"]) and "expver" not in result.coords
    assert np.array_equal(result["t2m"][:120], source["t2m"][:120]) and np.allclose(
        result["t2m"][120:], source["t2m"][120:] + 7
    )
