"""Joining of several files: levels, heights, members, matched names, compared coordinates, static fields."""

import netCDF4
import numpy as np
import pytest
import xarray as xr

from fourcaster.datasets.adapters.cf import canonical
from fourcaster.datasets.adapters.opening import open_raw
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.identity import identity, match_variables, select_place
from fourcaster.datasets.ingest.select import Selection
from fourcaster.datasets.scalars import differing, level_of, scalars_of
from fourcaster.datasets.schema import channels, check_grid, grid_of
from fourcaster.datasets.store.open import open_store, read_group
from fourcaster.datasets.suggestions import suggest
from fourcaster.forecast.ingestion import ingest

LATITUDE = np.linspace(60, 30, 7)
LONGITUDE = np.arange(200, 260, 5.0)
MONTHS = {"jan": "2001-01-01", "feb": "2001-01-11"}


def grid(
    name="t2m", units="K", times=40, start="2001-01-01", lat=LATITUDE, lon=LONGITUDE, base=280.0, **attrs
):
    """Return a wave around ``base``, every 6 hours."""
    time = np.datetime64(start, "ns") + np.arange(times) * np.timedelta64(6, "h")
    phase = 6 * np.deg2rad(np.asarray(lon, "f8")) - 0.4 * np.arange(times)[:, None, None]
    values = base + 5 * np.cos(phase) * np.cos(np.deg2rad(np.asarray(lat, "f8")))[:, None]
    coords = {
        "time": time,
        "latitude": ("latitude", np.asarray(lat), {"units": "degrees_north"}),
        "longitude": ("longitude", np.asarray(lon), {"units": "degrees_east"}),
    }
    return xr.Dataset(
        {name: (("time", "latitude", "longitude"), values.astype("f4"), {"units": units} | attrs)}, coords
    )


def on_level(hpa, name="z", units="m**2 s**-2", level_units="hPa", base=None, **more):
    """Return a variable on an axis of a single pressure level."""
    dataset = grid(name, units, base=100.0 * hpa if base is None else base, **more).expand_dims(
        level=[hpa], axis=1
    )
    value = hpa * 100.0 if level_units == "Pa" else hpa
    return dataset.assign_coords(level=("level", np.array([value]), {"units": level_units}))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_with_different_levels_and_equal_times_form_a_level_axis(folder):
    on_level(500).to_netcdf("z500.nc")
    on_level(850, level_units="Pa").to_netcdf("z850.nc")
    ingest(["z850.nc", "z500.nc"], "two.zarr")
    store = open_store("two.zarr")
    assert [(c.variable, c.level) for c in store.channels] == [("z", 500), ("z", 850)]
    for level in (500, 850):
        assert np.array_equal(store.dataset["z"].sel(level=level), on_level(level)["z"][:, 0])
    assert store.dataset["level"].dtype == np.int32 and "scalar_coordinates" not in store.dataset["z"].attrs
    assert read_group(store, "statistics")["z_mean"].values == pytest.approx([5e4, 8.5e4], rel=1e-3)


def test_files_with_different_levels_and_times_are_rejected(folder):
    on_level(500).to_netcdf("z500.nc")
    on_level(850, start=MONTHS["feb"]).to_netcdf("z850.nc")
    with pytest.raises(ValueError, match=r"z500\.nc has 'z' at level 500 hPa, z850\.nc at level 850 hPa"):
        ingest(["z500.nc", "z850.nc"], "mixed.zarr")
    assert not (folder / "mixed.zarr").exists()
    ingest(["z500.nc"], "s.zarr")
    with pytest.raises(
        ValueError, match=r"z850\.nc: 'z' is at level 850 hPa, that of .*s\.zarr at level 500 hPa"
    ):
        ingest(["z850.nc"], "s.zarr", append=True)
    assert open_store("s.zarr").dataset.sizes["time"] == 40
    on_level(500, start=MONTHS["feb"], level_units="Pa").to_netcdf("z500_feb.nc")
    ingest(["z500_feb.nc"], "s.zarr", append=True)
    store = open_store("s.zarr")
    assert store.dataset.sizes["time"] == 80 and scalars_of(store.dataset["z"].attrs) == {"level": "500 hPa"}
    assert str(store.channels[0]) == "z at level 500 hPa"


