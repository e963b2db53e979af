"""Latitude-longitude and Cartesian grids: area weights, comparison of axes, resampling."""

import numpy as np
import pytest

from fourcaster.fno.grids import Box, LatLon, match_axis, nearest_points, same_axis


def test_area_weights_of_global_grids_sum_to_the_sphere():
    for latitude in (np.linspace(90, -90, 181), np.linspace(-88.75, 88.75, 72), np.linspace(-90, 90, 7)):
        grid = LatLon(latitude, np.arange(0, 360, 30.0))
        middle = (grid.latitude[1:] + grid.latitude[:-1]) / 2
        bounds = np.concatenate([[np.sign(latitude[0]) * 90], middle, [np.sign(latitude[-1]) * 90]])
        exact = np.abs(np.diff(np.sin(np.deg2rad(bounds)))) / 2
        assert np.allclose(grid.area_weights / len(latitude), exact)
        assert grid.full_circle and grid.is_global and grid.includes_poles


def test_area_weights_of_a_regional_grid_are_cosines():
    grid = LatLon(np.arange(75, 14, -2.5), np.arange(200, 331, 2.5))
    cosine = np.cos(np.deg2rad(grid.latitude))
    assert np.allclose(grid.area_weights, cosine / cosine.mean(), rtol=1e-12)
    assert not grid.full_circle and not grid.is_global and not grid.includes_poles
    assert grid.shape == (25, 53) and grid.spacing == (2.5, 2.5)


@pytest.mark.parametrize(
    ("latitude", "longitude", "message"),
    [
        ([1.0], [0.0, 1], "at least two"),
        ([0, 10, 5], [0, 1], "monotonic"),
        ([0, 10], [0, 10, 5], "monotonic"),
        ([0, 10], [10, 0], "monotonic"),
        ([0, 95], [0, 1], "within"),
        ([0, 10], [0, 180, 360], "less than 360"),
        ([0, np.nan], [0, 1], "finite"),
    ],
)
def test_invalid_coordinates_are_refused(latitude, longitude, message):
    with pytest.raises(ValueError, match=message):
        LatLon(np.array(latitude, float), np.array(longitude, float))


@pytest.mark.parametrize("step", [5.0, 1.25, 0.25, 0.1, 0.01])
def test_axes_that_differ_by_rounding_are_the_same(step):
    exact = np.round(50.0 - step * np.arange(40), 2)
    assert same_axis(exact, exact.astype("f4")) and same_axis(exact.astype("f4"), exact)
    assert same_axis(exact, exact + 0.0009 * step) and not same_axis(exact, exact + 0.006 * step)
    assert not same_axis(exact, exact[::-1]) and not same_axis(exact, exact[1:])
    assert match_axis(exact, exact[::-1].astype("f4")).tolist() == list(range(39, -1, -1))
    assert match_axis(exact[3::4], exact).tolist() == list(range(3, 40, 4))


def test_longitudes_are_compared_modulo_360_degrees():
    east = np.arange(0, 360, 10.0)
    west = np.arange(-180, 180, 10.0).astype("f4")
    positions = match_axis(east, west, "longitude")
    assert np.array_equal(west[positions] % 360, east)
    assert match_axis(east, west, "latitude") is None
    # 359.9999 is the meridian of 0.
    assert match_axis(east, east - 1e-4, "longitude").tolist() == list(range(36))
    _, distance, same = nearest_points(east, east - 1e-4, circular=True)
    assert np.allclose(distance, 1e-4) and same.all()


def test_the_tolerance_follows_the_local_spacing():
    stretched = np.array([0.0, 0.1, 0.3, 1.0, 5.0])
    assert match_axis(stretched, stretched + np.array([0, 0, 0, 0, 3e-3])).tolist() == [0, 1, 2, 3, 4]
    assert match_axis(stretched, stretched + np.array([0, 3e-3, 0, 0, 0])) is None
    assert match_axis(stretched[:0], stretched) is None and match_axis(
        stretched[:1], stretched[:1]
    ).tolist() == [0]


