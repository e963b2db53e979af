"""Layouts of published data sets, on files written to their specifications."""

from importlib.metadata import EntryPoint

import numpy as np
import pytest
import xarray as xr
import zarr

from fourcaster.datasets.adapters import layouts
from fourcaster.datasets.adapters.cf import canonical
from fourcaster.datasets.adapters.layouts import Layout, find_layout
from fourcaster.datasets.adapters.opening import open_raw
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.adapters.vocabulary import Term
from fourcaster.datasets.ingest.select import Selection

RNG = np.random.default_rng(5)
TIMES = np.datetime64("2019-12-30", "ns") + np.arange(12) * np.timedelta64(6, "h")
LEVELS = [500, 700, 850]


def weatherbench(coarse: bool, times: int = 12) -> xr.Dataset:
    """Return a data set like WeatherBench2's stores: coordinates without units, either order of the axes."""
    latitude = np.linspace(-90 + 22.5 / 2, 90 - 22.5 / 2, 8) if coarse else np.linspace(90, -90, 9)
    coords = {
        "time": TIMES[:times],
        "level": LEVELS,
        "latitude": latitude,
        "longitude": np.arange(0, 360, 22.5),
    }
    space = ("longitude", "latitude") if coarse else ("latitude", "longitude")
    shape = {**{n: len(v) for n, v in coords.items()}}
    dims = {
        "temperature": ("time", "level", *space),
        "2m_temperature": ("time", *space),
        "land_sea_mask": space,
    }
    fields = {n: (d, RNG.normal(280, 10, [shape[i] for i in d]).astype("f4")) for n, d in dims.items()}
    return xr.Dataset(fields, coords)


@pytest.mark.parametrize("coarse", [True, False])
def test_weatherbench_stores_become_canonical(tmp_path, coarse):
    raw = weatherbench(coarse)
    raw.to_zarr(tmp_path / "wb.zarr", zarr_format=2, consolidated=True)
    result = open_sources([tmp_path / "wb.zarr"], Selection(levels=(850, 500)))
    assert find_layout(raw).name == "weatherbench2"
    assert result["temperature"].dims == ("time", "level", "latitude", "longitude") and result[
        "level"
    ].values.tolist() == [850, 500]
    expected = raw["temperature"].sel(level=[850, 500]).transpose("time", "level", "latitude", "longitude")
    assert np.array_equal(result["temperature"], expected) and np.array_equal(
        result["latitude"], raw["latitude"]
    )
    assert (
        result["temperature"].attrs["units"] == "K"
        and result["2m_temperature"].attrs["standard_name"] == "air_temperature"
    )
    assert "land_sea_mask" not in result.data_vars
    assert np.array_equal(
        result.coords["land_sea_mask"], raw["land_sea_mask"].transpose("latitude", "longitude")
    )


def test_arco_times_without_data_are_dropped(tmp_path):
    raw = weatherbench(False).assign_attrs(valid_time_start="2019-12-31", valid_time_stop="2020-01-01")
    raw.to_zarr(tmp_path / "arco.zarr", zarr_format=2, consolidated=True)
    result = open_sources([tmp_path / "arco.zarr"], Selection(("temperature",)))
    assert find_layout(raw).name == "arco-era5"
    assert (
        str(result["time"].values[0])[:13] == "2019-12-31T00"
        and str(result["time"].values[-1])[:13] == "2020-01-01T18"
    )


def test_reading_many_levels_to_keep_one_is_reported(tmp_path, caplog):
    raw = (
        weatherbench(False)
        .isel(level=[0] * 37)
        .assign_coords(level=np.arange(37) * 25 + 100)
        .drop_vars("2m_temperature")
    )
    raw.chunk(time=1).to_zarr(tmp_path / "arco.zarr", zarr_format=2, consolidated=True)
    open_sources([tmp_path / "arco.zarr"], Selection(("temperature",), levels=(500,)))
    field = 4 * raw.sizes["latitude"] * raw.sizes["longitude"] / 1e6
    assert f"{37 * field:.3g} MB are read per time and only {field:.3g} MB" in caplog.text
    caplog.clear()
    open_sources([tmp_path / "arco.zarr"], Selection(("temperature",)))
    assert not caplog.text