@pytest.mark.parametrize(
    ("name", "values", "attrs", "message"),
    [
        ("height", (10.0, 100.0), {"units": "m"}, "height 10 m.*height 100 m"),
        ("depth", (0.5, 5.0), {"units": "m"}, "depth 0.5 m.*depth 5 m"),
        (
            "plev",
            (50000.0, 85000.0),
            {"units": "Pa", "standard_name": "air_pressure"},
            "level 500 hPa.*level 850 hPa",
        ),
        ("quantile", (0.1, 0.9), {}, "quantile 0.1.*quantile 0.9"),
        ("scenario", ("ssp126", "ssp585"), {}, "scenario ssp126.*scenario ssp585"),
    ],
)
@pytest.mark.parametrize("axis", [False, True])
def test_fields_with_different_scalar_coordinates_are_not_joined(folder, name, values, attrs, message, axis):
    for value, (month, start) in zip(values, MONTHS.items(), strict=True):
        one = grid("u", "m s-1", start=start, base=0.0).assign_coords({name: ((), value, attrs)})
        (one.expand_dims(name, axis=1) if axis else one).to_netcdf(f"{month}.nc")
    with pytest.raises(ValueError, match=rf"jan\.nc.*{message}"):
        open_sources(["jan.nc", "feb.nc"])
    same = grid("u", "m s-1", start=MONTHS["feb"], base=0.0).assign_coords({name: ((), values[0], attrs)})
    same.to_netcdf("same.nc")
    assert open_sources(["jan.nc", "same.nc"]).sizes["time"] == 80


def test_files_with_different_heights_become_separate_variables(folder):
    for height in (10, 100):
        grid("u", "m s-1", base=float(height)).assign_coords(
            height=((), float(height), {"units": "m"})
        ).to_netcdf(f"u{height}.nc")
    dataset = open_sources(["u10.nc", "u100.nc"])
    assert list(dataset.data_vars) == ["u_10m", "u_100m"]
    assert np.allclose(dataset["u_10m"], grid("u", base=10.0)["u"]) and np.allclose(
        dataset["u_100m"], grid("u", base=100.0)["u"]
    )
    assert [c.scalars["height"] for c in channels(dataset)] == ["10 m", "100 m"]


@pytest.mark.parametrize("start", MONTHS.values())
def test_several_members_require_a_selection(folder, start):
    for member, time in ((0, MONTHS["jan"]), (3, start)):
        grid("u", "m s-1", start=time, base=float(member)).expand_dims(number=[member], axis=1).to_netcdf(
            f"m{member}.nc"
        )
    with pytest.raises(ValueError, match=r"m0\.nc and m3\.nc contain the members 0 and 3 of 'u'; select one"):
        open_sources(["m0.nc", "m3.nc"])
    third = open_sources(["m0.nc", "m3.nc"], Selection(member=3))
    assert np.allclose(third["u"], grid("u", base=3.0)["u"]) and third["time"].values[0] == np.datetime64(
        start
    )
    with pytest.raises(ValueError, match="no member 5"):
        open_sources(["m0.nc", "m3.nc"], Selection(member=5))
    ingest(["m0.nc"], "s.zarr")
    grid("u", "m s-1", start=MONTHS["feb"]).assign_coords(realization="3").to_netcdf("later.nc")
    with pytest.raises(ValueError, match=r"'u' is at member 3, that of .* at member 0"):
        ingest(["later.nc"], "s.zarr", append=True)
    grid().to_netcdf("none.nc")
    with pytest.raises(ValueError, match="no members to select"):
        open_sources(["none.nc"], Selection(member=0))


def test_one_file_per_variable_level_and_month_are_joined(folder):
    for month, start in MONTHS.items():
        for level in (850, 500, 1000):
            on_level(level, "z", start=start, standard_name="geopotential").to_netcdf(f"z_{level}_{month}.nc")
            on_level(level, "t", "K", base=300.0 - level / 10, start=start).to_netcdf(f"t_{level}_{month}.nc")
    dataset = open_sources(["*.nc"])
    assert dataset.sizes["time"] == 80 and dataset["level"].values.tolist() == [500, 850, 1000]
    assert set(dataset.data_vars) == {"geopotential", "t"}  # as in one file with all levels
    assert np.allclose(dataset["t"].sel(level=850).mean(), 215, atol=1)
    two = open_sources(["*.nc"], Selection(levels=(850, 500)))
    assert set(two["level"].values.tolist()) == {500, 850}
    with pytest.raises(ValueError, match="no level 300 hPa; it has"):
        open_sources(["*.nc"], Selection(levels=(500, 300)))
    grid().to_netcdf("none.txt.nc")
    with pytest.raises(ValueError, match="no pressure levels"):
        open_sources(["none.txt.nc"], Selection(levels=(500,)))