def test_latitudes_beyond_the_pole_by_rounding_are_accepted():
    assert LatLon(
        np.linspace(90, -90, 37).astype("f4") * np.float32(1 + 1e-7), np.arange(0, 360, 5.0)
    ).includes_poles
    with pytest.raises(ValueError, match="within"):
        LatLon(np.linspace(90.1, -90, 37), np.arange(0, 360, 5.0))


def test_a_box_keeps_the_coordinates_of_a_data_set_bit_for_bit():
    y = np.linspace(3, 1, 5).astype("f4")
    box = Box.from_coordinates({"y": y, "x": np.arange(8.0)}, (False, True))
    assert np.array_equal(box.coordinates["y"], y) and box.axes == ("y", "x") and box.shape == (5, 8)
    assert box.spacing == (0.5, 1.0) and box.lengths == (2.0, 8.0) and box.periodic == (False, True)
    with pytest.raises(ValueError, match="evenly spaced"):
        Box.from_coordinates({"y": y, "x": y})


def test_boxes_with_the_same_points_are_equal():
    box = Box(("y", "x"), (5, 8), (2.0, 8.0), (False, True))
    same = Box.from_coordinates({"y": np.linspace(0, 2, 5), "x": np.arange(8.0)}, (False, True))
    assert box == same and hash(box) == hash(same) and box.sphere is None
    assert all(np.array_equal(box.coordinates[a], same.coordinates[a]) for a in box.axes)
    assert np.array_equal(box.area_weights, np.ones(5)) and box.edges == ("node", "node")
    with pytest.raises(ValueError, match="periodicity of each axis"):
        Box(("y", "x"), (5, 8), (2.0,), (False, True))


@pytest.mark.parametrize(
    "grid",
    [
        LatLon(np.linspace(90, -90, 19), np.arange(0, 360, 10.0)),
        LatLon(np.linspace(-87.5, 87.5, 36), np.arange(0, 360, 5.0)),
        LatLon(np.linspace(20, 60, 9), np.arange(0, 100, 5.0)),
        Box(("y", "x"), (9, 8), (2.0, 8.0), (False, True), (1.0, -4.0)),
    ],
)
def test_resampling_keeps_extent_and_periodicity(grid):
    finer = grid.resampled((2 * grid.shape[0] - 1, 2 * grid.shape[1]))
    assert finer.shape == (2 * grid.shape[0] - 1, 2 * grid.shape[1])
    assert type(finer) is type(grid) and finer.periodic == grid.periodic
    for axis, periodic in zip(grid.axes, grid.periodic, strict=True):
        coarse, fine = grid.coordinates[axis], finer.coordinates[axis]
        on_poles = axis == "latitude" and isinstance(grid, LatLon) and grid.is_global
        if not periodic and not on_poles:
            assert fine.min() == coarse.min() and fine.max() == coarse.max()
        assert fine[0] == coarse[0] or on_poles
    assert all(
        same_axis(grid.resampled(grid.shape).coordinates[a], grid.coordinates[a], a) for a in grid.axes
    )


def test_spacing_keeps_the_kind_of_a_global_grid():
    globe = LatLon(np.linspace(-90, 90, 19), np.arange(0, 360, 10.0))
    assert globe.with_spacing(2.5).shape == (73, 144) and globe.with_spacing(10) is globe
    centres = LatLon(np.linspace(-87.5, 87.5, 36), np.arange(0, 360, 5.0))
    assert centres.with_spacing(10.0).latitude[[0, -1]].tolist() == [-85.0, 85.0]
    for step, message in ((7.0, "does not divide"), (0.0, "between 0 and 45"), (1e-300, "more than")):
        with pytest.raises(ValueError, match=message):
            globe.with_spacing(step)
