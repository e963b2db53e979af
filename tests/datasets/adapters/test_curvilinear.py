"""Curvilinear grids are refused unless regridded, which preserves constants, gradients, means and winds."""

import numpy as np
import pyproj
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from fourcaster.datasets.adapters.cf import canonical
from fourcaster.datasets.adapters.projections import _target_axes
from fourcaster.datasets.adapters.sources import join_sources, open_sources
from fourcaster.datasets.forcings import forcing_names
from fourcaster.datasets.ingest.curvilinear import (
    CurvilinearGrid,
    CurvilinearRegridder,
    largest_rectangle,
)
from fourcaster.datasets.ingest.select import Selection
from fourcaster.datasets.schema import grid_of
from fourcaster.datasets.store.open import open_store
from fourcaster.fno.grids import LatLon
from fourcaster.forecast.ingestion import ingest

RNG = np.random.default_rng(1)
TIMES = np.datetime64("2001-01-01", "ns") + np.arange(4) * np.timedelta64(6, "h")
LAMBERT = {
    "grid_mapping_name": "lambert_conformal_conic",
    "standard_parallel": [50.0, 50.0],
    "longitude_of_central_meridian": -107.0,
    "latitude_of_projection_origin": 50.0,
    "earth_radius": 6371229.0,
}
ROTATED = {
    "grid_mapping_name": "rotated_latitude_longitude",
    "grid_north_pole_latitude": 39.25,
    "grid_north_pole_longitude": -162.0,
    "earth_radius": 6371229.0,
}
POLAR = {
    "grid_mapping_name": "polar_stereographic",
    "straight_vertical_longitude_from_pole": -45.0,
    "latitude_of_projection_origin": 90.0,
    "standard_parallel": 70.0,
    "earth_radius": 6371229.0,
}


def geographic_coordinates(mapping, y, x):
    """Return latitudes and longitudes of projection coordinates; a rotated pole by its closed formula."""
    if mapping is ROTATED:
        pole, east = (
            np.deg2rad(mapping["grid_north_pole_latitude"]),
            mapping["grid_north_pole_longitude"] + 180,
        )
        b, a = np.deg2rad(np.meshgrid(y, x, indexing="ij"))
        latitude = np.arcsin(np.sin(b) * np.sin(pole) + np.cos(b) * np.cos(a) * np.cos(pole))
        longitude = np.arctan2(
            np.cos(b) * np.sin(a), np.sin(pole) * np.cos(b) * np.cos(a) - np.cos(pole) * np.sin(b)
        )
        return np.rad2deg(latitude), east + np.rad2deg(longitude)
    crs = pyproj.CRS.from_cf(mapping)
    longitude, latitude = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(
        *np.meshgrid(x, y)
    )
    return latitude, longitude


def regional(mapping=LAMBERT, rows=30, columns=40, spacing=32463.0, field=None, keep=("lat", "lon")):
    """Return temperature on a map projection as a function of latitude and longitude, at four times."""
    rotated = mapping is ROTATED
    y, x = (spacing * (np.arange(n) - (n - 1) / 2) for n in (rows, columns))
    latitude, longitude = geographic_coordinates(mapping, y, x)
    field = (lambda lat, lon: 280 + 0 * lat) if field is None else field
    values = np.stack([field(latitude, longitude) + step for step in range(len(TIMES))]).astype("f4")
    names = ("rlat", "rlon") if rotated else ("y", "x")
    standards = (
        ("grid_latitude", "grid_longitude")
        if rotated
        else ("projection_y_coordinate", "projection_x_coordinate")
    )
    units = "degrees" if rotated else "m"
    dims = ("time", *names)
    coords = {"time": TIMES} | {
        n: (n, v, {"units": units, "standard_name": s})
        for n, v, s in zip(names, (y, x), standards, strict=True)
    }
    coords |= {
        "lat": (names, latitude, {"units": "degrees_north"}),
        "lon": (names, longitude, {"units": "degrees_east"}),
    }
    air = (dims, values, {"units": "degK", "standard_name": "air_temperature", "grid_mapping": "mapping"})
    data = xr.Dataset({"air": air, "mapping": ((), np.int32(0), mapping)}, coords)
    return data.drop_vars([c for c in ("lat", "lon") if c not in keep])


def regridded(dataset, grid="0.5", method="conservative", area=None):
    return canonical(dataset, "memory", select=Selection(area=area), grid=grid, method=method)


