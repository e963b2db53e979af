"""Conversion of CF and COARDS files to the canonical data set, and rejected inputs."""

import numpy as np
import pytest
import xarray as xr
from helpers import make_source

from fourcaster.datasets.adapters.cf import canonical
from fourcaster.datasets.adapters.opening import _curvilinear_coordinates
from fourcaster.datasets.adapters.rearranging import cells_to_grid
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.adapters.vocabulary import DEGREES
from fourcaster.datasets.ingest.select import Selection
from fourcaster.datasets.units import conversion, normalise


def test_sources_are_converted_to_canonical_names_order_and_units(source, tmp_path):
    source["t2m"] = (source["t2m"] - 273.15).assign_attrs(units="degC").transpose("lon", "time", "lat")
    source.to_netcdf(tmp_path / "a.nc")
    result = open_sources([tmp_path / "a.nc"])
    assert result["t2m"].dims == ("time", "latitude", "longitude") and result["t2m"].dtype == np.float32
    assert result["t2m"].attrs["units"] == "K" and result["u10"].attrs["units"] == "m/s"
    assert np.allclose(result["t2m"], make_source()["t2m"], atol=1e-3)
    for ours, theirs in (("latitude", "lat"), ("longitude", "lon")):
        assert result[ours].values.tobytes() == make_source()[theirs].values.tobytes()
    assert list(result.data_vars) == list(make_source().data_vars)
    assert "units" in result["latitude"].attrs and result["t2m"].chunks is not None


def test_variables_on_levels_get_weatherbench_names(source):
    level = ("plev", np.array([85000.0, 50000.0]), {"units": "Pa", "standard_name": "air_pressure"})
    field = source["t2m"].expand_dims(plev=2, axis=1).assign_attrs(units="K", standard_name="air_temperature")
    result = canonical(source.assign(ta=field).assign_coords(plev=level), "memory")
    assert result["temperature"].dims == ("time", "level", "latitude", "longitude")
    assert result["level"].values.tolist() == [850, 500] and result["level"].dtype == np.int32
    assert "t2m" in result


def test_longitudes_across_the_seam_increase_eastward(source):
    shifted = source.assign_coords(lon=("lon", (source["lon"].values + 130) % 360, {"units": "degrees_east"}))
    result = canonical(shifted, "memory")
    assert (np.diff(result["longitude"]) > 0).all()
    assert np.array_equal(result["longitude"] % 360, shifted["lon"]) and np.array_equal(
        result["t2m"], shifted["t2m"]
    )


def test_files_in_time_and_by_variable_are_joined(source, tmp_path):
    for name in ("t2m", "u10"):
        source[[name]].isel(time=slice(0, 60)).to_netcdf(tmp_path / f"{name}_1.nc")
        source[[name]].isel(time=slice(60, None)).to_netcdf(tmp_path / f"{name}_0.nc")
    result = open_sources([str(tmp_path / "*.nc")])
    assert set(result.data_vars) == {"t2m", "u10"}
    assert np.array_equal(result["time"], source["time"]) and np.array_equal(result["u10"], source["u10"])


def test_variables_are_selected_by_either_name(source, tmp_path):
    source.to_netcdf(tmp_path / "a.nc")
    assert list(open_sources([tmp_path / "a.nc"], Selection(("u10",))).data_vars) == ["u10"]
    with pytest.raises(ValueError, match=r"no variable 't2n'; did you mean t2m"):
        open_sources([tmp_path / "a.nc"], Selection(("t2n",)))


def test_a_noleap_calendar_becomes_the_standard_one(source):
    times = xr.date_range("2003-02-25", periods=160, freq="6h", calendar="noleap", use_cftime=True)
    result = canonical(source.assign_coords(time=times), "memory")
    assert result["time"].dtype == "datetime64[ns]" and str(result["time"].values[16])[:10] == "2003-03-01"


