"""From grid to grid: what must stay the same, and what others make of it."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y

from fourcaster.datasets.ingest.regrid import Regridder, parse_grid
from fourcaster.fno.grids import LatLon, sphere_nodes

RNG = np.random.default_rng(0)


def field(grid: LatLon, values=None) -> xr.Dataset:
    values = RNG.normal(280, 10, (3, *grid.shape)).astype("f4") if values is None else values.astype("f4")
    coords = {
        "time": np.arange(len(values)).astype("datetime64[D]").astype("datetime64[ns]"),
        "latitude": grid.latitude,
        "longitude": grid.longitude,
    }
    dims = ("time", "latitude", "longitude")
    made = xr.Dataset({"t": (dims, values, {"units": "K"})}, coords)
    return made.assign_coords(mask=(dims[1:], (values[0] > 280).astype("f4")))


def globe(
    rows: int, columns: int, kind: str = "equiangular", south: bool = False, west: float = 0.0
) -> LatLon:
    latitude = 90 - np.rad2deg(sphere_nodes(rows, kind)[0])
    return LatLon(latitude[::-1] if south else latitude, west + np.arange(columns) * 360 / columns)


def mean(x: np.ndarray, grid: LatLon) -> np.ndarray:
    return np.average(x.astype("f8").mean(axis=-1), axis=-1, weights=grid.area_weights)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(4, 40), st.integers(4, 60)),
    st.tuples(st.integers(4, 40), st.integers(4, 60)),
    st.sampled_from(["equiangular", "equiangular-no-poles", "legendre-gauss"]),
    st.sampled_from(["equiangular", "equiangular-no-poles", "legendre-gauss"]),
    st.booleans(),
    st.sampled_from([0.0, -180.0, 7.3]),
)
def test_conservative_weights_keep_the_mean_of_the_globe(a, b, kind, other, south, west):
    old, new = globe(*a, kind), globe(*b, other, south, west)
    source = field(old)
    made = Regridder.between(source, new).apply(source)
    assert np.allclose(mean(made["t"].values, new), mean(source["t"].values, old), rtol=1e-6)
    assert np.allclose(Regridder.between(source, old).apply(source)["t"], source["t"], rtol=1e-6)


def test_conservative_is_the_mean_of_the_cells_within():
    old = globe(36, 72, "equiangular-no-poles")
    new, source = globe(12, 24, "equiangular-no-poles"), field(old)
    shifted = LatLon(new.latitude, np.arange(24) * 15 + 5.0)  # old columns stand at the middle of their cells
    made = Regridder.between(source, shifted).apply(source)["t"].values
    w = old.area_weights.reshape(12, 3)
    blocks = source["t"].values.astype("f8").reshape(3, 12, 3, 24, 3).mean(axis=-1)
    assert np.allclose(made, (blocks * w[:, :, None]).sum(axis=2) / w.sum(axis=1)[:, None], rtol=1e-6)


@pytest.mark.parametrize("lazy", [False, True])
def test_bilinear_is_that_of_xarray(lazy):
    old, new = globe(19, 36), LatLon(np.linspace(80, -75, 23), np.linspace(3, 341, 31))
    source = field(old)
    made = Regridder.between(source, new, "bilinear").apply(source.chunk(time=2) if lazy else source)
    wanted = source["t"].astype("f8").interp(latitude=new.latitude, longitude=new.longitude)
    assert (
        np.allclose(made["t"], wanted, rtol=1e-6)
        and made["t"].dtype == np.float32
        and made["mask"].shape == (23, 31)
    )
    across = LatLon(new.latitude, np.arange(351, 371, 5.0))
    seam = source["t"].astype("f8").interp(latitude=new.latitude).values[..., [35, 0]] @ [0.9, 0.1]
    assert np.allclose(
        Regridder.between(source, across, "bilinear").apply(source)["t"][..., 0], seam, rtol=1e-6
    )


@pytest.mark.parametrize("kind", ["equiangular", "equiangular-no-poles", "legendre-gauss"])
@pytest.mark.parametrize("south", [False, True])
def test_spectral_is_exact_for_spherical_harmonics(kind, south):
    def harmonics(grid):
        theta, phi = np.deg2rad(90 - grid.latitude)[:, None], np.deg2rad(grid.longitude)[None]
        return np.stack([sph_harm_y(l, m, theta, phi).real for l, m in ((0, 0), (5, 3), (11, 11), (12, 1))])

    old, new = globe(26, 50, kind, south), globe(61, 90, "equiangular", not south, 12.5)
    made = Regridder.between(field(old), new, "spectral").apply(field(old, harmonics(old)))
    assert np.allclose(made["t"], harmonics(new), atol=1e-6)


@pytest.mark.parametrize("method", ["conservative", "bilinear"])
def test_missing_values_are_made_up_for_by_the_others(method):
    old, new = globe(37, 72), globe(19, 36)
    source = field(old, np.full((1, 37, 72), 7.0))
    source["t"][0, :, :20] = np.nan
    made = Regridder.between(source, new, method).apply(source)["t"].values[0]
    assert (
        np.isnan(made[:, 2:8]).all()
        and np.allclose(made[:, 11:-1], 7, rtol=1e-6)
        and np.nanmax(np.abs(made - 7)) < 1e-5
    )


def test_a_region_stays_within_its_source():
    old = LatLon(np.linspace(60, 30, 31), np.linspace(-10, 40, 51))
    source = field(old)
    made = Regridder.between(source, parse_grid("2.5", source)).apply(source)
    assert made.sizes["latitude"] == 13 and made.sizes["longitude"] == 21 and np.isfinite(made["t"]).all()
    with pytest.raises(ValueError, match="extends over latitude"):
        Regridder.between(source, globe(19, 36))
    with pytest.raises(ValueError, match="spectral regridding requires a global"):
        Regridder.between(source, old, "spectral")


def test_grids_are_named(tmp_path):
    source = field(globe(37, 72, south=True))
    assert parse_grid("1.5", source).shape == (121, 240) and parse_grid("1.5", source).latitude[0] == -90
    assert parse_grid("32x64", source).latitude[0] == pytest.approx(-87.1875) and parse_grid(
        "121x240", source
    ).latitude[0] == pytest.approx(-90)
    source.to_zarr(tmp_path / "a.zarr", consolidated=False)
    assert np.array_equal(parse_grid(str(tmp_path / "a.zarr"), source).latitude, source["latitude"])
    for wrong in ("coarse", "0", "60", "12x"):
        with pytest.raises(ValueError, match=f"grid {wrong}"):
            parse_grid(wrong, source)
    with pytest.raises(ValueError, match="unknown method 'nearest'"):
        Regridder.between(source, globe(9, 18), "nearest")
    missing = source.where(source["t"] > 275)
    with pytest.raises(ValueError, match="does not support missing values"):
        Regridder.between(source, globe(9, 18), "spectral").apply(missing)


@pytest.mark.parametrize("text", ["3.7", "5", "7", "10"])
def test_cells_that_reach_beyond_a_region_have_the_mean_of_the_part_within(text):
    latitude, longitude = np.arange(60, 29.9, -2.5), np.arange(200, 260.1, 2.5)
    field = np.broadcast_to(np.float32(280) + 0 * longitude, (1, len(latitude), len(longitude))).astype("f4")
    coords = {"time": [np.datetime64("2001-01-01", "ns")], "latitude": latitude, "longitude": longitude}
    source = xr.Dataset({"t": (("time", "latitude", "longitude"), field, {"units": "K"})}, coords)
    assert np.allclose(Regridder.between(source, parse_grid(text, source)).apply(source)["t"], 280, rtol=1e-6)
    east = source.assign(t=source["t"] * 0 + source["longitude"].astype("f4"))
    new = Regridder.between(east, parse_grid("5", east)).apply(east)["t"].values[0, 0]
    assert np.isclose(
        new[0], (1.25 * 200 + 1.25 * 200 + 1.25 * 202.5) / 3.75
    )  # the first cell without its outer quarter