def test_weather_on_a_map_projection_is_not_a_cartesian_flow(tmp_path):
    regional().to_netcdf(tmp_path / "narr.nc")
    with pytest.raises(
        ValueError,
        match=r"latitudes along \(y, x\), which are not the rows .*\(lambert_conformal_conic\); .*"
        r"grid='0\.3'",
    ):
        open_sources([tmp_path / "narr.nc"])
    joined = join_sources([tmp_path / "narr.nc"], grid="0.5")
    result = joined.dataset
    assert joined.regridded
    assert result["air"].dims == ("time", "latitude", "longitude") and result["air"].chunks is not None
    assert (result["air"].values == np.array([280, 281, 282, 283], "f4")[:, None, None]).all()
    assert (
        (np.diff(result["latitude"]) == -0.5).all()
        and (np.diff(result["longitude"]) == 0.5).all()
        and min(result["air"].shape) > 3
    )
    grid = grid_of(result)
    assert isinstance(grid, LatLon) and forcing_names(grid)
    ingest([tmp_path / "narr.nc"], tmp_path / "s.zarr", grid="180x360", train_period="2001-01-01")
    store = open_store(tmp_path / "s.zarr").dataset
    assert store["air"].sizes["latitude"] > 3 and (store["latitude"] % 1 == 0.5).all()


@pytest.mark.parametrize(("method", "keep"), [("conservative", ("lat", "lon")), ("bilinear", ())])
@pytest.mark.parametrize(
    ("mapping", "spacing", "grid", "inside"),
    [
        (LAMBERT, 32463.0, "0.5", (50.0, -107.0)),
        (ROTATED, 0.44, "0.5", (51.0, 18.0)),
        (POLAR, 100e3, "2", (88.0, 0.0)),
        (LAMBERT | {"longitude_of_central_meridian": 180.0}, 30e3, "0.5", (50.0, 180.0)),
    ],
)
def test_constants_are_exact_and_gradients_nearly_so(mapping, spacing, grid, inside, keep, method):
    """The third domain contains the pole, and the last crosses the date line."""
    result = regridded(regional(mapping, spacing=spacing, keep=keep), grid, method)
    assert (result["air"][0] == 280).all() and len(result["latitude"]) > 3
    assert inside[0] in result["latitude"] and np.isclose((result["longitude"] - inside[1]) % 360, 0).any()
    linear = regional(mapping, spacing=spacing, keep=keep, field=lambda lat, lon: lat)
    result = regridded(linear, grid, method)
    inner = np.abs(result["latitude"]) < 85
    expected = result["latitude"].where(inner, drop=True)
    step = float(grid)
    assert np.abs(result["air"][0].where(inner, drop=True) - expected).max() < (0.012 if step < 1 else 0.25)


def test_bilinear_regridding_converges_at_second_order():
    smooth = lambda lat, lon: np.sin(np.deg2rad(3 * lat)) * np.cos(np.deg2rad(2 * lon))  # noqa: E731
    errors = []
    for spacing, points in ((120e3, 20), (60e3, 39), (30e3, 77)):
        result = regridded(
            regional(rows=points, columns=points, spacing=spacing, field=smooth),
            "1",
            "bilinear",
            "55/-112/45/-102",
        )
        lat, lon = np.meshgrid(result["latitude"], result["longitude"], indexing="ij")
        errors.append(np.abs(result["air"][0].values - smooth(lat, lon)).max())
    assert errors[0] / errors[1] > 3 and errors[1] / errors[2] > 3 and errors[2] < 1e-4


def test_conservative_regridding_preserves_means_that_bilinear_sampling_misses():
    """White noise of unit variance, on a source grid six times as fine as the target."""
    data = regional(
        rows=120, columns=120, spacing=15e3, field=lambda lat, lon: RNG.standard_normal(lat.shape)
    )
    lat, lon = data["lat"].values, data["lon"].values
    within = (lat < 55.5) & (lat > 44.5) & (lon > -112.5) & (lon < -101.5)
    expected = data["air"][0].values[within].mean()  # the projection's area scale varies by 1 % over it
    area = "55/-112/45/-102"
    means = {}
    for method in ("conservative", "bilinear"):
        result = regridded(data, "1", method, area)["air"][0]
        means[method] = float(result.weighted(np.cos(np.deg2rad(result["latitude"]))).mean())
        spread = float(result.std())
        assert (0.1 < spread < 0.25) if method == "conservative" else (0.4 < spread < 1)
    assert abs(means["conservative"] - expected) < 3e-3