def curvilinear(source):
    lat, lon = np.meshgrid(source["lat"], source["lon"], indexing="ij")
    bare = source.drop_vars(["lat", "lon"]).rename(lat="j", lon="i")
    return bare.assign_coords(
        nav_lat=(("j", "i"), lat, {"units": "degrees_north"}),
        nav_lon=(("j", "i"), lon, {"units": "degrees_east"}),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.drop_vars("lat"), "no latitude coordinate"),
        (lambda d: d.drop_vars("time"), "no time coordinate"),
        (lambda d: d.assign_coords(time=np.arange(160)), "no CF units"),
        (lambda d: d[["u10"]].isel(time=0, drop=True).expand_dims(x=3), "no time coordinate"),
        (lambda d: d.assign(t2m=d["t2m"].assign_attrs(units="banana")), "'banana', which are not units"),
        (lambda d: d.assign(t2m=d["t2m"].assign_attrs(units="")), "has no units"),
        (
            lambda d: d.assign(
                t2m=d["t2m"].assign_attrs(units="m s-1", standard_name="air_temperature")
            ).expand_dims(lev=[850, 500]),
            "cannot become 'K'",
        ),
        (lambda d: d.expand_dims(member=3).assign_coords(member=[0, 1, 2]), "3 members"),
        (lambda d: d.expand_dims(depth=3), "dimension 'depth' of size 3"),
        (lambda d: d.stack(cell=("lat", "lon")).reset_index("cell"), r"latitudes along \(cell\).*regrid"),
        (curvilinear, r"latitudes along \(j, i\), which are not the rows"),
    ],
)
def test_invalid_sources_are_rejected_with_a_reason(source, change, message):
    with pytest.raises(ValueError, match=message):
        canonical(change(source), "memory")


def test_units_can_be_overridden(source):
    source["t2m"].attrs["units"] = "banana"
    assert canonical(source, "memory", units={"t2m": "K"})["t2m"].attrs["units"] == "K"


def test_units_of_one_of_several_files_can_be_overridden(source, tmp_path):
    for name in ("t2m", "u10"):
        source[[name]].to_netcdf(tmp_path / f"{name}.nc")
    result = open_sources([str(tmp_path / "*.nc")], units={"t2m": "degC"})
    assert np.allclose(result["t2m"], source["t2m"] + 273.15) and np.array_equal(result["u10"], source["u10"])
    with pytest.raises(ValueError, match=r"units names 'tt'.*there are: t2m, u10"):
        open_sources([str(tmp_path / "*.nc")], units={"tt": "K"})


def test_one_position_along_another_axis_is_selected(source, tmp_path):
    """Ocean models have time axes with other names, and depths in place of pressures."""
    depths = np.array([0.494025, 1.541375, 2.645669], "f4")
    warming = xr.DataArray([0.0, 1.0, 2.0], dims="depth")
    deep = source.assign(
        t2m=(source["t2m"] + warming).transpose("time", "depth", ...).assign_attrs(units="degrees_C")
    )
    deep = deep.assign_coords(depth=("depth", depths, {"units": "m"}), run=("depth", ["a", "b", "c"])).rename(
        time="ocean_time"
    )
    deep.to_netcdf(tmp_path / "deep.nc")
    source[["u10"]].rename(u10="v10").to_netcdf(tmp_path / "flat.nc")
    result = open_sources([str(tmp_path / "*.nc")], Selection(at=(("depth", "1.541"),)))
    assert set(result.data_vars) == {"t2m", "u10", "v10"} and result["t2m"].dims == (
        "time",
        "latitude",
        "longitude",
    )
    assert np.allclose(result["t2m"], source["t2m"] + 1 + 273.15) and "depth" not in result.coords
    with pytest.raises(
        ValueError,
        match=r"'t2m' has a dimension 'depth' of size 3; select one position along it, e\.g\. depth=0\.49",
    ):
        open_sources([tmp_path / "deep.nc"])
    with pytest.raises(ValueError, match=r"deep\.nc has no depth 1; it has 0\.49\d+, 1\.54\d+, 2\.6"):
        open_sources([tmp_path / "deep.nc"], Selection(at=(("depth", "1"),)))
    with pytest.raises(ValueError, match="has no depth surface"):
        open_sources([tmp_path / "deep.nc"], Selection(at=(("depth", "surface"),)))
    with pytest.raises(
        ValueError, match=r"select names 'dept', which .* does not contain; did you mean depth"
    ):
        open_sources([tmp_path / "deep.nc"], Selection(at=(("depth", "1.541"), ("dept", "1"))))


