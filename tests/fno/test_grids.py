import numpy as np
import pytest

from fourcaster.fno.grids import LatLon


def test_weights_of_the_globe_add_up_to_its_area():
    for latitude in (np.linspace(90, -90, 181), np.linspace(-88.75, 88.75, 72), np.linspace(-90, 90, 7)):
        grid = LatLon(latitude, np.arange(0, 360, 30.0))
        middle = (grid.latitude[1:] + grid.latitude[:-1]) / 2
        bounds = np.concatenate([[np.sign(latitude[0]) * 90], middle, [np.sign(latitude[-1]) * 90]])
        exact = np.abs(np.diff(np.sin(np.deg2rad(bounds)))) / 2
        assert np.allclose(grid.area_weights / len(latitude), exact)
        assert grid.periodic and grid.includes_poles


def test_weights_of_a_box_are_cosines():
    grid = LatLon(np.arange(75, 14, -2.5), np.arange(200, 331, 2.5))
    cosine = np.cos(np.deg2rad(grid.latitude))
    assert np.allclose(grid.area_weights, cosine / cosine.mean(), rtol=1e-12)
    assert not grid.periodic and not grid.includes_poles
    assert grid.shape == (25, 53) and grid.spacing == (2.5, 2.5)


@pytest.mark.parametrize(
    ("latitude", "longitude", "said"),
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
def test_what_is_no_grid_is_refused(latitude, longitude, said):
    with pytest.raises(ValueError, match=said):
        LatLon(np.array(latitude, float), np.array(longitude, float))