def test_cell_means_of_a_smooth_field_equal_its_integral():
    result = regridded(
        regional(rows=60, columns=60, spacing=30e3, field=lambda lat, lon: np.sin(np.deg2rad(4 * lat))),
        "2",
        area="54/-112/46/-102",
    )
    south, north = np.deg2rad(45.0), np.deg2rad(55.0)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    lat = (north + south) / 2 + (north - south) / 2 * nodes
    exact = (weights * np.sin(4 * lat) * np.cos(lat)).sum() / (weights * np.cos(lat)).sum()
    mean = float((result["air"][0].mean("longitude") * grid_of(result).area_weights).mean())
    assert abs(mean - exact) < 2e-4


def test_a_global_grid_with_a_rotated_pole_is_regridded_across_its_seam():
    x = np.arange(-180, 180, 2.0)
    y = np.linspace(-89, 89, 90)
    latitude, longitude = geographic_coordinates(ROTATED, y, x)
    source_grid = CurvilinearGrid(latitude, longitude)
    assert source_grid.ring
    grid = LatLon(np.linspace(88, -88, 45), np.arange(0, 360, 4.0))
    regridder = CurvilinearRegridder.between(source_grid, grid, "bilinear")
    assert regridder.covered.mean() > 0.995  # all but two holes at the poles of the rotated grid
    height = lambda lat, lon: np.sin(np.deg2rad(lat)) + np.cos(np.deg2rad(lat)) * np.cos(np.deg2rad(lon - 20))  # noqa: E731
    lat, lon = np.meshgrid(grid.latitude, grid.longitude, indexing="ij")
    error = np.abs(regridder.fields(height(latitude, longitude)) - height(lat, lon))[regridder.covered]
    assert error.max() < 5e-4


@pytest.mark.parametrize("westward", [True, False])
def test_grid_relative_winds_are_rotated_to_eastward_and_northward(westward):
    """10 m/s eastward and 3 m/s northward, projected by finite differences of pyproj's coordinates."""
    data = regional(rows=40, columns=50)
    data = data.isel(x=slice(None, None, -1)) if westward else data
    lat, lon = data["lat"].values, data["lon"].values
    to_plane = pyproj.Transformer.from_crs(
        pyproj.CRS.from_cf(LAMBERT).geodetic_crs, pyproj.CRS.from_cf(LAMBERT), always_xy=True
    )
    x, y = np.array(to_plane.transform(lon, lat))
    step = 1e-4
    x1, y1 = np.array(to_plane.transform(lon + step * 10 / np.cos(np.deg2rad(lat)) / 11, lat + step * 3 / 11))
    length = np.hypot(x1 - x, y1 - y) / np.hypot(10, 3)
    for name, values in (("u", (x1 - x) / length), ("v", (y1 - y) / length)):
        attrs = {"units": "m s-1", "standard_name": "x_wind" if name == "u" else "y_wind"}
        data[name] = (("time", "y", "x"), np.broadcast_to(values, (4, *values.shape)).astype("f4"), attrs)
    result = regridded(data, "0.5", "bilinear")
    assert np.abs(data["v"].values - 3).max() > 0.5
    assert np.abs(result["u"] - 10).max() < 0.02 and np.abs(result["v"] - 3).max() < 0.02
    assert (
        result["u"].attrs["standard_name"] == "eastward_wind"
        and result["v"].attrs["standard_name"] == "northward_wind"
    )
    with pytest.raises(
        ValueError,
        match=r"'v' is a wind along one axis of the grid \(y_wind\), and the other component is missing",
    ):
        regridded(data.drop_vars("u"))
    assert list(
        canonical(data.drop_vars("u"), "memory", select=Selection(("air",)), grid="0.5").data_vars
    ) == ["air"]


def test_missing_values_stay_missing_and_do_not_spread():
    data = regional(rows=40, columns=50)
    data["air"] = data["air"].where(data["lat"] < 51)
    result = regridded(data)["air"]
    assert (
        np.isnan(result.sel(latitude=slice(None, 51.5))).all()
        and (result[0].sel(latitude=slice(50.5, None)) == 280).all()
    )