@pytest.mark.parametrize(
    ("axis", "value", "index"),
    [
        (None, "2", 2),
        (["skin", "root", "deep"], "root", 1),
        (np.array([0, 6, 12], "m8[h]").astype("m8[ns]"), "12h", 2),
        ([0, 10, 20], "0", 0),
        ([-5.0, 0.0, 5.0], "-5", 0),
    ],
)
def test_positions_are_selected_by_value(source, axis, value, index):
    wide = source.assign(
        t2m=source["t2m"]
        + xr.DataArray([0.0, 1.0, 2.0], dims="layer", coords=None if axis is None else {"layer": axis})
    )
    wide["t2m"].attrs["units"] = "K"
    result = canonical(wide, "memory", select=Selection(at=(("layer", value),)))
    assert np.allclose(result["t2m"], source["t2m"] + index)


def test_two_date_axes_are_ambiguous(source):
    two = source.rename(time="ocean_time").expand_dims(run=np.array(["2001-01-01", "2001-01-02"], "M8[ns]"))
    with pytest.raises(ValueError, match="no time coordinate"):
        canonical(two, "memory")


def test_errors_name_a_missing_or_truncated_file(source, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.nc does not exist"):
        open_sources([tmp_path / "nowhere.nc"])
    with pytest.raises(FileNotFoundError, match="no file matches"):
        open_sources([str(tmp_path / "*.nc")])
    source.to_netcdf(tmp_path / "a.nc")
    (tmp_path / "cut.nc").write_bytes((tmp_path / "a.nc").read_bytes()[:9000])
    with pytest.raises(ValueError, match=r"cut\.nc cannot be read as netCDF"):
        open_sources([tmp_path / "cut.nc"])


def test_a_truncated_classic_file_is_rejected(source, tmp_path):
    path = tmp_path / "classic.nc"
    source.to_netcdf(path, format="NETCDF3_CLASSIC", engine="scipy")
    assert np.array_equal(open_sources([path])["t2m"], source["t2m"])
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(ValueError, match=r"classic\.nc"):
        open_sources([path]).load()


@pytest.mark.parametrize(
    ("a", "b", "factor", "offset"),
    [
        ("degC", "K", 1, 273.15),
        ("mb", "Pa", 100, 0),
        ("degK", "K", 1, 0),
        ("g/kg", "kg kg**-1", 1e-3, 0),
        ("degF", "K", 5 / 9, 255.372222),
    ],
)
def test_units_are_converted(a, b, factor, offset):
    actual = conversion(a, b)
    assert actual == pytest.approx((factor, offset), rel=1e-6)


def test_spellings_of_units_are_normalised():
    assert normalise("degK") == normalise("Kelvin") == normalise("kelvin") == "K"
    assert normalise("(0 - 1)") == "1"
    with pytest.raises(ValueError, match="cannot become"):
        conversion("1", "K")


def test_real_files_are_read(real_data):
    air = open_sources([real_data / "ncep_air_temperature_2013-2014.nc"])
    assert air.sizes == {"time": 2920, "latitude": 25, "longitude": 53} and air["air"].attrs["units"] == "K"
    icon = open_sources([real_data / "icon_global_2022-04-01_1deg_12h.nc"])
    assert set(icon["level"].values) == {850, 500, 250} and icon.sizes["latitude"] == 181


def test_incompatible_files_are_rejected(source, tmp_path):
    source[["t2m"]].to_netcdf(tmp_path / "a.nc")
    other = source[["u10"]].assign_coords(lat=("lat", source["lat"].values + 1, {"units": "degrees_north"}))
    other.to_netcdf(tmp_path / "b.nc")
    with pytest.raises(ValueError, match="differ in latitude"):
        open_sources([tmp_path / "a.nc", tmp_path / "b.nc"])
    source[["u10"]].isel(time=slice(0, 100)).to_netcdf(tmp_path / "b.nc")
    with pytest.raises(ValueError, match="differ in time"):
        open_sources([tmp_path / "a.nc", tmp_path / "b.nc"])
    level = ("lev", np.array([850.0, 500.0]), {"units": "hPa"})
    source[["t2m"]].expand_dims(lev=2).assign_coords(lev=level).to_netcdf(tmp_path / "b.nc")
    with pytest.raises(ValueError, match="differ: only one has a level"):
        open_sources([tmp_path / "a.nc", tmp_path / "b.nc"])


def test_single_levels_and_members_are_squeezed(source):
    level = ("lev", np.array([850.0]), {"units": "hPa"})
    wide = source.expand_dims(lev=1, member=1).assign_coords(lev=level, member=[0])
    assert canonical(wide, "memory")["t2m"].dims == ("time", "latitude", "longitude")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d.expand_dims(lev=2).assign_coords(lev=("lev", [0.1, 0.9], {"units": "m"})),
            "'lev' has units 'm'.*select one of these, e.g. lev=0.1",
        ),
        (
            lambda d: d.assign_coords(time=d["time"].where(d["time"] > d["time"][0])),
            r"1 time\(s\) are missing",
        ),
        (
            lambda d: d.isel(lat=0)[["t2m"]].assign_coords(lat=("lat", d["lat"].values, d["lat"].attrs)),
            "no variable on",
        ),
    ],
)
def test_invalid_axes_are_rejected_with_a_reason(source, change, message):
    with pytest.raises(ValueError, match=message):
        canonical(change(source), "memory")