def test_single_levels_of_two_variables_are_not_combined(folder):
    on_level(500).to_netcdf("z500.nc")
    on_level(850, "t", "K", base=280.0).to_netcdf("t850.nc")
    dataset = open_sources(["z500.nc", "t850.nc"])
    assert {str(n): level_of(v.attrs) for n, v in dataset.data_vars.items()} == {"z": 500, "t": 850}
    assert dataset["z"].dims == ("time", "latitude", "longitude")


def test_different_sets_of_levels_are_rejected_or_selected(folder):
    both = xr.concat([on_level(500), on_level(850)], "level")
    both.to_netcdf("both.nc")
    both.isel(level=[1, 0], time=slice(None)).assign_coords(
        time=both["time"] + np.timedelta64(10, "D")
    ).to_netcdf("turned.nc")
    turned = open_sources(["both.nc", "turned.nc"])
    assert turned["level"].values.tolist() == [500, 850] and np.allclose(
        turned["z"].sel(level=500).mean(), 5e4, rtol=1e-3
    )
    on_level(850, start=MONTHS["feb"]).to_netcdf("later.nc")
    with pytest.raises(
        ValueError,
        match=r"both\.nc has 'z' at level 500 and 850 hPa, later\.nc at level 850 hPa.*select levels",
    ):
        open_sources(["both.nc", "later.nc"])
    selected = open_sources(["both.nc", "later.nc"], Selection(levels=(850,)))
    assert selected.sizes["time"] == 80 and np.allclose(selected["z"].mean(), 8.5e4, rtol=1e-3)
    on_level(850).to_netcdf("again.nc")
    with pytest.raises(ValueError, match=r"both\.nc and again\.nc both contain 'z' at 850 hPa"):
        open_sources(["both.nc", "again.nc"])
    on_level(850, "t", "K").to_netcdf("t850.nc")
    xr.concat([on_level(500, "t", "K"), on_level(1000, "t", "K")], "level").to_netcdf("t.nc")
    with pytest.raises(ValueError, match=r"both\.nc and t\.nc differ in level"):
        open_sources(["both.nc", "t.nc"])


def test_overlapping_times_are_rejected_with_both_files(folder):
    grid().to_netcdf("a.nc")
    grid(start="2001-01-05").to_netcdf("b.nc")
    with pytest.raises(ValueError, match=r"a\.nc and b\.nc both contain 't2m' at 2001-01-05T00:00"):
        open_sources(["a.nc", "b.nc"])


def test_a_scalar_coordinate_applies_to_the_variables_that_name_it(folder):
    t2m = grid().assign_coords(height=((), 2.0, {"units": "m", "standard_name": "height"}))
    both = t2m.assign(msl=grid("msl", "Pa", base=1e5)["msl"])
    both.to_netcdf("a.nc")
    with netCDF4.Dataset("a.nc", "a") as file:  # xarray writes it for all variables
        file["msl"].delncattr("coordinates")
    dataset = canonical(open_raw("a.nc"), "a.nc")
    assert scalars_of(dataset["t2m"].attrs) == {"height": "2 m"} and not scalars_of(dataset["msl"].attrs)
    wide = (
        on_level(500)
        .drop_vars("level")
        .squeeze("level")
        .expand_dims(level=[500, 850], axis=1)
        .assign(t2m=t2m["t2m"])
    )
    result = canonical(wide, "memory")
    assert "scalar_coordinates" not in result["z"].attrs and scalars_of(result["t2m"].attrs) == {
        "height": "2 m"
    }
    assert scalars_of(result["t2m"].attrs) == scalars_of(
        canonical(result.rename(t2m="again"), "memory")["again"].attrs
    )


@pytest.mark.parametrize("name", ["surface", "expver", "step", "crs", "valid_time"])
def test_irrelevant_scalar_coordinates_are_dropped(name):
    value = {
        "expver": "0001",
        "step": np.timedelta64(6, "h"),
        "valid_time": np.datetime64("2001-01-01", "ns"),
    }.get(name, 0)
    assert not scalars_of(canonical(grid().assign_coords({name: value}), "memory")["t2m"].attrs)


