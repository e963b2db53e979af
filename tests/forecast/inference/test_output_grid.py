"""Output grids: exact at common points, linear in between, periodic and aware of missing values."""

import numpy as np
import pytest
import xarray as xr
from helpers import make_source

from fourcaster import forecast
from fourcaster.fno.grids import LatLon
from fourcaster.forecast.inference.output_grid import output_grid

BOX = LatLon(np.arange(60.0, 19, -2.5), np.arange(200.0, 261, 2.5))
GLOBE = LatLon(np.linspace(-90, 90, 19), np.arange(0.0, 360, 10))
TYPES = ("float32", "float32")


def test_model_grid_is_used_unchanged():
    fields = np.random.rand(2, 3, *BOX.shape).astype("f4")
    own = output_grid(BOX, TYPES)
    assert own.apply(fields) is fields and own.along_rows.dtype == np.float32 and own.note == ""


@pytest.mark.parametrize("grid", [BOX, GLOBE])
def test_refined_grid_keeps_the_points_and_is_linear_in_between(grid):
    fine = output_grid(grid, TYPES, grid.spacing[1] / 2)
    fields = np.random.rand(2, *grid.shape).astype("f4")
    interpolated = fine.apply(fields)
    assert np.allclose(
        interpolated[:, ::2, ::2][:, :, : grid.shape[1]] if grid is BOX else interpolated[..., ::2][:, ::2],
        fields,
        atol=1e-6,
    )
    assert np.allclose(interpolated[:, ::2, 1], fields[:, :, :2].mean(-1), atol=1e-6)
    if grid is GLOBE:
        assert len(fine.along_columns) == 72 and np.allclose(
            interpolated[:, ::2, -1], (fields[..., -1] + fields[..., 0]) / 2, atol=1e-6
        )
    assert "no finer detail" in fine.note


def test_linear_field_is_reproduced_at_any_spacing():
    interpolated = output_grid(BOX, TYPES, 0.7)
    plane = (BOX.latitude[:, None] + 2 * BOX.longitude).astype("f4")
    assert np.allclose(
        interpolated.apply(plane),
        interpolated.along_rows[:, None] + 2 * interpolated.along_columns,
        rtol=1e-5,
    )


def test_area_selects_points_bit_identically():
    part = output_grid(BOX, TYPES, area="50/-150/30/-120")
    rows, columns = (
        (BOX.latitude <= 50) & (BOX.latitude >= 30),
        (BOX.longitude >= 210) & (BOX.longitude <= 240),
    )
    fields = np.random.rand(3, *BOX.shape).astype("f4")
    assert np.array_equal(part.apply(fields), fields[:, rows][:, :, columns])
    assert np.array_equal(part.along_columns + 360, BOX.longitude[columns])
    same = output_grid(BOX, ("float32", "float64"), area="50/210/30/240")
    assert same.along_columns.tobytes() == BOX.longitude[columns].tobytes()


@pytest.mark.parametrize(
    ("area", "longitudes"),
    [
        ("60/-20/-60/30", [-20, -10, 0, 10, 20, 30]),
        ("60/340/-60/30", [-20, -10, 0, 10, 20, 30]),
        ("60/340/-60/390", [-20, -10, 0, 10, 20, 30]),
        ("60/160/-60/-160", [160, 170, 180, 190, 200]),
        ("60/-200/-60/-160", [160, 170, 180, 190, 200]),
        ("60/160/-60/200", [160, 170, 180, 190, 200]),
        ("60/-40/-60/-20", [-40, -30, -20]),
        ("60/320/-60/340", [320, 330, 340]),
    ],
)
@pytest.mark.parametrize("first", [0.0, -180.0, 180.0])
def test_area_longitudes_increase_in_the_convention_of_the_request(area, longitudes, first):
    grid = LatLon(GLOBE.latitude, first + GLOBE.longitude)
    part = output_grid(grid, TYPES, area=area)
    assert part.along_columns.tolist() == longitudes
    fields = np.broadcast_to(grid.longitude % 360, GLOBE.shape).astype("f4")
    assert np.array_equal(part.apply(fields)[0], np.array(longitudes) % 360)


@pytest.mark.parametrize(("west", "east"), [(-180, 180), (0, 360), (-90, 270)])
def test_area_of_360_degrees_contains_each_meridian_once(west, east):
    part = output_grid(GLOBE, TYPES, area=f"90/{west}/-90/{east}")
    assert part.along_columns.tolist() == list(range(west, east, 10))


CENTRES = LatLon(np.linspace(-87.1875, 87.1875, 32), np.arange(64) * 5.625)
GAUSS = LatLon(np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(32)[0]))[::-1], np.arange(64) * 5.625)