def test_an_unsupported_calendar_is_named(source):
    times = xr.date_range("2001-02-01", periods=160, freq="6h", calendar="360_day", use_cftime=True)
    with pytest.raises(ValueError, match="360_day"):
        canonical(source.assign_coords(time=times), "memory")


def test_two_variables_with_the_same_canonical_name_are_rejected(source):
    field = source["t2m"].expand_dims(plev=2, axis=1).assign_attrs(units="K", standard_name="air_temperature")
    level = ("plev", np.array([85000.0, 50000.0]), {"units": "Pa"})
    with pytest.raises(ValueError, match="both become 'temperature'"):
        canonical(source.assign(ta=field, temperature=field).assign_coords(plev=level), "memory")


@pytest.mark.parametrize(
    ("original", "stored"),
    [
        ([315, 330, 345, 0, 15, 30], [315, 330, 345, 360, 375, 390]),
        (
            [0, 15, 30, 315, 330, 345],
            [315, 330, 345, 360, 375, 390],
        ),  # as after masking a global grid
        ([150, 165, -180, -165, -150], [150, 165, 180, 195, 210]),
        ([180, 270, 0, 90], [0, 90, 180, 270]),  # a global grid has no western edge
        ([-180, -90, 0, 90], [-180, -90, 0, 90]),
    ],
)
def test_a_region_across_the_seam_is_contiguous(original, stored):
    values = np.broadcast_to(np.array(original, "f4") % 360, (2, 3, len(original)))
    coords = {
        "time": np.array(["2001-01-01", "2001-01-02"], "M8[ns]"),
        "latitude": [60.0, 45.0, 30.0],
        "longitude": np.array(original, float),
    }
    source = xr.Dataset({"t": (("time", "latitude", "longitude"), values, {"units": "K"})}, coords)
    dataset = canonical(source, "source")
    assert dataset["longitude"].values.tolist() == stored
    assert np.array_equal(dataset["t"].values[0, 0], np.array(stored) % 360)


@pytest.mark.parametrize(
    ("name", "units"),
    [("lat", "degrees_north"), ("lon", "degrees_east"), ("time", r"hours since \.\.\.")],
)
def test_the_error_for_a_missing_coordinate_shows_units_as_text(source, name, units):
    with pytest.raises(ValueError, match=f"add one with CF attributes, e.g. units {units}$"):
        canonical(source.drop_vars(name), "memory")


@pytest.mark.parametrize("spelling", range(6))
def test_all_units_of_latitude_and_longitude_in_cf_are_recognised(source, spelling):
    units = {"lat": DEGREES["latitude"][spelling], "lon": DEGREES["longitude"][spelling]}
    assert units["lat"].lower().startswith("degree") and units["lat"][6:].strip("s_")[0] in "nN"
    renamed = source.rename(lat="b", lon="a")
    for name, own in (("b", "lat"), ("a", "lon")):
        renamed[name].attrs = {"units": units[own]}
    assert np.array_equal(canonical(renamed, "memory")["latitude"], source["lat"])
    cells = renamed.stack(cell=("b", "a")).reset_index("cell").reset_coords(["a", "b"])
    for name, own in (("b", "lat"), ("a", "lon")):
        cells[name].attrs = {"units": units[own]}
    assert cells_to_grid(cells, "memory")["t2m"].shape == source["t2m"].shape
    flat = curvilinear(source).reset_coords()
    for name, own in (("nav_lat", "lat"), ("nav_lon", "lon")):
        flat[name].attrs = {"units": units[own]}
    assert set(_curvilinear_coordinates(flat)) == {"nav_lat", "nav_lon"}