def test_a_level_without_units_is_a_pressure_if_plausible():
    for value, scalars in ((850, {"level": "850 hPa"}), (0, {"lev": "0"}), (1, {"lev": "1"})):
        dataset = grid("q", "kg/kg").expand_dims(lev=[value], axis=1)
        assert scalars_of(canonical(dataset, "memory")["q"].attrs) == scalars
    nominal = ((), 850.0, {"units": "hPa", "long_name": "hybrid level at midpoints"})
    hybrid = grid("q", "kg/kg").assign_coords(lev=nominal, P0=((), 1e5, {"units": "Pa"}))
    assert scalars_of(canonical(hybrid, "memory")["q"].attrs) == {"lev": "850 hPa"}  # a nominal pressure


def test_rounded_scalar_values_are_equal():
    assert differing({"depth": "0.494025 m"}, {"depth": "0.494 m"}) is None
    assert differing({"height": "10 m"}, {"height": "100 m", "number": "1"}) == "height"
    assert differing({"height": "10 m"}, {"height": "10 km"}) == "height"
    assert differing({"number": "20000"}, {"number": "20001"}) == "number"


def test_a_variable_is_selected_at_the_levels_of_a_store():
    def select(dataset, levels, **scalars):
        return select_place(
            canonical(dataset, "memory")["z"],
            levels=levels,
            scalars=scalars,
            source="new.nc",
            owner="the store",
        )

    both = xr.concat([on_level(500), on_level(850)], "level")
    assert (
        select(on_level(500), [500]).sizes["level"] == 1
        and "level" not in select(on_level(500), None, level="500 hPa").dims
    )
    assert select(both, [850, 500])["level"].values.tolist() == [850, 500]
    assert np.array_equal(select(both, None, level="850 hPa"), on_level(850)["z"][:, 0])
    assert select(on_level(500).assign_coords(height=10.0), None, height="10 m").ndim == 3
    for dataset, levels, scalars, message in (
        (on_level(850), [500], {}, "lacks level 500 hPa, which the store needs; it has 850 hPa"),
        (both, None, {"level": "700 hPa"}, "lacks level 700 hPa, which the store needs; it has 500, 850 hPa"),
        (both, None, {}, "has levels, but that of the store has none"),
        (
            grid("z").assign_coords(height=100.0),
            None,
            {"height": "10 m"},
            "'z' is at height 100 m, that of the store at height 10 m",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            select(dataset, levels, **scalars)


# One quantity with several names.


def new_cds(start, times=40):
    """Return a data set as in files of the Climate Data Store since September 2024."""
    dataset = grid(start=start, times=times).rename(time="valid_time")
    dataset["t2m"].attrs |= {
        "GRIB_shortName": "2t",
        "GRIB_cfVarName": "t2m",
        "standard_name": "unknown",
        "long_name": "2 metre temperature",
    }
    return dataset.assign_coords(
        number=((), 0, {"standard_name": "realization", "units": "1"}),
        expver=("valid_time", np.array(["0001"] * times, dtype=object)),
    )


def test_old_and_new_cds_files_are_one_series(folder):
    grid().to_netcdf("old.nc")
    new_cds(MONTHS["feb"]).to_netcdf("new.nc")
    joined = open_sources(["old.nc", "new.nc"])
    assert list(joined.data_vars) == ["t2m"] and joined.sizes["time"] == 80
    expected = xr.concat([grid(), grid(start=MONTHS["feb"])], "time")["t2m"]
    assert np.array_equal(joined["t2m"], expected)
    ingest(["old.nc"], "s.zarr")
    ingest(["new.nc"], "s.zarr", append=True)
    assert np.array_equal(open_store("s.zarr").dataset["t2m"], expected)
    assert list(open_sources(["new.nc", "old.nc"]).data_vars) == ["2m_temperature"]


@pytest.mark.parametrize(
    ("name", "attrs", "height"),
    [
        ("2m_temperature", {}, None),
        ("2t", {}, None),
        ("tas", {"standard_name": "air_temperature"}, 2.0),
        ("t2m", {"GRIB_shortName": "2t", "standard_name": "unknown"}, None),
    ],
)
def test_names_of_the_same_quantity_match(name, attrs, height):
    ours = canonical(grid(), "memory")["t2m"]
    dataset = grid(name, **attrs)
    if height:
        dataset = dataset.assign_coords(height=((), height, {"units": "m"}))
    theirs = canonical(dataset, "memory")
    (match,) = theirs.data_vars
    assert match_variables({"t2m": identity(ours)}, {str(match): identity(theirs[match])}) == {"t2m": match}


@pytest.mark.parametrize(
    ("name", "units", "attrs", "height"),
    [
        ("tas", "K", {"standard_name": "air_temperature"}, 80.0),
        ("air", "K", {"standard_name": "air_temperature"}, None),
        ("2t", "m", {}, None),
        ("d2m", "K", {}, None),
    ],
)
def test_different_quantities_do_not_match(name, units, attrs, height):
    dataset = grid(name, units, **attrs)
    if height:
        dataset = dataset.assign_coords(height=((), height, {"units": "m"}))
    theirs = canonical(dataset, "memory")[name]
    assert not match_variables(
        {"t2m": identity(canonical(grid(), "memory")["t2m"])}, {name: identity(theirs)}
    )


def test_variables_with_and_without_level_do_not_match():
    single = canonical(on_level(500, "t", "K", base=280.0), "memory")["t"]
    surface = canonical(grid("temperature"), "memory")["temperature"]
    assert not match_variables({"t": identity(single)}, {"temperature": identity(surface)})
    on_levels = canonical(
        xr.concat([on_level(500, "temperature", "K"), on_level(850, "temperature", "K")], "level"), "memory"
    )["temperature"]
    assert match_variables({"t": identity(single)}, {"temperature": identity(on_levels)}) == {
        "t": "temperature"
    }


def test_ambiguous_candidates_do_not_match(folder):
    both = canonical(
        grid("2t").assign(tas=grid("tas", standard_name="air_temperature")["tas"]).assign_coords(height=2.0),
        "memory",
    )
    available = {str(n): identity(v) for n, v in both.data_vars.items()}
    assert len(available) == 2 and not match_variables(
        {"t2m": identity(canonical(grid(), "memory")["t2m"])}, available
    )


def test_variables_are_selected_by_any_known_name(folder):
    grid().assign(msl=grid("msl", "Pa", base=1e5)["msl"]).to_netcdf("a.nc")
    assert list(open_sources(["a.nc"], Selection(("2m_temperature",))).data_vars) == ["t2m"]
    with pytest.raises(ValueError, match=r"no variable 'nothing'; there are: t2m, msl$"):
        open_sources(["a.nc"], Selection(("nothing",)))


def test_variables_are_renamed(folder):
    grid("temp").to_netcdf("a.nc")
    grid("T_2M", start=MONTHS["feb"]).to_netcdf("b.nc")
    for rename, name in (({"T_2M": "temp"}, "temp"), ({"T_2M": "warmth", "temp": "warmth"}, "warmth")):
        joined = open_sources(["a.nc", "b.nc"], rename=rename)
        assert list(joined.data_vars) == [name] and joined.sizes["time"] == 80
    ingest(["a.nc"], "s.zarr", rename={"temp": "2m_temperature"})
    assert list(open_store("s.zarr").dataset.data_vars) == ["2m_temperature"]
    for rename, message in (
        ({"T_2N": "temp"}, r"rename names 'T_2N', which a\.nc, b\.nc does not contain; did you mean T_2M"),
        ({"T_2M": "../t"}, "cannot be the name of a variable"),
        ({"T_2M": "level"}, "cannot be the name of a variable"),
    ):
        with pytest.raises(ValueError, match=message):
            open_sources(["a.nc", "b.nc"], rename=rename)
    grid("temp").assign(T_2M=grid("T_2M")["T_2M"]).to_netcdf("two.nc")
    with pytest.raises(ValueError, match="both become 'temp'"):
        open_sources(["two.nc"], rename={"T_2M": "temp"})


def test_different_units_are_rejected_but_spellings_are_not(folder):
    grid("tp", "m", base=1.0).to_netcdf("a.nc")
    grid("tp", "mm", base=1000.0, start=MONTHS["feb"]).to_netcdf("b.nc")
    with pytest.raises(ValueError, match=r"b\.nc has 'tp' in 'mm', a\.nc in 'm'"):
        open_sources(["a.nc", "b.nc"])
    grid("u10", "m s**-1", base=0.0).to_netcdf("a.nc")
    grid("u10", "m/s", base=0.0, start=MONTHS["feb"]).to_netcdf("b.nc")
    assert open_sources(["a.nc", "b.nc"]).sizes["time"] == 80
    ingest(["a.nc"], "s.zarr")
    ingest(["b.nc"], "s.zarr", append=True)
    assert open_store("s.zarr").dataset["u10"].attrs["units"] == "m s**-1"


# One grid with rounded or reordered coordinates.


def rounded(lat, lon):
    return np.asarray(lat).astype("f4"), np.asarray(lon).astype("f4")


@pytest.mark.parametrize(
    ("lat", "lon"),
    [
        (np.arange(90, -90.1, -5), np.arange(0, 360, 5.0)),
        (np.round(np.arange(50.0, 47.0, -0.1), 1), np.round(np.arange(300.0, 304.0, 0.1), 1)),
    ],
)
def test_rounded_coordinates_are_the_same_grid(folder, lat, lon):
    lat32, lon32 = rounded(lat * (1 + 1e-7), lon)
    grid(lat=lat, lon=lon).to_netcdf("one.nc")
    grid(lat=lat32, lon=lon32, start=MONTHS["feb"]).to_netcdf("two.nc")
    grid("msl", "Pa", times=80, lat=lat32, lon=lon32, base=1e5).to_netcdf("other.nc")
    joined = open_sources(["one.nc", "two.nc", "other.nc"])
    assert joined.sizes["time"] == 80 and set(joined.data_vars) == {"t2m", "msl"}
    ingest(["one.nc"], "s.zarr")
    ingest(["two.nc"], "s.zarr", append=True)
    store = open_store("s.zarr").dataset
    aligned = check_grid(open_sources(["two.nc"]), grid_of(open_sources(["one.nc"])), "two.nc")
    for dataset in (joined, store, aligned):
        assert (
            dataset["latitude"].values.tobytes() == lat.tobytes()
            and dataset["longitude"].values.tobytes() == lon.tobytes()
        )
        assert not dataset["t2m"].isnull().any()
    assert store.sizes == {"time": 80, "latitude": len(lat), "longitude": len(lon)}


def test_rows_and_longitudes_are_reordered(folder):
    lon = np.arange(0, 360, 30.0)
    grid(lon=lon).to_netcdf("one.nc")
    other = grid(lon=lon, start=MONTHS["feb"])
    turned = (
        other.isel(latitude=slice(None, None, -1))
        .assign_coords(longitude=(other["longitude"] + 180) % 360 - 180)
        .sortby("longitude")
    )
    turned["longitude"].attrs["units"] = "degrees_east"
    turned.to_netcdf("two.nc")
    expected = xr.concat([grid(lon=lon), other], "time")["t2m"]
    xr.testing.assert_equal(
        open_sources(["one.nc", "two.nc"])["t2m"].load().drop_attrs(), expected.drop_attrs()
    )
    ingest(["one.nc"], "s.zarr")
    ingest(["two.nc"], "s.zarr", append=True)
    xr.testing.assert_equal(open_store("s.zarr").dataset["t2m"].load().drop_attrs(), expected.drop_attrs())


def test_different_grid_points_are_rejected(folder):
    grid().to_netcdf("one.nc")
    grid(lat=LATITUDE + 0.01, start=MONTHS["feb"]).to_netcdf("two.nc")
    with pytest.raises(ValueError, match=r"one\.nc and two\.nc differ in latitude"):
        open_sources(["one.nc", "two.nc"])
    ingest(["one.nc"], "s.zarr")
    with pytest.raises(ValueError, match="differ in latitude"):
        ingest(["two.nc"], "s.zarr", append=True)


def test_areas_include_points_on_their_edges_despite_rounding(folder):
    lat, lon = np.round(np.arange(50.0, 47.0, -0.1), 1), np.round(np.arange(300.0, 304.0, 0.1), 1)
    for number, (a, b) in enumerate(((lat, lon), rounded(lat, lon))):
        grid(lat=a, lon=b).to_netcdf(f"{number}.nc")
        cut = open_sources([f"{number}.nc"], Selection(area="49.7/300.1/48.3/303.3"))
        assert cut.sizes == {"time": 40, "latitude": 15, "longitude": 33}


def test_regridding_to_the_same_grid_keeps_the_values(folder):
    grid(lat=LATITUDE.astype("f4") * np.float32(1 + 1e-7)).to_netcdf("one.nc")
    grid().to_netcdf("two.nc")
    ingest(["two.nc"], "target.zarr")
    ingest(["one.nc"], "s.zarr", grid="target.zarr")
    dataset = open_store("s.zarr").dataset
    assert np.array_equal(dataset["t2m"], grid(lat=LATITUDE.astype("f4") * np.float32(1 + 1e-7))["t2m"])
    assert np.array_equal(dataset["latitude"], LATITUDE)


# Static fields.


def constants(start="2001-01-01", base=280.0, **more):
    one = grid(
        "z", "m**2 s**-2", times=1, start=start, base=base, standard_name="surface_geopotential", **more
    )
    return one.assign(lsm=(one["z"].drop_attrs() > base).astype("f4").assign_attrs(units="(0 - 1)"))


@pytest.mark.parametrize("when", [None, "2001-01-01", "1979-01-01"])
def test_static_fields_are_read_from_another_file(folder, when):
    grid().to_netcdf("t2m.nc")
    one = constants(start=when or "2001-01-01")
    (one.isel(time=0, drop=True) if when is None else one).to_netcdf("constants.nc")
    xr.merge([grid(), constants().isel(time=0, drop=True)]).to_netcdf("merged.nc")
    ingest(["t2m.nc", "constants.nc"], "s.zarr", Selection(times="2001-01-03:2001-01-09"))
    ingest(["merged.nc"], "merged.zarr", Selection(times="2001-01-03:2001-01-09"))
    ours, expected = open_store("s.zarr"), open_store("merged.zarr")
    assert list(ours.dataset.data_vars) == ["t2m"] and sorted(ours.static()) == ["lsm", "z"]
    for name, field in expected.static().items():
        assert np.array_equal(ours.static()[name], field)
    assert np.array_equal(ours.dataset["t2m"], expected.dataset["t2m"])


def test_static_fields_are_aligned_with_rounded_and_rolled_coordinates(folder):
    grid().to_netcdf("t2m.nc")
    exact = constants().isel(time=0, drop=True)
    exact.isel(latitude=slice(None, None, -1)).assign_coords(
        longitude=exact["longitude"].astype("f4")
    ).to_netcdf("constants.nc")
    dataset = open_sources(["constants.nc", "t2m.nc"])
    assert (
        np.array_equal(dataset.coords["z"], exact["z"])
        and dataset["longitude"].values.tobytes() == LONGITUDE.tobytes()
    )
    around = constants(lat=np.linspace(90, -90, 37), lon=np.arange(-180, 180, 5.0)).isel(time=0, drop=True)
    around.assign(lsm=around["lsm"] > 0.5).to_netcdf("globe.nc")  # a boolean mask of the globe
    cut = open_sources(["t2m.nc", "globe.nc"])
    expected = around["z"].sel(latitude=LATITUDE, longitude=LONGITUDE - 360)
    assert np.array_equal(cut.coords["z"], expected) and np.array_equal(
        cut.coords["lsm"], around["lsm"].sel(expected.coords)
    )
    constants(lat=LATITUDE + 1).to_netcdf("elsewhere.nc")
    with pytest.raises(ValueError, match="differ in latitude"):
        open_sources(["t2m.nc", "elsewhere.nc"])


def test_surface_geopotential_is_distinguished_from_levels_of_the_same_name(folder):
    xr.concat([on_level(500), on_level(850)], "level").to_netcdf("z.nc")
    constants().to_netcdf("constants.nc")
    dataset = open_sources(["z.nc", "constants.nc"])
    assert dataset["z"].sizes["level"] == 2 and np.array_equal(
        dataset.coords["geopotential_at_surface"], constants()["z"][0]
    )


def test_geopotential_among_constants_is_that_of_the_surface(folder):
    grid().to_netcdf("t2m.nc")
    plain = constants()
    plain["z"].attrs["standard_name"] = "geopotential"
    plain.to_netcdf("constants.nc")
    assert {"z", "lsm"} <= set(open_sources(["t2m.nc", "constants.nc"]).coords)
    plain[["z"]].to_netcdf("alone.nc")
    with pytest.raises(ValueError, match=r"differ in time.*declare 'z' as static"):
        open_sources(["t2m.nc", "alone.nc"])
    assert "z" in open_sources(["t2m.nc", "alone.nc"], static=["z"]).coords


def test_time_dependent_variables_without_time_are_rejected(folder):
    grid().to_netcdf("t2m.nc")
    grid("u10", "m s-1", times=1, base=0.0).to_netcdf("u10.nc")
    with pytest.raises(ValueError, match=r"differ in time.*declare 'u10' as static"):
        open_sources(["t2m.nc", "u10.nc"])
    grid("u10", "m s-1", times=1, base=0.0).isel(time=0, drop=True).to_netcdf("u10.nc")
    with pytest.raises(ValueError, match=r"u10\.nc contains 'u10' without a time.*declare it as static"):
        open_sources(["t2m.nc", "u10.nc"])
    grid(times=1).isel(time=0, drop=True).to_netcdf("mean.nc")
    with pytest.raises(ValueError, match=r"mean\.nc contains 't2m' without a time.*rename it"):
        open_sources(["t2m.nc", "mean.nc"])
    for at in range(3):  # one file per time, each with its own mask
        month = constants(start=f"2001-01-0{at + 1}")[["lsm"]]
        grid(times=1, start=f"2001-01-0{at + 1}").assign(lsm=month["lsm"]).to_netcdf(f"{at}.nc")
    assert set(open_sources(["[0-2]*.nc"]).data_vars) == {"t2m", "lsm"}
    with pytest.raises(ValueError, match="no variable that changes with time"):
        constants().isel(time=0, drop=True).to_netcdf("constants.nc")
        open_sources(["constants.nc", "constants.nc"])


def test_variables_are_declared_static_by_name(folder):
    grid().to_netcdf("t2m.nc")
    one = grid("roughness", "m", times=1, base=0.0)
    one.to_netcdf("roughness.nc")
    assert np.array_equal(
        open_sources(["t2m.nc", "roughness.nc"], static=["roughness"]).coords["roughness"],
        one["roughness"][0],
    )
    xr.merge([grid(), one.isel(time=0, drop=True).expand_dims(time=grid()["time"].values)]).to_netcdf(
        "both.nc"
    )
    assert "roughness" in open_sources(["both.nc"], static=["roughness"]).coords
    with pytest.raises(ValueError, match=r"both\.nc: 't2m' changes with time"):
        open_sources(["both.nc"], static=["t2m"])
    with pytest.raises(ValueError, match=r"static names 'rough'.*did you mean roughness"):
        open_sources(["t2m.nc", "roughness.nc"], static=["rough"])


def test_static_fields_that_differ_are_reported(folder, caplog):
    grid().to_netcdf("t2m.nc")
    constants().isel(time=0, drop=True).to_netcdf("a.nc")
    constants(base=300.0).isel(time=0, drop=True)[["z"]].to_netcdf("b.nc")
    assert np.array_equal(open_sources(["t2m.nc", "a.nc", "b.nc"]).coords["z"], constants()["z"][0])
    assert "z of a.nc is used; that of b.nc differs" in caplog.text


def test_long_lists_of_names_are_abbreviated():
    assert suggest("zzz", ["u", "temperature"]) == "there are: u, temperature"
    hint = suggest("zzz", [f"name{i}" for i in range(45)])
    assert hint.endswith("name29 ... and 15 more")


def test_files_are_closed_after_an_error(folder):
    on_level(500).to_netcdf("a.nc")
    on_level(850, start=MONTHS["feb"]).to_netcdf("b.nc")
    with pytest.raises(ValueError, match="level 500"):
        open_sources(["a.nc", "b.nc"])
    on_level(850).to_netcdf("a.nc")  # an open file could not be written
    assert open_sources(["a.nc", "b.nc"]).sizes["time"] == 80


def test_files_whose_times_alternate_form_one_sorted_series(folder):
    whole = grid(times=6)
    whole.isel(time=[0, 2, 4]).to_netcdf("a.nc")
    whole.isel(time=[3]).to_netcdf("b.nc")
    whole.isel(time=[1, 5]).to_netcdf("c.nc")
    for order in (["a.nc", "b.nc", "c.nc"], ["c.nc", "a.nc", "b.nc"]):
        joined = open_sources(order)
        assert np.array_equal(joined["time"], whole["time"]) and np.array_equal(joined["t2m"], whole["t2m"])


def test_a_time_in_any_two_files_is_rejected_with_both(folder):
    whole = grid(times=6)
    whole.isel(time=[0, 2, 4]).to_netcdf("a.nc")
    whole.isel(time=[1]).to_netcdf("b.nc")
    whole.isel(time=[2]).to_netcdf("c.nc")
    with pytest.raises(ValueError, match=r"a\.nc and c\.nc both contain 't2m' at 2001-01-01T12:00"):
        open_sources(["a.nc", "b.nc", "c.nc"])
