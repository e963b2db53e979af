"""Regridding: conserved means, exact cases, and agreement with xarray."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y

from fourcaster.datasets.ingest.regrid import Regridder, parse_grid
from fourcaster.fno.grids import LatLon, sphere_nodes
from fourcaster.forecast.inference.output_grid import output_grid

RNG = np.random.default_rng(0)


def field(grid: LatLon, values=None) -> xr.Dataset:
    values = RNG.normal(280, 10, (3, *grid.shape)).astype("f4") if values is None else values.astype("f4")
    coords = {
        "time": np.arange(len(values)).astype("datetime64[D]").astype("datetime64[ns]"),
        "latitude": grid.latitude,
        "longitude": grid.longitude,
    }
    dims = ("time", "latitude", "longitude")
    dataset = xr.Dataset({"t": (dims, values, {"units": "K"})}, coords)
    return dataset.assign_coords(mask=(dims[1:], (values[0] > 280).astype("f4")))


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
def test_conservative_regridding_preserves_the_global_mean(a, b, kind, other, south, west):
    source_grid, target_grid = globe(*a, kind), globe(*b, other, south, west)
    source = field(source_grid)
    result = Regridder.between(source, target_grid).apply(source)
    assert np.allclose(
        mean(result["t"].values, target_grid), mean(source["t"].values, source_grid), rtol=1e-6
    )
    assert np.allclose(Regridder.between(source, source_grid).apply(source)["t"], source["t"], rtol=1e-6)


def test_conservative_regridding_averages_the_source_cells_within():
    source_grid = globe(36, 72, "equiangular-no-poles")
    target_grid, source = globe(12, 24, "equiangular-no-poles"), field(source_grid)
    shifted = LatLon(target_grid.latitude, np.arange(24) * 15 + 5.0)  # source columns are cell centres
    result = Regridder.between(source, shifted).apply(source)["t"].values
    w = source_grid.area_weights.reshape(12, 3)
    blocks = source["t"].values.astype("f8").reshape(3, 12, 3, 24, 3).mean(axis=-1)
    assert np.allclose(result, (blocks * w[:, :, None]).sum(axis=2) / w.sum(axis=1)[:, None], rtol=1e-6)


@pytest.mark.parametrize("lazy", [False, True])
def test_bilinear_regridding_agrees_with_xarray(lazy):
    source_grid, target_grid = globe(19, 36), LatLon(np.linspace(80, -75, 23), np.linspace(3, 341, 31))
    source = field(source_grid)
    result = Regridder.between(source, target_grid, "bilinear").apply(
        source.chunk(time=2) if lazy else source
    )
    expected = source["t"].astype("f8").interp(latitude=target_grid.latitude, longitude=target_grid.longitude)
    assert (
        np.allclose(result["t"], expected, rtol=1e-6)
        and result["t"].dtype == np.float32
        and result["mask"].shape == (23, 31)
    )
    across = LatLon(target_grid.latitude, np.arange(351, 371, 5.0))
    seam = source["t"].astype("f8").interp(latitude=target_grid.latitude).values[..., [35, 0]] @ [0.9, 0.1]
    assert np.allclose(
        Regridder.between(source, across, "bilinear").apply(source)["t"][..., 0], seam, rtol=1e-6
    )


@pytest.mark.parametrize("kind", ["equiangular", "equiangular-no-poles", "legendre-gauss"])
@pytest.mark.parametrize("south", [False, True])
def test_spectral_regridding_is_exact_for_spherical_harmonics(kind, south):
    def harmonics(grid):
        theta, phi = np.deg2rad(90 - grid.latitude)[:, None], np.deg2rad(grid.longitude)[None]
        return np.stack([sph_harm_y(l, m, theta, phi).real for l, m in ((0, 0), (5, 3), (11, 11), (12, 1))])

    source_grid, target_grid = globe(26, 50, kind, south), globe(61, 90, "equiangular", not south, 12.5)
    result = Regridder.between(field(source_grid), target_grid, "spectral").apply(
        field(source_grid, harmonics(source_grid))
    )
    assert np.allclose(result["t"], harmonics(target_grid), atol=1e-6)


@pytest.mark.parametrize("method", ["conservative", "bilinear"])
def test_weights_are_renormalised_over_valid_values(method):
    source_grid, target_grid = globe(37, 72), globe(19, 36)
    source = field(source_grid, np.full((1, 37, 72), 7.0))
    source["t"][0, :, :20] = np.nan
    result = Regridder.between(source, target_grid, method).apply(source)["t"].values[0]
    assert (
        np.isnan(result[:, 2:8]).all()
        and np.allclose(result[:, 11:-1], 7, rtol=1e-6)
        and np.nanmax(np.abs(result - 7)) < 1e-5
    )


def test_a_regional_target_must_lie_within_its_source():
    source_grid = LatLon(np.linspace(60, 30, 31), np.linspace(-10, 40, 51))
    source = field(source_grid)
    result = Regridder.between(source, parse_grid("2.5", source)).apply(source)
    assert (
        result.sizes["latitude"] == 13 and result.sizes["longitude"] == 21 and np.isfinite(result["t"]).all()
    )
    with pytest.raises(ValueError, match="extends over latitude"):
        Regridder.between(source, globe(19, 36))
    with pytest.raises(ValueError, match="spectral regridding requires a global"):
        Regridder.between(source, source_grid, "spectral")


def test_target_grids_are_parsed_from_text(tmp_path):
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
def test_cells_at_the_edge_of_a_region_average_only_the_part_inside(text):
    latitude, longitude = np.arange(60, 29.9, -2.5), np.arange(200, 260.1, 2.5)
    field = np.broadcast_to(np.float32(280) + 0 * longitude, (1, len(latitude), len(longitude))).astype("f4")
    coords = {"time": [np.datetime64("2001-01-01", "ns")], "latitude": latitude, "longitude": longitude}
    source = xr.Dataset({"t": (("time", "latitude", "longitude"), field, {"units": "K"})}, coords)
    assert np.allclose(Regridder.between(source, parse_grid(text, source)).apply(source)["t"], 280, rtol=1e-6)
    east = source.assign(t=source["t"] * 0 + source["longitude"].astype("f4"))
    averages = Regridder.between(east, parse_grid("5", east)).apply(east)["t"].values[0, 0]
    # The first cell extends beyond the region by a quarter.
    assert np.isclose(averages[0], (1.25 * 200 + 1.25 * 200 + 1.25 * 202.5) / 3.75)


@pytest.mark.parametrize("south", [False, True])
@pytest.mark.parametrize(("text", "shape"), [("1", (180, 360)), ("2.5", (72, 144)), ("5", (36, 72))])
def test_a_spacing_of_a_gauss_source_gives_a_global_gauss_grid(text, shape, south):
    source_grid = globe(64, 128, "legendre-gauss", south)
    grid = parse_grid(text, field(source_grid))
    assert grid.shape == shape and grid.is_global and grid.sphere == "legendre-gauss"
    assert np.allclose(grid.latitude, globe(shape[0], 4, "legendre-gauss", south).latitude, atol=1e-9)
    assert np.allclose(grid.latitude, -grid.latitude[::-1], atol=1e-12)

    def harmonic(on):
        theta, phi = np.meshgrid(np.deg2rad(90 - on.latitude), np.deg2rad(on.longitude), indexing="ij")
        return sph_harm_y(9, 4, theta, phi).real[None]

    result = Regridder.between(field(source_grid), grid, "spectral").apply(
        field(source_grid, harmonic(source_grid))
    )
    assert np.allclose(result["t"], harmonic(grid), atol=1e-6)


@pytest.mark.parametrize(
    "source_grid",
    [
        globe(37, 72),
        globe(36, 72, "equiangular-no-poles", west=2.5),
        globe(36, 72, "legendre-gauss", south=True),
        LatLon(np.linspace(30, -30, 13), np.arange(72) * 5.0),
        LatLon(np.linspace(60, 30, 7), np.linspace(-10, 40, 11)),
    ],
    ids=["poles", "centres", "gauss", "band", "region"],
)
@pytest.mark.parametrize("step", [2.5, 10.0])
def test_ingest_and_forecasts_agree_on_the_grid_of_a_spacing(source_grid, step):
    grid = parse_grid(f"{step:g}", field(source_grid))
    written = output_grid(source_grid, ("float64", "float64"), step)
    assert np.array_equal(grid.latitude, written.along_rows)
    assert np.array_equal(grid.longitude, written.along_columns)
    assert grid.spacing == pytest.approx((step, step), rel=0.03)
    assert grid.is_global == source_grid.is_global and grid.full_circle == source_grid.full_circle
