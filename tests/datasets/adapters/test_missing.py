"""Missing values are declared by CF attributes; an ordinary zarr fill value is data."""

import numpy as np
import pytest
import xarray as xr
import zarr

from fourcaster.datasets.adapters.missing import is_sentinel
from fourcaster.datasets.adapters.opening import open_raw
from fourcaster.datasets.adapters.sources import open_sources

RNG = np.random.default_rng(2)


def rain_store(path, zarr_format=2, fill=0, attributes=None, consolidated=True, rain=None):
    """Write precipitation, 70 % of it zero, with zarr itself; all coordinates contain 0."""
    if rain is None:
        rain = np.where(RNG.random((20, 5, 6)) < 0.7, 0, RNG.gamma(2, 1e-3, (20, 5, 6))).astype("f4")
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for name, values, dims, attrs in (
        ("time", np.arange(20) * 6, ["time"], {"units": "hours since 2001-01-01"}),
        ("latitude", np.linspace(20, -20, 5), ["latitude"], {"units": "degrees_north"}),
        ("longitude", np.arange(0, 30, 5.0), ["longitude"], {"units": "degrees_east"}),
        ("tp", rain, ["time", "latitude", "longitude"], {"units": "m"} | (attributes or {})),
    ):
        options = {"dimension_names": dims} if zarr_format == 3 else {}
        value = fill if name == "tp" else 0
        array = group.create_array(
            name, shape=values.shape, dtype=values.dtype, chunks=values.shape, fill_value=value, **options
        )
        array[...] = values
        array.attrs.update(attrs if zarr_format == 3 else {"_ARRAY_DIMENSIONS": dims, **attrs})
    if consolidated:
        zarr.consolidate_metadata(path)
    return rain


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part:UserWarning")
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize("fill", [0, 1])
def test_a_zarr_fill_value_is_valid_data(tmp_path, zarr_format, consolidated, fill):
    rain = rain_store(tmp_path / "a.zarr", zarr_format, fill, consolidated=consolidated) + 0
    result = open_sources([tmp_path / "a.zarr"])
    assert np.array_equal(result["tp"], rain)
    assert (
        str(result["time"].values[0])[:13] == "2001-01-01T00"
        and 0 in result["latitude"]
        and 0 in result["longitude"]
    )


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part:UserWarning")
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("key", ["_FillValue", "missing_value"])
@pytest.mark.parametrize("value", [0.0, -9999.0])
def test_cf_attributes_declare_missing_values(tmp_path, zarr_format, key, value):
    rain = rain_store(tmp_path / "a.zarr", zarr_format, fill=-7777, attributes={key: value})
    rain[3, 2, 1] = -9999
    zarr.open_group(tmp_path / "a.zarr", mode="r+")["tp"][...] = rain
    result = open_sources([tmp_path / "a.zarr"])["tp"].values
    assert np.array_equal(np.isnan(result), rain == value) and (rain == value).any()
    assert np.array_equal(result[rain != value], rain[rain != value])


@pytest.mark.parametrize(
    ("dtype", "fill"), [("f4", np.nan), ("f4", -9999.0), ("f4", 1e20), ("i2", -32767), ("u1", 255)]
)
def test_missing_values_written_by_xarray_to_zarr_2_stay_missing(tmp_path, dtype, fill):
    """xarray stores ``_FillValue`` in format 2 only as the array's ``fill_value``."""
    values = np.linspace(0, 2, 80).reshape(4, 4, 5)
    values[1, 2, 3] = np.nan
    coords = {
        "time": np.datetime64("2001-01-01", "ns") + np.arange(4) * np.timedelta64(6, "h"),
        "latitude": ("latitude", [10.0, 0, -10, -20], {"units": "degrees_north"}),
        "longitude": ("longitude", np.arange(0.0, 50, 10), {"units": "degrees_east"}),
    }
    packed = {} if dtype == "f4" else {"scale_factor": 0.01}
    written = xr.Dataset({"t": (("time", "latitude", "longitude"), values, {"units": "K"})}, coords)
    written.to_zarr(
        tmp_path / "a.zarr", zarr_format=2, encoding={"t": {"dtype": dtype, "_FillValue": fill, **packed}}
    )
    assert "_FillValue" not in zarr.open_group(tmp_path / "a.zarr")["t"].attrs
    result = open_sources([tmp_path / "a.zarr"])["t"].values
    assert np.array_equal(np.isnan(result), np.isnan(values)) and np.allclose(
        result, values, atol=6e-3, equal_nan=True
    )


@pytest.mark.parametrize(
    ("fill", "dtype", "mask"),
    [
        (None, "f4", False),
        (0, "f4", False),
        (1.0, "f4", False),
        (280.0, "f8", False),
        (0, "u2", False),
        (0, "i2", False),
        (-1, "i4", False),
        (np.nan, "f4", True),
        (-99.0, "f4", True),
        (-9999, "i4", True),
        (999.0, "f4", True),
        (9.96921e36, "f4", True),
        (65535, "u2", True),
        (127, "i1", True),
    ],
)
def test_only_implausible_fill_values_are_sentinels(fill, dtype, mask):
    assert is_sentinel(fill, np.dtype(dtype)) == mask


def test_zeros_in_netcdf_coordinates_are_not_masked(tmp_path, source):
    from netCDF4 import Dataset

    path = tmp_path / "a.nc"
    source.assign_coords(lat=("lat", np.arange(3.0, -4, -1), source["lat"].attrs)).to_netcdf(path)
    with Dataset(tmp_path / "b.nc", "w") as new, Dataset(path) as old:
        for name, dimension in old.dimensions.items():
            new.createDimension(name, len(dimension))
        for name, variable in old.variables.items():
            zero = {"fill_value": variable.dtype.type(0)} if name in ("lat", "time") else {}
            copy = new.createVariable(name, variable.dtype, variable.dimensions, **zero)
            copy.setncatts({k: variable.getncattr(k) for k in variable.ncattrs() if k != "_FillValue"})
            copy[:] = variable[:]
    result = open_sources([tmp_path / "b.nc"])
    assert np.array_equal(result["latitude"], np.arange(3.0, -4, -1)) and np.array_equal(
        result["time"], source["time"]
    )


def test_missing_times_are_refused(tmp_path, source):
    source.assign_coords(time=source["time"].where(source["time"] > source["time"][0])).to_netcdf(
        tmp_path / "a.nc"
    )
    with pytest.raises(ValueError, match=r"1 time\(s\) are missing"):
        open_sources([tmp_path / "a.nc"])


def test_nested_groups_are_decoded_like_the_root(tmp_path):
    rain = rain_store(tmp_path / "a.zarr" / "inner")
    assert np.array_equal(open_raw(str(tmp_path / "a.zarr" / "inner"))["tp"], rain)


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part:UserWarning")
def test_only_attributes_declare_missing_values_in_zarr_3(tmp_path):
    rain = rain_store(tmp_path / "a.zarr", 3, fill=-9999)
    rain[1, 2, 3] = -9999
    zarr.open_group(tmp_path / "a.zarr", mode="r+")["tp"][...] = rain
    assert np.array_equal(open_sources([tmp_path / "a.zarr"])["tp"], rain)