def anemoi(path, names=("2t", "z", "lsm", "q_850", "q_500", "t_850", "cos_latitude"), missing=()):
    """Write a store in the layout of anemoi-datasets: zarr 2, cells flattened row by row from the north."""
    latitude, longitude = (
        a.ravel() for a in np.meshgrid(np.linspace(90, -90, 5), np.arange(0, 360, 45), indexing="ij")
    )
    data = RNG.normal(size=(12, len(names), 1, 40)).astype("f4").clip(-1)
    data[:, :, :, 7] = 0  # the zarr fill value, which is not a missing value
    group = zarr.open_group(path, mode="w", zarr_format=2)
    for name, values, dims in (
        ("data", data, ("time", "variable", "ensemble", "cell")),
        ("dates", TIMES.astype("<M8[s]"), ("time",)),
        ("latitudes", latitude, ("cell",)),
        ("longitudes", longitude, ("cell",)),
        ("mean", data.mean((0, 2, 3)).astype("f8"), ("variable",)),
    ):
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=(1, *values.shape[1:]) if values.ndim > 1 else values.shape,
        )
        array[...] = values
        array.attrs["_ARRAY_DIMENSIONS"] = list(dims)
    group.attrs.update(
        {
            "variables": list(names),
            "field_shape": [5, 8],
            "frequency": "6h",
            "missing_dates": [str(m) for m in missing],
        }
    )
    return data


def test_anemoi_datasets_are_unpacked_into_variables_and_levels(tmp_path):
    data = anemoi(tmp_path / "a.zarr", missing=[TIMES[11].astype("datetime64[s]")])
    result = open_sources([tmp_path / "a.zarr"])
    assert set(result.data_vars) == {"2m_temperature", "t850", "specific_humidity"}
    assert (
        result.sizes == {"time": 11, "latitude": 5, "longitude": 8, "level": 2}
        and result["latitude"].values[0] == 90
    )
    assert np.array_equal(result["2m_temperature"].values.reshape(11, -1), data[:11, 0, 0])
    assert np.array_equal(result["specific_humidity"].sel(level=500).values.reshape(11, -1), data[:11, 4, 0])
    assert (
        np.array_equal(result["land_sea_mask"].values.ravel(), data[0, 2, 0])
        and "geopotential_at_surface" in result.coords
    )
    zarr.open_group(tmp_path / "a.zarr", mode="r+").attrs["field_shape"] = [40]
    with pytest.raises(ValueError, match="do not form a regular latitude-longitude grid"):
        open_sources([tmp_path / "a.zarr"])


@pytest.mark.parametrize(("channels", "rows"), [(20, 9), (26, 8)])
def test_fourcastnet_files_are_read_by_year_and_channel(tmp_path, channels, rows):
    h5py = pytest.importorskip("h5py")
    values = RNG.normal(size=(8, channels, rows, 16)).astype("f4")
    for year in (2015, 2016):
        with h5py.File(tmp_path / f"{year}.h5", "w") as file:
            file["fields"] = values + year
    result = open_sources(
        [tmp_path / "2015.h5", tmp_path / "2016.h5"],
        Selection(("z500", "2m_temperature"), times="2015-01-02/2016-01-01"),
    )
    assert result.sizes == {"time": 8, "latitude": rows, "longitude": 16} and result["latitude"].values[
        :2
    ].tolist() == [90, 67.5]
    assert np.array_equal(result["z500"][:4], values[4:, 14] + 2015) and np.array_equal(
        result["2m_temperature"][4:], values[:4, 2] + 2016
    )
    assert result["z500"].attrs["units"] == "m**2 s**-2"
    with h5py.File(tmp_path / "some.h5", "w") as file:
        file["fields"] = values
    with pytest.raises(ValueError, match="the file name must contain the year"):
        open_sources([tmp_path / "some.h5"])
    with h5py.File(tmp_path / "2017.h5", "w") as file:
        file["fields"] = values[:, :5]
    with pytest.raises(ValueError, match="have 5 channels"):
        open_sources([tmp_path / "2017.h5"])


def test_grib_members_and_areas_are_selected(real_data, tmp_path):
    pytest.importorskip("cfgrib")
    path = real_data / "era5_levels_members_3deg.grib"
    result = open_sources([path], Selection(member=3, area="60/-30/30/30"))
    raw = open_raw(str(path))
    assert result.sizes == {"time": 4, "level": 2, "latitude": 11, "longitude": 21}
    assert result["longitude"].values[[0, -1]].tolist() == [330, 390]
    expected = raw["z"].sel(
        number=3, latitude=slice(60, 30), longitude=[*range(330, 360, 3), *range(0, 31, 3)]
    )
    assert np.array_equal(result["geopotential"], expected) and set(result.data_vars) == {
        "geopotential",
        "temperature",
    }
    with pytest.raises(ValueError, match="has 10 members; select one"):
        open_sources([path])
    with pytest.raises(ValueError, match="no member 12"):
        open_sources([path], Selection(member=12))
    (tmp_path / "cut.grib").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"cut\.grib cannot be read .*message 160 is cut off"):
        open_sources([tmp_path / "cut.grib"])
    assert not list(real_data.glob("*.idx"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"typeOfLevel": "heightAboveGround"},
            r"kinds of level \(heightAboveGround, isobaricInhPa\); .*-w typeOfLevel=heightAboveGround",
        ),
        (
            {"Ni": 60, "iDirectionIncrementInDegrees": 6, "longitudeOfLastGridPointInDegrees": 354},
            "on grids of several longitudes",
        ),
    ],
)
def test_ambiguous_grib_files_are_rejected(real_data, tmp_path, change, reason):
    eccodes = pytest.importorskip("eccodes")
    mixed = tmp_path / "mixed.grib"
    with open(real_data / "era5_levels_members_3deg.grib", "rb") as source, open(mixed, "wb") as out:
        while (message := eccodes.codes_grib_new_from_file(source)) is not None:
            if eccodes.codes_get(message, "number") == 0:
                eccodes.codes_write(message, out)
                if eccodes.codes_get(message, "shortName") == "t":
                    values = eccodes.codes_get_values(message).reshape(61, 120)[
                        :, :: 120 // change.get("Ni", 120)
                    ]
                    for key, value in change.items():
                        eccodes.codes_set(message, key, value)
                    eccodes.codes_set_values(message, values.ravel() + 1)
                    eccodes.codes_write(message, out)
            eccodes.codes_release(message)
    with pytest.raises(ValueError, match=reason):
        open_sources([mixed])