@pytest.mark.parametrize(
    ("grid", "spacing", "rows", "columns"),
    [
        (CENTRES, "5.625", CENTRES.latitude, CENTRES.longitude),
        (CENTRES, 2.8125, np.linspace(-90 + 1.40625, 90 - 1.40625, 64), np.arange(128) * 2.8125),
        (CENTRES, "10", np.arange(-85.0, 90, 10), np.arange(0.0, 360, 10)),
        (CENTRES, "33x64", np.linspace(-90, 90, 33), np.arange(64) * 5.625),
        (CENTRES, "18X36", np.arange(-85.0, 90, 10), np.arange(0.0, 360, 10)),
        (GLOBE, "5", np.linspace(-90, 90, 37), np.arange(0.0, 360, 5)),
        (GLOBE, "18x36", np.arange(-85.0, 90, 10), np.arange(0.0, 360, 10)),
        (GAUSS, "5.625", GAUSS.latitude, GAUSS.longitude),
        (
            GAUSS,
            "2.8125",
            np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(64)[0]))[::-1],
            np.arange(128) * 2.8125,
        ),
        (
            LatLon(np.arange(89.5, -90, -1.0), np.arange(-179.5, 180)),
            2,
            np.arange(89.0, -90, -2),
            np.arange(-179.0, 180, 2),
        ),
        (
            LatLon(np.arange(90, -90, -1.0), np.arange(-180.0, 180)),
            2,
            np.arange(90, -90, -2.0),
            np.arange(-180.0, 180, 2),
        ),
        (BOX, "17x49", BOX.latitude, np.linspace(200, 260, 49)),
        (
            LatLon(np.arange(-60.0, 61, 2), np.arange(0.0, 360, 2)),
            "4",
            np.arange(-60.0, 61, 4),
            np.arange(0.0, 360, 4),
        ),
    ],
)
def test_spacing_preserves_the_grid_type_and_point_counts_determine_it(grid, spacing, rows, columns):
    other = output_grid(grid, ("float64", "float64"), spacing)
    assert other.along_rows.shape == rows.shape and np.allclose(other.along_rows, rows, atol=1e-4)
    assert other.along_columns.shape == columns.shape and np.allclose(other.along_columns, columns)
    ones = np.ones((2, *grid.shape), "f4")
    assert np.allclose(other.apply(ones), 1, atol=1e-6)


def test_model_spacing_keeps_the_points_bit_identically():
    same = output_grid(CENTRES, ("float64", "float64"), "5.625")
    assert same.rows is None and same.along_rows.tobytes() == CENTRES.latitude.tobytes()


@pytest.mark.parametrize("spacing", [7, "3.7", 170])
def test_spacing_that_does_not_divide_the_globe_is_rejected(spacing):
    with pytest.raises(ValueError, match=r"does not divide the 180 degrees|between 0 and 45"):
        output_grid(CENTRES, TYPES, spacing)


def test_forecast_in_another_longitude_convention_initialises_the_next(tiny_checkpoint, tmp_path):
    model = forecast.load(tiny_checkpoint)
    west = model.run(make_source(), "2001-02-03", "12h", area="60/-160/30/-105", output=tmp_path / "west.nc")
    assert np.allclose(west["longitude"], make_source()["lon"] - 360)
    assert float(west["longitude"].sel(longitude=-120, method="nearest")) == -120
    west.close()
    continued = model.run(tmp_path / "west.nc", lead="6h")
    direct = model.run(make_source(), "2001-02-03", "18h")
    assert np.allclose(continued["t2m"].values[0, -1], direct["t2m"].values[0, -1], atol=1e-3)


def test_missing_values_stay_missing():
    fields = np.ones(BOX.shape, "f4")
    fields[3, 4] = np.nan
    interpolated = output_grid(BOX, TYPES, 1.25).apply(fields)
    assert (
        np.isnan(interpolated[6, 8])
        and np.isnan(interpolated[5, 8])
        and np.isfinite(interpolated[4, 8])
        and (interpolated[np.isfinite(interpolated)] == 1).all()
    )


@pytest.mark.parametrize(
    ("spacing", "area", "message"),
    [
        (0, None, "between 0 and 45"),
        ("nan", None, "between 0 and 45"),
        ("64x", None, "is not understood"),
        ("1x8", None, "at least 2 points"),
        (None, "60/-180/20/300", "at most 360 degrees apart"),
        (None, "60/nan/20/10", "at most 360 degrees apart"),
        (None, "here", "is not an area"),
        (None, "10/0/20/30", "below north"),
        (None, "60/0/20/10", "fewer than two"),
    ],
)
def test_malformed_grids_and_areas_are_rejected(spacing, area, message):
    with pytest.raises(ValueError, match=message):
        output_grid(BOX, TYPES, spacing, area=area)


def test_forecasts_on_another_grid_agree_on_disk_and_in_memory(tiny_checkpoint, tiny_store, tmp_path):
    model, arguments = (
        forecast.load(tiny_checkpoint),
        {"times": "2001-02-03", "lead": "12h", "grid": 2.0, "area": "55/205/35/240"},
    )
    memory = model.run(make_source(), **arguments)
    disk = model.run(make_source(), **arguments, output=tmp_path / "fc.zarr")
    assert np.allclose(memory["t2m"], disk["t2m"], atol=1e-4) and "no finer detail" in disk.attrs["comment"]
    native = model.run(make_source(), times="2001-02-03", lead="12h")
    point = {"latitude": 50.0, "longitude": 230.0}
    assert np.allclose(memory["t2m"].interp(point), native["t2m"].interp(point), atol=1e-2)
    with pytest.raises(ValueError, match=r"on different points.*or regrid"):
        forecast.verify(tmp_path / "fc.zarr", tiny_store)
    assert isinstance(disk, xr.Dataset)