def test_unsuitable_grids_and_methods_are_refused(tmp_path):
    data = regional()
    for grid, method, area, message in (
        ("0.5", "spectral", None, "method spectral does not support curvilinear"),
        ("coarse", "bilinear", None, "grid 'coarse' is not valid"),
        ("30", "bilinear", None, "choose a finer one"),
        (
            "0.5",
            "bilinear",
            "60/-112/45/-102",
            r"does not cover 60/-112/45/-102; the largest area of that grid within it is 5\d",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            regridded(data, grid, method, area)
    bare = data.drop_vars(["lat", "lon", "mapping"])
    with pytest.raises(
        ValueError, match=r"map projection \(projection_y_coordinate\), and neither latitudes"
    ):
        canonical(bare, "memory")
    data["mapping"].attrs["grid_mapping_name"] = "of_my_own"
    with pytest.raises(ValueError, match="grid_mapping is not valid"):
        canonical(data.drop_vars(["lat", "lon"]), "memory")


def test_kilometres_and_target_grids_by_count_or_store_are_supported(tmp_path):
    data = regional(keep=(), field=lambda lat, lon: lat)
    expected = regridded(data)
    kilometres = data.assign_coords(
        {n: (n, data[n].values / 1000, data[n].attrs | {"units": "km"}) for n in ("y", "x")}
    )
    assert np.allclose(regridded(kilometres)["air"], expected["air"], atol=1e-4)
    expected.isel(latitude=slice(1, 4), longitude=slice(2, 6)).to_zarr(
        tmp_path / "a.zarr", consolidated=False
    )
    part = regridded(data, str(tmp_path / "a.zarr"))
    assert np.array_equal(part["longitude"], expected["longitude"][2:6]) and np.allclose(
        part["air"], expected["air"][:, 1:4, 2:6]
    )
    whole = regridded(data, "180x360")
    assert (
        (whole["latitude"] % 1 == 0.5).all()
        and (whole["longitude"] % 1 == 0).all()
        and whole.sizes["latitude"] > 3
    )


def test_cartesian_flows_keep_their_axes():
    flow = xr.Dataset(
        {"u": (("time", "y", "x"), np.zeros((3, 8, 8)), {"units": "m/s"})},
        {"time": [0.0, 1, 2], "y": np.arange(8.0), "x": np.arange(8.0)},
    )
    assert canonical(flow, "memory")["u"].dims == ("time", "y", "x")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=5))
def test_the_largest_rectangle_agrees_with_brute_force(rows):
    mask = np.array(rows)
    rectangle = mask[largest_rectangle(mask)]
    sizes = [
        (b - a) * (d - c)
        for a in range(len(mask))
        for b in range(a + 1, len(mask) + 1)
        for c in range(5)
        for d in range(c + 1, 6)
        if mask[a:b, c:d].all()
    ]
    assert rectangle.all() and rectangle.size == max(sizes, default=0)


@pytest.mark.parametrize(("grid", "step"), [("0.7", 0.7), ("4", 4.0), ("0.5", 0.5)])
def test_points_of_a_spacing_are_its_multiples_within_the_source(grid, step):
    latitude, longitude = _target_axes(
        CurvilinearGrid(*np.meshgrid([40.0, 50], [5.0, 9], indexing="ij")), grid
    )
    assert np.allclose(latitude / step, np.round(latitude / step), atol=1e-8)
    assert np.allclose(latitude, -latitude[::-1]) and 90 - step < latitude[0] <= 90
    assert np.allclose(longitude / step, np.round(longitude / step), atol=1e-7)
    assert np.allclose(np.diff(longitude), step) and len(longitude) == int(360 / step + 1e-9)
    assert longitude[0] >= 7 - 180 and longitude[-1] < 7 + 180


def test_a_spacing_that_leaves_an_uneven_seam_is_refused():
    polar = regional(POLAR, rows=40, columns=40, spacing=100e3)
    with pytest.raises(
        ValueError, match=r"grid '7' does not divide the 360 degrees of longitude that memory"
    ):
        regridded(polar, "7", "bilinear")
    longitude = regridded(polar, "8", "bilinear")["longitude"]
    assert len(longitude) == 45 and (np.diff(longitude) == 8).all()
    with pytest.raises(ValueError, match="grid '2x0' is not valid"):
        regridded(polar, "2x0")