def test_a_layout_is_registered_by_an_entry_point(monkeypatch):
    custom = Layout(
        "mine",
        lambda d: "swell" in d,
        {"swell": Term("significant_wave_height", "m")},
        lambda d, source: d.rename(northing="latitude"),
    )
    monkeypatch.setattr(EntryPoint, "load", lambda self: custom)
    monkeypatch.setattr(layouts, "entry_points", lambda group: [EntryPoint("mine", "somewhere:mine", group)])
    layouts.layouts.cache_clear()
    raw = xr.Dataset(
        {"swell": (("time", "northing", "longitude"), np.ones((2, 3, 4)))},
        {"time": TIMES[:2], "northing": [3, 2, 1], "longitude": range(4)},
    )
    assert (
        find_layout(raw).name == "mine"
        and custom.read(raw, "x")["significant_wave_height"].attrs["units"] == "m"
    )
    layouts.layouts.cache_clear()
    with pytest.raises(ValueError, match="no layout 'weatherbench'; did you mean weatherbench2"):
        find_layout(raw, "weatherbench")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\x1f\x8bzipped", "it begins with"),
        (b"GRIBxxx\x02" + bytes(8), "is cut off"),
        (b"CDF\x01", "cannot be read"),
    ],
)
def test_files_without_data_are_rejected(tmp_path, content, reason):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        open_sources([tmp_path / "x"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.isel(longitude=[3, 1, 2, 0, *range(4, 16)]), "longitudes are not sorted"),
        (lambda d: d.isel(latitude=[3, 1, 2, 0, *range(4, 9)]), "latitudes are not sorted"),
        (lambda d: d.assign_coords(longitude=np.linspace(0, 360, 16)), "contain a meridian twice"),
        (lambda d: d.rename({"2m_temperature": "../../t"}), "no name: it could leave"),
    ],
)
def test_invalid_coordinates_are_rejected(change, reason):
    with pytest.raises(ValueError, match=reason):
        canonical(change(weatherbench(False)), "memory")


def test_longitudes_from_the_date_line_are_unchanged():
    raw = weatherbench(False)
    west = raw.assign_coords(longitude=np.arange(-180, 180, 22.5))
    assert np.array_equal(canonical(west, "memory")["longitude"], west["longitude"])
    rolled = west.roll(longitude=5, roll_coords=True)
    xr.testing.assert_equal(canonical(rolled, "memory").load(), canonical(west, "memory").load())


def test_period_step_and_area_are_selected(tmp_path):
    raw = weatherbench(False)
    raw.to_netcdf(tmp_path / "a.nc")
    result = open_sources(
        [tmp_path / "a.nc"], Selection(times="2019-12-31:2019-12-31", step=12, area="45/10/-45/100")
    )
    assert [str(t)[11:13] for t in result["time"].values] == ["00", "12"] and result[
        "latitude"
    ].values.tolist() == [45, 22.5, 0, -22.5, -45]
    assert result["longitude"].values.tolist() == [22.5, 45, 67.5, 90] and result["land_sea_mask"].shape == (
        5,
        4,
    )
    for wrong, reason in (
        (Selection(levels=(300,)), "no level 300 hPa; it has 500, 700, 850"),
        (Selection(times="2031"), "has no time of the period 2031"),
        (Selection(step=100), "no two times lie 100 h apart"),
        (Selection(area="1/0/0/1"), "fewer than two points"),
    ):
        with pytest.raises(ValueError, match=reason):
            open_sources([tmp_path / "a.nc"], wrong)
    with pytest.raises(ValueError, match="not an area"):
        Selection(area="1/2/3")
    with pytest.raises(ValueError, match="positive number of hours"):
        Selection(step=0)
